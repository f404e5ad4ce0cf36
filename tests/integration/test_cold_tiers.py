"""The tiers that start one fresh process for each task: ``gvisor`` and ``process``."""

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from kit import until_so
from runsc import runsc

from consumers.errors import Transient
from consumers.ports import (
    GuestError,
    GuestRefusal,
    Limits,
    Sandbox,
    SandboxCrash,
    SandboxMemory,
    SandboxOutput,
    SandboxReport,
    SandboxTask,
    SandboxTimeout,
)
from consumers.sandbox.gvisor import GvisorGuests, unavailable
from consumers.sandbox.process_tier import ProcessGuests
from consumers.sandbox.walled import WalledSandbox

ROOT = Path(__file__).parents[2]
QUICK = Limits(wall_seconds=30, cpu_seconds=20, memory_bytes=1024**3, file_bytes=10_000_000, output_bytes=20_000)
FOR_EVER = "open(out + '/begun', 'w')\nimport time; time.sleep(600)"
# What differs between the tiers is how a guest starts, is watched and dies. The rest of gVisor's runs are for `--long`.
BOTH = pytest.mark.parametrize("tier", ["process", "gvisor"])
MOSTLY_PROCESS = pytest.mark.parametrize("tier", ["process", pytest.param("gvisor", marks=pytest.mark.long)])


@asynccontextmanager
async def opened(tier: str, folder: Path) -> AsyncIterator[Sandbox]:
    if tier == "process":
        yield WalledSandbox(tier, (), ProcessGuests(folder))
    else:
        async with GvisorGuests(runsc(), folder) as guests:
            yield WalledSandbox(tier, guests.applied, guests)


@pytest.fixture
def slots(tmp_path: Path) -> Path:
    folder = tmp_path / "slots"
    folder.mkdir()
    return folder


@pytest.fixture
def output(tmp_path: Path) -> Path:
    folder = tmp_path / "output"
    folder.mkdir()
    return folder


@pytest.fixture
async def sandbox(tier: str, slots: Path) -> AsyncIterator[Sandbox]:
    """Of one tier; nothing of what ran in it is left in the end."""
    async with opened(tier, slots) as sandbox:
        yield sandbox

    assert not running(slots)
    assert list(slots.iterdir()) == []


