"""Landlock, asked of the real kernel in children that are restricted by nothing else."""

import errno
import os
import socket

import pytest
from in_child import child, returned
from walled_programs import attempt_all, execute_programs, reach_outside, restrict

from consumers.sandbox.guest import landlock

ABI = landlock.abi()


def test_newer_kernels_deny_more():
    per_abi = [landlock.handled(version) for version in range(1, 12)]

    assert per_abi[0] == (0x1FFF, 0, 0)
    assert per_abi[2] == (0x7FFF, 0, 0)
    assert per_abi[3] == (0x7FFF, 0b11, 0)
    assert per_abi[6] == (0xFFFF, 0b11, 0b11)
    assert per_abi[10] == per_abi[9] == (0x1FFFF, 0b1111, 0b11)


def test_an_older_kernel_is_told_of_no_field_that_it_lacks():
    assert [len(landlock._ruleset(version)) for version in (1, 3, 4, 5, 6, 7)] == [8, 8, 16, 16, 24, 24]


@pytest.fixture
def folders(tmp_path):
    """``in``, ``out``, ``tmp`` and ``elsewhere``, a file in each, and a file beside them."""
    for name in ("in", "out", "tmp", "elsewhere"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text("kept")
    (tmp_path / "beside").write_text("kept")
    return tmp_path


def outcomes(folder, attempts):
    return dict(zip(attempts, returned(attempt_all, str(folder), attempts), strict=True))


def test_inputs_are_read_and_stay_as_they_are(folders):
    expected = {
        ("read", "in/file"): 0,
        ("list", "in"): 0,
        ("write", "in/file"): errno.EACCES,
        ("make", "in/new"): errno.EACCES,
        ("remove", "in/file"): errno.EACCES,
        ("folder", "in/sub"): errno.EACCES,
        ("link", "in/link"): errno.EACCES,
        ("fifo", "in/fifo"): errno.EACCES,
        ("move to tmp", "in/file"): errno.EACCES,
        ("second name", "tmp/second"): errno.EXDEV,
        ("second name", "out/second"): errno.EXDEV,
        # Older kernels leave this to the system call filter.
        **({("truncate", "in/file"): errno.EACCES, ("cut while reading", "in/file"): errno.EACCES} if ABI >= 3 else {}),
    }

    assert outcomes(folders, list(expected)) == expected
    assert (folders / "in" / "file").read_text() == "kept"


def test_results_are_regular_files_and_nothing_else(folders):
    expected = {
        ("make", "out/new"): 0,
        ("write", "out/new"): 0,
        ("truncate", "out/file"): 0,
        ("read", "out/file"): 0,
        ("remove", "out/file"): errno.EACCES,
        ("list", "out"): 0,
        ("folder", "out/sub"): errno.EACCES,
        ("link", "out/link"): errno.EACCES,
        ("fifo", "out/fifo"): errno.EACCES,
        ("socket", "out/socket"): errno.EACCES,
        # Names come into a folder from inside it alone.
        ("move to out", "tmp/file"): errno.EXDEV,
    }

    assert outcomes(folders, list(expected)) == expected


def test_scratch_holds_folders_and_links_but_neither_sockets_nor_fifos(folders):
    expected = {
        ("folder", "tmp/sub"): 0,
        ("make", "tmp/sub/file"): 0,
        ("link", "tmp/link"): 0,
        ("move down", "tmp/file"): 0,
        ("remove", "tmp/sub/file"): 0,
        ("remove", "tmp/sub/moved"): 0,
        ("remove folder", "tmp/sub"): 0,
        ("fifo", "tmp/fifo"): errno.EACCES,
        ("socket", "tmp/socket"): errno.EACCES,
    }
    if ABI < 2:  # such a kernel moves nothing from folder to folder
        expected |= {("move down", "tmp/file"): errno.EXDEV, ("remove", "tmp/sub/moved"): errno.ENOENT}

    assert outcomes(folders, list(expected)) == expected


def test_everything_else_is_closed(folders):
    expected = {
        ("read", "beside"): errno.EACCES,
        ("read", "elsewhere/file"): errno.EACCES,
        ("list", "elsewhere"): errno.EACCES,
        ("list", "."): errno.EACCES,
        ("make", "elsewhere/new"): errno.EACCES,
        ("remove", "elsewhere/file"): errno.EACCES,
        ("read", "/etc/passwd"): errno.EACCES,
        ("read", "/proc/self/environ"): errno.EACCES,
        ("list", "/"): errno.EACCES,
        ("read", "/dev/zero"): errno.EACCES,
        ("null", "."): 0,
    }

    assert outcomes(folders, list(expected)) == expected


def test_a_link_in_scratch_opens_nothing_new(folders):
    (folders / "tmp" / "way").symlink_to(folders / "beside")

    assert outcomes(folders, [("read", "tmp/way")]) == {("read", "tmp/way"): errno.EACCES}


def test_no_rule_grants_execution_devices_or_sockets():
    granted = landlock.READ | landlock.WRITE | landlock.SCRATCH | landlock.DEVICE
    never = (
        landlock.EXECUTE
        | landlock.MAKE_CHAR
        | landlock.MAKE_BLOCK
        | landlock.MAKE_SOCK
        | landlock.MAKE_FIFO
        | landlock.IOCTL_DEV
        | landlock.RESOLVE_UNIX
    )

    assert not granted & never


def test_no_program_can_be_executed(folders):
    assert returned(execute_programs, str(folders)) == [errno.EACCES] * 2


def test_neither_a_port_nor_a_process_outside_is_reached():
    name = f"dropchute-test-{os.getpid()}"
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket(socket.AF_UNIX) as abstract:
        abstract.bind("\0" + name)
        abstract.listen()
        reached = returned(reach_outside, listener.getsockname()[1], name, os.getpid())

    tcp, others = (errno.EACCES if ABI >= 4 else 0), (errno.EPERM if ABI >= 6 else 0)
    assert reached == {"connect": tcp, "bind": tcp, "abstract": others, "signal": others}


def test_folders_and_files_are_named_alike_and_it_says_which_abi_it_applied(folders):
    assert returned(restrict, [str(folders), str(folders / "beside")]) == ABI > 0


def test_a_path_that_cannot_be_looked_at_is_an_error_and_a_missing_one_is_not(folders):
    ended = child(restrict, [str(folders / "missing"), str(folders / "beside" / "below")])

    assert "NotADirectoryError" in ended.stderr


def test_without_no_new_privs_nothing_is_restricted():
    ended = child(restrict, [], no_new_privs=False)

    assert ended.returncode == 1
    assert "landlock_restrict_self: Operation not permitted" in ended.stderr
