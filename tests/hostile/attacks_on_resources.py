"""Attacks on resources: more processes, memory and disk than a job may use.

Each is bounded by itself, well above the limits: a wall that is missing shows, and the machine stays usable.
"""

from dataclasses import replace

from attack import CALM, MEGABYTE, SMALL, Attack

from consumers.ports import SandboxCrash, SandboxMemory, SandboxOutput, SandboxTimeout

_ENDED = (SandboxTimeout, SandboxMemory, SandboxCrash, SandboxOutput)


ATTACKS = (
    Attack(
        1,
        "a fork bomb",
        (
            """
import time
for _ in range(700):
    try:
        pid = os.fork()
    except OSError as error:
        tried.append(f"fork: {error}")
        break
    if pid == 0:
        for _ in range(2):
            try: os.fork()
            except OSError: pass
        time.sleep(2)
        os._exit(0)
tried.append("forked")
time.sleep(1)
""",
        ),
        limits=SMALL,
        ends=_ENDED,
    ),
    Attack(
        2,
        "a thread bomb",
        (
            """
import threading, time
threading.stack_size(65536)
for _ in range(1400):
    try:
        threading.Thread(target=time.sleep, args=(2,), daemon=True).start()
    except RuntimeError as error:
        tried.append(f"{threading.active_count()} threads: {error}")
        break
tried.append(f"{threading.active_count()} threads")
time.sleep(1)
""",
        ),
        limits=SMALL,
        ends=_ENDED,
    ),
    Attack(
        3,
        "a memory bomb",
        (
            """
import time
eaten = []
while len(eaten) < 120:
    eaten.append(b"x" * 10_000_000)
tried.append("eaten")
time.sleep(1)
""",
            "import time\neaten = np.ones(150_000_000)\ntried.append('eaten')\ntime.sleep(1)\n",
        ),
        limits=SMALL,
        ends=_ENDED,
        quick=True,
    ),
    Attack(
        4,
        "memory mapped beyond all measure: shared, huge pages, reserved first and touched later",
        (
            """
import mmap, time
kept = []
for flags in (mmap.MAP_SHARED | mmap.MAP_ANONYMOUS, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x4000):
    try:
        area = mmap.mmap(-1, 600_000_000, flags=flags)
        kept.append(area)
        for place in range(0, 600_000_000, 4096):
            area[place] = 1
    except (OSError, ValueError, MemoryError) as error:
        tried.append(f"flags {flags}: {error}")
attempt("a huge page", mmap.mmap, -1, 2**21, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x40000)
time.sleep(1)
""",
        ),
        limits=SMALL,
        ends=_ENDED,
    ),
    Attack(
        5,
        "memory spread over children",
        (
            """
import time
for _ in range(8):
    try:
        pid = os.fork()
    except OSError as error:
        tried.append(f"fork: {error}")
        break
    if pid == 0:
        eaten = b"x" * 120_000_000
        time.sleep(2)
        os._exit(0)
tried.append("children")
time.sleep(1.5)
""",
        ),
        limits=SMALL,
        ends=_ENDED,
    ),
    Attack(
        6,
        "fill /dev/shm",
        (
            """
def fill(folder):
    size = 0
    for number in range(30):
        try:
            with open(f"{folder}/fill-{number}", "wb", buffering=0) as file:
                for _ in range(10):
                    size += file.write(bytes(1_000_000))
        except OSError as error:
            tried.append(f"{folder}: {error}")
            break
    return size
size = fill("/dev/shm")
if size > 100_000_000:
    got.append(f"{size} bytes in /dev/shm")
tried.append(f"{size} bytes")
""",
        ),
        ends=_ENDED,
    ),
    Attack(
        7,
        "fill the folder for temporary files and the output",
        (
            """
os.makedirs(TMP + "/deeper", exist_ok=True)
for folder in (TMP, TMP + "/deeper", OUT):
    size = 0
    for number in range(60):
        try:
            with open(f"{folder}/fill-{number}", "wb", buffering=0) as file:
                for _ in range(10):
                    size += file.write(bytes(1_000_000))
        except OSError as error:
            tried.append(f"{folder}: {error}")
            break
    if size > 500_000_000:
        got.append(f"{size} bytes in {folder}")
    tried.append(f"{folder}: {size} bytes")
""",
            """
# Files without a name are seen by nobody who lists folders.
for folder in (TMP, OUT):
    size, kept = 0, []
    for number in range(60):
        try:
            file = open(f"{folder}/nameless", "wb", buffering=0)
            os.unlink(f"{folder}/nameless")
            kept.append(file)
            for _ in range(10):
                size += file.write(bytes(1_000_000))
        except OSError as error:
            tried.append(f"{folder}: {error}")
            break
    if size > 500_000_000:
        got.append(f"{size} bytes without a name in {folder}")
    tried.append(f"{folder}: {size} bytes")
    for file in kept: file.close()
""",
        ),
        limits=replace(CALM, scratch_bytes=100 * MEGABYTE, scratch_files=100),
        ends=_ENDED,
        quick=True,
    ),
    Attack(
        8,
        "use up the inodes",
        (
            """
os.makedirs(TMP + "/deeper", exist_ok=True)
for folder in (TMP + "/deeper", TMP, OUT):
    for number in range(60_000):
        try:
            os.close(os.open(f"{folder}/{number}", os.O_CREAT | os.O_WRONLY))
        except OSError as error:
            tried.append(f"{folder} {number}: {error}")
            break
    else:
        got.append(f"60,000 files in {folder}")
""",
        ),
        limits=replace(CALM, scratch_files=100),
        ends=_ENDED,
    ),
    Attack(
        9,
        "a sparse file of a terabyte",
        (
            """
for folder in (TMP, OUT):
    with open(f"{folder}/sparse", "wb") as file:
        attempt(f"a terabyte in {folder}", file.truncate, 2**40)
        attempt(f"space for a gigabyte in {folder}", os.posix_fallocate, file.fileno(), 0, 2**30)
        attempt(f"a byte far out in {folder}", os.pwrite, file.fileno(), b"x", 2**40)
""",
        ),
        ends=(SandboxOutput,),
    ),
    Attack(
        10,
        "folders in folders in folders, and the longest names",
        (
            """
for folder in (TMP, OUT):
    os.chdir(folder)
    try:
        for _ in range(1400):
            os.mkdir("d" * 200)
            os.chdir("d" * 200)
    except OSError as error:
        tried.append(f"folders in {folder}: {error}")
    os.chdir(folder)
    for name in (b"n" * 255, bytes(range(128, 250))):
        try:
            open(name, "wb").close()
        except OSError as error:
            tried.append(f"long name in {folder}: {error}")
os.chdir("/")
tried.append("folders")
""",
        ),
        ends=(SandboxOutput,),
    ),
    Attack(
        11,
        "use up the file descriptors",
        (
            """
import resource
try: resource.setrlimit(resource.RLIMIT_NOFILE, (100_000, 100_000))
except (OSError, ValueError) as error: tried.append(f"raise the limit: {error}")
count = 0
try:
    for _ in range(20_000):
        os.dup(1)
        count += 1
except OSError as error:
    tried.append(f"{count}: {error}")
for fd in range(64, 21_000):
    try: os.close(fd)
    except OSError: pass
if count > 4096: got.append(f"{count} descriptors")
""",
        ),
    ),
    Attack(
        12,
        "hoard memory in the buffers of pipes and sockets",
        (
            """
import fcntl, socket
size, kept = 0, []
for _ in range(300):
    try:
        reading, writing = os.pipe()
    except OSError as error:
        tried.append(f"pipe: {error}")
        break
    kept.append((reading, writing))
    try: fcntl.fcntl(writing, 1031, 2**20)
    except OSError as error: tried.append(f"a larger pipe: {error}")
    os.set_blocking(writing, False)
    try:
        while True: size += os.write(writing, bytes(65536))
    except OSError: pass
for ends in kept:
    for fd in ends: os.close(fd)
if size > 48_000_000: got.append(f"{size} bytes in pipes")
tried.append(f"{size} bytes in pipes")
""",
        ),
    ),
)
