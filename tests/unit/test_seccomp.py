"""The system call filter, asked of the real kernel and, for other machines, of a simulated one."""

import errno
import platform
import re
import signal
import struct
from pathlib import Path

import pytest
from in_child import child, returned
from walled_programs import (
    capabilities,
    compute_tables,
    copy_files,
    draw_chart,
    install,
    run_machine_code,
    start_processes_and_threads,
    try_calls,
    wait_for_events,
)

from consumers.sandbox.guest import seccomp
from consumers.sandbox.guest.syscalls import NUMBERS

PID = 4711
ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7, "i386": 0x40000003, "arm": 0x40000028}

# What the calls that are refused by name come to: one of each kind of attack at least.
REFUSED = """
    fork vfork execve execveat ptrace process_vm_readv process_vm_writev process_madvise process_mrelease kcmp tkill
    pidfd_open pidfd_getfd pidfd_send_signal rt_sigqueueinfo rt_tgsigqueueinfo get_robust_list socket connect bind
    listen accept accept4 sendmsg sendmmsg recvmsg recvmmsg setsockopt unshare setns chroot pivot_root mount umount2
    open_tree move_mount fsopen fsconfig fsmount fspick mount_setattr swapon swapoff quotactl quotactl_fd acct sync
    syncfs reboot sethostname setdomainname init_module finit_module delete_module kexec_load kexec_file_load iopl
    ioperm modify_ldt vhangup syslog settimeofday clock_settime adjtimex clock_adjtime bpf perf_event_open
    io_uring_setup io_uring_enter io_uring_register userfaultfd seccomp personality landlock_create_ruleset
    landlock_add_rule landlock_restrict_self add_key request_key keyctl name_to_handle_at open_by_handle_at
    fanotify_init fanotify_mark inotify_init inotify_init1 inotify_add_watch io_setup io_destroy io_submit io_cancel
    io_getevents io_pgetevents splice tee vmsplice memfd_create memfd_secret shmget shmat shmctl shmdt semget semop
    semtimedop semctl msgget msgsnd msgrcv msgctl mq_open mq_unlink mq_timedsend mq_timedreceive mq_notify
    mq_getsetattr mknod mknodat link linkat truncate chown fchown lchown fchownat setuid setgid setreuid setregid
    setresuid setresgid setfsuid setfsgid setgroups setpgid setsid capget capset setpriority ioprio_set
    sched_setaffinity sched_setparam sched_setscheduler sched_setattr mlock mlock2 mlockall munlock munlockall mbind
    set_mempolicy migrate_pages move_pages
""".split()  # noqa: SIM905 - a list of words

