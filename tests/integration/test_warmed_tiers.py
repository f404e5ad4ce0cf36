"""A guest of the warmed tiers: what an honest task gets, and how each other way to end is told."""

import asyncio
import fcntl
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio
from kit import until_so

from consumers.errors import Transient
from consumers.ports import (
    GuestError,
    Limits,
    Sandbox,
    SandboxCrash,
    SandboxMemory,
    SandboxOutput,
    SandboxReport,
    SandboxTask,
    SandboxTimeout,
)
from consumers.sandbox.outputs import UnsafeOutput, open_output, output_path
from consumers.sandbox.spares import Spares
from consumers.sandbox.tiers import open_tier
from consumers.sandbox.walled import WalledSandbox

pytestmark = pytest.mark.asyncio(loop_scope="module")

QUICK = Limits(wall_seconds=20, cpu_seconds=10, memory_bytes=1024**3, file_bytes=10_000_000, output_bytes=20_000)


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["namespaces", "landlock"])
async def sandbox(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Sandbox]:
    async with open_tier(request.param, tmp_path_factory.mktemp("sandbox")) as opened:
        yield opened


async def run(sandbox: Sandbox, code: str, folder: Path, limits: Limits = QUICK) -> SandboxReport:
    """Run a program as the analyst would; ``OUT`` in it is the output folder."""
    return await sandbox.run(_task(code, folder, limits))


def _task(code: str, folder: Path, limits: Limits = QUICK) -> SandboxTask:
    return SandboxTask(
        call="consumers.sandbox.guest.run_code:run_query",
        arguments={"code": f"import os\nOUT = {OUT}\n{code}", "tables": []},
        inputs={},
        output=folder,
        limits=limits,
    )


# The tiers show it at different places; a program finds it as the one folder it may write to beside its own.
OUT = "'/job/out' if os.path.isdir('/job/out') else os.path.join(os.path.dirname(os.getcwd()), 'out')"


async def test_an_honest_program_gets_its_result_through(sandbox: Sandbox, tmp_path: Path):
    report = await run(sandbox, "print('hello')\nresult = pd.DataFrame({'a': [1, 2]})", tmp_path)

    assert report.value["rows"] == 2
    assert report.printed == "hello\n"
    with open_output(tmp_path, "result.parquet") as file:
        assert file.read(4) == b"PAR1"


async def test_inputs_appear_by_their_names_and_stay_with_the_host(sandbox: Sandbox, tmp_path: Path):
    await run(sandbox, "result = pd.DataFrame({'a': [3, 4]})", tmp_path)
    output = tmp_path / "second"
    output.mkdir()
    table = {"name": "t", "file": "x.parquet"}

    report = await sandbox.run(
        SandboxTask(
            "consumers.sandbox.guest.run_code:run_query",
            {"code": "result = df['a'].sum()", "tables": [table]},
            {"x.parquet": tmp_path / "result.parquet"},
            output,
        )
    )

    assert report.value["preview"]["rows"] == [["7"]] or report.value["answer"] == "7"
    assert (tmp_path / "result.parquet").stat().st_nlink == 1


async def test_a_stream_becomes_standard_input_to_its_end(sandbox: Sandbox, tmp_path: Path):
    async def lines() -> AsyncIterator[bytes]:
        yield b"a,b\n"
        for number in range(20_000):
            yield b"%d,%d\n" % (number, number)

    arguments = {"name": "x.csv", "extension": ".csv", "media_type": "text/csv", "staged": None}
    task = SandboxTask("consumers.preprocessing.guest.read:read_upload", arguments, {}, tmp_path, stream=lines())

    report = await sandbox.run(task)

    assert report.value["tables"][0]["rows"] == 20_000


async def test_a_source_that_breaks_ends_the_run_with_its_own_error(sandbox: Sandbox, tmp_path: Path):
    async def lines() -> AsyncIterator[bytes]:
        yield b"a,b\n"
        raise OSError("the connection broke")

    arguments = {"name": "x.csv", "extension": ".csv", "media_type": "text/csv", "staged": None}
    task = SandboxTask("consumers.preprocessing.guest.read:read_upload", arguments, {}, tmp_path, stream=lines())

    with pytest.raises(OSError, match="the connection broke"):
        await sandbox.run(task)


