"""Turns: one job at a time plans and changes a spreadsheet, in whatever worker it runs.

Google has no conditional write: between a look at a sheet and the change that follows from it, another job
could move the rows. A turn ends by itself when its worker dies.
"""

import asyncio
import hashlib
import random
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import structlog
from pydantic import AwareDatetime, BaseModel

from consumers.delivery.sheet.shared import Shared
from consumers.errors import JobError
from consumers.ports import ObjectStore
from consumers.uncancelled import uncancelled
from events.keys import SHARED

# Longer than the calls of an ordinary turn, shorter than a user's patience after a worker died in one. A turn
# that takes longer may meet another: rows then stand in another order, but never twice.
TURN_SECONDS = 120
_ASK_AGAIN_SECONDS = 0.5

log = structlog.get_logger(__name__)


class _Held(BaseModel):
    by: str | None = None
    until: AwareDatetime | None = None


def utc_now() -> datetime:
    return datetime.now(UTC)


class Turns:
    """Takes turns by objects of the bucket that all workers share."""

    def __init__(
        self,
        store: ObjectStore,
        *,
        now: Callable[[], datetime] = utc_now,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._store = store
        self._now = now
        self._pause = pause

    @asynccontextmanager
    async def turn(self, spreadsheet_id: str) -> AsyncIterator[None]:
        """Wait until the spreadsheet is ours, and hold it for as long as the block runs (2 minutes at the most)."""
        name = hashlib.sha256(spreadsheet_id.encode()).hexdigest()[:32]
        shared = Shared(self._store, f"{SHARED}spreadsheets/{name}.json", _Held(), pause=self._pause)
        ours = secrets.token_hex(8)
        try:
            while (await shared.change(lambda held: self._taken(held, ours))).by != ours:
                await self._pause(random.uniform(0.2, 1) * _ASK_AGAIN_SECONDS)  # noqa: S311 - spreads load
            yield
        finally:
            await uncancelled(self._give_back(shared, ours))

    def _taken(self, held: _Held, ours: str) -> _Held | None:
        now = self._now()
        if held.by not in (None, ours) and held.until is not None and now < held.until:
            return None
        return _Held(by=ours, until=now + timedelta(seconds=TURN_SECONDS))

    async def _give_back(self, shared: Shared[_Held], ours: str) -> None:
        try:
            await shared.change(lambda held: _Held() if held.by == ours else None)
        except JobError as error:
            # It ends by itself; whatever happened in the turn goes first.
            log.warning("turn.not_given_back", reason=error.message)
