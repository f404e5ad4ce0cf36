"""The warmed process, seen from the host: it forks walled guests, and tells how each ended."""

import asyncio
import contextlib
import json
import os
import re
import secrets
import signal
import socket
import sys
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import structlog

from consumers.ports import JsonObject, SandboxTask
from consumers.remove_tree import remove_tree
from consumers.sandbox import frames, outer_wall, walls
from consumers.sandbox.cgroups import ControlGroups, Group
from consumers.sandbox.conversation import Cause, Death, Inside, receive
from consumers.sandbox.guest import jail
from consumers.sandbox.slot import Slot
from consumers.sandbox.walled import machine_fault, on_this_machine
from consumers.sandbox.watch import Watch, Watched, may_run
from consumers.uncancelled import uncancelled

log = structlog.get_logger(__name__)

START_SECONDS = 60
GUEST_SECONDS = 30
_PACKET_BYTES = 4_096
# What a guest may get charged beside its task's memory: its own copies of what the warmed process has, page tables.
_GROUP_ALLOWANCE_BYTES = 128 * 1024**2
_LAST_WORDS_BYTES = 2_000
_LAST_WORDS_SECONDS = 2
_LOOK_SECONDS = 0.0002
_ENTRY = "consumers/sandbox/guest/zygote.py"