@pytest.mark.parametrize(
    ("program", "limits"),
    [
        ("while True: pass", replace(QUICK, cpu_seconds=1)),
        ("import re; re.match('(a+)+$', 'a' * 60 + 'b')", replace(QUICK, cpu_seconds=1)),
        ("import time; time.sleep(600)", replace(QUICK, wall_seconds=1)),
        (
            (
                "import signal, time\nfor s in set(signal.Signals) - {9, 19}: signal.signal(s, signal.SIG_IGN)\n"
                "while True: time.sleep(1)"
            ),
            replace(QUICK, wall_seconds=1),
        ),
        ("os.close(3); os.close(0)\nimport time; time.sleep(600)", replace(QUICK, wall_seconds=5)),
    ],
    ids=["turns", "matches", "sleeps", "is deaf", "hangs up"],
)
async def test_a_program_that_never_ends_is_stopped(program: str, limits: Limits, sandbox: Sandbox, tmp_path: Path):
    with pytest.raises((SandboxTimeout, SandboxCrash)):
        await run(sandbox, program, tmp_path, limits)


@pytest.mark.parametrize("eater", ["x = []\nwhile True: x.append('x' * 10_000_000)", "np.ones((10**6, 10**4))"])
async def test_a_program_that_eats_memory_is_stopped(eater: str, sandbox: Sandbox, tmp_path: Path):
    with pytest.raises(SandboxMemory):
        await run(sandbox, eater, tmp_path)


async def test_shared_memory_counts_as_memory(sandbox: Sandbox, tmp_path: Path):
    """RLIMIT_DATA does not count it."""
    eater = "import mmap, time\nm = mmap.mmap(-1, 400_000_000)\nm.write(b'x' * 400_000_000)\ntime.sleep(60)"
    with pytest.raises(SandboxMemory):
        await run(sandbox, eater, tmp_path, replace(QUICK, memory_bytes=300_000_000, address_bytes=10**10))


@pytest.mark.parametrize("printer", ["while True: print('x' * 1000)", "import sys\nwhile True: sys.stderr.write('y')"])
async def test_a_program_that_prints_without_end_is_stopped(printer: str, sandbox: Sandbox, tmp_path: Path):
    with pytest.raises(SandboxOutput) as caught:
        await run(sandbox, printer, tmp_path)

    assert len(caught.value.printed) <= QUICK.output_bytes


async def test_printing_exactly_the_limit_is_allowed_and_one_more_is_not(sandbox: Sandbox, tmp_path: Path):
    await run(sandbox, "os.write(1, b'x' * 20_000); result = 1", tmp_path)
    with pytest.raises(SandboxOutput):
        await run(sandbox, "os.write(1, b'x' * 20_001); result = 1", tmp_path)


async def test_a_file_of_exactly_the_limit_can_be_written_and_one_byte_more_not(sandbox: Sandbox, tmp_path: Path):
    write = "with open(OUT + '/big', 'wb') as f: f.write(b'x' * {})\nresult = 1"
    await run(sandbox, write.format(10_000_000), tmp_path)
    assert (tmp_path / "big").stat().st_size == 10_000_000
    with pytest.raises(GuestError, match="File too large"):
        await run(sandbox, write.format(10_000_001), tmp_path)


async def test_all_files_together_have_a_limit(sandbox: Sandbox, tmp_path: Path):
    write = (
        "import time\nfor n in range(9):\n    with open(f'{OUT}/{n}', 'wb') as f: f.write(b'x' * 9_000_000)\n"
        "time.sleep(30)"
    )
    with pytest.raises(SandboxOutput, match="wrote more"):
        await run(sandbox, write, tmp_path, replace(QUICK, scratch_bytes=50_000_000))


async def test_the_number_of_files_has_a_limit(sandbox: Sandbox, tmp_path: Path):
    write = "import time\nfor n in range({}): open(f'{{OUT}}/{{n}}', 'w').close()\ntime.sleep({})\nresult = 1"
    limits = replace(QUICK, scratch_files=50)
    await run(sandbox, write.format(49, 0.3), tmp_path, limits)
    with pytest.raises(SandboxOutput, match="wrote more"):
        await run(sandbox, write.format(51, 30), tmp_path, limits)


@pytest.mark.parametrize("end", ["os._exit(0)", "os._exit(3)", "os.abort()"])
async def test_a_program_that_ends_its_process_is_told_apart_from_a_result(end: str, sandbox: Sandbox, tmp_path: Path):
    with pytest.raises(SandboxCrash):
        await run(sandbox, end, tmp_path)


