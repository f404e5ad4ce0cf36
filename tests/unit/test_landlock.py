"""Landlock, asked of the real kernel in children that are restricted by nothing else."""

import errno
import os
import socket

import pytest
from in_child import child, returned

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


def _attempts(folder, attempts):
    """Restricted to the folders, what each attempt comes to: 0 or an errno."""
    import ctypes
    import os
    import socket
    import stat
    from pathlib import Path

    root = Path(folder)

    def fifo(path):
        os.mknod(path, stat.S_IFIFO | 0o600)

    def unix_socket(path):
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(path))

    def cut_while_reading(path):
        os.close(os.open(path, os.O_RDONLY | os.O_TRUNC))

    def make(path):
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL))

    def null(path):
        with Path("/dev/null").open("r+b", buffering=0) as device:
            device.write(b"1")

    actions = {
        "read": lambda path: path.read_bytes(),
        "list": lambda path: list(path.iterdir()),
        "write": lambda path: os.close(os.open(path, os.O_WRONLY)),
        "truncate": lambda path: os.truncate(path, 0),
        "cut while reading": cut_while_reading,
        "make": make,
        "remove": lambda path: path.unlink(),
        "folder": lambda path: path.mkdir(),
        "remove folder": lambda path: path.rmdir(),
        "link": lambda path: path.symlink_to("file"),
        "second name": lambda path: os.link(root / "in" / "file", path),
        "fifo": fifo,
        "socket": unix_socket,
        "move to tmp": lambda path: path.rename(root / "tmp" / "moved"),
        "move to out": lambda path: path.rename(root / "out" / "moved"),
        "move down": lambda path: path.rename(path.parent / "sub" / "moved"),
        "null": null,
    }
    landlock.restrict(
        read=[root / "in", root / "none"],
        write=[root / "out"],
        scratch=[root / "tmp"],
        files=[Path("/dev/null")],
    )
    answers = []
    for action, path in attempts:
        try:
            actions[action](root / path)
            answers.append(0)
        except OSError as error:
            answers.append(error.errno)
    return answers


def outcomes(folder, attempts):
    return dict(zip(attempts, returned(_attempts, str(folder), attempts), strict=True))


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
        ("remove", "out/file"): 0,
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


def _programs(folder):
    import os
    from pathlib import Path

    program = Path(folder, "tmp", "program")
    program.write_text("#!/bin/true\n")
    program.chmod(0o755)
    landlock.restrict(read=[Path("/usr"), Path("/bin"), Path("/lib")], write=[], scratch=[Path(folder, "tmp")])
    answers = []
    for path in ("/bin/true", program):
        try:
            os.execv(path, ["program"])
        except OSError as error:
            answers.append(error.errno)
    return answers


def test_no_program_can_be_executed(folders):
    assert returned(_programs, str(folders)) == [errno.EACCES] * 2


def _reach(port, abstract, other):
    import os
    import socket

    def attempt(function, *arguments):
        try:
            function(*arguments)
        except OSError as error:
            return error.errno
        return 0

    landlock.restrict(read=[], write=[], scratch=[])
    with socket.socket() as client, socket.socket() as server, socket.socket(socket.AF_UNIX) as local:
        return {
            "connect": attempt(client.connect, ("127.0.0.1", port)),
            "bind": attempt(server.bind, ("127.0.0.1", 0)),
            "abstract": attempt(local.connect, "\0" + abstract),
            "signal": attempt(os.kill, other, 0),
        }


def test_neither_a_port_nor_a_process_outside_is_reached():
    name = f"dropchute-test-{os.getpid()}"
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket(socket.AF_UNIX) as abstract:
        abstract.bind("\0" + name)
        abstract.listen()
        reached = returned(_reach, listener.getsockname()[1], name, os.getpid())

    tcp, others = (errno.EACCES if ABI >= 4 else 0), (errno.EPERM if ABI >= 6 else 0)
    assert reached == {"connect": tcp, "bind": tcp, "abstract": others, "signal": others}


def _restrict(paths):
    from pathlib import Path

    return landlock.restrict(read=map(Path, paths), write=[], scratch=[])


def test_it_says_which_abi_it_applied():
    assert returned(_restrict, ["/usr"]) == ABI > 0


def test_a_path_that_cannot_be_looked_at_is_an_error_and_a_missing_one_is_not(folders):
    ended = child(_restrict, [str(folders / "missing"), str(folders / "beside" / "below")])

    assert "NotADirectoryError" in ended.stderr


def test_without_no_new_privs_nothing_is_restricted():
    ended = child(_restrict, [], no_new_privs=False)

    assert ended.returncode == 1
    assert "landlock_restrict_self: Operation not permitted" in ended.stderr
