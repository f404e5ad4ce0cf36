"""What tests run in a child, behind the walls that each function puts up first."""

import ctypes
import mmap
import os
import resource
import shutil
import signal
import socket
import sqlite3
import stat
import subprocess
import tempfile
import threading
from pathlib import Path

from consumers.sandbox.guest import kernel, landlock, seccomp
from consumers.sandbox.guest.syscalls import NUMBERS


def try_calls(calls):
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    numbers = NUMBERS[kernel.machine()]
    seccomp.install()
    answers = []
    for name, arguments in calls:
        if name in numbers:
            result = libc.syscall(ctypes.c_long(numbers[name]), *map(ctypes.c_long, arguments))
            answers.append(ctypes.get_errno() if result == -1 else -result)
        else:
            answers.append(None)
    return answers


def run_machine_code(instructions):
    page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    page.write(bytes.fromhex(instructions))
    function = ctypes.CFUNCTYPE(ctypes.c_long)(ctypes.addressof(ctypes.c_char.from_buffer(page)))
    seccomp.install()
    return function()


def start_processes_and_threads():
    def attempt(function, *arguments):
        try:
            return function(*arguments)
        except OSError as error:
            return error.errno

    seccomp.install()
    ran = []
    threads = [threading.Thread(target=ran.append, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    refused = [
        attempt(os.fork),
        attempt(os.execv, "/bin/true", ["true"]),
        attempt(os.posix_spawn, "/bin/true", ["true"], {}),
        attempt(subprocess.run, ["/bin/true"]),
        attempt(os.memfd_create, "x"),
        attempt(os.mkfifo, "/tmp/fifo"),
    ]
    return len(ran), refused


def copy_files(folder):
    seccomp.install()
    source, copy = Path(folder, "a"), Path(folder, "b")
    source.write_text("of a job")
    shutil.copy2(source, copy)
    shutil.copytree(folder, Path(folder, "c"))
    with tempfile.TemporaryFile(dir=folder) as unnamed:
        unnamed.write(b"1")
    copy.chmod(0o777)
    os.utime(copy, (0, 0))
    return copy.read_text(), copy.stat().st_mode & 0o111, copy.stat().st_mtime > 0


def wait_for_events():
    seccomp.install()
    import asyncio  # noqa: PLC0415 - behind the filter

    async def story():
        received = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, received.set)
        os.kill(os.getpid(), signal.SIGUSR1)
        await received.wait()
        return await asyncio.to_thread(sum, [1, 2])

    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    return asyncio.run(story()), resource.getrlimit(resource.RLIMIT_NOFILE)


def compute_tables(folder):
    seccomp.install()

    import numpy as np  # noqa: PLC0415 - behind the filter
    import pandas as pd  # noqa: PLC0415 - behind the filter
    import pyarrow as pa  # noqa: PLC0415 - behind the filter
    import pyarrow.csv  # noqa: PLC0415 - behind the filter
    import pyarrow.parquet as pq  # noqa: PLC0415 - behind the filter

    frame = pd.DataFrame({"k": ["a", "b"] * 5_000, "v": np.arange(10_000.0)})
    frame.to_csv(Path(folder, "t.csv"), index=False)
    pq.write_table(pa.csv.read_csv(Path(folder, "t.csv")), Path(folder, "t.parquet"))
    read = pd.read_parquet(Path(folder, "t.parquet"))
    with pd.ExcelWriter(Path(folder, "t.xlsx"), engine="xlsxwriter") as writer:
        read.head(10).to_excel(writer)
    rows = len(pd.read_excel(Path(folder, "t.xlsx"), engine="calamine"))
    solved = np.linalg.solve(np.diag([2.0, 4.0]), [2.0, 4.0]).tolist()
    (joined,) = sqlite3.connect(":memory:").execute("select 'a' || 'b'").fetchone()
    return read.merge(frame.head(2), on="k").groupby("k").v_x.sum().to_dict(), rows, solved, joined


def draw_chart():
    seccomp.install()
    import vl_convert  # noqa: PLC0415 - behind the filter

    spec = {
        "data": {"values": [{"x": 1, "y": 2}, {"x": 2, "y": 3}]},
        "mark": "line",
        "encoding": {"x": {"field": "x"}, "y": {"field": "y"}},
    }
    return vl_convert.vegalite_to_png(spec)[:4].hex(), vl_convert.vegalite_to_svg(spec)[:4]


def install(times):
    for _ in range(times):
        seccomp.install()


def capabilities():
    status = Path("/proc/self/status").read_text()
    return {line.split(":")[0]: int(line.split()[1], 16) for line in status.splitlines() if line.startswith("Cap")}


def attempt_all(folder, attempts):
    """Restricted to the folders, what each attempt comes to: 0 or an errno."""
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


def execute_programs(folder):
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


def reach_outside(port, abstract, other):
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


def restrict(paths):
    return landlock.restrict(read=map(Path, paths), write=[], scratch=[])


def move_into_a_root(folder):
    """In namespaces of its own: a tmpfs with one folder bound read-only becomes the root; what is seen, and errnos."""
    uid, gid = os.getuid(), os.getgid()
    kernel.call("unshare", kernel.CLONE_NEWUSER | kernel.CLONE_NEWNS | kernel.CLONE_NEWIPC)
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"65534 {uid} 1")
    Path("/proc/self/gid_map").write_text(f"65534 {gid} 1")
    kernel.mount("none", "/", flags=kernel.MS_REC | kernel.MS_PRIVATE)
    root, bound = Path(folder, "root"), Path(folder, "root", "in")
    safe = kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC
    kernel.mount("tmpfs", str(root), kind="tmpfs", flags=safe, data="size=1m,nr_inodes=4")
    bound.mkdir()
    kernel.mount(str(Path(folder, "in")), str(bound), flags=kernel.MS_BIND | kernel.MS_REC)
    kernel.mount("none", str(bound), flags=kernel.MS_REMOUNT | kernel.MS_BIND | kernel.MS_RDONLY | safe)
    os.chdir(root)
    kernel.pivot_root(".", ".")
    kernel.unmount(".", kernel.MNT_DETACH)
    os.chdir("/")
    refused = []
    for path, data in (("/in/new", b"1"), ("/large", bytes(2 << 20))):
        try:
            Path(path).write_bytes(data)
        except OSError as error:
            refused.append(error.errno)
    return sorted(map(str, Path("/").rglob("*"))), refused, os.getuid()


