"""Virtual time: an event loop whose clock jumps to the next timer as soon as there is nothing else to do.

Hours of leases, claims and backoff pass in milliseconds, and in the same order every time.
"""

import asyncio
import selectors
from collections.abc import Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

T = TypeVar("T")

BEGINNING = datetime(2026, 1, 31, 12, tzinfo=UTC)


class NothingWillHappen(Exception):
    """Everything waits, and no timer is set: in real time this would hang for ever."""


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """``time()`` begins at 0 and moves only when all tasks wait for it."""

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.now

    def wall_clock(self) -> datetime:
        """What a right clock on the wall shows."""
        return BEGINNING + timedelta(seconds=self.time())


class _JumpingSelector(selectors.DefaultSelector):
    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready:
            if timeout is None:
                raise NothingWillHappen
            self.now += max(0, timeout)
        return ready


def run(story: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end on virtual time."""
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(story)


def now() -> datetime:
    """The wall clock of the running loop."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualTimeLoop)
    return loop.wall_clock()
