"""Liveness: whether the worker makes progress, judged from what its parts have told, on a clock of its choice.

It is told from the worker's event loop, and asked from wherever: reading never waits for that loop, so that a
loop that is blocked is found too.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Never

import structlog

from consumers.ports import Message, WorkQueue
from consumers.worker.outcome import LONGEST_RETRY_SECONDS, Outcome, Retry
from consumers.worker.poll import Step

BEAT_SECONDS = 1.0
# Garbage collection, a slow machine or a paused virtual one; parsing is done outside of this process.
LOOP_BLOCKED_SECONDS = 15.0
# Beyond the long poll itself: connecting, reading the reply, and the longest pause after a failure.
POLL_GRACE_SECONDS = 60.0

log = structlog.get_logger(__name__)

Handle = Callable[[WorkQueue, Message], Awaitable[Outcome | None]]


@dataclass(slots=True)
class _Poller:
    longest_seconds: float
    step: Step | None = None
    since: float = 0.0
    in_flight: int = 0


@dataclass(frozen=True, slots=True)
class Vitals:
    """``problems`` are what keeps the worker from being alive; ``no_progress`` is a warning, not one of them."""

    problems: tuple[str, ...]
    in_flight: int
    no_progress: str | None

    @property
    def is_alive(self) -> bool:
        return not self.problems


class Liveness:
    """Of one worker. While it is ``stopping`` its pollers may end. ``now`` is a monotonic clock in seconds."""

    def __init__(
        self,
        *,
        no_progress_seconds: float,
        stopping: Callable[[], bool] = lambda: False,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._no_progress_seconds = no_progress_seconds
        self._stopping = stopping
        self._now = now
        self._pollers: dict[str, _Poller] = {}
        self._beat_at = now()
        self._idle_since = now()
        # When the first message came of those since the last one that was done with.
        self._unfinished_since: float | None = None

    # ------------------------------------------------------------ what it is told

    def beat(self) -> None:
        """The event loop has come round."""
        self._beat_at = self._now()

    def poller(self, name: str, *, wait_seconds: float) -> Callable[[Step], None]:
        """What one poller tells its steps to. A receive lasts for ``wait_seconds``, its long poll, and a grace."""
        poller = self._pollers.setdefault(name, _Poller(wait_seconds + POLL_GRACE_SECONDS))

        def progress(step: Step) -> None:
            poller.step, poller.since = step, self._now()

        return progress

    def watching(self, name: str, handle: Handle) -> Handle:
        """``handle``, for the messages of one poller; progress is one that is done with, not one that comes again."""
        poller = self._pollers[name]

        async def watched(queue: WorkQueue, message: Message) -> Outcome | None:
            if self._unfinished_since is None or self._is_at_rest(self._now()):
                self._unfinished_since = self._now()
            poller.in_flight += 1
            try:
                outcome = await handle(queue, message)
            finally:
                poller.in_flight -= 1
                self._idle_since = self._now()
            if not isinstance(outcome, Retry | None):
                self._unfinished_since = self._now() if self.in_flight else None
            return outcome

        return watched

    # ------------------------------------------------------------ what it tells

    @property
    def in_flight(self) -> int:
        """Messages that were received and are not settled."""
        return sum(poller.in_flight for poller in tuple(self._pollers.values()))

    @property
    def unready(self) -> str | None:
        """Why no new work is taken, or None if it is."""
        if self._stopping():
            return "draining"
        if not self._pollers or any(poller.step is None for poller in tuple(self._pollers.values())):
            return "starting"
        return None

    def vitals(self) -> Vitals:
        now = self._now()
        problems = []
        if now - self._beat_at > LOOP_BLOCKED_SECONDS:
            problems.append(f"the event loop has been blocked for {now - self._beat_at:.0f} s")
        if not self._stopping():
            problems += [
                f"the poller of {name} has been {poller.step} for {now - since:.0f} s"
                for name, poller in tuple(self._pollers.items())
                if (since := self._stalled_since(poller, now)) is not None
            ]
        return Vitals(tuple(problems), self.in_flight, self._no_progress(now))

    def _stalled_since(self, poller: _Poller, now: float) -> float | None:
        """Since when it has not moved although it should; None if all is well."""
        if poller.step is None:
            return None
        if poller.step is Step.ENDED:
            return poller.since
        # While others use the room there is nothing to poll for; with nothing in flight, there is room.
        if poller.step is Step.WAITING and self.in_flight:
            return None
        since = max(poller.since, self._idle_since) if poller.step is Step.WAITING else poller.since
        return since if now - since > poller.longest_seconds else None

    def _no_progress(self, now: float) -> str | None:
        since = self._unfinished_since
        if since is None or now - since < self._no_progress_seconds or self._is_at_rest(now):
            return None
        what = f"{self.in_flight} in flight" if self.in_flight else "messages come again and again"
        return f"{what}, and none has come to its end for {(now - since) / 60:.0f} minutes"

    def _is_at_rest(self, now: float) -> bool:
        """Whether nothing is in flight, nor about to come again."""
        return not self.in_flight and now - self._idle_since > LONGEST_RETRY_SECONDS


async def keep_watch(liveness: Liveness, *, every_seconds: float = BEAT_SECONDS) -> Never:
    """Beat, and log each change for the worse or the better once; runs until it is cancelled."""
    told = (False, False)
    while True:
        liveness.beat()
        vitals = liveness.vitals()
        found = bool(vitals.problems), vitals.no_progress is not None
        if found != told:
            _tell(vitals, told)
            told = found
        await asyncio.sleep(every_seconds)


def _tell(vitals: Vitals, before: tuple[bool, bool]) -> None:
    if vitals.problems and not before[0]:
        log.error("worker.stalled", problems=vitals.problems)
    if vitals.no_progress is not None and not before[1]:
        log.warning("worker.no_progress", reason=vitals.no_progress, in_flight=vitals.in_flight)
    if not vitals.problems and vitals.no_progress is None:
        log.info("worker.progress_again", in_flight=vitals.in_flight)