def running(folder: Path) -> list[str]:
    """The command of every process that bears a mark of the folder, in its command or its environment."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit():
                facts = [(entry / name).read_bytes() for name in ("cmdline", "environ")]
                if any(os.fsencode(folder) in each for each in facts):
                    found.append(facts[0].decode(errors="replace"))
        except OSError:
            continue
    return found


async def run(
    sandbox: Sandbox,
    code: str,
    output: Path,
    limits: Limits = QUICK,
    *,
    stream: AsyncIterator[bytes] | None = None,
) -> SandboxReport:
    """Run a program as the analyst would; it finds its own output folder as ``out``."""
    finds = "import os; out = '/job/out' if os.path.exists('/job/out') else os.environ['TMPDIR'][:-3] + 'out'\n"
    task = SandboxTask("consumers.sandbox.guest.run_code:run_query", {"code": finds + code, "tables": []}, {}, output)
    return await sandbox.run(replace(task, limits=limits, stream=stream))


@BOTH
async def test_an_honest_program_gets_its_table_and_its_result_through(sandbox: Sandbox, tmp_path: Path, output: Path):
    table = tmp_path / "sales.parquet"
    pq.write_table(pa.table({"region": ["N", "S", "N"], "sales": [1, 2, 3]}), table)
    report = await sandbox.run(
        SandboxTask(
            "consumers.sandbox.guest.run_code:run_query",
            {
                "code": "print('\\x1b[31mseen')\nresult = df.groupby('region', as_index=False).sales.sum()",
                "tables": [{"name": "sales", "file": "t0.parquet"}],
            },
            {"t0.parquet": table},
            output,
        )
    )

    assert report.value["kind"] == "table"
    assert report.printed == "[31mseen\n"
    assert pq.read_table(output / "result.parquet").to_pydict() == {"region": ["N", "S"], "sales": [4, 2]}
    assert table.exists()


@BOTH
async def test_a_stream_arrives_whole(sandbox: Sandbox, output: Path):
    rows = 200_000

    async def chunks() -> AsyncIterator[bytes]:
        yield b"number,twice\n"
        for start in range(0, rows, 10_000):
            yield b"".join(b"%d,%d.25000000\n" % (row, 2 * row) for row in range(start, start + 10_000))

    arguments = {"name": "x.csv", "extension": ".csv", "media_type": "text/csv", "staged": None}
    report = await sandbox.run(
        SandboxTask("consumers.preprocessing.guest.read:read_upload", arguments, {}, output, stream=chunks())
    )

    assert report.value["tables"][0]["rows"] == rows
    (file,) = output.glob("*.parquet")
    assert pq.read_table(file).column(0).to_pylist()[-1] == rows - 1


@MOSTLY_PROCESS
async def test_a_refusal_comes_back_with_its_code(sandbox: Sandbox, output: Path):
    with pytest.raises(GuestRefusal) as caught:
        await run(sandbox, "result = pd.DataFrame({'a': []})", output)

    assert caught.value.code == "result_empty"


@MOSTLY_PROCESS
async def test_an_error_comes_back_with_what_was_printed(sandbox: Sandbox, output: Path):
    with pytest.raises(GuestError, match="ZeroDivisionError") as caught:
        await run(sandbox, "print('before', flush=True)\nresult = 1 / 0", output)

    assert caught.value.printed == "before\n"


@MOSTLY_PROCESS
@pytest.mark.parametrize(
    ("end", "told"),
    [
        ("import os; os._exit(3)", "exit code 3"),
        ("import os; os.abort()", "exit code -6"),
    ],
)
async def test_a_guest_that_ends_without_a_reply_is_told_with_its_code(
    sandbox: Sandbox, end: str, told: str, output: Path
):
    with pytest.raises(SandboxCrash, match=told):
        await run(sandbox, end, output)


@MOSTLY_PROCESS
async def test_who_prints_without_end_is_stopped(sandbox: Sandbox, output: Path):
    with pytest.raises(SandboxOutput) as caught:
        await run(sandbox, "while True: print('x' * 1000)", output)

    assert len(caught.value.printed) == QUICK.output_bytes


@MOSTLY_PROCESS
async def test_the_address_space_is_limited(sandbox: Sandbox, output: Path):
    with pytest.raises(SandboxMemory, match="needed more"):
        await run(sandbox, "result = len(bytearray(2 * 1024**3))", output)


@BOTH
async def test_memory_is_watched_where_no_limit_of_the_process_counts_it(tier: str, sandbox: Sandbox, output: Path):
    several = (
        "import os, time\n"
        "for _ in range(3):\n"
        "    if os.fork() == 0:\n"
        "        kept = b'x' * 120_000_000\n"
        "        time.sleep(60)\n"
        "time.sleep(60)\nresult = 1"
    )
    files = (
        "for n in range(2): open(f'/tmp/{n}', 'wb').write(b'x' * 100_000_000)\nimport time; time.sleep(60)\nresult = 1"
    )
    limits = replace(QUICK, memory_bytes=250_000_000, address_bytes=2 * 1024**3, file_bytes=10**9)
    with pytest.raises(SandboxMemory, match="killed"):
        await run(sandbox, files if tier == "gvisor" else several, output, limits)


@MOSTLY_PROCESS
async def test_threads_are_watched(sandbox: Sandbox, output: Path):
    many = (
        "import threading, hashlib\n"
        "threading.stack_size(1 << 18)\n"
        "def work():\n"
        "    while True: hashlib.sha256(bytes(1 << 20)).digest()\n"
        "for _ in range(30): threading.Thread(target=work, daemon=True).start()\n"
        "work()\nresult = 1"
    )
    with pytest.raises(SandboxCrash, match="threads"):
        await run(sandbox, many, output, replace(QUICK, threads=10, cpu_seconds=600))


@MOSTLY_PROCESS
async def test_scratch_is_watched(sandbox: Sandbox, output: Path):
    fill = (
        "for n in range(9): open(f'{out}/{n}', 'wb').write(b'x' * 5_000_000)\nimport time; time.sleep(60)\nresult = 1"
    )
    with pytest.raises(SandboxOutput, match="wrote more"):
        await run(sandbox, fill, output, replace(QUICK, scratch_bytes=20_000_000))


@MOSTLY_PROCESS
async def test_the_clock_stops_who_sleeps(sandbox: Sandbox, output: Path):
    with pytest.raises(SandboxTimeout, match="after 3 seconds"):
        await run(sandbox, "import time; time.sleep(600)", output, replace(QUICK, wall_seconds=3))


@MOSTLY_PROCESS
@pytest.mark.parametrize("deaf", ["", "import signal; signal.signal(signal.SIGXCPU, signal.SIG_IGN)\n"])
async def test_processor_time_stops_who_never_ends(sandbox: Sandbox, deaf: str, output: Path):
    with pytest.raises(SandboxTimeout, match="processor time"):
        await run(sandbox, f"{deaf}while True: pass", output, replace(QUICK, cpu_seconds=2))


@BOTH
async def test_only_plain_files_come_out(sandbox: Sandbox, output: Path):
    planted = (
        "from contextlib import suppress\n"
        "with suppress(OSError): os.symlink('/etc/passwd', out + '/link.csv')\n"
        "with suppress(OSError): os.mkfifo(out + '/fifo')\n"
        "with suppress(OSError): os.mkdir(out + '/folder')\n"
        "open(out + '/twice', 'w').write('x')\n"
        "with suppress(OSError): os.link(out + '/twice', out + '/thrice')\n"
        "open(out + '/.hidden', 'w').write('x')\n"
        "open(out + '/plain.txt', 'w').write('kept')\n"
        "result = 1"
    )
    await run(sandbox, planted, output)

    assert {entry.name for entry in output.iterdir()} - {"twice"} == {"plain.txt", "result.parquet"}
    assert (output / "plain.txt").read_text() == "kept"
    assert not (output / "plain.txt").is_symlink()


@BOTH
async def test_a_cancel_in_any_of_the_first_turns_leaves_nothing(sandbox: Sandbox, slots: Path, output: Path):
    for turns in range(20):
        task = asyncio.create_task(run(sandbox, FOR_EVER, output), name="cancelled")
        for _ in range(turns):
            await asyncio.sleep(0)

        await leaves_nothing_when_cancelled(task, slots)


@pytest.mark.parametrize(
    ("tier", "sign"),
    [
        *(("process", sign) for sign in ("in", "a process", "out/begun")),
        *(("gvisor", sign) for sign in ("in", "a process", "bundle/root/usr", "state/*.lock", "out/begun")),
    ],
)
async def test_a_cancel_at_any_stage_leaves_nothing(sandbox: Sandbox, sign: str, slots: Path, output: Path):
    task = asyncio.create_task(run(sandbox, FOR_EVER, output), name="cancelled")
    await until_so(lambda: bool(running(slots) if sign == "a process" else list(slots.glob(f"*/{sign}"))))

    await leaves_nothing_when_cancelled(task, slots)


async def leaves_nothing_when_cancelled(task: asyncio.Task[SandboxReport], slots: Path) -> None:
    task.cancel()
    done, _ = await asyncio.wait((task,), timeout=20)
    assert done
    assert task.cancelled()
    assert list(slots.iterdir()) == []
    assert not running(slots)


_WORKER = """
import asyncio, sys
from pathlib import Path
sys.path[:0] = [sys.argv[1], sys.argv[1] + "/tests/integration", sys.argv[1] + "/tests"]
from test_cold_tiers import FOR_EVER, opened, run
async def main():
    slots, output = Path(sys.argv[3]), Path(sys.argv[4])
    async with opened(sys.argv[2], slots) as sandbox:
        await run(sandbox, FOR_EVER, output)