PTHREAD = 0x3D0F00
TMP_FILE, CREATE, TRUNCATE, PATH_ONLY = 0o20000000, 0o100, 0o1000, 0o10000000
REFUSED_ARGUMENTS = [
    ("clone", (17,), errno.EPERM),  # fork: SIGCHLD alone
    ("clone", (0x4111,), errno.EPERM),  # posix_spawn: shared memory until exec
    ("clone", (PTHREAD | 0x10000000,), errno.EPERM),
    ("clone", (PTHREAD & ~0x400,), errno.EPERM),
    ("clone3", (0, 88), errno.ENOSYS),
    ("openat2", (-100, 0, 0, 24), errno.ENOSYS),
    ("openat", (-100, 0, TRUNCATE), errno.EPERM),
    ("openat", (-100, 0, 3), errno.EPERM),
    ("openat", (-100, 0, PATH_ONLY), errno.EPERM),
    ("openat", (-100, 0, TMP_FILE | 2, 0o600), errno.EOPNOTSUPP),
    ("openat", (-100, 0, CREATE | 1, 0o4755), errno.EPERM),
    ("open", (0, TRUNCATE, 0), errno.EPERM),
    ("creat", (0, 0o2755), errno.EPERM),
    ("ioctl", (0, 0x5412, 0), errno.EOPNOTSUPP),  # TIOCSTI
    ("ioctl", (0, 0x8912, 0), errno.EOPNOTSUPP),  # SIOCGIFCONF
    ("fcntl", (0, 8, 1), errno.EPERM),  # F_SETOWN
    ("fcntl", (0, 10, 9), errno.EPERM),  # F_SETSIG
    ("fcntl", (0, 1024, 0), errno.EPERM),  # F_SETLEASE
    ("fcntl", (0, 1026, 1), errno.EPERM),  # F_NOTIFY
    ("fcntl", (0, 1031, 1 << 20), errno.EPERM),  # F_SETPIPE_SZ
    ("prctl", (22, 2, 0), errno.EPERM),  # PR_SET_SECCOMP
    ("prctl", (4, 1, 0), errno.EPERM),  # PR_SET_DUMPABLE
    ("prctl", (1, 0, 0), errno.EPERM),  # PR_SET_PDEATHSIG
    ("prctl", (0x59616D61, 1, 0), errno.EPERM),  # PR_SET_PTRACER
    ("arch_prctl", (0x1002, 0), errno.EINVAL),  # ARCH_SET_FS
    ("mmap", (0, 4096, 3, 0x40022, 0xFFFFFFFF, 0), errno.ENOMEM),
    ("madvise", (0, 0, 12), errno.EINVAL),
    ("madvise", (0, 0, 100), errno.EINVAL),
    ("kill", (1, 0), errno.EPERM),
    ("kill", (0, 0), errno.EPERM),
    ("kill", (-1, 0), errno.EPERM),
    ("tgkill", (1, 1, 0), errno.EPERM),
    ("prlimit64", (1, 7, 0, 0), errno.EPERM),
    ("socketpair", (2, 1, 0, 0), errno.EPERM),
    ("socketpair", (1, 2, 0, 0), errno.EPERM),
    ("sendto", (0, 0, 0, 1, 0, 0), errno.EPERM),  # MSG_OOB
    ("sendto", (0, 0, 0, 0, 1 << 32, 16), errno.EPERM),
    ("sendto", (0, 0, 0, 0, 1, 16), errno.EPERM),
    ("recvfrom", (0, 0, 0, 1, 0, 0), errno.EPERM),
    ("getsockopt", (0, 1, 17, 0, 0), errno.EPERM),  # SO_PEERCRED
    ("pipe2", (0, 0x80), errno.EINVAL),
    ("close_range", (3, 3, 2), errno.EINVAL),
    ("renameat2", (-100, 0, -100, 0, 2), errno.EINVAL),
    ("renameat2", (-100, 0, -100, 0, 4), errno.EINVAL),
    ("membarrier", (1, 0), errno.EINVAL),
    ("futex", (0, 6, 0, 0), errno.ENOSYS),
    ("fallocate", (0, 1, 0, 1 << 40), errno.EOPNOTSUPP),
    ("setxattr", (0, 0, 0, 0, 0), errno.EOPNOTSUPP),
    ("listxattr", (0, 0, 0), errno.EOPNOTSUPP),
]
ALLOWED_ARGUMENTS = [
    ("clone", (PTHREAD,)),
    ("openat", (-100, 0, 0)),
    ("openat", (-100, 0, 0o2000000, 0xFFFF)),  # no mode is passed where nothing is made
    ("openat", (-100, 0, CREATE | TRUNCATE | 1, 0o666)),
    ("open", (0, CREATE | TRUNCATE | 2, 0o600)),
    ("kill", (PID, 6)),
    ("tgkill", (PID, PID + 1, 6)),
    ("prlimit64", (PID, 7, 0, 0)),
    ("prlimit64", (0, 7, 1, 0)),
    ("prctl", (0x53564D41, 0, 0)),
    ("fcntl", (0, 1030, 3)),
    ("ioctl", (0, 0x5401)),
    ("mmap", (0, 4096, 7, 0x22, 0xFFFFFFFF)),
    ("socketpair", (1, 1 | 0x80800, 0)),
    ("sendto", (0, 0, 0, 0x4000, 0)),
    ("recvfrom", (0, 0, 0, 0x40, 0)),
    ("futex", (0, 0x189)),
    ("read", ()),
    ("exit_group", ()),
]


