"""What code inside the sandbox tries, and what it gets."""

import asyncio
import os
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from consumers.errors import Transient
from consumers.ports import (
    GuestError,
    Limits,
    SandboxCrash,
    SandboxMemory,
    SandboxOutput,
    SandboxReport,
    SandboxTask,
    SandboxTimeout,
)
from consumers.sandbox.outputs import UnsafeOutput, open_output, output_path
from consumers.sandbox.tiers import open_tier

CANARY = "canary-7f3a9"
QUICK = Limits(wall_seconds=20, cpu_seconds=10, memory_bytes=1024**3, file_bytes=10_000_000, output_bytes=20_000)

BIG_FILES = replace(QUICK, file_bytes=1024**3)


async def run(code: str, folder: Path, limits: Limits = QUICK) -> SandboxReport:
    """Run a program as the analyst would."""
    task = SandboxTask(
        call="consumers.sandbox.guest.run_code:run_query",
        arguments={"code": code, "tables": []},
        inputs={},
        output=folder,
        limits=limits,
    )
    async with open_tier("namespaces", folder.parent) as sandbox:
        return await sandbox.run(task)


async def answer(code: str, folder: Path, limits: Limits = QUICK) -> str:
    """What the program assigned to ``answer``."""
    report = await run(f"{code}\nresult = 1", folder, limits)
    return str(report.value["answer"])


async def test_an_honest_program_gets_its_result_through(tmp_path: Path):
    report = await run("result = pd.DataFrame({'a': [1, 2]})", tmp_path)

    assert report.value["rows"] == 2
    with open_output(tmp_path, "result.parquet") as file:
        assert file.read(4) == b"PAR1"


async def test_the_environment_is_empty_of_the_workers(tmp_path: Path):
    os.environ["DROPCHUTE_CANARY"] = CANARY
    try:
        seen = await answer("import os; answer = str(dict(os.environ)) + open('/proc/self/environ').read()", tmp_path)
        first = await answer("answer = open('/proc/1/environ').read() + 'end'", tmp_path)
    finally:
        del os.environ["DROPCHUTE_CANARY"]

    assert CANARY not in seen + first
    assert "AWS" not in seen + first


@pytest.mark.parametrize(
    "place", ["/etc/passwd", "/etc/shadow", "/root/.bashrc", str(Path(__file__)), "/work", "/var/run/docker.sock"]
)
async def test_files_of_the_host_are_not_there(place: str, tmp_path: Path):
    with pytest.raises(GuestError, match=r"FileNotFoundError|PermissionError|IsADirectoryError"):
        await run(f"result = open({place!r}).read()", tmp_path)


async def test_the_host_s_folders_are_seen_as_empty_shells_at_most(tmp_path: Path):
    found = await answer(
        "import os; answer = str([os.path.join(p, f) for p, _, fs in os.walk('/') for f in fs"
        " if not p.startswith(('/usr', '/proc', '/dev', '/lib', '/bin', '/dropchute')) and 'python' not in p.lower()"
        " and '/site-packages' not in p and '.venv' not in p])",
        tmp_path,
    )

    assert CANARY not in found
    assert "secret" not in found
    assert ".git" not in found


async def test_files_of_another_job_are_not_there(tmp_path: Path):
    mine, other = tmp_path / "mine", tmp_path / "other"
    mine.mkdir()
    other.mkdir()
    (other / "secret.txt").write_text(CANARY)

    with pytest.raises(GuestError, match="FileNotFoundError"):
        await run(f"result = open({str(other / 'secret.txt')!r}).read()", mine)


async def test_inputs_and_system_cannot_be_written(tmp_path: Path):
    for place in ("/job/in/x", "/usr/x", "/dropchute/consumers/x.py", "/etc/x", "/x"):
        with pytest.raises(GuestError, match=r"Read-only file system|Permission denied|No such file"):
            await run(f"result = open({place!r}, 'w').write('x')", tmp_path)


@pytest.fixture
def listener() -> Iterator[tuple[int, list[bytes]]]:
    """A server on loopback that must never hear anything."""
    heard: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(60)

        def accept() -> None:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            with connection:
                heard.append(connection.recv(100))

        thread = threading.Thread(target=accept)
        thread.start()
        yield server.getsockname()[1], heard
        # Unblocks the thread where nobody came.
        with socket.create_connection(server.getsockname()) as last:
            last.sendall(b"end")
        thread.join()