async def test_cancelling_kills_the_guest(sandbox: Sandbox, tmp_path: Path):
    seconds = "import time\nopen(OUT + '/begun', 'w').close()\ntime.sleep(3); open(OUT + '/alive', 'w'); result = 1"
    task = asyncio.create_task(run(sandbox, seconds, tmp_path))
    begun = "sandbox*/sandbox-*/slots/*/*/out/begun"
    await until_so(lambda: list(tmp_path.parent.glob(begun)))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    # Its slot goes after its death. Processes are not counted: other tests have theirs.
    await until_so(lambda: not list(tmp_path.parent.glob(begun)))

    assert list(tmp_path.iterdir()) == []


async def test_a_cancel_at_any_moment_leaves_nothing(tmp_path: Path):
    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"a,b\n"
            await asyncio.sleep(0.001)

    async with open_tier("namespaces", tmp_path, spares=1) as sandbox:
        for turns in range(60):
            output = tmp_path / str(turns)
            output.mkdir()
            arguments = {"name": "x.csv", "extension": ".csv", "media_type": "text/csv", "staged": None}
            call = "consumers.preprocessing.guest.read:read_upload"
            task = asyncio.create_task(sandbox.run(SandboxTask(call, arguments, {}, output, stream=endless())))
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            done, _ = await asyncio.wait((task,), timeout=10)
            assert done, f"still running when cancelled after {turns} turns of the loop"
            assert task.cancelled()
            output.rmdir()
        slots = list(next(tmp_path.glob("sandbox-*/slots/*")).iterdir())
        assert len(slots) <= 2

    assert list(tmp_path.iterdir()) == []
    assert not [line for line in guests() if str(tmp_path) in line]


def guests() -> list[str]:
    """The command lines of warmed processes and their guests, which are alike."""
    lines = []
    for entry in Path("/proc").iterdir():
        try:
            line = (entry / "cmdline").read_text() if entry.name.isdigit() else ""
        except OSError:
            continue
        if "guest/zygote.py" in line:
            lines.append(line)
    return lines


async def test_a_machine_that_is_at_fault_is_told_apart_from_a_wrong_task(sandbox: Sandbox, tmp_path: Path):
    with pytest.raises(Transient, match="sandbox could not do its work"):
        await run(sandbox, "result = 1", tmp_path / "gone")


async def test_a_forged_reply_is_only_data(sandbox: Sandbox, tmp_path: Path):
    forged = "import struct\nos.write(3, struct.pack('>I', 4_000_000_000))\nresult = 1"
    with pytest.raises(SandboxCrash):
        await run(sandbox, forged, tmp_path)


async def test_a_reply_of_another_shape_is_no_result(sandbox: Sandbox, tmp_path: Path):
    forged = "import json, struct\nb = json.dumps({'value': 7}).encode()\nos.write(3, struct.pack('>I', len(b)) + b)"
    with pytest.raises(SandboxCrash, match="something else"):
        await run(sandbox, forged, tmp_path)


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a/b", "", ".", "..", "a\0b", "a\n", ".hidden", None, 7, "é"])
async def test_only_plain_names_are_opened(name: object, tmp_path: Path):
    with pytest.raises(UnsafeOutput):
        output_path(tmp_path, name)


@pytest.mark.parametrize("name", [".hidden", "ä", "a b", "-rf", "x" * 101])
async def test_files_with_other_names_stay_inside(name: str, sandbox: Sandbox, tmp_path: Path):
    await run(sandbox, f"open(OUT + '/' + {name!r}, 'w').close(); result = 1", tmp_path)

    assert [each.name for each in tmp_path.iterdir()] == ["result.parquet"]


async def test_a_planted_link_is_not_shown_to_a_guest(sandbox: Sandbox, tmp_path: Path):
    (tmp_path / "link").symlink_to("/etc/passwd")
    output = tmp_path / "out"
    output.mkdir()

    with pytest.raises(UnsafeOutput):
        await sandbox.run(SandboxTask("any:thing", {}, inputs={"link": tmp_path / "link"}, output=output))


async def test_printed_control_characters_are_removed(sandbox: Sandbox, tmp_path: Path):
    report = await run(sandbox, "print('\\x1b[31mred\\x07 \\u202e'); result = 1", tmp_path)

    assert report.printed == "[31mred \n"