def simulated(machine: str, call: int, arguments: tuple[int, ...] = (), *, architecture: str | None = None) -> int:
    """What the kernel would answer: the action that the filter for ``machine`` returns."""
    program = [*struct.iter_unpack("=HBBI", seccomp.program(machine, PID))]
    words = [each & 0xFFFFFFFFFFFFFFFF for each in (*arguments, *(0,) * (6 - len(arguments)))]
    data = struct.pack("=IIQ6Q", call & 0xFFFFFFFF, ARCHITECTURES[architecture or machine], 0, *words)
    accumulator, line = 0, 0
    while True:
        code, if_true, if_false, operand = program[line]
        line += 1
        match code:
            case 0x20:
                (accumulator,) = struct.unpack_from("=I", data, operand)
            case 0x54:
                accumulator &= operand
            case 0x06:
                return operand
            case 0x15:
                line += if_true if accumulator == operand else if_false
            case 0x25:
                line += if_true if accumulator > operand else if_false
            case 0x35:
                line += if_true if accumulator >= operand else if_false
            case _:
                raise ValueError(f"unknown instruction {code:#x}")


MACHINES = pytest.mark.parametrize("machine", ["x86_64", "aarch64"])


# ---------------------------------------------------------------- the filter itself, on both machines


@MACHINES
def test_calls_that_no_job_needs_are_refused_by_name(machine):
    numbers = NUMBERS[machine]
    answers = {name: simulated(machine, numbers[name]) for name in REFUSED if name in numbers}

    assert {name for name, answer in answers.items() if answer != seccomp.EPERM} == set()
    assert len(answers) >= 140


@MACHINES
def test_calls_that_the_filter_does_not_know_are_not_there(machine):
    beyond = [simulated(machine, number) for number in range(452, 1000)]

    assert set(beyond) == {seccomp.ENOSYS}


@MACHINES
@pytest.mark.parametrize(("name", "arguments", "number"), REFUSED_ARGUMENTS)
def test_harmful_arguments_are_refused(machine, name, arguments, number):
    call = NUMBERS[machine].get(name)

    assert call is None or simulated(machine, call, arguments) == seccomp.refuse(number)


@MACHINES
@pytest.mark.parametrize(("name", "arguments"), ALLOWED_ARGUMENTS)
def test_honest_arguments_pass(machine, name, arguments):
    call = NUMBERS[machine].get(name)

    assert call is None or simulated(machine, call, arguments) == seccomp.ALLOW


@MACHINES
def test_modes_and_times_of_files_are_set_without_effect(machine):
    calls = ("fchmod", "fchmodat", "utimensat")

    assert {simulated(machine, NUMBERS[machine][name]) for name in calls} == {seccomp.NO_EFFECT}


@pytest.mark.parametrize(("machine", "other"), [("x86_64", "i386"), ("aarch64", "arm"), ("x86_64", "aarch64")])
def test_another_machine_s_calls_kill(machine, other):
    answers = {simulated(machine, number, architecture=other) for number in range(500)}

    assert answers == {seccomp.KILL}


def test_x32_numbers_kill():
    assert {simulated("x86_64", 0x40000000 + number) for number in range(600)} == {seccomp.KILL}


@MACHINES
def test_every_call_in_the_filter_has_a_number(machine):
    decided = {name for names in seccomp._actions().values() for name in names} | set(seccomp._checks(PID))

    assert decided == {name for numbers in NUMBERS.values() for name in numbers}
    assert len(set(NUMBERS[machine].values())) == len(NUMBERS[machine])