async def test_there_is_no_network(tmp_path: Path, listener: tuple[int, list[bytes]]):
    port, heard = listener

    for address in (("127.0.0.1", port), ("169.254.169.254", 80), ("169.254.170.2", 80), ("1.1.1.1", 53)):
        with pytest.raises(GuestError, match=r"refused|unreachable"):
            await run(f"import socket; socket.create_connection({address!r}, 2); result = 1", tmp_path)
    assert heard == []


async def test_code_that_never_ends_is_stopped_by_its_processor_time(tmp_path: Path):
    with pytest.raises(SandboxTimeout):
        await run("while True: pass", tmp_path, replace(QUICK, cpu_seconds=2))


async def test_code_that_sleeps_is_stopped_by_the_clock(tmp_path: Path):
    with pytest.raises(SandboxTimeout):
        await run("import time; time.sleep(600)", tmp_path, replace(QUICK, wall_seconds=2))


async def test_code_that_ignores_every_signal_is_stopped_too(tmp_path: Path):
    deaf = "import signal, time\nfor s in set(signal.Signals) - {9, 19}: signal.signal(s, signal.SIG_IGN)\n"
    with pytest.raises(SandboxTimeout):
        await run(f"{deaf}\nwhile True: time.sleep(1)", tmp_path, replace(QUICK, wall_seconds=2))


async def test_a_regular_expression_that_holds_the_interpreter_is_stopped(tmp_path: Path):
    with pytest.raises(SandboxTimeout):
        await run("import re; re.match('(a+)+$', 'a' * 60 + 'b')", tmp_path, replace(QUICK, cpu_seconds=2))


@pytest.mark.parametrize("eater", ["x = []\nwhile True: x.append('x' * 10_000_000)", "np.ones((10**6, 10**4))"])
async def test_code_that_eats_memory_is_stopped(eater: str, tmp_path: Path):
    with pytest.raises(SandboxMemory):
        await run(eater, tmp_path)


@pytest.mark.parametrize("printer", ["while True: print('x' * 1000)", "import sys\nwhile True: sys.stderr.write('y')"])
async def test_code_that_prints_without_end_is_stopped(printer: str, tmp_path: Path):
    with pytest.raises(SandboxOutput) as caught:
        await run(printer, tmp_path)

    assert len(caught.value.printed) <= QUICK.output_bytes


async def test_printing_exactly_the_limit_is_allowed_and_one_more_is_not(tmp_path: Path):
    await run("import os; os.write(1, b'x' * 20_000); result = 1", tmp_path)
    with pytest.raises(SandboxOutput):
        await run("import os; os.write(1, b'x' * 20_001); result = 1", tmp_path)


async def test_a_file_over_the_limit_cannot_be_written(tmp_path: Path):
    with pytest.raises(GuestError, match="File too large"):
        await run("with open('/job/out/big', 'wb') as f: f.write(b'x' * 10_000_001)\nresult = 1", tmp_path)


@pytest.mark.parametrize(
    "end", ["import os; os._exit(0)", "import os; os.kill(os.getpid(), 9)", "import os; os.abort()"]
)
async def test_code_that_ends_its_process_is_told_apart_from_a_result(end: str, tmp_path: Path):
    with pytest.raises((SandboxCrash, SandboxMemory)):
        await run(end, tmp_path)


async def test_a_daemon_does_not_outlive_its_job(tmp_path: Path):
    daemon = (
        "import os, time\n"
        "if os.fork() == 0:\n"
        "    os.setsid()\n"
        "    if os.fork() == 0:\n"
        "        time.sleep(1)\n"
        "        open('/job/out/alive', 'w').write('x')\n"
        "        time.sleep(600)\n"
        "    os._exit(0)\n"
        "result = 1"
    )
    await run(daemon, tmp_path)
    await run("import time; time.sleep(2); result = 1", tmp_path)

    assert not (tmp_path / "alive").exists()


async def test_cancelling_kills_the_sandbox(tmp_path: Path):
    task = asyncio.create_task(run("import time; time.sleep(3); open('/job/out/alive', 'w'); result = 1", tmp_path))
    async with asyncio.timeout(10):
        while "bwrap" not in _commands():  # noqa: ASYNC110 - no event tells of a process's start
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    assert "bwrap" not in _commands()


async def test_a_cancel_at_any_moment_of_the_start_leaves_nothing(tmp_path: Path):
    async def endless():
        while True:
            yield b"a,b\n"
            await asyncio.sleep(0.01)

    for turns in range(40):
        output = tmp_path / str(turns)
        output.mkdir()
        arguments = {"name": "x.csv", "extension": ".csv", "media_type": "text/csv", "staged": None}
        reading = SandboxTask("consumers.preprocessing.guest.read:read_upload", arguments, {}, output, stream=endless())
        task = asyncio.create_task(BwrapSandbox().run(reading))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        done, _ = await asyncio.wait((task,), timeout=10)
        assert done, f"still running when cancelled after {turns} turns of the loop"
        assert task.cancelled()

    assert "bwrap" not in _commands()
    assert not [line for line in _all_commands() if str(tmp_path) in line]


