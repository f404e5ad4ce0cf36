"""Polling: receive no more than can start at once, with more pollers while there is more to receive."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from enum import StrEnum

import structlog

from consumers.ports import Message, WorkQueue
from consumers.worker.budget import Lanes

log = structlog.get_logger(__name__)

# SQS's own limit for one receive.
_MAX_BATCH = 10
_LONGEST_PAUSE_SECONDS = 30


class Step(StrEnum):
    """Where a poller is; told each time it gets there."""

    WAITING = "waiting for room"
    RECEIVING = "receiving"
    PAUSING = "pausing after a failure"
    ENDED = "ended"


class Poller:
    """Receives from one queue into its lanes until it is cancelled; what it started goes on."""

    def __init__(
        self,
        queue: WorkQueue,
        handle: Callable[[WorkQueue, Message], Awaitable[object]],
        *,
        lanes: int,
        wait_seconds: int,
        visibility_seconds: int,
        within: Lanes | None = None,
        progress: Callable[[Step], None] = lambda step: None,
    ) -> None:
        """``within`` are lanes that it shares with other pollers. ``handle`` returns how the message was settled, or
        None if it was not: then it is handled again by the newest receipt, if it came again meanwhile.
        """
        self._queue = queue
        self._handle = handle
        self._lanes = Lanes(lanes, within=within)
        self._most_helpers = lanes // _MAX_BATCH
        self._helpers = 0
        self._wait_seconds = wait_seconds
        self._visibility_seconds = visibility_seconds
        self._progress = progress
        # Those that are handled now, and what came again of them meanwhile.
        self._handled: dict[str, Message | None] = {}

    async def poll(self, running: asyncio.TaskGroup) -> None:
        """Start a task in ``running`` for each message.

        While the queue is quiet, one long poll for one message: it holds one lane, and the others are free for
        whoever shares them. After a receive that came back full it asks for as many as can start, at once, and
        others help, as many as can fill lanes; each leaves with its first receive that is not full.
        """
        try:
            await self._poll(running)
        finally:
            self._progress(Step.ENDED)

    async def _poll(self, running: asyncio.TaskGroup) -> None:
        failures, full = 0, False
        async with asyncio.TaskGroup() as helpers:
            while True:
                most, wait_seconds = (_MAX_BATCH, 0) if full else (1, self._wait_seconds)
                try:
                    full = await self._receive(running, most=most, wait_seconds=wait_seconds)
                except Exception as error:  # noqa: BLE001 - whatever it is, the jobs that run shall not die of it
                    full = False
                    failures += 1
                    log.warning("poll.failed", queue=self._queue.name, reason=str(error), failures=failures)
                    self._progress(Step.PAUSING)
                    await asyncio.sleep(_pause(failures))
                else:
                    failures = 0
                    self._ask_for_help(full, helpers, running)

    def _ask_for_help(self, full: bool, helpers: asyncio.TaskGroup, running: asyncio.TaskGroup) -> None:
        # With fewer free lanes, two pollers would only share what one can receive.
        if full and self._helpers < self._most_helpers and self._lanes.free >= _MAX_BATCH:
            self._helpers += 1
            helpers.create_task(self._help(helpers, running), name="poll helper")

    async def _help(self, helpers: asyncio.TaskGroup, running: asyncio.TaskGroup) -> None:
        try:
            while self._lanes.free >= _MAX_BATCH and await self._receive(running, most=_MAX_BATCH, wait_seconds=0):
                self._ask_for_help(True, helpers, running)
        except Exception:  # noqa: BLE001 - the poller that stays will meet it too, and knows how to wait
            return
        finally:
            self._helpers -= 1

    async def _receive(self, running: asyncio.TaskGroup, *, most: int, wait_seconds: int) -> bool:
        """Receive once, as many as lanes are free, up to ``most``; returns whether all of them were filled."""
        self._progress(Step.WAITING)
        free = await self._lanes.take_up_to(most)
        messages: Sequence[Message] = ()
        self._progress(Step.RECEIVING)
        try:
            messages = await self._queue.receive(
                max_messages=free, wait_seconds=wait_seconds, visibility_seconds=self._visibility_seconds
            )
        finally:
            self._lanes.give_back(free - len(messages))
        for message in messages:
            self._start(message, running)
        return len(messages) == free

    def _start(self, message: Message, running: asyncio.TaskGroup) -> None:
        if message.message_id in self._handled:
            # One lease for each message: the queue keeps the one that runs by this newer receipt.
            self._handled[message.message_id] = message
            self._lanes.give_back(1)
            return
        self._handled[message.message_id] = None
        running.create_task(self._in_a_lane(message), name=f"message {message.message_id}")

    async def _in_a_lane(self, message: Message) -> None:
        following: Message | None = message
        try:
            while following is not None:
                outcome = await self._handle(self._queue, following)
                again, self._handled[message.message_id] = self._handled[message.message_id], None
                # What was settled was settled by the newest receipt.
                following = again if outcome is None else None
        finally:
            del self._handled[message.message_id]
            self._lanes.give_back(1)


def _pause(failures: int) -> float:
    longest = min(_LONGEST_PAUSE_SECONDS, 2**failures / 2)
    return random.uniform(longest / 2, longest)  # noqa: S311 - spreads load, guards nothing