class WarmedPython:
    """One warmed process of tier ``namespaces`` or ``landlock``. Its guests have their slots below ``folder``."""

    def __init__(self, tier: str, folder: Path, watch: Watch, groups: ControlGroups | None) -> None:
        self.tier = tier
        self.watch = watch
        self.groups = groups
        self._slots = folder
        self._numbers = count(1)
        self._spawned: dict[int, asyncio.Future[int]] = {}
        self._ended: dict[int, asyncio.Future[Death]] = {}
        self._exits = AsyncExitStack()
        self._gone = False
        self.made = 0

    @property
    def gone(self) -> bool:
        """Whether it has ended, and every guest with it."""
        return self._gone

    @property
    def guests(self) -> int:
        """How many of its guests have not ended."""
        return len(self._ended)

    async def start(self) -> None:
        """Start it, and wait until it is warm.

        Raises:
            Transient: it does not come up; the text has its last words.
        """
        with on_this_machine():
            self._slots.mkdir(mode=0o700)
            self._exits.push_async_callback(remove_tree, self._slots)
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            self._control, loop = ours, asyncio.get_running_loop()
            self._exits.callback(ours.close)
            with theirs:
                # Cancelled half-way, asyncio would kill the outer bwrap alone and wait for the inner one for ever.
                await uncancelled(self._launch(theirs.fileno()))
            ours.setblocking(False)
            self._ready = loop.create_future()
            loop.add_reader(ours, self._hear)
            self._exits.callback(loop.remove_reader, ours)
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # its last words tell more
                ours.send(json.dumps(self._told()).encode())
        try:
            async with asyncio.timeout(START_SECONDS):
                warm = await self._ready
        except TimeoutError as error:
            raise machine_fault(f"the warmed process was not ready after {START_SECONDS} s") from error
        if not warm:
            raise machine_fault(last_line(await self._last_words()) or "the warmed process does not start")

    async def _launch(self, control: int) -> None:
        self._process = await asyncio.create_subprocess_exec(
            *self._command(control),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            pass_fds=(control,),
            process_group=0,
            env=dict(walls.ENVIRONMENT),
            cwd="/",
        )
        self._exits.push_async_callback(self._kill)

    async def close(self) -> None:
        """Kill it, and with it every guest; their folders go too."""
        await uncancelled(self._exits.aclose())

    async def guest(self) -> "WarmedGuest":
        """A new guest, its walls up.

        Raises:
            Transient: its walls cannot be put up, or this process is gone.
        """
        guest = WarmedGuest(self, next(self._numbers))
        try:
            with on_this_machine():
                await guest.open()
        except BaseException:
            await uncancelled(guest.close())
            raise
        return guest

    def slot(self) -> Slot:
        # In tier landlock whoever can name a path learns by stat what there is.
        return Slot(self._slots / secrets.token_hex(16))

    def spawn(
        self, number: int, slot: Slot, channel: socket.socket, printed: int
    ) -> tuple[asyncio.Future[int], asyncio.Future[Death]]:
        """Ask for a guest in a slot: its pidfd, and later how it ended, until it is forgotten."""
        if self._gone:
            raise machine_fault("the warmed process has ended")
        self.made += 1
        order = json.dumps({"spawn": number, "slot": slot.folder.name}).encode()
        socket.send_fds(self._control, [order], [channel.fileno(), printed])
        loop = asyncio.get_running_loop()
        self._spawned[number], self._ended[number] = loop.create_future(), loop.create_future()
        return self._spawned[number], self._ended[number]

    def forget(self, number: int) -> None:
        self._ended.pop(number, None)
        self._spawned.pop(number, None)

    def _command(self, descriptor: int) -> list[str]:
        inside = self.tier == "namespaces"
        root = walls.GUEST_ROOT if inside else Path(walls.__file__).parents[2]
        arguments = [sys.executable, "-I", "-B", str(root / _ENTRY), str(descriptor)]
        return outer_wall.command(slots=self._slots, arguments=arguments) if inside else arguments

    def _told(self) -> JsonObject:
        told: JsonObject = {"tier": self.tier, "tmp_bytes": walls.TMP_BYTES}
        if self.tier == "namespaces":
            # A guest's root holds nothing else than what it may read.
            hidden = [str(inside) for _, inside in walls.read_only_places() if inside.is_relative_to(jail.TMP)]
            return {**told, "slots": outer_wall.SLOTS, "read": ["/"], "below_tmp": hidden}
        read = [str(place) for place, _ in walls.read_only_places()]
        return {**told, "slots": str(self._slots), "read": read, "below_tmp": []}

    def _hear(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while not self._gone:
                packet, descriptors = self._packet()
                if packet:
                    self._note(json.loads(packet), descriptors)
                else:
                    self._end()

    def _packet(self) -> tuple[bytes, list[int]]:
        try:
            packet, descriptors, _, _ = socket.recv_fds(self._control, _PACKET_BYTES, 1)
        except ConnectionResetError:  # it was killed before it had read our last order
            return b"", []
        return packet, descriptors

    def _note(self, fact: dict[str, Any], descriptors: list[int]) -> None:
        match fact:
            case {"ready": int()}:
                self._ready.set_result(True)
            case {"spawned": int(number)}:
                spawned = self._spawned.get(number)
                if spawned is None or spawned.done():
                    os.close(descriptors[0])  # nobody wants it any more; it ends, for its channel is closed
                else:
                    spawned.set_result(descriptors[0])
            case {"failed": int(number), "reason": str(reason)}:
                spawned = self._spawned.get(number)
                if spawned is not None and not spawned.done():
                    spawned.set_exception(machine_fault(reason))
            case {"ended": int(number), "code": int(code), "cpu": int() | float() as cpu}:
                ended = self._ended.pop(number, None)
                if ended is not None:  # else nobody wants to know any more
                    ended.set_result(Death(code, cpu_seconds=cpu))

    def _end(self) -> None:
        self._gone = True
        asyncio.get_running_loop().remove_reader(self._control)
        if not self._ready.done():
            self._ready.set_result(False)
        for spawned in self._spawned.values():
            if not spawned.done():
                spawned.set_exception(machine_fault("the warmed process has ended"))
        for ended in self._ended.values():
            ended.set_result(Death(-signal.SIGKILL, machine="the warmed process has ended"))
        self._ended.clear()

    async def _kill(self) -> None:
        # Both bwraps and the warmed process are one process group; the pid namespace takes the rest along.
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
        await self._last_words()
        await self._process.wait()

    async def _last_words(self) -> str:
        assert self._process.stdout is not None
        return (await self._process.stdout.read())[-_LAST_WORDS_BYTES:].decode("utf-8", "replace").strip()


class WarmedGuest:
    """A ``Guest`` that a warmed process forked."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    inside: Inside

    def __init__(self, owner: WarmedPython, number: int) -> None:
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


def last_line(words: str) -> str:
    """Of what a process has said before its end: a traceback's last line tells most."""
    return words.rpartition("\n")[2]


def _pid_of(pidfd: int) -> int:
    """The process id as we see it, which the warmed process, in a namespace of its own, cannot tell (pidfd_open(2))."""
    found = re.search(r"^Pid:\s*(\d+)$", Path("/proc/self/fdinfo", str(pidfd)).read_text(), re.MULTILINE)
    if found is None:
        raise machine_fault("it has ended before its task")
    return int(found[1])
