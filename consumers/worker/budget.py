"""Budgets: what a worker has of something, given out in the order of asking; nothing is fetched beyond it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

# So many small drops need as much as all that there is.
_SMALL = 64
_ASKED_EACH_SECONDS = 1


class Lanes:
    """So many messages at once; and, ``within`` another one, no more than that has free for all of its parts."""

    def __init__(self, count: int, *, within: "Lanes | None" = None) -> None:
        self._turn = asyncio.Lock()
        self._freed = asyncio.Event()
        self._within = within
        self.free = count

    async def take_up_to(self, most: int) -> int:
        """Wait for a free lane, then take as many as there are, up to ``most``."""
        async with self._turn:
            while self.free < 1:
                self._freed.clear()
                await self._freed.wait()
            taken = min(most, self.free)
            self.free -= taken
        if self._within is None:
            return taken
        within = 0
        try:
            within = await self._within.take_up_to(taken)
        finally:
            self._give_back(taken - within)
        return within

    def give_back(self, count: int) -> None:
        self._give_back(count)
        if self._within is not None:
            self._within.give_back(count)

    def _give_back(self, count: int) -> None:
        self.free += count
        self._freed.set()


class NoRoom(Exception):
    """There are not so many bytes free, and it is not worth waiting for them here."""


class ByteBudget:
    """So many bytes of uploaded files at once. Who asks for more than all of it has it to himself.

    A small drop is not counted: it need not wait behind a large one. Of the large ones one waits, and every
    byte that is given back is kept for it; whoever comes meanwhile finds no room.
    """

    def __init__(self, total: int) -> None:
        self._total = total
        self._free = total
        self._waiting = False
        self._freed = asyncio.Event()

    def has(self, size: int) -> bool:
        """Whether that much would be given at once."""
        return self._is_small(size) or (not self._waiting and min(size, self._total) <= self._free)

    @asynccontextmanager
    async def hold(self, size: int, *, unless: Callable[[], bool] = lambda: False) -> AsyncIterator[None]:
        """Wait for so many bytes, and have them until the block ends.

        Raises:
            NoRoom: another one waits already; or ``unless`` came to hold, which is asked each second.
        """
        held = 0 if self._is_small(size) else min(size, self._total)
        if not self.has(size):
            await self._wait_for(held, unless)
        self._free -= held
        try:
            yield
        finally:
            self._free += held
            self._freed.set()

    async def _wait_for(self, size: int, unless: Callable[[], bool]) -> None:
        if self._waiting:
            raise NoRoom
        self._waiting = True
        try:
            while self._free < size:
                if unless():
                    raise NoRoom
                self._freed.clear()
                with suppress(TimeoutError):
                    async with asyncio.timeout(_ASKED_EACH_SECONDS):
                        await self._freed.wait()
        finally:
            self._waiting = False

    def _is_small(self, size: int) -> bool:
        return size <= self._total // _SMALL
