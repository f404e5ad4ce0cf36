"""The kernel: the calls that a jail is built with and that Python does not have.

Every function raises OSError with the errno and a word about what was tried. Sources: the manual page of
each call, ``linux/capability.h`` and ``linux/prctl.h``. Linux on x86_64 and aarch64.
"""

import ctypes
import errno
import os
import signal
import struct
import sys

from consumers.sandbox.guest.syscalls import NUMBERS

CLONE_NEWNS = 0x0002_0000
CLONE_NEWUTS = 0x0400_0000
CLONE_NEWIPC = 0x0800_0000
CLONE_NEWUSER = 0x1000_0000
CLONE_NEWPID = 0x2000_0000
_CLONE_CHILD_CLEARTID = 0x0020_0000
_CLONE_CHILD_SETTID = 0x0100_0000

MS_RDONLY = 1
MS_NOSUID = 2
MS_NODEV = 4
MS_NOEXEC = 8
MS_REMOUNT = 32
MS_BIND = 4096
MS_REC = 16384
MS_PRIVATE = 1 << 18
MNT_DETACH = 2

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_CAPBSET_READ = 23
_PR_CAPBSET_DROP = 24
_PR_SET_NO_NEW_PRIVS = 38
_PR_GET_NO_NEW_PRIVS = 39
_PR_GET_TID_ADDRESS = 40
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_CLEAR_ALL = 4

_CAPABILITY_VERSION_3 = 0x2008_0522
_CAP_SETPCAP = 8

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long
# As that, but Python's lock stays held during a call: what forks must not let go of it.
_held = ctypes.PyDLL(None, use_errno=True)
_held.syscall.restype = ctypes.c_long


def machine() -> str:
    """``x86_64`` or ``aarch64``; OSError where this process is of neither kind."""
    name = os.uname().machine
    if name not in NUMBERS or sys.maxsize < 2**32:
        raise OSError(errno.ENOSYS, f"no 64-bit system calls are known for {name}")
    return name


def call(name: str, *arguments: int | bytes | ctypes.Array[ctypes.c_char] | None) -> int:
    """The system call of this name; bytes and buffers are passed by reference. Returns its result."""
    passed = [_argument(each) for each in arguments]
    result: int = _libc.syscall(ctypes.c_long(NUMBERS[machine()][name]), *passed)
    return _checked(result, name)


def set_no_new_privs() -> None:
    """From here on nothing that is executed brings rights along; Landlock and seccomp ask for it."""
    _prctl("no_new_privs", _PR_SET_NO_NEW_PRIVS, 1)


def has_no_new_privs() -> bool:
    return _prctl("no_new_privs", _PR_GET_NO_NEW_PRIVS) == 1


def set_not_dumpable() -> None:
    """No core dump, and no tracing by others of the same user."""
    _prctl("not dumpable", _PR_SET_DUMPABLE, 0)


def die_with_parent(signal_number: int) -> None:
    """This signal comes when the thread that forked this process ends; check afterwards whether it already has."""
    _prctl("die with parent", _PR_SET_PDEATHSIG, signal_number)


def drop_capabilities() -> None:
    """No capability is left in any set.

    The bounding set stays as it is where the right to change it (CAP_SETPCAP) is lacking: it adds nothing to
    a process that has no_new_privs.
    """
    header = struct.pack("=Ii", _CAPABILITY_VERSION_3, 0)
    # Effective, permitted and inheritable: of capabilities 0 to 31, then of the rest.
    words = ctypes.create_string_buffer(struct.calcsize("=6I"))
    call("capget", header, words)
    if struct.unpack_from("=I", words)[0] & 1 << _CAP_SETPCAP:
        _empty_bounding_set()
    try:
        _prctl("empty the ambient set", _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL)
    except OSError as error:
        if error.errno != errno.EINVAL:  # gVisor's kernel has no such set
            raise
    call("capset", header, bytes(len(words)))


def _empty_bounding_set() -> None:
    for capability in range(64):
        try:
            _prctl(f"look for capability {capability}", _PR_CAPBSET_READ, capability)
        except OSError as error:
            if error.errno == errno.EINVAL:
                return  # the kernel's last one was the one before
            raise
        _prctl(f"drop capability {capability}", _PR_CAPBSET_DROP, capability)


def fork(namespaces: int) -> int:
    """As ``os.fork()``, but the child is born into new namespaces of these kinds (``CLONE_NEW…``).

    Only for a process with one thread: handlers of pthread_atfork(3) are not called. The child learns its thread id
    where libc keeps it, as from libc's own fork (clone(2), PR_GET_TID_ADDRESS in prctl(2)).
    """
    thread_id = ctypes.c_void_p()
    _prctl("find the thread id", _PR_GET_TID_ADDRESS, ctypes.addressof(thread_id))
    flags = namespaces | _CLONE_CHILD_SETTID | _CLONE_CHILD_CLEARTID
    # struct clone_args: flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls
    words = struct.pack("=8Q", flags, 0, thread_id.value or 0, 0, signal.SIGCHLD, 0, 0, 0)
    number = ctypes.c_long(NUMBERS[machine()]["clone3"])
    ctypes.pythonapi.PyOS_BeforeFork()
    pid: int = _held.syscall(number, words, ctypes.c_size_t(len(words)))
    if pid == 0:
        ctypes.pythonapi.PyOS_AfterFork_Child()
    else:
        ctypes.pythonapi.PyOS_AfterFork_Parent()
    return _checked(pid, "fork into namespaces")


def mount(source: str, target: str, *, kind: str | None = None, flags: int = 0, data: str | None = None) -> None:
    """As mount(2): ``kind`` is the type of file system, ``data`` its options."""
    words = (source.encode(), target.encode(), kind.encode() if kind else None)
    result = _libc.mount(*words, ctypes.c_ulong(flags), data.encode() if data else None)
    _checked(result, f"mount {source} on {target}")


def unmount(target: str, flags: int = 0) -> None:
    """As umount2(2)."""
    _checked(_libc.umount2(target.encode(), ctypes.c_int(flags)), f"unmount {target}")


def pivot_root(new: str, old: str) -> None:
    """The mount ``new`` becomes the root; the old one appears at ``old``, which may be the same path."""
    call("pivot_root", new.encode(), old.encode())


def close_from(first: int) -> None:
    """Every descriptor from this one on is closed."""
    call("close_range", first, 2**32 - 1, 0)


def _prctl(what: str, option: int, argument: int = 0) -> int:
    words = (ctypes.c_ulong(argument), ctypes.c_ulong(0), ctypes.c_ulong(0), ctypes.c_ulong(0))
    return _checked(_libc.prctl(ctypes.c_int(option), *words), what)


def _argument(value: int | bytes | ctypes.Array[ctypes.c_char] | None) -> object:
    # ctypes would pass an int's lower 32 bits alone.
    return ctypes.c_long(value) if isinstance(value, int) else value


def _checked(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result
