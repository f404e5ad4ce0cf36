"""The watch: a guest that takes more memory, threads or scratch than its task may is killed.

Where control groups can be written, the kernel holds memory and processes as well (``cgroups.py``). This holds
everywhere that has a /proc, some tens of milliseconds late.
"""

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from consumers.ports import Limits
from consumers.sandbox.conversation import Cause
from consumers.sandbox.slot import Slot

INTERVAL_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Usage:
    """What a process holds: bytes of memory that nobody else has or that it shares with others, and its threads.

    Pages of files (libraries, its inputs) are not counted: the kernel can take them back.
    """

    memory_bytes: int
    threads: int


def usage_of(pid: int, *, memory: tuple[str, ...] = ("RssAnon", "RssShmem")) -> Usage | None:
    """From /proc (proc_pid_status(5)); None where there is no such process, or no longer."""
    try:
        lines = Path("/proc", str(pid), "status").read_text(errors="replace").splitlines()
    except OSError:
        return None
    facts = dict(line.split(":", 1) for line in lines if ":" in line)
    if "RssAnon" not in facts:
        return None  # it has ended, and waits to be buried
    kilobytes = sum(int(facts[name].split()[0]) for name in memory)
    return Usage(kilobytes * 1024, int(facts["Threads"]))


@dataclass(eq=False, slots=True)
class Watched:
    """One guest under watch. ``cause`` is why it was killed, if it was."""

    pid: int
    slot: Slot
    limits: Limits
    kill: Callable[[], None]
    before: Usage
    cause: Cause | None = None

    def look(self) -> None:
        now = usage_of(self.pid)
        if now is None or self.cause is not None:
            return
        self.cause = self._too_much(now)
        if self.cause is not None:
            self.kill()

    def _too_much(self, now: Usage) -> Cause | None:
        limits = self.limits
        if now.memory_bytes - self.before.memory_bytes > limits.memory_bytes:
            return Cause.MEMORY
        if now.threads > limits.threads:
            return Cause.THREADS
        size, entries = self.slot.used(at_most=limits.scratch_files)
        return Cause.SCRATCH if size > limits.scratch_bytes or entries > limits.scratch_files else None


class Watch:
    """Looks after all guests of a sandbox, as one task, while there are any."""

    def __init__(self) -> None:
        self._watched: set[Watched] = set()
        self._some = asyncio.Event()

    async def run(self) -> None:
        """For ever; whoever started it cancels it."""
        while True:
            await self._some.wait()
            for each in list(self._watched):
                each.look()
            await asyncio.sleep(INTERVAL_SECONDS)

    def begin(self, pid: int, slot: Slot, limits: Limits, kill: Callable[[], None]) -> Watched:
        watched = Watched(pid, slot, limits, kill, usage_of(pid) or Usage(0, 1))
        self._watched.add(watched)
        self._some.set()
        return watched

    def end(self, watched: Watched) -> None:
        """The last look: what it did in the last moment counts as well."""
        with contextlib.suppress(KeyError):
            self._watched.remove(watched)
        if not self._watched:
            self._some.clear()
