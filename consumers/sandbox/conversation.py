"""The conversation with one guest: a task and its stream go in; a reply, and what it prints, come out."""

import asyncio
import contextlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from consumers.ports import JsonObject, SandboxTask
from consumers.sandbox import frames
from consumers.sandbox.text import without_control_characters

_GRACE_SECONDS = 2
_DRAIN_SECONDS = 2


class Cause(StrEnum):
    """Why the host killed a guest before its end."""

    MEMORY = "memory"
    THREADS = "threads"
    SCRATCH = "scratch"
    UNSEEN = "unseen"
    """What it uses could not be found out."""


@dataclass(frozen=True, slots=True)
class Death:
    """How a guest's process ended: its exit code, or minus the number of a signal, as in ``subprocess``.

    ``by_host`` where it had not ended by itself. ``machine`` says that what held it is gone: nothing that the
    task did.
    """

    code: int
    cpu_seconds: float = 0
    by_host: bool = False
    cause: Cause | None = None
    machine: str | None = None


@dataclass(frozen=True, slots=True)
class Inside:
    """Where a guest sees its folders."""

    inputs: str
    output: str


class Guest(Protocol):
    """One process behind walls, which has said hello and waits for its only task."""

    @property
    def inside(self) -> Inside: ...

    @property
    def reader(self) -> asyncio.StreamReader:
        """Its frames."""

    @property
    def writer(self) -> asyncio.StreamWriter:
        """Our frame, then the task's stream."""

    @property
    def printed(self) -> asyncio.StreamReader:
        """What it prints."""

    async def bring_in(self, inputs: Mapping[str, Path]) -> None:
        """Show it host files, read-only, by these names."""

    def take_out(self, output: Path) -> None:
        """Move what it left, of safe kind and name, to a folder of the host's. Only after its end."""

    def watch(self, task: SandboxTask) -> None:
        """From now on it is killed when it takes more than the task may."""

    async def end(self, *, grace_seconds: float) -> Death:
        """SIGKILL, unless it ends by itself in time, and wait until none of its code can run any more."""


class Conversation:
    """One task, one reply. ``printed`` is cut at the limit and free of control characters."""

    def __init__(self, guest: Guest, task: SandboxTask) -> None:
        self._guest = guest
        self._task = task
        self._printed = bytearray()
        self._flooded = asyncio.Event()
        self._hung_up = False
        self._listening = asyncio.create_task(self._listen(), name="sandbox-output")

    @property
    def printed(self) -> str:
        return without_control_characters(self._printed.decode("utf-8", "replace"))

    @property
    def printed_too_much(self) -> bool:
        return self._flooded.is_set()

    async def exchange(self) -> JsonObject | None:
        """Hand the task over and await the reply; None if the guest ends, or prints too much, without one."""
        reply = asyncio.create_task(self._receive(), name="sandbox-reply")
        feeding = asyncio.create_task(self._feed(), name="sandbox-input")
        flooded = asyncio.create_task(self._flooded.wait(), name="sandbox-flood")
        pending = {reply, feeding, flooded}
        try:
            while {reply, flooded} <= pending:
                done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
                if feeding in done:
                    feeding.result()  # a source that breaks ends the run: its reader would wait for ever
            return reply.result() if reply.done() else None
        finally:
            for each in (reply, feeding, flooded):
                each.cancel()
            await asyncio.gather(reply, feeding, flooded, return_exceptions=True)

    async def end(self) -> Death:
        """The guest's end; what it printed last is read."""
        # Who has hung up is ending by itself, and how it ends tells why.
        death = await self._guest.end(grace_seconds=_GRACE_SECONDS if self._hung_up else 0)
        await asyncio.wait((self._listening,), timeout=_DRAIN_SECONDS)
        self._listening.cancel()
        await asyncio.gather(self._listening, return_exceptions=True)
        return death

    async def _feed(self) -> None:
        task, writer, inside = self._task, self._guest.writer, self._guest.inside
        frame = {
            "call": task.call,
            "arguments": task.arguments,
            "inputs": inside.inputs,
            "output": inside.output,
            "limits": asdict(task.limits),
        }
        # A guest that has read enough, or ended, is no error here: its reply or its death tells.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            writer.write(frames.encode(frame))
            await writer.drain()
            if task.stream is not None:
                async for chunk in task.stream:
                    writer.write(chunk)
                    await writer.drain()
            writer.write_eof()

    async def _receive(self) -> JsonObject | None:
        try:
            return await receive(self._guest.reader)
        except (asyncio.IncompleteReadError, OSError):
            self._hung_up = True
            return None
        except frames.FrameError:
            return {}  # as good as any other reply that is none

    async def _listen(self) -> None:
        while chunk := await self._guest.printed.read(65_536):
            room = self._task.limits.output_bytes - len(self._printed)
            self._printed += chunk[:room]
            if len(chunk) > room:
                self._flooded.set()


async def receive(reader: asyncio.StreamReader) -> JsonObject:
    """One frame of the guest's."""
    (length,) = frames.HEADER.unpack(await reader.readexactly(frames.HEADER.size))
    return frames.decode(await reader.readexactly(frames.check_length(length)))
