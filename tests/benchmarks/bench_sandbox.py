"""The sandbox: a small groupby from its start to its result, warmed and cold; how many a second; what is left.

    python tests/benchmarks/bench_sandbox.py [--quick]

The same Parquet file of 1,000 rows each time. The kinds take turns, so that a busy machine is as busy for each.
"Fresh" ones are a bwrap, or a gVisor, that starts a Python that imports pandas and does the same. Where an ordinary
user runs this, the kernel does not tell him the memory of guests.
"""

import argparse
import asyncio
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parents[2]))

from consumers.errors import Transient
from consumers.ports import Sandbox, SandboxError, SandboxTask
from consumers.sandbox import cgroups, outer_wall
from consumers.sandbox.gvisor import GvisorGuests, find_runsc
from consumers.sandbox.proc import family
from consumers.sandbox.spares import Spares
from consumers.sandbox.walled import WalledSandbox

MB = 1_000_000
TABLE = "table.parquet"
GROUPBY = "df.groupby('group', as_index=False)['value'].sum()"
FRESH = f"import pandas as pd; df = pd.read_parquet('{outer_wall.SLOTS}/{TABLE}'); print({GROUPBY})"
AT_ONCE = 4
QUIET_SECONDS = 0.05
MAX_WAIT_SECONDS = 30

TARGETS_MS = {"namespaces, spare ready": 15, "namespaces, no spare": 40}
TARGET_RATE = 40
TARGET_IDLE_MB = 300


@dataclass(frozen=True)
class Kind:
    """``milliseconds`` of each run; none, and the reason, where this machine does not have it."""

    name: str
    milliseconds: Sequence[float]
    lacking: str = ""


@dataclass(frozen=True)
class Sustained:
    """Jobs a second, and CPU milliseconds for each: of this process, of the warmed one and its guests."""

    rate: float
    ours_ms: float
    theirs_ms: float


@dataclass(frozen=True)
class Held:
    """What a sandbox holds between two jobs. Mounts are those of all its processes and of this one."""

    processes: int
    mounts: int
    files: int
    descriptors: int
    groups: int


@dataclass(frozen=True)
class Result:
    kinds: Sequence[Kind]
    sustained: Sustained
    idle_bytes: int | None
    jobs: int
    before: Held
    after: Held
    closed: Held
    """After the sandbox was closed; what this process alone holds is taken off."""
    load: tuple[float, float]
    """Of the machine, over one minute: when it began, and at the end."""


