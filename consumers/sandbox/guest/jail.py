"""The inner walls of one guest, put up by itself, from within: namespaces and a root of its own, then no way back.

``namespaces`` runs inside the outer wall (``outer_wall.py``), whose ``/jail`` holds what a guest may see.
Sources: namespaces(7), pivot_root(2), user_namespaces(7), landlock(7), seccomp(2).
"""

import os
import resource
from dataclasses import dataclass
from pathlib import Path

from consumers.sandbox.guest import kernel, landlock, seccomp

JAIL = "/jail"
TMP = "/tmp"  # noqa: S108 - a tmpfs of the guest's own
INPUTS = "/job/in"
OUTPUT = "/job/out"
DEVICES = ("null", "zero", "full", "random", "urandom")

_OPEN_FILES = 256
_NOTHING = (resource.RLIMIT_CORE, resource.RLIMIT_MEMLOCK, resource.RLIMIT_MSGQUEUE)


@dataclass(frozen=True, slots=True)
class Slot:
    """The folders of one guest, as it sees them once its walls stand."""

    inputs: str
    output: str
    tmp: str


def fork() -> int:
    """As ``os.fork()``, the child in user, mount, pid, ipc and uts namespaces of its own, where it is nobody yet."""
    return kernel.fork(
        kernel.CLONE_NEWUSER | kernel.CLONE_NEWNS | kernel.CLONE_NEWPID | kernel.CLONE_NEWIPC | kernel.CLONE_NEWUTS
    )


def keep_ids(uid: int, gid: int) -> None:
    """The only ids of the new user namespace are these, as outside of it."""
    for name, line in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")):
        Path("/proc/self", name).write_text(line)


def enter_root(slot: str, *, tmp_bytes: int, tmp_files: int, below_tmp: tuple[str, ...]) -> Slot:
    """Make ``/jail`` the root, with this slot's folders and a tmpfs; the old root is gone afterwards.

    ``below_tmp`` are the places that a guest may read and that the tmpfs would hide.
    """
    quiet = kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC
    kernel.mount("none", "/", flags=kernel.MS_REC | kernel.MS_PRIVATE)
    kernel.mount(JAIL, JAIL, flags=kernel.MS_BIND | kernel.MS_REC)
    kernel.mount(
        "tmpfs", JAIL + TMP, kind="tmpfs", flags=quiet, data=f"size={tmp_bytes},nr_inodes={tmp_files},mode=700"
    )
    for place in below_tmp:
        _show(place, JAIL + place)
    for place, inside, flags in ((f"{slot}/in", INPUTS, kernel.MS_RDONLY), (f"{slot}/out", OUTPUT, 0)):
        kernel.mount(place, JAIL + inside, flags=kernel.MS_BIND)
        kernel.mount("none", JAIL + inside, flags=kernel.MS_BIND | kernel.MS_REMOUNT | quiet | flags)
    os.chdir(JAIL)
    # The new root lands on top of the old one, which is then let go (pivot_root(2), NOTES).
    kernel.pivot_root(".", ".")
    kernel.unmount(".", kernel.MNT_DETACH)
    os.chdir(TMP)
    return Slot(INPUTS, OUTPUT, TMP)


def _show(place: str, at: str) -> None:
    """Read-only, as it is outside."""
    if Path(place).is_dir():
        Path(at).mkdir(parents=True)
    else:
        Path(at).parent.mkdir(parents=True, exist_ok=True)
        Path(at).touch()
    kernel.mount(place, at, flags=kernel.MS_BIND | kernel.MS_REC)


def limit(*, threads: int | None) -> None:
    """Limits that no task changes. ``threads`` only where they are counted for each user namespace (Linux 5.14)."""
    for what in _NOTHING:
        resource.setrlimit(what, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (_OPEN_FILES, _OPEN_FILES))
    if threads is not None:
        resource.setrlimit(resource.RLIMIT_NPROC, (threads, threads))


def close(slot: Slot, *, read: tuple[str, ...], landlock_needed: bool) -> list[str]:
    """No capabilities, no new privileges, Landlock, the system call filter last; what was applied.

    Raises:
        OSError: a wall cannot be put up; nothing untrusted may run then.
    """
    kernel.drop_capabilities()
    kernel.set_no_new_privs()
    abi = landlock.abi()
    if abi or landlock_needed:
        landlock.restrict(
            # Where there is a /proc, threadpoolctl finds libraries by it.
            read=[*map(Path, read), Path(slot.inputs), Path("/proc/self/maps")],
            write=[Path(slot.output)],
            scratch=[Path(slot.tmp)],
            files=[Path("/dev", name) for name in DEVICES],
        )
    seccomp.install()
    found = [f"Landlock, ABI {abi}"] if abi else []
    return ["no capabilities", *found, "system call filter"]