async def test_what_was_printed_last_arrives_although_the_output_was_replaced(sandbox: Sandbox, tmp_path: Path):
    code = "import sys; print('kept'); sys.stdout.flush(); sys.stdout = None; sys.stderr = 3; result = 1"
    report = await run(sandbox, code, tmp_path)

    assert report.printed == "kept\n"


LEAVES_ITS_FIRST_THREAD = """
import ctypes, threading, time
libc = ctypes.CDLL(None)
# A name that would read as a line of its own to whoever splits at more than newlines.
libc.prctl(15, b"a\\x0bRssAnon: z", 0, 0, 0)

def go_on():
    {}
    time.sleep(60)

threading.Thread(target=go_on).start()
libc.syscall(60 if os.uname().machine == "x86_64" else 93, 0)
"""


async def test_a_job_whose_first_thread_has_left_is_watched_like_any(sandbox: Sandbox, tmp_path: Path):
    much = "for n in range(40): open(f'{OUT}/{n}', 'wb').write(b'x' * 5_000_000)"
    write = "import time\nfor n in range(9): open(f'{OUT}/{n}', 'wb').write(b'x' * 9_000_000)\ntime.sleep(30)"
    limits = replace(QUICK, scratch_bytes=20_000_000)

    with pytest.raises(SandboxOutput, match="wrote more"):
        await run(sandbox, LEAVES_ITS_FIRST_THREAD.replace("{}", much), tmp_path, limits)
    # And so is the next one.
    with pytest.raises(SandboxOutput, match="wrote more"):
        await run(sandbox, write, tmp_path, limits)


async def test_a_fault_of_the_machine_is_believed_only_if_it_is_there(sandbox: Sandbox, tmp_path: Path):
    forged = "import json, struct\nb = json.dumps({'fault': 'x'}).encode()\nos.write(3, struct.pack('>I', len(b)) + b)"
    with pytest.raises(SandboxCrash):
        await run(sandbox, forged, tmp_path)


async def test_a_reply_of_a_million_lists_is_no_reply(sandbox: Sandbox, tmp_path: Path):
    forged = (
        "import struct\nb = b'{\"value\":{\"x\":[' + b'[],' * 1_000_000 + b'0]}}'\n"
        "data = struct.pack('>I', len(b)) + b\nwhile data: data = data[os.write(3, data):]"
    )
    with pytest.raises(SandboxCrash, match="something else"):
        await run(sandbox, forged, tmp_path)


async def test_holes_count_as_what_they_would_be_sent_as(sandbox: Sandbox, tmp_path: Path):
    sparse = "with open(OUT + '/sparse', 'wb') as f: f.truncate(9_000_000)\nresult = 1"
    with pytest.raises(SandboxOutput, match="wrote more"):
        await run(sandbox, sparse, tmp_path, replace(QUICK, scratch_bytes=5_000_000))


async def test_what_is_written_at_the_very_end_counts_too(sandbox: Sandbox, tmp_path: Path):
    write = "open(OUT + '/last', 'wb').write(b'x' * 9_000_000)\nresult = 1"
    for _ in range(5):
        with pytest.raises(SandboxOutput, match="wrote more"):
            await run(sandbox, write, tmp_path, replace(QUICK, scratch_bytes=5_000_000))


async def test_a_result_that_its_program_closed_can_be_read(sandbox: Sandbox, tmp_path: Path):
    await run(sandbox, "os.umask(0o777)\nresult = 1", tmp_path)

    assert (tmp_path / "result.parquet").stat().st_mode & 0o777 == 0o600


async def test_of_python_s_home_a_guest_sees_libraries_and_nothing_beside_them(sandbox: Sandbox, tmp_path: Path):
    look = (
        "import sys\n"
        "def there(path):\n    try: open(path, 'rb').close()\n    except IsADirectoryError: pass\n"
        "    except OSError: return False\n    return True\n"
        f"answer = str([there(p) for p in ({sys.executable!r}, {str(Path(sys.prefix, 'pip.conf'))!r}, '/usr/src')])\n"
        "result = 1"
    )
    report = await run(sandbox, look, tmp_path)

    assert report.value["answer"] == "[True, False, False]"


async def test_nobody_can_be_locked_out_of_a_file_that_all_may_read(sandbox: Sandbox, tmp_path: Path):
    library = Path(os.__file__)
    with library.open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        lock = f"import fcntl\nfcntl.flock(open({str(library)!r}), fcntl.LOCK_EX | fcntl.LOCK_NB)\nresult = 1"
        await run(sandbox, lock, tmp_path)


