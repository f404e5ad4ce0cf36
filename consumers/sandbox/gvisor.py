"""Tier ``gvisor``: for each task a fresh sandbox of runsc, whose kernel is a program in user space.

The guest is root without any capability, because who owns the slot's files is root to the sandbox; it has no
network, a read-only root of system libraries and Python, no /proc and no /sys. Its kernel knows the limits on
processor time, address space and file size, not the one on data: memory as a whole, that of the kernel and what lies
in its /tmp and /dev included, is watched from outside. Threads that wait cost the host nothing and are not limited.

Sources: the OCI runtime specification 1.0.2, config.md and config-linux.md; ``runsc flags`` of 20221219.
"""

import asyncio
import contextlib
import json
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Self

from consumers.ports import JsonObject
from consumers.sandbox import proc, walls
from consumers.sandbox.cold import ColdGuest, Start, cold_guest
from consumers.sandbox.conversation import Death, Inside
from consumers.sandbox.guest import tied
from consumers.sandbox.slot import Slot
from consumers.sandbox.walled import machine_fault, on_this_machine
from consumers.sandbox.watch import Usage, nameless_bytes, usage_of

TMP = "/tmp"  # noqa: S108 - a tmpfs of the guest's own
INPUTS, OUTPUT = "/job/in", "/job/out"

_ENTRY = walls.GUEST_ROOT / "consumers/sandbox/guest/cold.py"
# The best first. Not kvm: where KVM is there but not quite whole, as in some virtual machines, it hangs.
_PLATFORMS = ("systrap", "ptrace")
# Mounted over what runsc would put there by itself.
_EMPTY = ("/proc", "/sys", "/dev/shm")  # noqa: S108 - nothing can be written to it
_QUIET = ("nosuid", "nodev", "noexec")
# A thread of the guest that runs takes one of a stub, and most of the time one of the kernel's.
_THREADS_FOR_ONE = 2
_SHELL_SIGNAL = 128
_MEMORY_FILE = "/memfd:runsc-memory"


def unavailable(runsc: Path | None) -> str | None:
    """What this machine lacks for this tier, as far as that shows without trying."""
    if sys.platform != "linux":
        return "gVisor runs on Linux only"
    if runsc is None or not os.access(runsc, os.X_OK):
        return "there is no program runsc; install gVisor"
    if not proc.children_are_told():
        return "the kernel does not list children of processes (CONFIG_PROC_CHILDREN)"
    return None


def find_runsc() -> Path | None:
    found = shutil.which("runsc")
    return None if found is None else Path(found)


class GvisorGuests:
    """Guests behind gVisor, their slots below ``folder``. See ``walled.Guests``."""

    def __init__(self, runsc: Path, folder: Path) -> None:
        self.folder = folder
        self.applied: tuple[str, ...] = ()
        self.walls: tuple[str, ...] = ()
        self._runsc = runsc
        self._platform = ""

    async def __aenter__(self) -> Self:
        """Ask runsc what it can do.

        Raises:
            Transient: it cannot be run, or has no platform that we know.
        """
        known = (await _said_by(self._runsc, "help", "platforms")).split()
        self._platform = next((each for each in _PLATFORMS if each in known), "")
        if not self._platform:
            raise machine_fault(f"{self._runsc} has none of the platforms {', '.join(_PLATFORMS)}")
        version = (await _said_by(self._runsc, "--version")).partition("\n")[0]
        self.applied = (f"{version} on {self._platform}: a kernel of its own, no network, read-only system",)
        return self

    async def __aexit__(self, *_: object) -> None:
        """Nothing is open between two tasks."""

    def one(self) -> AbstractAsyncContextManager[ColdGuest]:
        return cold_guest(self)

    def prepare(self, slot: Slot) -> Start:
        bundle = slot.folder / "bundle"
        for each in (bundle, bundle / "root", _state(slot)):
            each.mkdir(mode=0o700)
        (bundle / "config.json").write_text(json.dumps(_specification(slot)))
        return Start(
            command=self._command(slot, bundle),
            environment={},
            cwd=slot.folder,
            inside=Inside(INPUTS, OUTPUT),
        )

    def kin(self, slot: Slot, pid: int) -> "_Sandbox":
        return _Sandbox(pid, os.fsencode(_state_option(slot)))

    def _command(self, slot: Slot, bundle: Path) -> list[str]:
        return [
            *(sys.executable, "-I", "-S", "-B", tied.__file__, str(os.getpid())),
            *(str(self._runsc), _state_option(slot), f"--platform={self._platform}"),
            *("--network=none", "--overlay2=none", "--ignore-cgroups", "--log=/dev/null"),
            *(() if os.geteuid() == 0 else ("--rootless",)),
            *("run", f"--bundle={bundle}", slot.folder.name),
        ]


