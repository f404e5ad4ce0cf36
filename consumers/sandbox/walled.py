"""A sandbox of any tier: one guest, one task, one reply, then SIGKILL."""

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from pathlib import Path
from typing import Protocol

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
from consumers.sandbox.conversation import Cause, Conversation, Death, Guest
from consumers.sandbox.outputs import check_input
from consumers.sandbox.text import without_control_characters
from consumers.uncancelled import uncancelled
from events.results import FailureCode

_FULL_BYTES = 64 * 1024**2
_FULL_FILES = 1_000


class Guests(Protocol):
    """Where guests of one tier come from. ``walls`` is what they say that they applied."""

    walls: tuple[str, ...]

    def one(self) -> AbstractAsyncContextManager[Guest]:
        """One guest that waits for its task; soon after the block nothing of it, nor of its folders, is left.

        Raises:
            Transient: this machine cannot make one now.
        """


class WalledSandbox:
    """Runs each task in a process of its own, behind the walls of ``tier``; ``walls`` are what was found applied."""

    def __init__(self, tier: str, walls: tuple[str, ...], guests: Guests) -> None:
        self.tier = tier
        self.walls = walls
        self._guests = guests

    async def run(self, task: SandboxTask) -> SandboxReport:
        """See ``consumers.ports.Sandbox``."""
        for path in task.inputs.values():
            check_input(path)
        began = time.monotonic()
        async with self._guests.one() as guest:
            talk = Conversation(guest, task)
            try:
                with on_this_machine():
                    await guest.bring_in(task.inputs)
                    guest.watch(task)
                async with asyncio.timeout(task.limits.wall_seconds) as clock:
                    reply = await talk.exchange()
            except TimeoutError:
                if not clock.expired():
                    raise
                raise SandboxTimeout(
                    f"It was stopped after {task.limits.wall_seconds:g} seconds.", printed=talk.printed
                ) from None
            finally:
                death = await uncancelled(talk.end())
            value = _value_of(reply, talk, death, task)
            with on_this_machine():
                await asyncio.to_thread(guest.take_out, task.output)
        return SandboxReport(value, talk.printed, time.monotonic() - began)


def _value_of(reply: JsonObject | None, talk: Conversation, death: Death, task: SandboxTask) -> JsonObject:
    limits = task.limits
    if talk.printed_too_much:
        raise SandboxOutput(f"It printed more than {limits.output_bytes:,} bytes.", printed=talk.printed)
    if death.cause is not None:
        raise _taken_too_much(death.cause, talk.printed)
    match reply:
        case None:
            raise _how_it_died(death, limits, talk.printed)
        case {"value": dict(value)}:
            return value
        case {"refused": {"code": str(code), "message": str(message)}}:
            raise GuestRefusal(code, without_control_characters(message), printed=talk.printed)
        case {"memory": str()}:
            raise SandboxMemory("It needed more memory than it may use.", printed=talk.printed)
        case {"fault": str(fault)} if _is_full(task.output):
            raise machine_fault(without_control_characters(fault))
        case {"failed": {"message": str(message), "traceback": str(traceback)}}:
            raise GuestError(
                without_control_characters(message),
                traceback=without_control_characters(traceback),
                printed=talk.printed,
            )
        case _:
            raise SandboxCrash("It replied with something else than a result.", printed=talk.printed)


def _is_full(folder: Path) -> bool:
    """Whether the disk below it is: a guest that says so is not believed."""
    try:
        disk = os.statvfs(folder)
    except OSError:
        return True  # nor can anything be written there
    return disk.f_bavail * disk.f_frsize < _FULL_BYTES or disk.f_favail < _FULL_FILES


@contextmanager
def on_this_machine() -> Iterator[None]:
    """What the machine cannot do (a full disk, a folder that is gone) is not the task's fault."""
    try:
        yield
    except OSError as error:
        raise machine_fault(str(error)) from error


def machine_fault(reason: str) -> Transient:
    return Transient(FailureCode.INTERNAL, f"The sandbox could not do its work on this machine: {reason}")


def _taken_too_much(cause: Cause, printed: str) -> SandboxError:
    match cause:
        case Cause.MEMORY:
            return SandboxMemory("It was killed for its use of memory.", printed=printed)
        case Cause.THREADS:
            return SandboxCrash("It was killed for the number of its threads and processes.", printed=printed)
        case Cause.SCRATCH:
            return SandboxOutput("It wrote more than it may.", printed=printed)
        case Cause.UNSEEN:
            return SandboxCrash("It was killed, for it hid what it used.", printed=printed)


def _how_it_died(death: Death, limits: Limits, printed: str) -> SandboxError | Transient:
    if death.machine is not None:
        return machine_fault(death.machine)
    died_of = -death.code
    if died_of == signal.SIGXCPU or (died_of == signal.SIGKILL and death.cpu_seconds >= limits.cpu_seconds):
        return SandboxTimeout(f"It used up its {limits.cpu_seconds} seconds of processor time.", printed=printed)
    if died_of == signal.SIGKILL and not death.by_host:
        return SandboxMemory("It was killed, most likely for its use of memory.", printed=printed)
    return SandboxCrash(f"It ended without a reply (exit code {death.code}).", printed=printed)
