"""Polling: receive no more than can start at once, one long poll at a time."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from enum import StrEnum

import structlog

from consumers.errors import Transient
from consumers.ports import Message, WorkQueue

log = structlog.get_logger(__name__)

# SQS's own limit for one receive.
_MAX_BATCH = 10
_LONGEST_PAUSE_SECONDS = 30


class Step(StrEnum):
    """Where a poller is; told each time it gets there."""

    WAITING = "waiting for a free lane"
    RECEIVING = "receiving"
    PAUSING = "pausing after a failure"
    ENDED = "ended"


class Lanes:
    """So many messages at once."""

    def __init__(self, count: int) -> None:
        self._free = asyncio.Semaphore(count)

    async def take_up_to(self, most: int) -> int:
        """Wait for a free lane, then take as many as there are, up to ``most``."""
        await self._free.acquire()
        taken = 1
        while taken < most and not self._free.locked():
            await self._free.acquire()
            taken += 1
        return taken

    def give_back(self, count: int) -> None:
        for _ in range(count):
            self._free.release()


class Poller:
    """Receives from one queue into its lanes until it is cancelled; what it started goes on."""

    def __init__(
        self,
        queue: WorkQueue,
        handle: Callable[[WorkQueue, Message], Awaitable[None]],
        *,
        lanes: int,
        wait_seconds: int,
        visibility_seconds: int,
        progress: Callable[[Step], None] = lambda step: None,
    ) -> None:
        self._queue = queue
        self._handle = handle
        self._lanes = Lanes(lanes)
        self._wait_seconds = wait_seconds
        self._visibility_seconds = visibility_seconds
        self._progress = progress

    async def poll(self, running: asyncio.TaskGroup) -> None:
        """Start a task in ``running`` for each message."""
        try:
            await self._poll(running)
        finally:
            self._progress(Step.ENDED)

    async def _poll(self, running: asyncio.TaskGroup) -> None:
        failures = 0
        while True:
            self._progress(Step.WAITING)
            free = await self._lanes.take_up_to(_MAX_BATCH)
            messages: Sequence[Message] = ()
            self._progress(Step.RECEIVING)
            try:
                messages = await self._queue.receive(
                    max_messages=free,
                    wait_seconds=self._wait_seconds,
                    visibility_seconds=self._visibility_seconds,
                )
                failures = 0
            except Transient as error:
                failures += 1
                log.warning("poll.failed", queue=self._queue.name, reason=error.message, failures=failures)
            finally:
                self._lanes.give_back(free - len(messages))
            for message in messages:
                running.create_task(self._in_a_lane(message), name=f"message {message.message_id}")
            if failures:
                self._progress(Step.PAUSING)
                await asyncio.sleep(_pause(failures))

    async def _in_a_lane(self, message: Message) -> None:
        try:
            await self._handle(self._queue, message)
        finally:
            self._lanes.give_back(1)


def _pause(failures: int) -> float:
    longest = min(_LONGEST_PAUSE_SECONDS, 2**failures / 2)
    return random.uniform(longest / 2, longest)  # noqa: S311 - spreads load, guards nothing
