"""A cold guest: one fresh process for each task, which speaks frames over its stdin and stdout.

What it prints is on its stderr. How it is started, and what processes it consists of, is its tier's.
"""

import asyncio
import contextlib
import os
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Protocol
from uuid import uuid4

import structlog

from consumers.errors import Transient
from consumers.ports import Limits, SandboxTask
from consumers.sandbox.conversation import Cause, Death, Inside, receive
from consumers.sandbox.frames import FrameError
from consumers.sandbox.slot import Slot
from consumers.sandbox.text import without_control_characters
from consumers.sandbox.walled import machine_fault, on_this_machine
from consumers.sandbox.watch import Usage, wrote_too_much
from consumers.uncancelled import uncancelled

_HELLO_SECONDS = 60
_WATCH_SECONDS = 0.1
_POLL_SECONDS = 0.005
_KILL_SECONDS = 10
_LAST_WORDS_SECONDS = 2
_MAX_LAST_WORDS = 2_000

log = structlog.get_logger(__name__)


class Kin(Protocol):
    """The processes that a guest consists of, as the host finds them. Its methods block for milliseconds."""

    def used(self) -> Usage:
        """What they use together."""

    def nameless_bytes(self) -> int:
        """What files take on the disk that they have deleted and hold open."""

    def kill(self) -> bool:
        """SIGKILL to each; whether there were any that had not ended."""

    def death(self, first: int, *, cpu_seconds: float, seconds: float) -> Death:
        """How the guest ended, from the code of its first process, and how long it had been there for its task."""


@dataclass(frozen=True, slots=True)
class Start:
    """How to start a guest: a whole command; where the guest will see its folders."""

    command: Sequence[str]
    environment: Mapping[str, str]
    cwd: Path
    inside: Inside


class ColdGuests(Protocol):
    """What a tier says of its guests."""

    folder: Path
    applied: tuple[str, ...]
    """What the host applied to them: of ``walls`` what a guest cannot tell."""

    walls: tuple[str, ...]
    """Those of the last guest."""

    def prepare(self, slot: Slot) -> Start:
        """Lay out what the guest in this slot needs."""

    def kin(self, slot: Slot, pid: int) -> Kin:
        """The processes of the guest in this slot, of which ``pid`` was the first."""


@asynccontextmanager
async def cold_guest(tier: ColdGuests) -> AsyncIterator["ColdGuest"]:
    """One guest that has said hello; nothing of it, nor of its folders, is left after the block.

    Raises:
        Transient: this machine cannot make one now.
    """
    with on_this_machine():
        slot = Slot(tier.folder / uuid4().hex)
    try:
        with on_this_machine():
            start = tier.prepare(slot)
            process = _process(start)
        guest = ColdGuest(process, start.inside, slot, tier.kin(slot, process.pid))
        try:
            await uncancelled(guest.connect())
            tier.walls = tier.applied + await guest.greeting()
            yield guest
        finally:
            await uncancelled(guest.close())
    finally:
        await uncancelled(slot.remove())


def _process(start: Start) -> subprocess.Popen[bytes]:
    # In the loop's own thread, because a guest dies with the thread that started it.
    return subprocess.Popen(
        start.command,
        env=dict(start.environment),
        cwd=start.cwd,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,
        start_new_session=True,
    )


