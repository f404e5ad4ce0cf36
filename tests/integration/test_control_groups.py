"""Control groups: the kernel ends what takes too much, where this process may make them.

Version 1 is what the machines have that these ran on as root. Of version 2 only what reads and writes its files is
exercised, on folders that look like one.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from consumers.ports import Limits, SandboxMemory, SandboxTask
from consumers.sandbox import cgroups
from consumers.sandbox.cgroups import ControlGroups, Group, Places
from consumers.sandbox.spares import Spares
from consumers.sandbox.walled import WalledSandbox

MB = 1024**2
WAIT = "import sys; sys.stdin.readline()\n"
SHARED = WAIT + "import mmap; m = mmap.mmap(-1, 300 << 20); [m.write(bytes(1 << 20)) for _ in range(300)]"
THREADS = """
import threading
stop, started = threading.Event(), 0
try:
    while started < 100:
        threading.Thread(target=stop.wait).start()
        started += 1
except RuntimeError:
    pass
print(started)
stop.set()
"""
HYBRID = """\
32 31 0:32 / /sys/fs/cgroup/memory rw,relatime shared:9 - cgroup cgroup rw,memory
39 31 0:36 / /sys/fs/cgroup/pids\\040and\\040more rw,relatime - cgroup cgroup rw,pids
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw,nsdelegate
"""


needs_groups = pytest.mark.skipif(cgroups.find() is None, reason="control groups cannot be made here")
needs_root = pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")


@pytest.fixture
def groups() -> Iterator[ControlGroups]:
    found = cgroups.find()
    assert found is not None
    yield found
    found.clear()


def in_a_group(group: Group, program: str) -> tuple[int, str]:
    """How a program ends that joins the group before it begins, and what it prints."""
    command = [sys.executable, "-I", "-S", "-c", program]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        group.hold(process.pid)
        printed, _ = process.communicate("go\n", timeout=60)
        return process.returncode, printed


@needs_groups
def test_shared_memory_beyond_the_limit_is_the_end_and_told(groups: ControlGroups):
    group = groups.group()
    group.limit(memory_bytes=100 * MB, tasks=8)
    before = group.ran_out()

    code, _ = in_a_group(group, SHARED)
    after = group.ran_out()
    groups.give_up(group)

    assert (before, code, after) == (False, -signal.SIGKILL, True)


@needs_groups
def test_memory_within_the_limit_is_not(groups: ControlGroups):
    group = groups.group()
    group.limit(memory_bytes=400 * MB, tasks=8)

    code, _ = in_a_group(group, SHARED)
    ran_out = group.ran_out()
    groups.give_up(group)

    assert (code, ran_out) == (0, False)


@needs_groups
def test_threads_beyond_the_limit_do_not_start(groups: ControlGroups):
    group = groups.group()
    group.limit(memory_bytes=400 * MB, tasks=10)

    code, printed = in_a_group(group, WAIT + THREADS)
    groups.give_up(group)

    assert (code, printed.strip()) == (0, "9")


@needs_groups
def test_a_group_that_is_given_up_goes_with_the_next_one_or_when_all_are_cleared(groups: ControlGroups):
    first = groups.group()
    groups.give_up(first)
    second = groups.group()
    held = [folder.exists() for folder in (*first.folders, *second.folders)]
    groups.give_up(second)
    groups.clear()

    assert held == [False, False, True, True]
    assert not any(folder.exists() for folder in second.folders)


@needs_groups
def test_two_sandboxes_of_one_process_have_groups_of_their_own(groups: ControlGroups):
    other = ControlGroups(groups.places)
    first, second = groups.group(), other.group()
    groups.give_up(first)
    groups.clear()
    left = [folder.exists() for folder in (*first.folders, *second.folders)]
    other.give_up(second)
    other.clear()

    assert left == [False, False, True, True]


@needs_groups
def test_nobody_can_join_a_group_after_his_end(groups: ControlGroups):
    group = groups.group()
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        pass

    with pytest.raises(ProcessLookupError):
        group.hold(process.pid)
    groups.give_up(group)


@needs_root
def test_an_ordinary_user_makes_none_where_only_root_may():
    code = """
import os
from consumers.sandbox.cgroups import find
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
print(find())
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)

    assert ran.stdout.splitlines()[-1] == "None"


