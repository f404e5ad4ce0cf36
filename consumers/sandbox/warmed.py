"""The warmed process, seen from the host: it forks walled guests, and tells how each ended."""

import asyncio
import contextlib
import json
import os
import secrets
import signal
import socket
import sys
from contextlib import AsyncExitStack
from itertools import count
from pathlib import Path
from typing import Any

import structlog

from consumers.ports import JsonObject
from consumers.remove_tree import remove_tree
from consumers.sandbox import outer_wall, walls
from consumers.sandbox.cgroups import ControlGroups
from consumers.sandbox.conversation import Death
from consumers.sandbox.guest import jail
from consumers.sandbox.slot import Slot
from consumers.sandbox.text import last_line
from consumers.sandbox.walled import machine_fault, on_this_machine
from consumers.sandbox.warmed_guest import WarmedGuest
from consumers.sandbox.watch import Watch
from consumers.uncancelled import uncancelled

log = structlog.get_logger(__name__)

START_SECONDS = 60
_PACKET_BYTES = 65_536
_LAST_WORDS_BYTES = 2_000
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

    async def guest(self) -> WarmedGuest:
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