class Bench:
    """One folder with the table; sandboxes over it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.groups = cgroups.find()
        self.slots = folder / "slots"
        self.slots.mkdir()
        (folder / "output").mkdir()
        pq.write_table(pa.table({"group": ["a", "b", "c", "d"] * 250, "value": range(1000)}), folder / TABLE)

    @asynccontextmanager
    async def warmed(self, tier: str, *, spares: int) -> AsyncIterator[Sandbox]:
        with tempfile.TemporaryDirectory(dir=self.slots) as slots:
            async with Spares(tier, Path(slots), wanted=spares, groups=self.groups) as guests:
                sandbox = WalledSandbox(tier, (), guests)
                await self.run(sandbox)  # the first one waits for the warmed process
                yield sandbox

    async def run(self, sandbox: Sandbox, output: str = "output") -> None:
        arguments = {"code": f"result = {GROUPBY}", "tables": [{"name": "t", "file": TABLE}]}
        task = SandboxTask(
            "consumers.sandbox.guest.run_code:run_query", arguments, {TABLE: self.folder / TABLE}, self.folder / output
        )
        assert (await sandbox.run(task)).value["rows"] == 4

    async def fresh_bwrap(self) -> None:
        command = outer_wall.command(slots=self.folder, arguments=[sys.executable, "-I", "-B", "-c", FRESH])
        process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.DEVNULL, env={})
        assert await process.wait() == 0


def run(quick: bool) -> Result:
    with tempfile.TemporaryDirectory() as folder:
        return asyncio.run(_measure(Bench(Path(folder)), quick=quick))


async def _measure(bench: Bench, *, quick: bool) -> Result:
    began = os.getloadavg()[0]
    kinds = await _kinds(bench, warm=10 if quick else 100, cold=1 if quick else 20)
    alone = _held(bench)
    async with bench.warmed("namespaces", spares=2) as sandbox:
        await _quiet()
        idle_bytes = _idle_bytes()
        sustained = await _sustained(bench, sandbox, seconds=2 if quick else 10)
    jobs = 20 if quick else 1_000
    async with bench.warmed("namespaces", spares=2) as sandbox:
        before = await _settled(bench)
        for _ in range(jobs):
            await bench.run(sandbox)
        after = await _settled(bench, like=before)
    closed = _held(bench)
    return Result(
        kinds=kinds,
        sustained=sustained,
        idle_bytes=idle_bytes,
        jobs=jobs,
        before=_less(before, alone),
        after=_less(after, alone),
        closed=_less(closed, alone),
        load=(began, os.getloadavg()[0]),
    )


async def _kinds(bench: Bench, *, warm: int, cold: int) -> list[Kind]:
    milliseconds: dict[str, list[float]] = {}
    async with AsyncExitStack() as exits:
        kinds: dict[str, tuple[int, Callable[[], Awaitable[None]]]] = {}
        for name, tier, spares in (
            ("namespaces, spare ready", "namespaces", 2),
            ("namespaces, no spare", "namespaces", 0),
            ("landlock, spare ready", "landlock", 2),
        ):
            sandbox = await exits.enter_async_context(bench.warmed(tier, spares=spares))
            kinds[name] = warm, lambda sandbox=sandbox: bench.run(sandbox)  # type: ignore[misc]
        kinds["fresh bwrap + Python + pandas"] = cold, bench.fresh_bwrap
        gvisor, lacking = await _gvisor(bench, exits)
        if gvisor is not None:
            kinds["fresh gVisor + Python + pandas"] = cold, lambda: bench.run(gvisor)
        for turn in range(warm):
            for name, (times, once) in kinds.items():
                if turn < times:
                    await _quiet()
                    began = time.perf_counter()
                    await once()
                    milliseconds.setdefault(name, []).append((time.perf_counter() - began) * 1000)
    found = [Kind(name, taken) for name, taken in milliseconds.items()]
    return found if gvisor is not None else [*found, Kind("fresh gVisor + Python + pandas", (), lacking)]


async def _gvisor(bench: Bench, exits: AsyncExitStack) -> tuple[Sandbox | None, str]:
    cache = Path.home() / ".cache" / "dropchute"
    runsc = find_runsc() or next((path for path in cache.glob("runsc*/**/runsc") if path.is_file()), None)
    if runsc is None:
        return None, "there is no runsc"
    try:
        guests = await exits.enter_async_context(GvisorGuests(runsc, bench.slots))
        sandbox = WalledSandbox("gvisor", (), guests)
        await bench.run(sandbox)
    except (SandboxError, Transient) as error:
        return None, str(error)
    return sandbox, ""


async def _sustained(bench: Bench, sandbox: Sandbox, *, seconds: float) -> Sustained:
    ends, done = time.monotonic() + seconds, 0

    async def one_after_the_other(output: str) -> None:
        nonlocal done
        (bench.folder / output).mkdir()
        while time.monotonic() < ends:
            await bench.run(sandbox, output)
            done += 1

    began, ours, theirs = time.perf_counter(), _our_cpu(), _cpu_of(_others())
    async with asyncio.TaskGroup() as tasks:
        for number in range(AT_ONCE):
            tasks.create_task(one_after_the_other(f"output-{number}"))
    took = time.perf_counter() - began
    cpu = _our_cpu() - ours, _cpu_of(_others()) - theirs
    return Sustained(done / took, *(each / done * 1000 for each in cpu))


def _our_cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _others() -> list[int]:
    return [pid for pid in family(os.getpid()) if pid != os.getpid()]


def _cpu_of(pids: Sequence[int]) -> float:
    """Seconds that they have used, and those of their children that they have buried (proc_pid_stat(5), 14 to 17)."""
    ticks = 0
    for pid in pids:
        fields = _text(pid, "stat").rpartition(")")[2].split()
        ticks += sum(map(int, fields[11:15]))
    return ticks / os.sysconf("SC_CLK_TCK")


def _text(pid: int, name: str) -> str:
    """A file of a process's; empty if it has ended."""
    try:
        return Path("/proc", str(pid), name).read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return ""


