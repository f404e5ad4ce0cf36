"""A guest that a warmed process forked, seen from the host: watched, held to its limits, and killed."""

import asyncio
import contextlib
import os
import re
import signal
import socket
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import structlog

from consumers.ports import SandboxTask
from consumers.sandbox import frames
from consumers.sandbox.cgroups import ControlGroups, Group
from consumers.sandbox.conversation import Cause, Death, Inside, receive
from consumers.sandbox.guest import jail
from consumers.sandbox.slot import Slot
from consumers.sandbox.text import last_line
from consumers.sandbox.walled import machine_fault, on_this_machine
from consumers.sandbox.watch import Watch, Watched, may_run
from consumers.uncancelled import uncancelled

GUEST_SECONDS = 30
# What a guest may get charged beside its task's memory: its own copies of what the warmed process has, page tables.
_GROUP_ALLOWANCE_BYTES = 128 * 1024**2
_LAST_WORDS_BYTES = 2_000
_LAST_WORDS_SECONDS = 2
_LOOK_SECONDS = 0.0002

log = structlog.get_logger(__name__)


class Owner(Protocol):
    """The warmed process, as its guests know it."""

    tier: str
    watch: Watch
    groups: ControlGroups | None

    @property
    def gone(self) -> bool: ...

    def slot(self) -> Slot:
        """Folders for one more guest."""

    def spawn(
        self, number: int, slot: Slot, channel: socket.socket, printed: int
    ) -> tuple[asyncio.Future[int], asyncio.Future[Death]]:
        """Ask for a guest in a slot: its pidfd, and later how it ended, until it is forgotten."""

    def forget(self, number: int) -> None: ...


class WarmedGuest:
    """A ``Guest`` that a warmed process forked."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    inside: Inside

    def __init__(self, owner: Owner, number: int) -> None:
        self.owner = owner
        self.printed = asyncio.StreamReader()
        self.walls: tuple[str, ...] = ()
        self._number = number
        self._pidfd: int | None = None
        self._dead = asyncio.Event()
        self._watched: Watched | None = None
        self._group: Group | None = None
        self._exits = AsyncExitStack()

    async def open(self) -> None:
        """Have it forked, and wait for its hello; whatever this raises, ``close`` cleans up."""
        loop, exits = asyncio.get_running_loop(), self._exits
        slot = self._slot = self.owner.slot()
        exits.push_async_callback(slot.remove)
        inside = self.owner.tier == "namespaces"
        self.inside = Inside(jail.INPUTS, jail.OUTPUT) if inside else Inside(str(slot.inputs), str(slot.output))
        channel, theirs = socket.socketpair()
        exits.callback(channel.close)
        ours, their_printed = os.pipe()
        printed = exits.enter_context(os.fdopen(ours, "rb"))
        with theirs, os.fdopen(their_printed, "wb"):
            self.reader, self.writer = await asyncio.open_connection(sock=channel)
            exits.push_async_callback(self._hang_up)
            transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(self.printed), printed)
            exits.callback(transport.close)
            spawned, self._ended = self.owner.spawn(self._number, slot, theirs, their_printed)
        exits.callback(self.owner.forget, self._number)
        try:
            async with asyncio.timeout(GUEST_SECONDS):
                self._pidfd = await spawned
                self._have(self._pidfd)
                if self.owner.groups is not None:
                    # Now and not with its task: to join takes milliseconds, in which it puts its walls up anyway.
                    await uncancelled(asyncio.to_thread(self._join_a_group, self.owner.groups))
                self.walls = tuple(map(str, (await receive(self.reader))["hello"]))
        except (asyncio.IncompleteReadError, TimeoutError, KeyError, TypeError, frames.FrameError) as error:
            await self._kill_and_wait()
            words = await self._last_words()
            log.warning("sandbox.stillborn", printed=words)
            reason = "a guest's walls could not be put up, or the warmed process has ended"
            raise machine_fault(last_line(words) or reason) from error

    def _have(self, pidfd: int) -> None:
        loop = asyncio.get_running_loop()
        self._exits.callback(os.close, pidfd)
        loop.add_reader(pidfd, self._has_died)
        self._exits.callback(loop.remove_reader, pidfd)
        self._pid = _pid_of(pidfd)

    async def bring_in(self, inputs: Mapping[str, Path]) -> None:
        await self._slot.bring_in(inputs)

    def take_out(self, output: Path) -> None:
        self._slot.take_out(output)

    def watch(self, task: SandboxTask) -> None:
        self._watched = self.owner.watch.begin(self._pid, self._slot, task.limits, self._kill)
        if self._group is not None:
            memory = task.limits.memory_bytes + _GROUP_ALLOWANCE_BYTES
            with on_this_machine():
                self._group.limit(memory_bytes=memory, tasks=task.limits.threads)

    async def end(self, *, grace_seconds: float) -> Death:
        if grace_seconds:
            await asyncio.wait((self._ended,), timeout=grace_seconds)
        by_host = not self._dead.is_set()
        self._kill()
        # The kernel may need longer to take its memory apart than the task took: that it runs no more is enough.
        while not self._dead.is_set() and may_run(self._pid):  # noqa: ASYNC110 - the kernel tells nobody of it
            await asyncio.sleep(_LOOK_SECONDS)
        self._slot.give_back()
        cause = None
        if self._watched is not None:
            cause = self.owner.watch.end(self._watched)
        if self._group is not None and not by_host and self._group.ran_out():
            cause = Cause.MEMORY
        # How it ended is told by the warmed process, which may be busy: wait only where it matters.
        death = await self._ended if grace_seconds or not by_host else Death(-signal.SIGKILL)
        return replace(death, by_host=by_host, cause=cause)

    async def close(self) -> None:
        """Nothing of it is left afterwards, however far it came."""
        await self._kill_and_wait()
        await self._exits.aclose()

    async def _kill_and_wait(self) -> None:
        if self._pidfd is not None:
            self._kill()
            await self._dead.wait()

    async def _hang_up(self) -> None:
        self.writer.transport.abort()
        with contextlib.suppress(OSError):
            await self.writer.wait_closed()

    def is_alive(self) -> bool:
        return not (self._dead.is_set() or self.owner.gone)

    def _join_a_group(self, groups: ControlGroups) -> None:
        self._group = groups.group()
        self._exits.callback(groups.give_up, self._group)
        self._group.hold(self._pid)

    def _has_died(self) -> None:
        self._dead.set()
        if self._pidfd is not None:
            asyncio.get_running_loop().remove_reader(self._pidfd)

    def _kill(self) -> None:
        if self._pidfd is None:
            return
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    async def _last_words(self) -> str:
        # One that lives on, because nobody knows its pidfd, ends with its channel.
        await self._hang_up()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LAST_WORDS_SECONDS):
                return (await self.printed.read())[-_LAST_WORDS_BYTES:].decode("utf-8", "replace").strip()
        return ""


def _pid_of(pidfd: int) -> int:
    """The process id as we see it, which the warmed process, in a namespace of its own, cannot tell (pidfd_open(2))."""
    found = re.search(r"^Pid:\s*(\d+)$", Path("/proc/self/fdinfo", str(pidfd)).read_text(), re.MULTILINE)
    if found is None:
        raise machine_fault("it has ended before its task")
    return int(found[1])
