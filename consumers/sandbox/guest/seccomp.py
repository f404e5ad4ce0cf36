"""The system call filter: what honest work asks of the kernel, and nothing else.

An allowlist. What it refuses, it refuses in one of these ways:

- EPERM: calls that are known and not for a job (another process, a program, the network, mounts, devices …).
- ENOSYS: calls that the filter does not know, newer than it or too old, so that a library takes its other way.
- Another errno, where honest libraries know what to do about that one alone; each is explained beside its rule.
- Success without effect: chmod and utime, which libraries call after a copy, and locks of files. Landlock does not ask
  about those paths: where a job runs as the worker's own user, they would reach every file of that user.
- The process is killed: calls by the numbers of another machine (i386, x32, 32-bit Arm).

Executable memory stays possible. V8 compiles while it draws charts; and a job that has ctypes needs no machine code
of its own to make any call, so what counts is which calls there are.

Sources: seccomp(2), ``linux/seccomp.h``, ``linux/filter.h``, ``linux/audit.h``.
"""

import ctypes
import errno
import functools
import os
import struct
from collections.abc import Iterator
from typing import NamedTuple

from consumers.sandbox.guest import kernel
from consumers.sandbox.guest.syscalls import NUMBERS

ALLOW = 0x7FFF_0000
KILL = 0x8000_0000
_ERRNO = 0x0005_0000


def refuse(number: int) -> int:
    """The action that makes a call fail with this errno; 0 makes it succeed without effect."""
    return _ERRNO | number


EPERM, ENOSYS, EINVAL = refuse(errno.EPERM), refuse(errno.ENOSYS), refuse(errno.EINVAL)
EOPNOTSUPP = refuse(errno.EOPNOTSUPP)
NO_EFFECT = refuse(0)


class Check(NamedTuple):
    """The lower half of an argument (from 0), masked, must be one of ``values``, or the call ends ``otherwise``."""

    argument: int
    values: tuple[int, ...]
    otherwise: int = EPERM
    mask: int = 0xFFFF_FFFF
    upper: bool = False


def _none_of(argument: int, bits: int, otherwise: int = EPERM) -> Check:
    return Check(argument, (0,), otherwise, mask=bits)


def _only(argument: int, bits: int, otherwise: int = EPERM) -> Check:
    return Check(argument, (0,), otherwise, mask=~bits & 0xFFFF_FFFF)


_ALLOWED = """
    read readv pread64 preadv write writev pwrite64 pwritev close lseek ftruncate fsync fdatasync fadvise64
    sendfile copy_file_range dup dup2 dup3 pipe
    access faccessat faccessat2 stat lstat fstat newfstatat statx statfs fstatfs readlink readlinkat getdents64
    getcwd chdir fchdir umask mkdir mkdirat rmdir unlink unlinkat rename renameat symlink symlinkat
    poll ppoll select pselect6 epoll_create epoll_create1 epoll_ctl epoll_wait epoll_pwait epoll_pwait2 eventfd2
    shutdown getsockname getpeername
    brk munmap mremap msync mprotect
    exit exit_group wait4 waitid rseq set_robust_list set_tid_address sched_yield restart_syscall
    sched_getaffinity sched_getparam sched_getscheduler sched_get_priority_max sched_get_priority_min getpriority
    rt_sigaction rt_sigprocmask rt_sigreturn rt_sigpending rt_sigsuspend rt_sigtimedwait sigaltstack pause
    nanosleep clock_nanosleep clock_gettime clock_getres gettimeofday time times alarm getitimer setitimer
    getpid getppid gettid getpgid getpgrp getsid getuid geteuid getgid getegid getgroups getresuid getresgid
    uname sysinfo getrusage getrlimit setrlimit getcpu getrandom
"""

_WITHOUT_EFFECT = "chmod fchmod fchmodat utime utimes futimesat utimensat flock"

_NOT_SUPPORTED = (
    # As on a file system without attributes: shutil's copies go on, where any other error would end them.
    "getxattr lgetxattr fgetxattr listxattr llistxattr flistxattr setxattr lsetxattr fsetxattr removexattr "
    "lremovexattr fremovexattr "
    # Blocks kept beyond a file's end would escape the limits of its size; NumPy writes without.
    "fallocate"
)

# For glibc: it turns to clone and openat, whose flags a filter can see.
_NOT_THERE = "clone3 openat2"

_CREATE, _TRUNCATE, _TEMPORARY, _PATH_ONLY = 0o100, 0o1000, 0o20000000, 0o10000000