async def _quiet() -> None:
    """Until whoever prepares the next guests has nothing to do."""
    limit, used = time.monotonic() + MAX_WAIT_SECONDS, -1.0
    while (now := _cpu_of(_others())) != used and time.monotonic() < limit:
        used = now
        await asyncio.sleep(QUIET_SECONDS)


async def _settled(bench: Bench, *, like: Held | None = None) -> Held:
    limit = time.monotonic() + MAX_WAIT_SECONDS
    await _quiet()
    while like is not None and _held(bench) != like and time.monotonic() < limit:
        await _quiet()
    return _held(bench)


def _held(bench: Bench) -> Held:
    processes = list(family(os.getpid()))
    groups = 0
    if bench.groups is not None:
        bench.groups.clear()
        groups = len(list(bench.groups.places.memory.glob(f"{bench.groups.prefix}-*")))
    return Held(
        processes=len(processes),
        mounts=sum(len(_text(pid, "mountinfo").splitlines()) for pid in processes),
        files=sum(1 for _ in bench.slots.rglob("*")),
        descriptors=len(list(Path("/proc/self/fd").iterdir())),
        groups=groups,
    )


def _less(held: Held, alone: Held) -> Held:
    return Held(*(getattr(held, name) - getattr(alone, name) for name in Held.__dataclass_fields__))


def _idle_bytes() -> int | None:
    """Proportional set size (proc_pid_smaps(5)) of all processes but this one; None where we may not know it."""
    try:
        lines = [line for pid in _others() for line in _text(pid, "smaps_rollup").splitlines()]
    except PermissionError:
        return None
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))


def show(result: Result, console: Console) -> None:
    table = Table(title="A small groupby in the sandbox, start to result, milliseconds")
    for heading in ("what", "runs", "median", "nine of ten within", "target", ""):
        table.add_column(heading, justify="left" if heading in {"what", ""} else "right")
    for kind in result.kinds:
        table.add_row(kind.name, str(len(kind.milliseconds)), *_figures(kind))
    console.print(table)
    used, before, after, closed = result.sustained, result.before, result.after, result.closed
    console.print(
        f"Sustained, {AT_ONCE} at once: {used.rate:.0f} jobs/s, {_verdict(used.rate >= TARGET_RATE)} the "
        f"{TARGET_RATE}/s promised; CPU for each: {used.ours_ms:.1f} ms of the worker, "
        f"{used.theirs_ms:.1f} ms of warmed and guests."
    )
    if result.idle_bytes is not None:
        console.print(
            f"Idle, the warmed process and 2 spares: {result.idle_bytes / MB:.0f} MB (proportional set size), "
            f"{_verdict(result.idle_bytes < TARGET_IDLE_MB * MB)} the {TARGET_IDLE_MB} MB promised."
        )
    clean = before == after and closed == Held(0, 0, 0, 0, 0)
    console.print(
        f"{result.jobs} jobs leave {'nothing' if clean else '[bold]something[/bold]'} behind. "
        f"Held before: {before}; after: {after}; once closed: {closed}."
    )
    console.print(f"Load of the machine meanwhile: {result.load[0]:.1f}, then {result.load[1]:.1f}.")


def _figures(kind: Kind) -> tuple[str, str, str, str]:
    if not kind.milliseconds:
        return "", "", "", kind.lacking
    target = TARGETS_MS.get(kind.name)
    median = statistics.median(kind.milliseconds)
    slow = sorted(kind.milliseconds)[int(0.9 * (len(kind.milliseconds) - 1))]
    promised = ("", "") if target is None else (str(target), _verdict(median <= target))
    return f"{median:.1f}", f"{slow:.1f}", *promised


def _verdict(kept: bool) -> str:
    return "within" if kept else "NOT within"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="ten runs each, to see that it works")
    show(run(parser.parse_args().quick), Console())


if __name__ == "__main__":
    main()