asyncio.run(main())
"""


@BOTH
async def test_a_killed_worker_takes_its_guests_along(tier: str, slots: Path, output: Path):
    if tier == "gvisor":
        runsc()
    arguments = [str(ROOT), tier, str(slots), str(output)]
    worker = await asyncio.create_subprocess_exec(sys.executable, "-c", _WORKER, *arguments)
    await until_so(lambda: any(slots.glob("*/out/begun")), seconds=60)
    guests = running(slots)
    worker.send_signal(signal.SIGKILL)
    await worker.wait()
    await until_so(lambda: not running(slots))

    assert len(guests) > 1


async def test_who_leaves_the_session_is_found(slots: Path, output: Path):
    daemon = (
        "import os, time\n"
        "if os.fork() == 0:\n"
        "    os.setsid()\n"
        "    if os.fork() == 0:\n"
        "        open(out + '/begun', 'w')\n"
        "        time.sleep(600)\n"
        "    os._exit(0)\n"
        "while not os.path.exists(out + '/begun'): time.sleep(0.01)\n"
        "result = 1"
    )
    async with opened("process", slots) as sandbox:
        await run(sandbox, daemon, output)

    assert (output / "begun").exists()
    assert not running(slots)


async def test_a_child_that_holds_the_pipes_does_not_hold_the_host(slots: Path, output: Path):
    async with opened("process", slots) as sandbox:
        with pytest.raises(SandboxCrash, match="exit code 3"):
            await run(sandbox, "import time\nif os.fork() == 0: time.sleep(600)\nos._exit(3)", output)

    assert not running(slots)


async def test_gvisor_shows_nothing_of_the_host(slots: Path, tmp_path: Path, output: Path):
    (tmp_path / "secret").write_text("canary-55c1")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        looks = f"""
