"""Spares: guests that wait behind their walls before there is a task, and the warmed process they come from."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any, Self

import structlog

from consumers.errors import Transient
from consumers.sandbox.cgroups import ControlGroups
from consumers.sandbox.walled import machine_fault
from consumers.sandbox.warmed import WarmedPython
from consumers.sandbox.warmed_guest import Owner, WarmedGuest
from consumers.sandbox.watch import Watch
from consumers.uncancelled import uncancelled

# All guests of one warmed process have its addresses in memory: who learns them from one could use them in another.
RECYCLE_AFTER_GUESTS = 1_000
RECYCLE_AFTER_SECONDS = 30 * 60

_RETRY_SECONDS = 1

log = structlog.get_logger(__name__)


class Spares:
    """Keeps ``wanted`` guests ready. Whoever takes one has it alone; the next is made meanwhile."""

    def __init__(
        self,
        tier: str,
        folder: Path,
        *,
        wanted: int,
        groups: ControlGroups | None = None,
        recycle_after_guests: int = RECYCLE_AFTER_GUESTS,
        recycle_after_seconds: float = RECYCLE_AFTER_SECONDS,
    ) -> None:
        self.walls: tuple[str, ...] = ()
        self._tier = tier
        self._folder = folder
        self._wanted = wanted
        self._groups = groups
        self._after_guests = recycle_after_guests
        self._after_seconds = recycle_after_seconds
        self._numbers = count(1)
        self._watch = Watch()
        self._ready: asyncio.Queue[WarmedGuest | Transient] = asyncio.Queue()
        self._waiting = 0
        self._making = 0
        self._closing = False
        self._turn = asyncio.Lock()
        self._due = asyncio.Event()
        self._warmed: WarmedPython | None = None
        self._processes: set[WarmedPython] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._removals: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        try:
            await self._replace()
        except BaseException:
            await self._close()
            raise
        self._begin(self._watch.run(), "sandbox-watch")
        self._begin(self._keep_fresh(), "sandbox-recycling")
        self._fill()
        return self

    async def __aexit__(self, *_: object) -> None:
        await uncancelled(self._close())

    @asynccontextmanager
    async def one(self) -> AsyncIterator[WarmedGuest]:
        """See ``walled.Guests``."""
        guest = await self._take()
        try:
            yield guest
        finally:
            # It runs no more; what is left of it is cleared away meanwhile.
            self._give_up(guest)

    async def _take(self) -> WarmedGuest:
        while True:
            self._waiting += 1
            # While one is left, the next can wait until this task has had the processor.
            if self._ready.qsize() < self._waiting + 1:
                self._fill()
            try:
                made = await self._ready.get()
            finally:
                self._waiting -= 1
            if isinstance(made, Transient):
                raise made
            if made.is_alive():
                return made
            self._give_up(made)

    def _fill(self) -> None:
        while not self._closing and self._ready.qsize() + self._making < self._waiting + self._wanted:
            self._making += 1
            self._begin(self._make(), "sandbox-spare")

    async def _make(self) -> None:
        """One more guest for whoever waits, or the reason why there is none."""
        made: WarmedGuest | Transient
        try:
            made = await self._made()
        except Exception as error:  # whoever waits must be told, whatever it is
            made = error if isinstance(error, Transient) else machine_fault(f"no guest: {error!r}")
            log.warning("sandbox.no_guest", reason=str(made), exc_info=not isinstance(error, Transient))
        finally:
            self._making -= 1
        # A spare is one of the present process; who waits takes any.
        as_spare = isinstance(made, WarmedGuest) and made.owner is self._warmed
        if self._ready.qsize() < self._waiting + (self._wanted if as_spare else 0):
            self._ready.put_nowait(made)
        elif isinstance(made, WarmedGuest):
            self._give_up(made)

    async def _made(self) -> WarmedGuest:
        warmed = await self._warm()
        try:
            return await self._checked(await warmed.guest())
        except Transient:
            await self._close_if_unused(warmed)
            if warmed is self._warmed and not warmed.gone:
                raise
        # It died, or was replaced, under our hands: whoever waits need not hear of it.
        return await self._checked(await (await self._warm()).guest())

    async def _checked(self, guest: WarmedGuest) -> WarmedGuest:
        """That its walls are those of the first one, which was tried."""
        self.walls = self.walls or guest.walls
        if guest.walls != self.walls:
            self._give_up(guest)
            raise machine_fault(f"a guest has other walls than the first: {guest.walls}")
        return guest

    async def _warm(self) -> WarmedPython:
        async with self._turn:
            if self._warmed is None or self._warmed.gone:
                await self._replace()
            assert self._warmed is not None
            if self._warmed.made >= self._after_guests:
                self._due.set()
            return self._warmed

    async def _keep_fresh(self) -> None:
        """Another warmed process takes over when it is time; until it is warm, the former one goes on."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._after_seconds):
                    await self._due.wait()
            try:
                await self._replace()
            except Exception as error:  # noqa: BLE001 - whatever it is, the next attempt may do better
                log.warning("sandbox.not_recycled", reason=repr(error))
                await asyncio.sleep(_RETRY_SECONDS)
                continue
            self._due.clear()
            unused = [self._ready.get_nowait() for _ in range(self._ready.qsize())]
            self._fill()
            for each in unused:
                if isinstance(each, WarmedGuest):
                    self._give_up(each)

    async def _replace(self) -> None:
        new = WarmedPython(self._tier, self._folder / str(next(self._numbers)), self._watch, self._groups)
        self._processes.add(new)
        try:
            await new.start()
        except BaseException:
            self._processes.discard(new)
            await new.close()
            raise
        former, self._warmed = self._warmed, new
        if former is not None:
            await self._close_if_unused(former)

    def _give_up(self, guest: WarmedGuest) -> None:
        self._fill()
        removal = asyncio.create_task(self._remove(guest), name="sandbox-removal")
        self._removals.add(removal)
        removal.add_done_callback(self._removals.discard)

    async def _remove(self, guest: WarmedGuest) -> None:
        await guest.close()
        await self._close_if_unused(guest.owner)

    async def _close_if_unused(self, owner: Owner) -> None:
        for process in [each for each in self._processes if each is owner]:
            if process is not self._warmed and process.guests == 0:
                self._processes.discard(process)
                await process.close()

    async def _close(self) -> None:
        self._closing = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*self._removals, return_exceptions=True)
        for guest in [self._ready.get_nowait() for _ in range(self._ready.qsize())]:
            if isinstance(guest, WarmedGuest):
                await guest.close()
        for process in list(self._processes):
            await process.close()
        if self._groups is not None:
            await asyncio.to_thread(self._groups.clear)

    def _begin(self, work: Coroutine[Any, Any, None], name: str) -> None:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
