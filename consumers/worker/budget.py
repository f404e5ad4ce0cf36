"""Budgets: what a worker has of something, given out in the order of asking; nothing is fetched beyond it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


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


class ByteBudget:
    """So many bytes of uploaded files at once. Who asks for more than all of it has it to himself."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._free = total
        self._turn = asyncio.Lock()
        self._freed = asyncio.Event()

    def has(self, size: int) -> bool:
        """Whether that much would be given at once."""
        return not self._turn.locked() and min(size, self._total) <= self._free

    @asynccontextmanager
    async def hold(self, size: int) -> AsyncIterator[None]:
        """Wait for so many bytes, behind all who asked before: a large drop is not overtaken for ever."""
        held = min(size, self._total)
        async with self._turn:
            while self._free < held:
                self._freed.clear()
                await self._freed.wait()
            self._free -= held
        try:
            yield
        finally:
            self._free += held
            self._freed.set()

    async def nobody_waits(self) -> None:
        """Return once all who have asked hold what they asked for."""
        async with self._turn:
            return