async def _said_by(runsc: Path, *arguments: str) -> str:
    with on_this_machine():
        process = await asyncio.create_subprocess_exec(
            runsc, *arguments, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, env={}
        )
    said, _ = await process.communicate()
    return said.decode(errors="replace")


def _state(slot: Slot) -> Path:
    return slot.folder / "state"


def _state_option(slot: Slot) -> str:
    return f"--root={_state(slot)}"


def _specification(slot: Slot) -> JsonObject:
    return {
        "ociVersion": "1.0.2",
        "process": {
            "user": {"uid": 0, "gid": 0},
            "args": [sys.executable, "-I", "-B", str(_ENTRY), "--seccomp"],
            "env": [f"{name}={value}" for name, value in walls.ENVIRONMENT.items()],
            "cwd": TMP,
            "capabilities": {},
            "noNewPrivileges": True,
        },
        "root": {"path": "root", "readonly": True},
        "hostname": "sandbox",
        "mounts": list(_mounts(slot)),
        "linux": {"namespaces": [{"type": each} for each in ("pid", "network", "ipc", "uts", "mount")]},
    }


def _mounts(slot: Slot) -> Iterator[JsonObject]:
    for empty in _EMPTY:
        yield _tmpfs(empty, "ro", "size=4096")
    yield _tmpfs(TMP, f"size={walls.TMP_BYTES}", "mode=1777")
    # After the tmpfs: a Python that lives below the host's /tmp would be hidden by it.
    for place, inside in walls.read_only_places():
        if place.exists():
            yield _bind(place.resolve(), str(inside), "ro")
    yield _bind(slot.inputs, INPUTS, "ro")
    yield _bind(slot.output, OUTPUT, "rw")


def _tmpfs(inside: str, *options: str) -> JsonObject:
    return {"destination": inside, "type": "tmpfs", "source": "tmpfs", "options": [*_QUIET, *options]}


def _bind(place: Path, inside: str, access: str) -> JsonObject:
    return {"destination": inside, "type": "bind", "source": str(place), "options": ["rbind", access]}


class _Sandbox:
    """The processes of one runsc: itself, its gofer, which opens files for the guest, its kernel, and its stubs."""

    def __init__(self, pid: int, mark: bytes) -> None:
        self._pid = pid
        self._mark = mark

    def used(self) -> Usage:
        memory, threads, file_bytes = 0, 0, 0
        for pid in proc.family(self._pid):
            usage = usage_of(pid, memory=("RssAnon",))
            if usage is not None:
                memory += usage.memory_bytes
                threads += usage.threads
            file_bytes = file_bytes or _memory_file_bytes(pid)
        return Usage(memory + file_bytes, threads // _THREADS_FOR_ONE)

    def nameless_bytes(self) -> int:
        return sum(map(nameless_bytes, proc.family(self._pid)))

    def kill(self) -> bool:
        # By the mark, who has lost its parent; the stubs bear none, but their kernel traces them: they end with it.
        return proc.kill([*proc.family(self._pid), *proc.marked("cmdline", self._mark)])

    def death(self, first: int, *, cpu_seconds: float, seconds: float) -> Death:
        code = _SHELL_SIGNAL - first if first > _SHELL_SIGNAL else first
        # Its kernel takes waiting for a processor of the host's for using one, and tells nobody what it has counted.
        return Death(code, cpu_seconds=max(cpu_seconds, seconds))


def _memory_file_bytes(pid: int) -> int:
    """How much there is of the file in memory that holds all of a guest's, which its processes share."""
    with contextlib.suppress(OSError):
        for descriptor in Path("/proc", str(pid), "fd").iterdir():
            with contextlib.suppress(OSError):
                if str(descriptor.readlink()).startswith(_MEMORY_FILE):
                    return descriptor.stat().st_blocks * 512
    return 0
