"""The watch: a guest that takes more memory, threads or scratch than its task may is killed.

Where control groups can be written, the kernel holds memory and threads as well (``cgroups.py``). This holds
everywhere that has a /proc, some tens of milliseconds late.
"""

import asyncio
import contextlib
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import structlog

from consumers.ports import Limits
from consumers.sandbox.conversation import Cause
from consumers.sandbox.slot import BLOCK_BYTES, Slot

INTERVAL_SECONDS = 0.05

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Usage:
    """What a process holds: bytes of memory that nobody else has or that it shares with others, and its threads.

    Pages of files (libraries, its inputs) are not counted: the kernel can take them back.
    """

    memory_bytes: int
    threads: int


def usage_of(pid: int, *, memory: tuple[str, ...] = ("RssAnon", "RssShmem")) -> Usage | None:
    """From /proc (proc_pid_status(5)); None where there is no such process, or no longer."""
    for facts in _threads(pid):
        # A first thread that has left, while others run, has none of its memory any more.
        if "RssAnon" in facts:
            kilobytes = sum(int(facts[name].split()[0]) for name in memory)
            return Usage(kilobytes * 1024, int(facts["Threads"]))
    return None


def _threads(pid: int) -> Iterator[dict[str, str]]:
    yield _status(Path("/proc", str(pid), "status"))
    with contextlib.suppress(OSError):
        yield from (_status(thread / "status") for thread in Path("/proc", str(pid), "task").iterdir())


def _status(file: Path) -> dict[str, str]:
    try:
        text = file.read_text(errors="replace")
    except OSError:
        return {}
    # By newlines alone: those the kernel escapes in the name that a process gives itself, and nothing else.
    return dict(line.split(":", 1) for line in text.split("\n") if ":" in line)


def may_run(pid: int) -> bool:
    """Whether any thread of this process may still run its program, once it has been killed.

    One that has given up its memory (no ``VmSize`` in proc_pid_status(5)) is past it, in the kernel's do_exit().
    """
    return any("VmSize" in facts for facts in _threads(pid))


def nameless_bytes(pid: int) -> int:
    """What its open files take on the disk that have been deleted, as far as we may look."""
    size = 0
    with contextlib.suppress(OSError):
        for descriptor in Path("/proc", str(pid), "fd").iterdir():
            with contextlib.suppress(OSError):
                facts = descriptor.stat()
                if stat.S_ISREG(facts.st_mode) and facts.st_nlink == 0:
                    size += facts.st_blocks * BLOCK_BYTES
    return size


def wrote_too_much(slot: Slot, limits: Limits, *, nameless: int) -> Cause | None:
    """Whether its files, with so many bytes of deleted ones, are more than they may be."""
    size, entries = slot.used(at_most=limits.scratch_files)
    return Cause.SCRATCH if size + nameless > limits.scratch_bytes or entries > limits.scratch_files else None


@dataclass(eq=False, slots=True)
class Watched:
    """One guest under watch. ``cause`` is why it was killed, if it was."""

    pid: int
    slot: Slot
    limits: Limits
    kill: Callable[[], None]
    before: Usage
    cause: Cause | None = None

    def exceeds(self) -> Cause | None:
        """What it takes too much of."""
        now, limits = usage_of(self.pid), self.limits
        if now is None:
            return None  # it is ending
        if now.memory_bytes - self.before.memory_bytes > limits.memory_bytes:
            return Cause.MEMORY
        return Cause.THREADS if now.threads > limits.threads else self.wrote_too_much()

    def wrote_too_much(self) -> Cause | None:
        return wrote_too_much(self.slot, self.limits, nameless=nameless_bytes(self.pid))


class Watch:
    """Looks after all guests of a sandbox, as one task, while there are any."""

    def __init__(self) -> None:
        self._watched: set[Watched] = set()
        self._some = asyncio.Event()

    async def run(self) -> None:
        """For ever; whoever started it cancels it."""
        while True:
            await self._some.wait()
            # In a thread, for folders may be large.
            for each, cause in await asyncio.to_thread(_look, list(self._watched)):
                if each in self._watched and each.cause is None:
                    each.cause = cause
                    each.kill()
            await asyncio.sleep(INTERVAL_SECONDS)

    def begin(self, pid: int, slot: Slot, limits: Limits, kill: Callable[[], None]) -> Watched:
        """Watch it from now on; what it has already is its own.

        Raises:
            OSError: what it uses cannot be seen.
        """
        before = usage_of(pid)
        if before is None:
            raise ProcessLookupError(f"/proc does not tell what process {pid} uses (is it mounted with hidepid?)")
        watched = Watched(pid, slot, limits, kill, before)
        self._watched.add(watched)
        self._some.set()
        return watched

    def end(self, watched: Watched) -> Cause | None:
        """After its death: why it was killed, or what it wrote too much since the last look."""
        self._watched.discard(watched)
        if not self._watched:
            self._some.clear()
        return watched.cause or watched.wrote_too_much()


def _look(at: list[Watched]) -> list[tuple[Watched, Cause]]:
    found = []
    for each in at:
        try:
            cause = each.exceeds()
        except Exception:  # whatever one guest contrives, the others are looked at
            log.exception("sandbox.not_seen", pid=each.pid)
            cause = Cause.UNSEEN
        if cause is not None:
            found.append((each, cause))
    return found
