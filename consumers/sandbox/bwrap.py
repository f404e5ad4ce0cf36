"""The sandbox of tier ``namespaces``: one cold bwrap, one Python, one task, then SIGKILL."""

import asyncio
import contextlib
import os
import signal
import socket
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

from consumers.errors import Transient
from consumers.ports import (
    GuestError,
    GuestRefusal,
    JsonObject,
    Limits,
    SandboxCrash,
    SandboxError,
    SandboxMemory,
    SandboxOutput,
    SandboxReport,
    SandboxTask,
    SandboxTimeout,
)
from consumers.sandbox import frames, walls
from consumers.sandbox.outputs import check_regular
from consumers.sandbox.text import without_control_characters
from consumers.uncancelled import uncancelled
from events.results import FailureCode

_SHELL_SIGNAL = 128


class SandboxUnavailable(Exception):
    """This machine cannot hold untrusted code; the text says what it lacks."""


class BwrapSandbox:
    """Runs each task in a fresh process behind the walls of ``walls.command``."""

    tier = "namespaces"

    async def probe(self, scratch: Path | None = None) -> JsonObject:
        """What the walls look like from inside, with results below ``scratch``; raises SandboxUnavailable."""
        try:
            with tempfile.TemporaryDirectory(prefix="dropchute-probe-", dir=scratch) as folder:
                task = SandboxTask("consumers.sandbox.guest.probe:probe", {}, inputs={}, output=Path(folder))
                return (await self.run(task)).value
        except (SandboxError, Transient, OSError) as error:
            raise SandboxUnavailable(
                f"This machine cannot run the sandbox ({error}). It needs unprivileged user namespaces: "
                "on the host, sysctl user.max_user_namespaces must not be 0; in Docker, run the worker with "
                "--security-opt seccomp=unconfined --security-opt apparmor=unconfined."
            ) from error

    async def run(self, task: SandboxTask) -> SandboxReport:
        """See ``consumers.ports.Sandbox``."""
        for path in task.inputs.values():
            check_regular(path)
        limits, began = task.limits, time.monotonic()
        guest = _Guest(task)
        try:
            # Cancelled half-way, asyncio would kill the outer bwrap alone and wait for the inner one for ever.
            await uncancelled(guest.start())
            async with asyncio.timeout(limits.wall_seconds) as clock:
                reply = await guest.converse()
        except TimeoutError:
            if not clock.expired():
                raise
            raise SandboxTimeout(
                f"It was stopped after {limits.wall_seconds:g} seconds.", printed=guest.printed
            ) from None
        finally:
            await uncancelled(guest.end())
        seconds = time.monotonic() - began
        if guest.printed_too_much.is_set():
            raise SandboxOutput(f"It printed more than {limits.output_bytes:,} bytes.", printed=guest.printed)
        if reply is None:
            raise _how_it_died(guest, limits, seconds)
        return SandboxReport(_value_of(reply, guest.printed), guest.printed, seconds)


