"""Landlock: which files a process may still open, and that it reaches no network.

Numbers and meanings: ``linux/landlock.h`` and https://docs.kernel.org/userspace-api/landlock.html. It is not
asked about a path's chmod, chown, utime, stat, chdir and extended attributes: the system call filter answers those.
"""

import errno
import os
import stat
import struct
from collections.abc import Iterable
from pathlib import Path

from consumers.sandbox.guest import kernel

EXECUTE = 1 << 0
WRITE_FILE = 1 << 1
READ_FILE = 1 << 2
READ_DIR = 1 << 3
REMOVE_DIR = 1 << 4
REMOVE_FILE = 1 << 5
MAKE_CHAR = 1 << 6
MAKE_DIR = 1 << 7
MAKE_REG = 1 << 8
MAKE_SOCK = 1 << 9
MAKE_FIFO = 1 << 10
MAKE_BLOCK = 1 << 11
MAKE_SYM = 1 << 12
REFER = 1 << 13
TRUNCATE = 1 << 14
IOCTL_DEV = 1 << 15
RESOLVE_UNIX = 1 << 16

# The ABI that brought each group of rights. A kernel newer than the last is asked for what is known here.
_FILE_RIGHTS = {1: (1 << 13) - 1, 2: REFER, 3: TRUNCATE, 5: IOCTL_DEV, 9: RESOLVE_UNIX}
_NETWORK_RIGHTS = {4: 0b0011, 10: 0b1100}  # bind and connect: of TCP, then of UDP
_SCOPES = {6: 0b11}  # abstract sockets of others, signals to others

READ = READ_FILE | READ_DIR
# Nothing is removed there: what is, and still open, would take room on the disk that nobody sees.
WRITE = READ | WRITE_FILE | TRUNCATE | MAKE_REG
SCRATCH = WRITE | REMOVE_FILE | MAKE_DIR | REMOVE_DIR | MAKE_SYM | REFER
DEVICE = READ_FILE | WRITE_FILE
# What a rule about a file, not a folder, may grant.
_OF_A_FILE = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV | RESOLVE_UNIX

_VERSION = 1
_PATH_BENEATH = 1


def abi() -> int:
    """The version that the kernel has, 0 where it has none or it is turned off."""
    try:
        return kernel.call("landlock_create_ruleset", None, 0, _VERSION)
    except OSError as error:
        if error.errno in (errno.ENOSYS, errno.EOPNOTSUPP):
            return 0
        raise


def handled(version: int) -> tuple[int, int, int]:
    """The rights to files and to the network, and the scopes, that a kernel with this ABI can deny."""
    files, network, scopes = (
        sum(rights for since, rights in groups.items() if since <= version)
        for groups in (_FILE_RIGHTS, _NETWORK_RIGHTS, _SCOPES)
    )
    return files, network, scopes


def restrict(
    *, read: Iterable[Path], write: Iterable[Path], scratch: Iterable[Path], files: Iterable[Path] = ()
) -> int:
    """Close everything but these paths and what lies below them, for good; returns the ABI that was applied.

    ``read`` is read; in ``write`` regular files are made, read and written; in ``scratch`` removed as well, folders
    and symbolic links are made too, and renames lead from folder to folder; ``files`` are devices to read and
    write. Nothing may be executed anywhere, and no socket, fifo or device be made. Rights add up along a path: what
    lies below a scratch folder is writable even where ``read`` names it as well. A path that does not exist is left
    out.

    It holds for the calling thread and what that starts, so there must be one thread; no_new_privs must be set.

    Raises:
        OSError: nothing, or not everything, is closed (errno ENOSYS: this kernel has no Landlock).
    """
    version = abi()
    if not version:
        raise OSError(errno.ENOSYS, "this kernel has no Landlock")
    ruleset = kernel.call("landlock_create_ruleset", (fields := _ruleset(version)), len(fields), 0)
    try:
        for rights, paths in ((READ, read), (WRITE, write), (SCRATCH, scratch), (DEVICE, files)):
            for path in paths:
                _allow(ruleset, path, rights & handled(version)[0])
        kernel.call("landlock_restrict_self", ruleset, 0)
    finally:
        os.close(ruleset)
    return version


def _ruleset(version: int) -> bytes:
    """``struct landlock_ruleset_attr``, without the fields that an older kernel does not know."""
    fields = 1 + (version >= min(_NETWORK_RIGHTS)) + (version >= min(_SCOPES))
    return struct.pack(f"={fields}Q", *handled(version)[:fields])


def _allow(ruleset: int, path: Path, rights: int) -> None:
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
            rights &= _OF_A_FILE
        kernel.call("landlock_add_rule", ruleset, _PATH_BENEATH, struct.pack("=Qi", rights, descriptor), 0)
    finally:
        os.close(descriptor)