class ColdGuest:
    """See ``consumers.sandbox.conversation.Guest``."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    printed: asyncio.StreamReader

    def __init__(self, process: subprocess.Popen[bytes], inside: Inside, slot: Slot, kin: Kin) -> None:
        self.inside = inside
        self._process = process
        self._slot = slot
        self._kin = kin
        self._at_hello = Usage(0, 0)
        self._greeted = time.monotonic()
        self._cpu_seconds = 0.0
        self._cause: Cause | None = None
        self._death: Death | None = None
        self._ending = asyncio.Event()
        self._watching: asyncio.Task[None] | None = None
        self._open: list[asyncio.BaseTransport] = []

    async def connect(self) -> None:
        """Its three pipes become streams."""
        stdin, stdout, stderr = self._process.stdin, self._process.stdout, self._process.stderr
        assert stdin is not None
        assert stdout is not None
        assert stderr is not None
        loop = asyncio.get_running_loop()
        transport, protocol = await loop.connect_write_pipe(
            lambda: asyncio.StreamReaderProtocol(asyncio.StreamReader()), stdin
        )
        self._open.append(transport)
        self.writer = asyncio.StreamWriter(transport, protocol, None, loop)
        self.reader = await self._reading(stdout)
        self.printed = await self._reading(stderr)

    async def _reading(self, pipe: IO[bytes]) -> asyncio.StreamReader:
        reader = asyncio.StreamReader()
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), pipe
        )
        self._open.append(transport)
        return reader

    async def greeting(self) -> tuple[str, ...]:
        """What it says of its walls; raises Transient, with what it printed, if it says nothing."""
        try:
            async with asyncio.timeout(_HELLO_SECONDS):
                match await receive(self.reader):
                    case {"hello": list(walls)}:
                        self._at_hello = await asyncio.to_thread(self._kin.used)
                        self._greeted = time.monotonic()
                        return tuple(map(str, walls))
        except (asyncio.IncompleteReadError, FrameError, OSError):  # a timeout is an OSError too
            pass
        raise await self._stillborn()

    async def _stillborn(self) -> Transient:
        death = await self.end(grace_seconds=0)
        words = b""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LAST_WORDS_SECONDS):
                words = await self.printed.read(_MAX_LAST_WORDS)
        text = without_control_characters(words.decode("utf-8", "replace")).strip()
        return machine_fault(text or f"it ended with exit code {death.code}")

    async def bring_in(self, inputs: Mapping[str, Path]) -> None:
        await self._slot.bring_in(inputs)

    def take_out(self, output: Path) -> None:
        self._slot.take_out(output)

    def watch(self, task: SandboxTask) -> None:
        self._watching = asyncio.create_task(self._watch(task.limits), name="sandbox-watch")

    async def _watch(self, limits: Limits) -> None:
        while not await self._is_ending_within(_WATCH_SECONDS):
            try:
                self._cause = await asyncio.to_thread(self._exceeded, limits)
            except Exception:  # whatever a guest contrives, it is not left alone
                log.exception("sandbox.not_seen", pid=self._process.pid)
                self._cause = Cause.UNSEEN
            # What outlives the first process, and holds its pipes, would keep the host waiting.
            if self._cause is not None or self._has_ended():
                await asyncio.to_thread(self._kin.kill)
                return

    async def _is_ending_within(self, seconds: float) -> bool:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                return await self._ending.wait()
        return False

    def _exceeded(self, limits: Limits) -> Cause | None:
        used = self._kin.used()
        if used.memory_bytes - self._at_hello.memory_bytes > limits.memory_bytes:
            return Cause.MEMORY
        if used.threads - self._at_hello.threads > limits.threads:
            return Cause.THREADS
        return wrote_too_much(self._slot, limits, nameless=self._kin.nameless_bytes())

    async def end(self, *, grace_seconds: float) -> Death:
        if self._death is None:
            self._ending.set()
            if self._watching is not None:
                await asyncio.wait((self._watching,))
            by_itself = self._cause is None and await self._ends_within(grace_seconds)
            await self._kill()
            first = self._process.returncode
            death = self._kin.death(
                -signal.SIGKILL if first is None else first,
                cpu_seconds=self._cpu_seconds,
                seconds=time.monotonic() - self._greeted,
            )
            self._death = replace(death, by_host=not by_itself, cause=self._cause)
        return self._death

    async def _ends_within(self, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while not self._has_ended():
            if time.monotonic() >= deadline:
                return False
            await asyncio.sleep(_POLL_SECONDS)
        return True

    def _has_ended(self) -> bool:
        process = self._process
        if process.returncode is None:
            pid, status, usage = os.wait4(process.pid, os.WNOHANG)
            if pid:
                process.returncode = os.waitstatus_to_exitcode(status)
                self._cpu_seconds = usage.ru_utime + usage.ru_stime
        return process.returncode is not None

    async def _kill(self) -> None:
        """Until nothing runs: who forks meanwhile is found at the next turn."""
        deadline = time.monotonic() + _KILL_SECONDS
        while await asyncio.to_thread(self._kin.kill) or not self._has_ended():
            if time.monotonic() >= deadline:
                log.error("sandbox.outlived", pid=self._process.pid)
                return
            await asyncio.sleep(_POLL_SECONDS)

    async def close(self) -> None:
        """Nothing runs, and no pipe is open, afterwards, however far it came."""
        await self.end(grace_seconds=0)
        for transport in self._open:
            if not transport.is_closing():
                transport.abort() if isinstance(transport, asyncio.WriteTransport) else transport.close()
        await asyncio.sleep(0)  # the turn of the loop in which transports close what they hold
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            if pipe is not None:
                pipe.close()