class _Guest:
    """One sandboxed process: the task goes in, the reply and what it prints come out."""

    def __init__(self, task: SandboxTask) -> None:
        self._task = task
        self._printed = bytearray()
        self._exits = contextlib.AsyncExitStack()
        self.printed_too_much = asyncio.Event()
        self.greeted = False
        self.return_code: int | None = None

    async def start(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            self._reader, self._writer = await asyncio.open_connection(sock=ours)
            self._exits.push_async_callback(self._close_channel)
            descriptor = theirs.fileno()
            self._process = await asyncio.create_subprocess_exec(
                *walls.command(inputs=self._task.inputs, output=self._task.output, descriptor=descriptor),
                stdin=asyncio.subprocess.DEVNULL if self._task.stream is None else asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                pass_fds=(descriptor,),
                process_group=0,
                env={},
                cwd="/",
            )
        self._listening = asyncio.create_task(self._listen(), name="sandbox-output")
        self._exits.push_async_callback(self._kill)

    async def end(self) -> None:
        """Nothing of the guest is left afterwards, however far it came."""
        await self._exits.aclose()

    async def _kill(self) -> None:
        """SIGKILL to bwrap and to pid 1 of its namespace, which takes everything inside along.

        Both are one process group: pid 1 is reached even before it has asked to die with its parent. Not by
        ``Process.kill``, which reaps what has just ended and so takes its exit code from asyncio.
        """
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
        # Drained to its end, because asyncio awaits the pipes before it reports the exit.
        await self._listening
        self.return_code = await self._process.wait()

    async def _close_channel(self) -> None:
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()

    @property
    def printed(self) -> str:
        return without_control_characters(self._printed.decode("utf-8", "replace"))

    async def converse(self) -> JsonObject | None:
        """Hand the task over and await the reply; None if the guest ends, or prints too much, without one."""
        reply = asyncio.create_task(self._exchange(), name="sandbox-reply")
        feeding = asyncio.create_task(self._feed(), name="sandbox-input")
        flooded = asyncio.create_task(self.printed_too_much.wait(), name="sandbox-flood")
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

    async def _exchange(self) -> JsonObject | None:
        task = self._task
        try:
            self.greeted = await self._receive() == frames.HELLO
            self._writer.write(
                frames.encode(
                    {
                        "call": task.call,
                        "arguments": task.arguments,
                        "inputs": str(walls.INPUTS),
                        "output": str(walls.OUTPUT),
                        "limits": asdict(task.limits),
                    }
                )
            )
            await self._writer.drain()
            return await self._receive()
        except (asyncio.IncompleteReadError, OSError, frames.FrameError):
            # It ended, or speaks nonsense: its exit code tells more than a broken frame.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(2):
                    await self._process.wait()
            return None

    async def _receive(self) -> JsonObject:
        (length,) = frames.HEADER.unpack(await self._reader.readexactly(frames.HEADER.size))
        return frames.decode(await self._reader.readexactly(frames.check_length(length)))

    async def _listen(self) -> None:
        assert self._process.stdout is not None
        while chunk := await self._process.stdout.read(65_536):
            room = self._task.limits.output_bytes - len(self._printed)
            self._printed += chunk[:room]
            if len(chunk) > room:
                self.printed_too_much.set()

    async def _feed(self) -> None:
        stdin, stream = self._process.stdin, self._task.stream
        if stream is None or stdin is None:
            return
        try:
            async for chunk in stream:
                stdin.write(chunk)
                await stdin.drain()
        except (BrokenPipeError, ConnectionResetError):
            return  # the guest has read enough
        stdin.close()


def _value_of(reply: JsonObject, printed: str) -> JsonObject:
    match reply:
        case {"value": dict(value)}:
            return value
        case {"refused": {"code": str(code), "message": str(message)}}:
            raise GuestRefusal(code, without_control_characters(message), printed=printed)
        case {"memory": str()}:
            raise SandboxMemory("It needed more memory than it may use.", printed=printed)
        case {"fault": str(fault)}:
            raise _machine_fault(without_control_characters(fault))
        case {"failed": {"message": str(message), "traceback": str(traceback)}}:
            raise GuestError(
                without_control_characters(message),
                traceback=without_control_characters(traceback),
                printed=printed,
            )
        case _:
            raise SandboxCrash("It replied with something else than a result.", printed=printed)


def _machine_fault(reason: str) -> Transient:
    return Transient(FailureCode.INTERNAL, f"The sandbox could not do its work on this machine: {reason}")


def _how_it_died(guest: _Guest, limits: Limits, seconds: float) -> SandboxError | Transient:
    if not guest.greeted:
        return _machine_fault(guest.printed.strip() or f"it ended with exit code {guest.return_code}")
    died_of = (guest.return_code or 0) - _SHELL_SIGNAL
    if died_of == signal.SIGXCPU or (died_of == signal.SIGKILL and seconds >= limits.cpu_seconds):
        return SandboxTimeout(f"It used up its {limits.cpu_seconds} seconds of processor time.", printed=guest.printed)
    if died_of == signal.SIGKILL:
        return SandboxMemory("It was killed, most likely for its use of memory.", printed=guest.printed)
    return SandboxCrash(f"It ended without a reply (exit code {guest.return_code}).", printed=guest.printed)