def test_the_numbers_are_those_of_the_system_s_headers():
    typed = {"x86_64": {"read": 0, "clone": 56, "openat": 257, "seccomp": 317, "clone3": 435}}
    typed["aarch64"] = {"read": 63, "clone": 220, "openat": 56, "seccomp": 277, "clone3": 435}
    headers = {"x86_64": "x86_64-linux-gnu/asm/unistd_64.h", "aarch64": "asm-generic/unistd.h"}
    for machine, header in headers.items():
        known = typed[machine] | _numbers_in(Path("/usr/include") / header)
        wrong = {name: number for name, number in NUMBERS[machine].items() if known.get(name, number) != number}

        assert wrong == {}


def _numbers_in(header):
    text = header.read_text() if header.exists() else ""
    found = re.findall(r"#define __NR(?:3264)?_(\w+) (\d+)", text)
    return {"newfstatat" if name == "fstatat" else name: int(number) for name, number in found}


# ---------------------------------------------------------------- asked of the kernel


def test_the_kernel_refuses_what_the_filter_does():
    answers = returned(try_calls, [(name, (0,) * 6) for name in REFUSED])

    assert {
        name: answer for name, answer in zip(REFUSED, answers, strict=True) if answer not in (None, errno.EPERM)
    } == {}


def test_the_kernel_refuses_harmful_arguments():
    answers = returned(try_calls, [call[:2] for call in REFUSED_ARGUMENTS])
    expected = [call[2] for call in REFUSED_ARGUMENTS]

    assert [pair for pair in zip(answers, expected, strict=True) if None not in pair and pair[0] != pair[1]] == []


MACHINE_CODE = {
    "x86_64": [
        ("b814000000cd80c3", False),  # i386: mov eax, 20 (getpid); int 0x80; ret
        ("b8270000400f05c3", False),  # x32: mov eax, 0x40000000 + 39 (getpid); syscall; ret
        ("b8270000000f05c3", True),  # the same with its own number
    ],
    "aarch64": [("881580d2010000d4c0035fd6", True)],  # mov x8, 172 (getpid); svc 0; ret
}


@pytest.mark.parametrize(("instructions", "survives"), MACHINE_CODE[platform.machine()])
def test_numbers_of_another_kind_kill_the_process(instructions, survives):
    ended = child(run_machine_code, instructions)

    assert ended.returncode == (0 if survives else -signal.SIGSYS), ended.stderr


def test_threads_run_and_neither_processes_nor_programs_do():
    threads, refused = returned(start_processes_and_threads)

    assert threads == 8
    assert refused == [errno.EPERM] * 6


def test_copies_of_files_are_made_and_modes_and_times_stay(tmp_path):
    text, executable, dated = returned(copy_files, str(tmp_path))

    assert text == "of a job"
    assert not executable
    assert dated


def test_an_event_loop_runs_and_limits_can_be_lowered():
    assert returned(wait_for_events) == [3, [64, 64]]


def test_tables_are_computed_behind_the_filter(tmp_path):
    assert returned(compute_tables, str(tmp_path)) == [{"a": 24_995_000.0, "b": 25_000_000.0}, 10, [1.0, 1.0], "ab"]


def test_charts_are_drawn_behind_the_filter():
    assert returned(draw_chart) == ["89504e47", "<svg"]


def test_no_filter_is_laid_over_another():
    ended = child(install, 2)

    assert ended.returncode == 1
    assert "seccomp: Operation not permitted" in ended.stderr


def test_without_no_new_privs_there_is_no_filter():
    ended = child(install, 1, no_new_privs=False)

    assert ended.returncode == 1
    assert "no_new_privs must be set" in ended.stderr


def test_no_capability_is_left():
    left = returned(capabilities)
    may_empty_the_bounding_set = capabilities()["CapEff"] & 1 << 8
    if not may_empty_the_bounding_set:
        del left["CapBnd"]

    assert set(left.values()) == {0}
