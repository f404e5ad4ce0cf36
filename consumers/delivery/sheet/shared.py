"""What all workers share, in one small object of the bucket: changed by one of them at a time."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from pydantic import BaseModel, ValidationError

from consumers.errors import ObjectMissing, PreconditionFailed
from consumers.ports import ObjectStore

MAX_BYTES = 10_000
_LONGEST_PAUSE_SECONDS = 0.2

State = TypeVar("State", bound=BaseModel)


class Shared(Generic[State]):
    """One JSON object under ``key``, of the model ``kind``; ``first`` is what it is before anybody wrote it."""

    def __init__(
        self,
        store: ObjectStore,
        key: str,
        first: State,
        *,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._store = store
        self._key = key
        self._first = first
        self._pause = pause

    async def change(self, change: Callable[[State], State | None]) -> State:
        """Compare and swap until it holds. ``change`` returns None to leave it. Returns what is there now."""
        while True:
            state, etag = await self._read()
            changed = change(state)
            if changed is None:
                return state
            body = changed.model_dump_json().encode()
            try:
                if etag is None:
                    await self._store.put_new(self._key, body, media_type="application/json")
                else:
                    await self._store.put_over(self._key, body, etag=etag, media_type="application/json")
            except PreconditionFailed:
                await self._pause(random.uniform(0, _LONGEST_PAUSE_SECONDS))  # noqa: S311 - spreads load, guards nothing
            else:
                return changed

    async def _read(self) -> tuple[State, str | None]:
        try:
            stored = await self._store.get(self._key, max_bytes=MAX_BYTES)
        except ObjectMissing:
            return self._first, None
        try:
            return type(self._first).model_validate_json(stored.body), stored.etag
        except ValidationError:
            return self._first, stored.etag
