"""A worker under attack: secrets around it, a job beside it, and one attack at a time, asked for by line.

Started as ``python attacked_worker.py TIER``; reads numbers of attacks, and writes for each a JSON
object ``{"got": [...], "tried": [...], "broken": [...], "ended": text, "seconds": n}``. ``got`` is what got through,
``broken`` says why the attack itself was none.
"""

import asyncio
import contextlib
import ctypes
import fcntl
import json
import os
import platform
import pty
import stat
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import TextIO

import pyarrow as pa
import pyarrow.parquet as pq
from all_attacks import ATTACKS
from attack import CALM, MEGABYTE, Attack, Load, Trial
from host_load import Meter, Traces, left_behind, load_now, traces
from listeners import METADATA, Listeners

from consumers.errors import Transient
from consumers.ports import Limits, SandboxError, SandboxTask
from consumers.sandbox.tiers import SandboxUnavailable, open_tier

RUN = "consumers.sandbox.guest.run_code:run_query"
# What the sandbox itself may add while a job runs: a spare that is being made, the helpers of a cold start. Of threads
# also what can be started within the 50 to 100 ms between two looks of the watch.
SPARE_TASKS = 800
SPARE_BYTES = 400 * MEGABYTE
SPARE_DISK_BYTES = 260 * MEGABYTE
SPARE_FILES = 2_000
# What is measured late: the watch looks every 50 to 100 ms.
LATE_SECONDS = 4.0
PATIENCE_SECONDS = 5.0
_PR_SET_CHILD_SUBREAPER = 36
_HONEST = """
import json as _j, os as _o
files = [module.__file__ for module in (_j, _o, pd, np)]
strange = [file for file in files if file.startswith(("/tmp", "/job")) and "python" not in file]
result = df.groupby("k", as_index=False)["v"].sum()
answer = ",".join(map(str, result["v"])) + "".join(strange)
"""
_NEIGHBOUR = """
import ctypes, socket, time
kept = open(_path("table.parquet"), "rb").read()
for place in ("/tmp/neighbour", _out("neighbour")):
    try: open(place, "wb").write(kept)
    except OSError: pass
for family, address in ((socket.AF_UNIX, "\\0neighbour"), (socket.AF_INET, ("127.0.0.1", 47011))):
    try:
        listening = socket.socket(family)
        listening.bind(address)
        listening.listen()
    except OSError: pass
ctypes.CDLL(None).shmget(47011, 4096, 0o1666)
time.sleep(36000)
"""
_PATHS = """
import sys
def _folders():
    frame = sys._getframe()
    while "folders" not in frame.f_locals: frame = frame.f_back
    return frame.f_locals["folders"]
def _path(name): return str(_folders().inputs / name)
def _out(name): return str(_folders().output / name)
"""


