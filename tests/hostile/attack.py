"""An attack: programs that try something, and a judge who says what they managed."""

import ast
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from consumers.errors import Transient
from consumers.ports import Limits, Sandbox, SandboxError, SandboxReport

MEGABYTE = 1024**2
CALM = Limits(
    wall_seconds=20,
    cpu_seconds=10,
    memory_bytes=400 * MEGABYTE,
    address_bytes=8 * 1024**3,
    file_bytes=20 * MEGABYTE,
    output_bytes=256 * 1024,
)
SMALL = replace(CALM, wall_seconds=3, cpu_seconds=2, output_bytes=20_000)

# What every program begins with. `attempt` notes what a try led to: only the errors by which a wall says no are
# caught, so that a mistake in a program is no success of the walls.
PREAMBLE = """
import ctypes, errno, json, os, sys
got, tried = [], []
_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long

def _folders():
    frame = sys._getframe()
    while frame is not None:
        if "folders" in frame.f_locals:
            return frame.f_locals["folders"]
        frame = frame.f_back

IN, OUT = str(_folders().inputs), str(_folders().output)
_places = (os.environ.get("TMPDIR", ""), "/tmp", os.path.dirname(OUT) + "/tmp")
TMP = next((place for place in _places if os.access(place, 2)), "/tmp")

def attempt(what, function, *arguments, **named):
    try:
        value = function(*arguments, **named)
    except (OSError, MemoryError, EOFError, UnicodeError, RuntimeError) as error:
        tried.append(f"{what}: {type(error).__name__} {error}"[:100])
        return None
    got.append(f"{what}: {value!r}"[:200])
    return value

def look(what, function, *arguments):
    # What is read is printed: whether it is a secret is for the host to say.
    try:
        value = function(*arguments)
    except (OSError, MemoryError, EOFError, UnicodeError, RuntimeError) as error:
        tried.append(f"{what}: {type(error).__name__} {error}"[:100])
        return None
    tried.append(f"{what}: seen"[:100])
    import re
    print(f"{what}: {value!r}"[:200], re.findall("canary" "-[0-9a-f]{16}", str(value)), flush=True)
    return value

def read(path, size=65536):
    with open(path, "rb") as file:
        return file.read(size)

def kernel(name, *arguments):
    number = NUMBERS[name][0 if os.uname().machine == "x86_64" else 1]
    ctypes.set_errno(0)
    as_longs = [ctypes.c_void_p(a) if isinstance(a, int) else a for a in arguments]
    value = _libc.syscall(ctypes.c_long(number), *as_longs)
    if value < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{name}: {os.strerror(code)}")
    return value

def reached(name, *arguments):
    # A kernel that finds fault with the arguments has let the caller in.
    try:
        return kernel(name, *arguments)
    except OSError as error:
        if error.errno in (errno.EPERM, errno.ENOSYS, errno.EACCES):
            raise
        return f"let in, {error}"

def in_child(function, *arguments):
    # What ends or changes the caller is tried in a child, where there may be one.
    try:
        reading, writing = os.pipe()
        pid = os.fork()
    except OSError:
        return function(*arguments)
    if pid == 0:
        try:
            text = "ok " + repr(function(*arguments))
        except BaseException as error:
            text = "no " + str(error)
        os.write(writing, text.encode())
        os._exit(0)
    os.close(writing)
    with open(reading, "rb") as file:
        text = file.read().decode()
    os.waitpid(pid, 0)
    if not text.startswith("ok "):
        raise OSError(text[3:] or "it died")
    return text[3:]
"""
NUMBERS = {
    "add_key": (248, 217),
    "bpf": (321, 280),
    "chroot": (161, 51),
    "clone": (56, 220),
    "clone3": (435, 435),
    "execveat": (322, 281),
    "fsopen": (430, 430),
    "init_module": (175, 105),
    "io_uring_setup": (425, 425),
    "kcmp": (312, 272),
    "keyctl": (250, 219),
    "memfd_create": (319, 279),
    "mount": (165, 40),
    "mount_setattr": (442, 442),
    "move_mount": (429, 429),
    "mq_open": (240, 180),
    "msgget": (68, 186),
    "open_tree": (428, 428),
    "perf_event_open": (298, 241),
    "personality": (135, 92),
    "pidfd_getfd": (438, 438),
    "pidfd_open": (434, 434),
    "pivot_root": (155, 41),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "ptrace": (101, 117),
    "request_key": (249, 218),
    "semget": (64, 190),
    "setns": (308, 268),
    "shmget": (29, 194),
    "umount2": (166, 39),
    "unshare": (272, 97),
    "userfaultfd": (323, 282),
}
POSTSCRIPT = """
if "result" not in globals(): result = 1
if "answer" not in globals(): answer = json.dumps({"got": got[:8], "tried": tried[:12]})
"""


@dataclass(frozen=True, slots=True)
class Load:
    """What the worker's process tree and the sandbox's folder use; bytes and counts."""

    tasks: int = 0
    memory_bytes: int = 0
    disk_bytes: int = 0
    files: int = 0

    def highest(self, other: "Load") -> "Load":
        return Load(*(max(pair) for pair in zip(self.as_tuple(), other.as_tuple(), strict=True)))

    def as_tuple(self) -> tuple[int, int, int, int]:
        return (self.tasks, self.memory_bytes, self.disk_bytes, self.files)


@dataclass(slots=True)
class Trial:
    """One program that was run: how it ended, what came out, and what the host saw meanwhile."""

    attack: "Attack"
    sandbox: Sandbox
    output: Path
    scratch: Path
    known: Mapping[str, Any]
    report: SandboxReport | None = None
    error: SandboxError | Transient | None = None
    seconds: float = 0
    heard: Sequence[bytes] = ()
    host_changed: list[str] = field(default_factory=list)
    idle: Load = field(default_factory=Load)
    peak: Load = field(default_factory=Load)

    @property
    def printed(self) -> str:
        return getattr(self.report or self.error, "printed", "")

    @property
    def told(self) -> dict[str, list[str]]:
        """What the program says of itself: hostile, but it has no reason to hide a success."""
        answer = None if self.report is None else self.report.value.get("answer")
        try:
            told = json.loads(answer or "{}")
        except ValueError:
            told = {}
        return told if isinstance(told, dict) else {}


Judge = Callable[[Trial], Awaitable[list[str]]]


@dataclass(frozen=True, slots=True)
class Attack:
    """``ends``: how a wall may end the program; otherwise it returns. ``judge`` adds to what the program tells.

    A program that is ``whole`` is run as it stands, without preamble and postscript.
    """

    number: int
    name: str
    programs: tuple[str, ...]
    limits: Limits = CALM
    ends: tuple[type[SandboxError | Transient], ...] = ()
    judge: Judge | None = None
    quick: bool = False
    whole: bool = False
    show_values: bool = True

    def source(self, program: str, known: Mapping[str, Any], limits: Limits) -> str:
        if self.whole:
            return program
        told = {name: value for name, value in known.items() if name != "canaries"}
        facts = f"KNOWN = {told!r}\nLIMITS = {asdict(limits)!r}\nNUMBERS = {NUMBERS!r}\n"
        return f"{PREAMBLE}{facts}{program}{POSTSCRIPT}"


def check(attacks: tuple[Attack, ...]) -> tuple[Attack, ...]:
    """The attacks, if every program is Python at least, and every class from 1 to 75 is there once."""
    if [attack.number for attack in attacks] != list(range(1, 76)):
        raise ValueError("a class is missing, or is there twice")
    for attack in attacks:
        for program in attack.programs:
            ast.parse(program)
    return attacks