@needs_groups
async def test_a_guest_whose_files_in_memory_are_too_large_is_killed_for_its_memory(
    groups: ControlGroups, tmp_path: Path
):
    slots, output = tmp_path / "slots", tmp_path / "output"
    slots.mkdir()
    output.mkdir()
    # Neither a limit of its process nor the watch, which looks at processes, counts what lies in the tmpfs.
    code = "file = open('/tmp/large', 'wb')\nfor _ in range(250): file.write(bytes(1 << 20))\nresult = 1"
    limits = replace(Limits(), memory_bytes=50 * MB, address_bytes=1000 * MB)
    task = SandboxTask("consumers.sandbox.guest.run_code:run_query", {"code": code, "tables": []}, {}, output, limits)
    async with Spares("namespaces", slots, wanted=1, groups=groups) as spares:
        with pytest.raises(SandboxMemory, match="killed for its use of memory"):
            await WalledSandbox("namespaces", (), spares).run(task)

    assert list(groups.places.memory.glob(f"{groups.prefix}-*")) == []


def test_places_come_from_what_is_mounted_where():
    own = "8:pids:/\n4:cpu,memory:/box/7\n1:name=systemd:/\n0::/user.slice\n"

    assert list(cgroups.places(own, HYBRID)) == [
        Places(2, Path("/sys/fs/cgroup/unified/user.slice"), Path("/sys/fs/cgroup/unified/user.slice")),
        Places(1, Path("/sys/fs/cgroup/memory/box/7"), Path("/sys/fs/cgroup/pids and more")),
    ]


def test_a_part_of_the_tree_that_is_mounted_alone_is_found_and_what_is_not_shown_is_not():
    mounts = "30 23 0:26 /docker/a1 /sys/fs/cgroup ro,nosuid - cgroup2 cgroup rw"
    at = Path("/sys/fs/cgroup")

    assert list(cgroups.places("0::/docker/a1/sub", mounts)) == [Places(2, at / "sub", at / "sub")]
    assert list(cgroups.places("0::/docker/b2", mounts)) == []
    assert list(cgroups.places("0::/../c3", mounts.replace("/docker/a1", "/"))) == []


def test_a_group_that_systemd_has_delegated_comes_after_our_own(tmp_path: Path):
    service = tmp_path / "system.slice" / "our.service"
    worker = service / "worker"
    worker.mkdir(parents=True)
    os.setxattr(service, "user.delegate", b"1")
    mounts = f"30 23 0:26 / {tmp_path} rw - cgroup2 cgroup rw"

    found = [each.memory for each in cgroups.places("0::/system.slice/our.service/worker", mounts)]

    assert found == [worker, service]


def test_limits_of_version_2_are_written_to_its_files(tmp_path: Path):
    group = Group(Places(2, tmp_path, tmp_path), "one")
    (folder,) = group.folders
    for name in ("memory.max", "memory.swap.max", "pids.max", "cgroup.procs"):
        (folder / name).touch()
    group.limit(memory_bytes=100 * MB, tasks=10)
    group.hold(4711)
    (folder / "memory.events").write_text("low 0\nhigh 0\nmax 31\noom 1\noom_kill 0\noom_group_kill 0\n")
    squeezed = group.ran_out()
    (folder / "memory.events").write_text("low 0\nhigh 0\nmax 31\noom 1\noom_kill 1\noom_group_kill 0\n")

    assert {each.name: each.read_text() for each in folder.iterdir() if each.name != "memory.events"} == {
        "memory.max": str(100 * MB),
        "memory.swap.max": "0",
        "pids.max": "10",
        "cgroup.procs": "4711",
    }
    assert (squeezed, group.ran_out()) == (False, True)


def test_groups_of_workers_that_have_ended_are_removed_and_those_of_living_ones_are_not(tmp_path: Path):
    ours = ControlGroups(Places(2, tmp_path, tmp_path)).group().folders[0].name
    _, pid, started, *_ = ours.split("-")
    again = f"dropchute-{pid}-{int(started) + 1}-a1-1"
    ended = "dropchute-4194999-1-a1-1"  # above any process id (PID_MAX_LIMIT)
    for name in (again, ended, "of-somebody-else"):
        (tmp_path / name).mkdir()

    cgroups.remove_leftovers(tmp_path)

    assert {each.name for each in tmp_path.iterdir()} == {ours, "of-somebody-else"}