class AttackedWorker:
    """One sandbox of a tier, its surroundings, and what they were before."""

    def __init__(self, tier: str, folder: Path, listeners: Listeners) -> None:
        self._tier = tier
        self._slots = folder / "slots"
        self._scratch = folder / "scratch"
        self._listeners = listeners
        self._numbers = count(1)
        for each in (self._slots, self._scratch):
            each.mkdir()
        self._table = folder / "table.parquet"
        self._home = Path(os.environ["HOME"])
        self._canaries = self._plant(folder)

    def _plant(self, folder: Path) -> dict[str, str]:
        """A secret in each place that a worker has: the environment's is there already."""
        canaries = {"environment": os.environ["AWS_SECRET_ACCESS_KEY"], "metadata": METADATA}
        for name in ("home", "scratch", "neighbour"):
            canaries[name] = f"canary-{os.urandom(8).hex()}"
        (self._home / ".aws").mkdir(parents=True)
        (self._home / ".aws/credentials").write_text(canaries["home"])
        (self._home / "secret.txt").write_text(canaries["home"])
        self._neighbours_table = folder / "neighbour.parquet"
        return canaries

    def _lay_out(self) -> None:
        """The files that an attack may change, as they should be."""
        secret = self._scratch / "secret.txt"
        for path in (self._table, self._neighbours_table, secret):
            path.unlink(missing_ok=True)
        pq.write_table(pa.table({"k": ["a", "b", "a"], "v": [1, 2, 10]}), self._table)
        pq.write_table(pa.table({"secret": [self._canaries["neighbour"]]}), self._neighbours_table, compression="none")
        secret.write_text(self._canaries["scratch"])

    @contextlib.asynccontextmanager
    async def opened(self) -> AsyncIterator["AttackedWorker"]:
        self._lay_out()
        async with open_tier(self._tier, self._slots) as self._sandbox:
            assert not await self._honest_job()
            neighbour = asyncio.create_task(self._neighbour(), name="neighbour")
            assert not await self._honest_job()
            self._neighbour_task = neighbour
            self._before = await self._settled()
            try:
                yield self
            finally:
                neighbour.cancel()
                await asyncio.gather(neighbour, return_exceptions=True)

    async def _neighbour(self) -> None:
        task = self._task(_PATHS + _NEIGHBOUR, self._neighbours_table, replace(CALM, wall_seconds=36_000))
        await self._sandbox.run(task)

    async def _settled(self) -> Traces:
        """The traces once they do not change any more: spares are made after a job, not during it."""
        seen = traces(self._slots)
        for _ in range(40):
            await asyncio.sleep(0.25)
            now = traces(self._slots)
            if now == seen:
                break
            seen = now
        return seen

    def _task(self, code: str, table: Path, limits: Limits, *, show_values: bool = True) -> SandboxTask:
        output = self._scratch / f"{next(self._numbers)}" / "out"
        output.mkdir(parents=True)
        tables = [{"name": "table", "file": "table.parquet"}]
        arguments = {"code": code, "tables": tables, "show_values": show_values}
        return SandboxTask(RUN, arguments, {"table.parquet": table}, output, limits)

    async def attack(self, attack: Attack) -> dict[str, object]:
        began = time.monotonic()
        got, tried, broken, ends = [], [], [], []
        for program in attack.programs:
            trial = await self._try(attack, program)
            judged = await attack.judge(trial) if attack.judge else []
            got += [*trial.told.get("got", []), *judged, *await self._seen(trial)]
            tried += trial.told.get("tried", [])
            ends.append(type(trial.error).__name__ if trial.error else "returned")
            if trial.error is not None and not isinstance(trial.error, attack.ends):
                broken.append(f"it ended by {trial.error!r} {getattr(trial.error, 'traceback', '')}")
            elif not (trial.error or trial.told.get("tried") or trial.told.get("got") or attack.whole or attack.judge):
                broken.append("it tried nothing")
        got += await self._after()
        return {
            "got": list(dict.fromkeys(map(str, got))),
            "tried": tried,
            "broken": broken,
            "ended": ", ".join(dict.fromkeys(ends)),
            "seconds": time.monotonic() - began,
        }

    async def _try(self, attack: Attack, program: str) -> Trial:
        known = self._known()
        limits = (
            attack.limits
            if self._tier != "gvisor"
            else replace(attack.limits, wall_seconds=attack.limits.wall_seconds + 5)
        )
        task = self._task(attack.source(program, known, limits), self._table, limits, show_values=attack.show_values)
        trial = Trial(attack, self._sandbox, task.output, self._scratch, known, idle=load_now(self._slots))
        self._listeners.heard.clear()
        facts = self._facts()
        began = time.monotonic()
        with Meter(self._slots) as meter:
            try:
                trial.report = await self._sandbox.run(task)
            except (SandboxError, Transient) as error:
                trial.error = error
        trial.seconds, trial.peak = time.monotonic() - began, meter.peak
        trial.heard = list(self._listeners.heard)
        after = self._facts()
        trial.host_changed = [f"changed on the host: {path.name}" for path in facts if after[path] != facts[path]]
        if trial.host_changed:
            self._lay_out()
        return trial

    def _facts(self) -> dict[Path, object]:
        """What must stay as it is: inputs of jobs, and files of the worker."""
        facts = {}
        for path in (self._table, self._neighbours_table, self._scratch / "secret.txt"):
            if not path.exists():
                facts[path] = "gone"
                continue
            now = path.stat()
            facts[path] = (now.st_size, now.st_mode, now.st_uid, now.st_mtime_ns, os.listxattr(path), path.read_bytes())
        return facts

    def _known(self) -> dict[str, object]:
        """The attacker knows every place; only the secrets themselves not."""
        return {
            "canaries": [each.encode() for each in self._canaries.values()],
            "own": "canary-none",
            "home": str(self._home),
            "secret": str(self._scratch / "secret.txt"),
            "neighbour": str(self._neighbours_table),
            "slots": str(self._slots),
            "mark": str(self._scratch / "mark"),
            "worker": os.getpid(),
            "parent": os.getppid(),
            "host": platform.node(),
            **self._listeners.places,
        }

    async def _seen(self, trial: Trial) -> list[str]:
        """What the host found wrong with a run: secrets, noises, load, time."""
        limits = trial.attack.limits
        texts = [trial.printed, str(trial.error or ""), getattr(trial.error, "traceback", "")]
        texts += [json.dumps(trial.report.value, default=str)] if trial.report else []
        bodies = [text.encode("utf-8", "replace") for text in texts]
        came = [path for path in trial.output.iterdir() if stat.S_ISREG(path.lstat().st_mode)]
        bodies += [path.read_bytes() for path in came if path.lstat().st_size < limits.file_bytes]
        got = [f"the secret of: {name}" for name, each in self._canaries.items() for b in bodies if each.encode() in b]
        got += [f"heard: {each!r}" for each in trial.heard] + trial.host_changed
        got += [f"setuid: {path.name}" for path in came if path.lstat().st_mode & 0o6000]
        allowed = Load(
            tasks=limits.threads + SPARE_TASKS,
            memory_bytes=limits.memory_bytes + SPARE_BYTES,
            disk_bytes=limits.scratch_bytes + SPARE_DISK_BYTES,
            files=limits.scratch_files + SPARE_FILES,
        )
        for what in ("tasks", "memory_bytes", "disk_bytes", "files"):
            more = getattr(trial.peak, what) - getattr(trial.idle, what)
            if more > getattr(allowed, what):
                got.append(f"{more:,} {what} more, {getattr(allowed, what):,} are allowed")
        if trial.seconds > limits.wall_seconds + LATE_SECONDS + (8 if self._tier == "gvisor" else 0):
            got.append(f"it took {trial.seconds:.1f} seconds")
        return got

    async def _after(self) -> list[str]:
        got = [f"afterwards: {each}" for each in await self._honest_job()]
        if self._neighbour_task.done():
            got.append("the job beside it has ended")
        # Deeper than Python's own removal can go, where a tier lets folders out.
        used = [path for path in self._scratch.iterdir() if path.is_dir()]
        await asyncio.to_thread(subprocess.run, ["rm", "-rf", *used, self._scratch / "mark"], check=True)
        deadline = time.monotonic() + PATIENCE_SECONDS
        while (left := left_behind(self._before, traces(self._slots))) and time.monotonic() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(0.1)
        if left:
            # Told once, not of every attack after it.
            self._before = traces(self._slots)
        return got + left

    async def _honest_job(self) -> list[str]:
        """Nothing, if an honest job gives the right answer."""
        task = self._task(_HONEST, self._table, CALM)
        try:
            report = await self._sandbox.run(task)
        except (SandboxError, Transient) as error:
            return [f"an honest job failed: {error!r} {error.__cause__!r}"]
        answer = report.value["answer"]
        return [] if answer == "11,2" and (task.output / "result.parquet").exists() else [f"a wrong answer: {answer}"]


def _channel() -> TextIO:
    """What this process was started to write to; whatever else is printed goes to stderr."""
    channel = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    return channel


def _terminal() -> None:
    """A terminal of this worker's own, so that there is one to type into."""
    os.setsid()
    _, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSCTTY, 0)


async def main(tier: str) -> None:
    channel = _channel()
    _terminal()
    # Who escapes from its parent becomes this process's child.
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    by_number = {attack.number: attack for attack in ATTACKS}
    with tempfile.TemporaryDirectory(prefix="attacked-") as folder, Listeners(Path(folder)) as listeners:
        worker = AttackedWorker(tier, Path(folder), listeners)
        try:
            async with worker.opened():
                print(json.dumps({"ready": True}), file=channel)
                while line := await asyncio.to_thread(sys.stdin.readline):
                    print(json.dumps(await worker.attack(by_number[int(line)])), file=channel)
        except SandboxUnavailable as error:
            print(json.dumps({"ready": False, "lacks": str(error)}), file=channel)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