def _opening(flags: int) -> list[Check]:
    """``flags`` is the place of open's flags; the mode of a new file follows them."""
    return [
        # Landlock is not asked about these: a descriptor for a path alone, and (before its ABI 3) an input that is
        # opened for reading and cut all the same. Access mode 3 asks for neither reading nor writing.
        _none_of(flags, _PATH_ONLY),
        Check(flags, (0, 1, 2, _TRUNCATE | 1, _TRUNCATE | 2), mask=_TRUNCATE | 3),
        # Files without a name fill a disk unseen; tempfile makes one with a name instead.
        _none_of(flags, _TEMPORARY, EOPNOTSUPP),
        Check(flags, (_CREATE,), ALLOW, mask=_CREATE),
        _none_of(flags + 1, 0o7000),  # no setuid, setgid and sticky bits
    ]


# As threads are made; optional: semaphore lists, thread-local storage, where the thread's number is written.
_THREAD = 0x1_0F00
_THREAD_OPTIONS = 0x17C_0000


def _checks(pid: int) -> dict[str, list[Check]]:
    """Calls that are allowed with some arguments only; ``pid`` is the process that they may name."""
    return {
        # Priority-inheriting locks are left out: nobody uses them, and they were a kernel's weak spot more than once.
        "futex": [Check(1, (0, 1, 3, 4, 5, 9, 10), ENOSYS, mask=~0x180 & 0xFFFF_FFFF)],
        # Huge pages of the pool count as nobody's resident memory: as if the pool were empty.
        "mmap": [_none_of(3, 0x4_0000, refuse(errno.ENOMEM))],
        # EINVAL is an older kernel's word for advice it does not know. No merging of equal pages (12), no poison.
        "madvise": [Check(2, (0, 1, 2, 3, 4, 8, 10, 11, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 25), EINVAL)],
        "openat": _opening(2),
        "open": _opening(1),
        "creat": [_none_of(1, 0o7000)],
        # Duplicates, descriptor and status flags, locks, the size of a pipe: no owners, signals, leases, notices. Locks
        # have no effect: there is nobody to lock out, and others could read them off a file that all may read.
        "fcntl": [
            Check(1, (0, 1, 2, 3, 4, 5, 6, 7, 36, 37, 38, 1030, 1032)),
            Check(1, (0, 1, 2, 3, 4, 5, 36, 1030, 1032), NO_EFFECT),
        ],
        # Is it a terminal and how wide (two of them), bytes waiting, non-blocking, close on exec. EOPNOTSUPP:
        # pathlib goes on copying when a file cannot be cloned.
        "ioctl": [Check(1, (0x5401, 0x802C_542A, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451), EOPNOTSUPP)],
        "clone": [_only(0, _THREAD | _THREAD_OPTIONS), Check(0, (_THREAD,), mask=_THREAD)],
        "kill": [Check(0, (pid,))],
        "tgkill": [Check(0, (pid,))],
        # Without capabilities a limit can only be lowered.
        "prlimit64": [Check(0, (0, pid))],
        # Names of threads and of memory areas; questions about itself.
        "prctl": [Check(0, (15, 16, 0x5356_4D41, 2, 3, 21, 23, 39))],
        # Only the questions and requests for AMX tiles, which OpenBLAS asks for where the processor has them.
        "arch_prctl": [Check(0, (0x1021, 0x1022, 0x1023), EINVAL)],
        # Barriers among its own threads; the others interrupt every processor.
        "membarrier": [Check(0, (0, 8, 16, 32, 64), EINVAL)],
        # asyncio and tokio wake themselves with a pair of connected streams; nothing else is a socket here.
        "socketpair": [Check(0, (1,)), Check(1, (1,), mask=~0x8_0800 & 0xFFFF_FFFF)],
        # To the other end alone, and never out of band, which was a hole in the kernel's Unix sockets.
        "sendto": [Check(4, (0,)), Check(4, (0,), upper=True), _only(3, 0x4040)],
        "recvfrom": [_only(3, 0x4142)],
        # Type, error, buffer sizes, whether it listens, protocol, family: not who is at the other end.
        "getsockopt": [Check(1, (1,)), Check(2, (3, 4, 7, 8, 30, 38, 39))],
        # No pipes for kernel notices; no table of descriptors of a thread's own, which would multiply their limit.
        "pipe2": [_only(1, 0x8_0800, EINVAL)],
        "close_range": [_only(2, 4, EINVAL)],
        # Replacing or not; neither exchange nor whiteout, which is a device file.
        "renameat2": [_only(4, 1, EINVAL)],
    }


