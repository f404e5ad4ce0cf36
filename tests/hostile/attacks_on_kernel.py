"""Attacks on the kernel: system calls that no analysis needs, and that were ways out of other sandboxes."""

from attack import Attack

from consumers.ports import SandboxCrash

ATTACKS = (
    Attack(
        40,
        "a user namespace of its own, to be root in it",
        (
            """
NEWUSER = 0x10000000
attempt("unshare", in_child, kernel, "unshare", NEWUSER)
def cloned():
    pid = kernel("clone", NEWUSER | 17, 0, 0, 0, 0)
    if pid == 0: os._exit(0)
    return pid
attempt("clone", cloned)
attempt("setns", reached, "setns", 0, NEWUSER)
""",
        ),
        quick=True,
    ),
    Attack(
        41,
        "clone3, whose flags no filter can see",
        (
            """
def cloned(flags):
    args = (ctypes.c_uint64 * 11)(flags, 0, 0, 0, 17)
    pid = kernel("clone3", ctypes.byref(args), 88)
    if pid == 0: os._exit(0)
    return pid
attempt("clone3", cloned, 0)
attempt("clone3 with namespaces", cloned, 0x10000000 | 0x00020000)
attempt("clone3 with nonsense", reached, "clone3", 0, 0)
""",
        ),
    ),
    Attack(
        42,
        "mount, by the old and the new calls; pivot_root, chroot",
        (
            """
def in_namespaces():
    kernel("unshare", 0x10000000 | 0x00020000)
    return kernel("mount", b"x", b"/tmp", b"tmpfs", 0, 0)
attempt("mount in a namespace of its own", in_child, in_namespaces)
attempt("mount", reached, "mount", b"x", b"/tmp/not-there", b"not-a-filesystem", 0, 0)
attempt("umount", reached, "umount2", b"/tmp/not-there", 0)
attempt("fsopen", reached, "fsopen", b"tmpfs", 0)
attempt("open_tree", reached, "open_tree", -100, b"/", 1)
attempt("mount_setattr", reached, "mount_setattr", -100, b"/tmp/not-there", 0, 0, 0)
attempt("move_mount", reached, "move_mount", -100, b"/tmp/not-there", -100, b"/tmp/not-there", 0)
attempt("pivot_root", reached, "pivot_root", b"/tmp/not-there", b"/tmp/not-there")
attempt("chroot", in_child, kernel, "chroot", b"/")
""",
        ),
    ),
    Attack(
        43,
        "ptrace, and the memory of other processes",
        (
            """
class Piece(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]
mine = ctypes.create_string_buffer(64)
def taken(pid):
    here = Piece(ctypes.addressof(mine), 64)
    return kernel("process_vm_readv", pid, ctypes.byref(here), 1, ctypes.byref(here), 1, 0)
attempt("be traced", in_child, kernel, "ptrace", 0, 0, 0, 0)
for pid in (os.getpid(), os.getppid(), KNOWN["worker"]):
    attempt(f"read {pid}", taken, pid)
    attempt(f"trace {pid}", kernel, "ptrace", 0x4206, pid, 0, 0) if pid != os.getpid() else None
    attempt(f"compare {pid}", kernel, "kcmp", pid, os.getpid(), 0, 0, 0)
""",
        ),
    ),
    Attack(
        44,
        "io_uring, which passes filters by",
        ("attempt('io_uring', reached, 'io_uring_setup', 1, ctypes.create_string_buffer(120))",),
    ),
    Attack(
        45,
        "userfaultfd, to halt the kernel where it copies",
        ("attempt('userfaultfd', reached, 'userfaultfd', 0)\nattempt('for users', reached, 'userfaultfd', 1)",),
    ),
    Attack(
        46,
        "the kernel's keyrings, where secrets of others may lie",
        (
            """
attempt("session keyring", reached, "keyctl", 0, -3, 0)
attempt("join a session", in_child, kernel, "keyctl", 1, b"stolen", 0, 0, 0)
attempt("add a key", reached, "add_key", b"user", b"left-behind", b"x", 1, -2)
attempt("ask for a key", reached, "request_key", b"user", b"nothing", 0, 0)
""",
        ),
    ),
    Attack(
        47,
        "bpf, performance events and kernel modules",
        (
            """
attributes = ctypes.create_string_buffer(128)
attempt("bpf map", kernel, "bpf", 0, attributes, 128)
ctypes.memmove(attributes, (ctypes.c_uint32 * 4)(1, 128, 1, 0), 16)
attempt("performance events", kernel, "perf_event_open", attributes, 0, -1, -1, 0)
attempt("module", reached, "init_module", 0, 0, b"")
""",
        ),
    ),
    Attack(
        48,
        "take descriptors out of another process",
        (
            """
def stolen(pid, number):
    handle = kernel("pidfd_open", pid, 0)
    return kernel("pidfd_getfd", handle, number, 0)
for pid in (os.getpid(), os.getppid(), KNOWN["worker"]):
    attempt(f"a descriptor of {pid}", stolen, pid, 0)
""",
        ),
    ),
    Attack(
        49,
        "system calls by the numbers of other architectures: i386 and x32",
        (
            """
import mmap
page = mmap.mmap(-1, 4096, prot=7)
page.write(b"\\xb8\\x14\\0\\0\\0\\xcd\\x80\\xc3")
number = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(page)))()
tried.append(f"i386 getpid: {number}")
if number > 0: got.append(f"i386 getpid: {number}")
""",
            """
ctypes.set_errno(0)
number = _libc.syscall(ctypes.c_long(0x40000000 | 39))
tried.append(f"x32 getpid: {number} {ctypes.get_errno()}")
if number > 0: got.append(f"x32 getpid: {number}")
""",
        ),
        ends=(SandboxCrash,),
    ),
    Attack(
        50,
        "type commands into the terminal that the worker was started from",
        (
            """
import fcntl
attempt("the terminal", os.open, "/dev/tty", os.O_RDWR)
for fd in range(3):
    for request in (0x5412, 0x5412 | 1 << 32):
        letter = ctypes.create_string_buffer(b"x")
        ctypes.set_errno(0)
        if _libc.ioctl(fd, ctypes.c_ulong(request), letter) == 0: got.append(f"typed into {fd}")
        else: tried.append(f"{fd}: {os.strerror(ctypes.get_errno())}")
""",
        ),
    ),
    Attack(
        51,
        "run programs, setuid ones among them, and make one",
        (
            """
import stat, subprocess
for command in (["/bin/true"], ["/usr/bin/su", "--help"], ["/bin/sh", "-c", "id"], [sys.executable, "-c", "1"]):
    try: attempt(command[0], lambda: subprocess.run(command, capture_output=True, timeout=5).stdout[:40])
    except subprocess.SubprocessError as error: tried.append(str(error))
attempt("spawned", os.posix_spawn, "/bin/true", ["true"], {})
for folder in (TMP, OUT):
    path = f"{folder}/root-shell"
    open(path, "wb").write(b"#!/bin/sh\\n")
    try: os.chmod(path, 0o6755)
    except OSError as error: tried.append(f"chmod: {error}")
""",
        ),
        quick=True,
    ),
    Attack(
        52,
        "run a program that lies in memory only",
        (
            """
def run(flags):
    fd = kernel("memfd_create", b"x", 0)
    os.write(fd, read(sys.executable, 50_000_000))
    words = (ctypes.c_char_p * 4)(b"python", b"-c", b"import os; os._exit(0)", None)
    pid = os.fork()
    if pid == 0:
        try: kernel("execveat", fd, b"", words, (ctypes.c_char_p * 1)(None), 0x1000)
        except OSError: os._exit(1)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if status: raise OSError(f"exit code {status}")
    return "it ran"
attempt("from memory", run, 0)
attempt("execveat", reached, "execveat", -100, b"/not-there", 0, 0, 0)
""",
        ),
    ),
    Attack(
        53,
        "shared memory, semaphores and message queues: System V and POSIX",
        (
            """
for name in ("shmget", "semget", "msgget"):
    arguments = {"shmget": (47012, 4096, 0o1600), "semget": (47012, 1, 0o1600), "msgget": (47012, 0o1600)}[name]
    try: kernel(name, *arguments); tried.append(f"{name}: made")
    except OSError as error: tried.append(f"{name}: {error}")
try: kernel("mq_open", b"left-behind", 0o102, 0o600, 0); tried.append("mq_open: made")
except OSError as error: tried.append(f"mq_open: {error}")
""",
        ),
    ),
    Attack(
        54,
        "personality: memory at known places, readable means executable",
        ("for flag in (0x0040000, 0x0400000): attempt(hex(flag), kernel, 'personality', flag)",),
    ),
    Attack(
        55,
        "make device files: the memory, a disk",
        (
            """
import stat
for folder in (TMP, OUT, "/dev"):
    for name, kind, device in (("mem", stat.S_IFCHR, (1, 1)), ("disk", stat.S_IFBLK, (254, 0))):
        attempt(f"{name} in {folder}", os.mknod, f"{folder}/{name}", kind | 0o600, os.makedev(*device))
for path in ("/dev/mem", "/dev/kmsg", "/dev/vda", "/dev/sda", "/dev/fuse", "/dev/kvm", "/dev/net/tun"):
    attempt(path, os.open, path, os.O_RDONLY)
""",
        ),
    ),
)