def _all_commands() -> list[str]:
    lines = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit():
                lines.append((entry / "cmdline").read_text())
        except OSError:
            continue
    return lines


@pytest.mark.parametrize(("place", "size"), [("/dev/shm/x", 65_000_000), ("/dev/shm/x", 68_000_000)])
async def test_shared_memory_has_a_size(place: str, size: int, tmp_path: Path):
    write = run(f"with open({place!r}, 'wb') as f: f.write(b'x' * {size})\nresult = 1", tmp_path, BIG_FILES)
    if size < 64 * 1024**2:
        await write
    else:
        with pytest.raises(GuestError, match="No space left"):
            await write


async def test_there_is_nothing_else_in_dev_to_write_to(tmp_path: Path):
    with pytest.raises(GuestError, match="Read-only file system"):
        await run("open('/dev/x', 'w').write('x'); result = 1", tmp_path)


async def test_a_machine_that_is_at_fault_is_told_apart_from_a_wrong_task(tmp_path: Path):
    gone = tmp_path / "gone"

    with pytest.raises(Transient, match="sandbox could not do its work"):
        await run("result = 1", gone)


def _commands() -> str:
    """The command lines of every process that is our child."""
    mine = str(os.getpid())
    lines = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and (entry / "stat").read_text().rsplit(")", 1)[1].split()[1] == mine:
                lines.append((entry / "cmdline").read_text())
        except OSError:
            continue
    return "\n".join(lines)


async def test_it_sees_no_process_but_its_own(tmp_path: Path):
    seen = await answer("import os; answer = str([p for p in os.listdir('/proc') if p.isdigit()])", tmp_path)

    assert seen == "['1', '2']"


async def test_a_forged_reply_is_only_data(tmp_path: Path):
    forged = (
        "import os, struct\n"
        "for fd in range(3, 64):\n"
        "    try: os.write(fd, struct.pack('>I', 4_000_000_000))\n"
        "    except OSError: pass\n"
        "result = 1"
    )
    with pytest.raises(SandboxCrash):
        await run(forged, tmp_path)


@pytest.mark.parametrize(
    "plant",
    [
        "os.symlink('/etc/passwd', '/job/out/planted')",
        "os.mkfifo('/job/out/planted')",
        "os.mkdir('/job/out/planted')",
        "open('/job/out/one', 'w').write('x'); os.link('/job/out/one', '/job/out/planted')",
        "pass",
    ],
)
async def test_the_host_does_not_follow_what_was_planted(plant: str, tmp_path: Path):
    await run(f"import os\n{plant}\nresult = 1", tmp_path)

    with pytest.raises(UnsafeOutput):
        open_output(tmp_path, "planted")


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a/b", "", ".", "..", "a\0b", "a\n", ".hidden", None, 7, "é"])
def test_only_plain_names_are_opened(name: object, tmp_path: Path):
    with pytest.raises(UnsafeOutput):
        output_path(tmp_path, name)


async def test_a_planted_link_is_not_bound_into_the_next_sandbox(tmp_path: Path):
    (tmp_path / "link").symlink_to("/etc/passwd")
    output = tmp_path / "out"
    output.mkdir()

    with pytest.raises(UnsafeOutput):
        await BwrapSandbox().run(
            SandboxTask("consumers.sandbox.guest.probe:probe", {}, inputs={"link": tmp_path / "link"}, output=output)
        )


async def test_printed_control_characters_are_removed(tmp_path: Path):
    report = await run("print('\\x1b[31mred\\x07 \\u202e'); result = 1", tmp_path)

    assert report.printed == "[31mred \n"


async def test_a_fork_bomb_ends_with_its_job_and_an_honest_job_follows(tmp_path: Path):
    bomb = "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass"
    with pytest.raises((SandboxTimeout, SandboxCrash, SandboxMemory)):
        await run(bomb, tmp_path, replace(QUICK, wall_seconds=3))

    assert await answer("answer = str('fine')", tmp_path) == "fine"


async def test_what_was_printed_last_arrives_although_the_output_was_replaced(tmp_path: Path):
    code = "import sys; print('kept'); sys.stdout.flush(); sys.stdout = None; sys.stderr = 3; result = 1"
    report = await run(code, tmp_path)

    assert report.printed == "kept\n"