# ---------------------------------------------------------------- the warmed process


@asynccontextmanager
async def spares(folder: Path, **choices: float) -> AsyncIterator[tuple[Spares, Sandbox]]:
    async with Spares("namespaces", folder, **{"wanted": 1, **choices}) as opened:  # type: ignore[arg-type]
        yield opened, WalledSandbox("namespaces", (), opened)


async def test_the_warmed_process_is_replaced_after_so_many_guests(tmp_path: Path):
    output = tmp_path / "output"
    output.mkdir()
    (tmp_path / "slots").mkdir()
    async with spares(tmp_path / "slots", recycle_after_guests=3) as (opened, sandbox):
        seen = set()
        async with asyncio.timeout(60):
            while len(seen) < 3:
                await run(sandbox, "result = 1", output)
                seen |= {process for process in opened._processes if process is opened._warmed}
                await asyncio.sleep(0.05)
            await until_so(lambda: len(opened._processes) == 1)

    assert list((tmp_path / "slots").iterdir()) == []


async def test_the_warmed_process_is_replaced_after_some_time_though_nothing_happens(tmp_path: Path):
    async with spares(tmp_path, recycle_after_seconds=0.2) as (opened, _sandbox):
        await until_so(lambda: opened._warmed is not None)
        first = opened._warmed
        await until_so(lambda: opened._warmed is not first)


async def test_a_warmed_process_that_dies_is_the_machine_s_fault_and_the_next_task_has_another(tmp_path: Path):
    output = tmp_path / "output"
    output.mkdir()
    (tmp_path / "slots").mkdir()
    async with spares(tmp_path / "slots") as (opened, sandbox):
        long = "import time\nopen(OUT + '/begun', 'w').close()\ntime.sleep(30)\nresult = 1"
        running = asyncio.create_task(run(sandbox, long, output, replace(QUICK, wall_seconds=120)))
        await until_so(lambda: list(tmp_path.glob("slots/*/*/out/begun")))
        assert opened._warmed is not None
        os.killpg(opened._warmed._process.pid, signal.SIGKILL)
        with pytest.raises(Transient, match="warmed process"):
            await running

        report = await run(sandbox, "result = 1", output)

    assert report.value["rows"] == 1


async def test_without_spares_a_guest_is_made_when_it_is_needed(tmp_path: Path):
    output = tmp_path / "output"
    output.mkdir()
    (tmp_path / "slots").mkdir()
    async with spares(tmp_path / "slots", wanted=0) as (opened, sandbox):
        await run(sandbox, "result = 1", output)

        assert opened._ready.qsize() == 0


async def test_jobs_at_the_same_time_have_a_guest_each(sandbox: Sandbox, tmp_path: Path):
    outputs = [tmp_path / str(number) for number in range(6)]
    for output in outputs:
        output.mkdir()

    reports = await asyncio.gather(
        *(run(sandbox, f"result = {number}", output) for number, output in enumerate(outputs))
    )

    assert [report.value["preview"]["rows"] for report in reports] == [[[str(n)]] for n in range(6)] or [
        report.value["answer"] for report in reports
    ] == [str(n) for n in range(6)]


async def test_while_another_warmed_process_cannot_be_started_the_present_one_goes_on(tmp_path: Path):
    output = tmp_path / "output"
    output.mkdir()
    slots = tmp_path / "slots"
    slots.mkdir()
    # The place of the second one is taken.
    (slots / "2").touch()
    async with spares(slots, recycle_after_guests=3) as (opened, sandbox):
        first = opened._warmed
        for _ in range(6):
            await run(sandbox, "result = 1", output)
        await until_so(lambda: opened._warmed is not first)
        await run(sandbox, "result = 1", output)

    assert [path.name for path in slots.iterdir()] == ["2"]


async def test_who_waited_and_went_leaves_no_guests_behind(tmp_path: Path):
    outputs = [tmp_path / str(number) for number in range(20)]
    for output in outputs:
        output.mkdir()
    (tmp_path / "slots").mkdir()
    async with spares(tmp_path / "slots") as (opened, sandbox):
        tasks = [asyncio.create_task(run(sandbox, "result = 1", output)) for output in outputs]
        await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await until_so(lambda: opened._making == 0)

        assert opened._ready.qsize() <= 1