import json, socket
def tried(action, *arguments):
    try:
        return str(action(*arguments))
    except Exception as error:
        return type(error).__name__
def fork():
    if os.fork() == 0: os._exit(0)
answer = json.dumps({{
    'reads': [tried(lambda: open(place).read()) for place in
              ({str(tmp_path / "secret")!r}, '/etc/passwd', '/proc/self/environ', '/proc/1/cmdline', '/sys/kernel')],
    'writes': [tried(open, place + '/x', 'w') for place in
               ('/', '/job', '/job/in', '/usr', '/proc', '/sys', '/dev/shm', '/dropchute/consumers')],
    'proc': os.listdir('/proc'),
    'environment': sorted(os.environ),
    'fork': tried(fork),
    'program': tried(os.execv, '/bin/true', ['true']),
    'network': [tried(socket.create_connection, ('127.0.0.1', {port}), 2),
                tried(socket.create_connection, ('169.254.169.254', 80), 2)],
    'capable': tried(os.chown, '/tmp', 1, 1),
}})
result = 1
"""
        async with opened("gvisor", slots) as sandbox:
            report = await run(sandbox, looks, output)
    seen = json.loads(report.value["answer"])

    assert set(seen["reads"]) <= {"FileNotFoundError", "PermissionError", "IsADirectoryError"}
    assert set(seen["writes"]) <= {"OSError", "PermissionError"}
    assert seen["proc"] == []
    assert not {"AWS_TEMP_BUCKET", "PYTEST_CURRENT_TEST"} & set(seen["environment"])
    assert (seen["fork"], seen["program"], seen["capable"]) == ("PermissionError",) * 3
    assert set(seen["network"]) <= {"PermissionError", "ConnectionRefusedError", "OSError"}


async def test_two_at_once_behind_gvisor_do_not_see_each_other(slots: Path, tmp_path: Path):
    outputs = [tmp_path / name for name in ("a", "b")]
    for each in outputs:
        each.mkdir()

    async def both_are_there() -> AsyncIterator[bytes]:
        await until_so(lambda: len(list(slots.glob("*/out/here"))) == 2, seconds=60)
        yield b"go"

    def meets(name: str) -> str:
        return (
            f"import sys\nopen('/tmp/mine-{name}', 'w').write('x')\nopen(out + '/here', 'w').write('x')\n"
            "told = sys.stdin.read()\n"
            "mine = [each for each in os.listdir('/tmp') if each.startswith('mine')]\n"
            "answer = str([told, *mine, *os.listdir(out), os.getpid()])\nresult = 1"
        )

    async with opened("gvisor", slots) as sandbox:
        reports = await asyncio.gather(
            *(run(sandbox, meets(each.name), each, stream=both_are_there()) for each in outputs)
        )

    assert [report.value["answer"] for report in reports] == [f"['go', 'mine-{name}', 'here', 1]" for name in "ab"]


async def test_what_was_applied_is_told(slots: Path):
    async with GvisorGuests(runsc(), slots) as guests, guests.one():
        told = " ".join(guests.walls)

    for word in ("runsc", "no network", "system call filter"):
        assert word in told
    assert list(slots.iterdir()) == []


async def test_a_machine_that_cannot_make_guests_is_told_apart_from_a_wrong_task(slots: Path, output: Path):
    async with opened("process", slots / "gone") as sandbox:
        with pytest.raises(Transient, match="No such file"):
            await run(sandbox, "result = 1", output)


async def test_a_runsc_that_is_none_is_told(tmp_path: Path, slots: Path):
    broken = tmp_path / "runsc"
    broken.write_text("#!/bin/sh\n[ \"$1\" = help ] && echo ptrace || { echo 'no kernel today' >&2; exit 128; }\n")
    broken.chmod(0o755)
    async with GvisorGuests(broken, slots) as guests:
        with pytest.raises(Transient, match="no kernel today"):
            async with guests.one():
                pass
    broken.write_text("#!/bin/sh\n")
    with pytest.raises(Transient, match="none of the platforms"):
        async with GvisorGuests(broken, slots):
            pass

    assert unavailable(tmp_path / "missing") == "there is no program runsc; install gVisor"
    assert unavailable(broken) is None
    assert list(slots.iterdir()) == []