def install() -> None:
    """Filter every further system call of this process, for good.

    Raises:
        OSError: no filter is in place (no_new_privs is not set; the machine or its kernel is not supported).
    """
    if not kernel.has_no_new_privs():
        raise OSError(errno.EACCES, "no_new_privs must be set before a filter is")
    instructions = ctypes.create_string_buffer(program(kernel.machine(), os.getpid()))
    count = (len(instructions) - 1) // _INSTRUCTION.size
    filter_program = struct.pack("@HP", count, ctypes.addressof(instructions))
    # Threads that are already there are filtered as well, or none is.
    stray = kernel.call("seccomp", _SET_MODE_FILTER, _ALL_THREADS, filter_program)
    if stray:
        raise OSError(errno.ESRCH, f"thread {stray} cannot be filtered")


_SET_MODE_FILTER = 1
_ALL_THREADS = 1

# A line of a filter: code, how far to jump if it holds and if not, operand.
_INSTRUCTION = struct.Struct("=HBBI")
_LOAD, _AND, _RETURN = 0x20, 0x54, 0x06
_IF_EQUAL, _IF_ABOVE, _IF_AT_LEAST = 0x15, 0x25, 0x35

# Where ``struct seccomp_data`` keeps them, both machines being little-endian.
_NUMBER, _MACHINE, _ARGUMENTS = 0, 4, 16

_AUDIT_NUMBERS = {"x86_64": 0xC000_003E, "aarch64": 0xC000_00B7}
_X32 = 0x4000_0000


@functools.cache
def program(machine: str, pid: int) -> bytes:
    """The filter for a process of this number on ``x86_64`` or ``aarch64``, as the kernel takes it.

    Asked for before a fork, it need not be made again after it.
    """
    numbers, checks = NUMBERS[machine], _checks(pid)
    lines = [(_LOAD, 0, 0, _MACHINE), (_IF_EQUAL, 1, 0, _AUDIT_NUMBERS[machine]), (_RETURN, 0, 0, KILL)]
    lines.append((_LOAD, 0, 0, _NUMBER))
    if machine == "x86_64":
        lines += [(_IF_AT_LEAST, 0, 1, _X32), (_RETURN, 0, 0, KILL)]
    for name, conditions in checks.items():
        if name in numbers:
            block = [line for condition in conditions for line in _checked(condition)]
            lines += [(_IF_EQUAL, 0, len(block) + 1, numbers[name]), *block, (_RETURN, 0, 0, ALLOW)]
    return b"".join(_INSTRUCTION.pack(*line) for line in lines) + _unconditional(machine)


def _checked(check: Check) -> Iterator[tuple[int, int, int, int]]:
    yield (_LOAD, 0, 0, _ARGUMENTS + 8 * check.argument + 4 * check.upper)
    if check.mask != 0xFFFF_FFFF:
        yield (_AND, 0, 0, check.mask)
    for left, value in zip(range(len(check.values), 0, -1), check.values, strict=True):
        yield (_IF_EQUAL, left, 0, value)
    yield (_RETURN, 0, 0, check.otherwise)


@functools.cache
def _unconditional(machine: str) -> bytes:
    """The rest of the filter: calls that are decided by their number alone, as runs of numbers with one action."""
    lines = []
    for action, names in _actions().items():
        for first, last in _runs(sorted(NUMBERS[machine][name] for name in names if name in NUMBERS[machine])):
            lines += [(_IF_AT_LEAST, 0, 2, first), (_IF_ABOVE, 1, 0, last), (_RETURN, 0, 0, action)]
    lines.append((_RETURN, 0, 0, ENOSYS))
    return b"".join(_INSTRUCTION.pack(*line) for line in lines)


def _actions() -> dict[int, list[str]]:
    texts = {ALLOW: _ALLOWED, NO_EFFECT: _WITHOUT_EFFECT, EOPNOTSUPP: _NOT_SUPPORTED, ENOSYS: _NOT_THERE}
    named = {action: text.split() for action, text in texts.items()}
    known = {name for numbers in NUMBERS.values() for name in numbers}
    # Whatever else the tables know is there to be refused.
    return {**named, EPERM: sorted(known.difference(_checks(0), *named.values()))}


def _runs(numbers: list[int]) -> Iterator[tuple[int, int]]:
    first = last = numbers[0]
    for number in numbers[1:]:
        if number != last + 1:
            yield first, last
            first = number
        last = number
    yield first, last
