"""Tier ``process``: a plain subprocess with limits, for development. It is no wall.

The code can read and write whatever the worker's user can, use the network, start programs and kill other processes
of that user. Who has left its session and changed its environment is not found at the end; without /proc (macOS) no
one is found who has left its process group, and memory and threads are not watched: the limits of each process remain.
"""

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path

from consumers.sandbox import proc, walls
from consumers.sandbox.cold import ColdGuest, Start, cold_guest
from consumers.sandbox.conversation import Death, Inside
from consumers.sandbox.slot import Slot
from consumers.sandbox.watch import Usage, nameless_bytes, usage_of

_ENTRY = Path(__file__).parent / "guest" / "cold.py"


class ProcessGuests:
    """Guests that are plain subprocesses, their slots below ``folder``. See ``walled.Guests``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.applied: tuple[str, ...] = ()
        self.walls: tuple[str, ...] = ()

    def one(self) -> AbstractAsyncContextManager[ColdGuest]:
        return cold_guest(self)

    def prepare(self, slot: Slot) -> Start:
        tmp = str(slot.tmp)
        return Start(
            command=(sys.executable, "-I", "-B", str(_ENTRY), "--parent", str(os.getpid())),
            environment={**walls.ENVIRONMENT, "HOME": tmp, "TMPDIR": tmp},
            cwd=slot.tmp,
            inside=Inside(str(slot.inputs), str(slot.output)),
        )

    def kin(self, slot: Slot, pid: int) -> "_Session":
        return _Session(pid, b"TMPDIR=%s\0" % os.fsencode(slot.tmp))


class _Session:
    """A process, its group, what descends from it, and what still has the environment that it was given."""

    def __init__(self, pid: int, mark: bytes) -> None:
        self._pid = pid
        self._mark = mark

    def used(self) -> Usage:
        each = [usage for usage in map(usage_of, self._family()) if usage is not None]
        return Usage(sum(one.memory_bytes for one in each), sum(one.threads for one in each))

    def nameless_bytes(self) -> int:
        return sum(map(nameless_bytes, self._family()))

    def kill(self) -> bool:
        strays = {*self._family(), *proc.marked("environ", self._mark)}
        # The group at once: who forks meanwhile forks within it.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._pid, signal.SIGKILL)
        return proc.kill(strays)

    def death(self, first: int, *, cpu_seconds: float, seconds: float) -> Death:
        return Death(first, cpu_seconds=cpu_seconds)

    def _family(self) -> Iterator[int]:
        return proc.family(self._pid)