def close_descriptors():
    first, second = os.pipe()
    kernel.set_not_dumpable()
    kernel.die_with_parent(signal.SIGKILL)
    kernel.close_from(second)
    open_ones = []
    for descriptor in (first, second):
        try:
            os.fstat(descriptor)
            open_ones.append(True)
        except OSError:
            open_ones.append(False)
    return open_ones, Path("/proc/self/environ").stat().st_uid


def unshare_nothing_known():
    kernel.call("unshare", 1)


def fork_into_namespaces():
    """What a child says that was born into them: its process id, and whether a signal to its first thread arrives."""
    readable, writable = os.pipe()
    pid = kernel.fork(kernel.CLONE_NEWUSER | kernel.CLONE_NEWPID)
    if pid == 0:
        arrived = threading.Event()
        signal.signal(signal.SIGUSR1, lambda *_: arrived.set())
        first = threading.get_ident()
        sender = threading.Thread(target=signal.pthread_kill, args=(first, signal.SIGUSR1))
        sender.start()
        sender.join()
        os.write(writable, f"{os.getpid()} {arrived.wait(10)}".encode())
        os._exit(7)
    os.close(writable)
    _, status = os.waitpid(pid, 0)
    return os.read(readable, 100).decode(), os.waitstatus_to_exitcode(status), pid == os.getpid()
