"""The quota: a token bucket that all workers of one service account share.

Google counts 60 reads and 60 writes a minute for each account, and a batch as one. Source: Sheets API,
"Usage limits". A full bucket plus what flows in within a minute stay below that, whatever minute is counted; workers
whose clocks differ may exceed it by what flows in meanwhile, and then Google says 429.
"""

import asyncio
import hashlib
import time
from collections.abc import Awaitable, Callable
from typing import Literal

from pydantic import BaseModel, ConfigDict

from consumers.delivery.sheet.shared import Shared
from consumers.ports import ObjectStore
from events.keys import SHARED

Kind = Literal["reads", "writes"]
_BURST_SHARE = 1 / 3
_SKEW_SECONDS = 60


class _Bucket(BaseModel):
    """``tokens`` were left at ``at`` (seconds since 1970)."""

    model_config = ConfigDict(frozen=True)
    tokens: float
    at: float


class SharedQuota:
    """So many calls of each kind in any minute, by all workers together."""

    def __init__(
        self,
        store: ObjectStore,
        account: str,
        *,
        per_minute: int = 60,
        clock: Callable[[], float] = time.time,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._capacity = max(1.0, per_minute * _BURST_SHARE)
        self._per_second = max(per_minute - self._capacity, 0.5) / 60
        self._clock = clock
        self._pause = pause
        name = hashlib.sha256(account.encode()).hexdigest()[:32]
        self._shared = {kind: self._bucket(store, f"{SHARED}quotas/{name}-{kind}.json") for kind in ("reads", "writes")}

    def _bucket(self, store: ObjectStore, key: str) -> Shared[_Bucket]:
        return Shared(store, key, _Bucket(tokens=self._capacity, at=0), pause=self._pause)

    async def take(self, kind: Kind) -> None:
        """Return when one more call may be made."""
        while True:
            wait = 0.0

            def spend(bucket: _Bucket) -> _Bucket | None:
                nonlocal wait
                now = self._clock()
                # Another worker's clock may be ahead of ours: time does not flow back. But nobody waits for
                # the hour in which a clock was wrong.
                wrong = bucket.at > now + _SKEW_SECONDS
                at = now if wrong else max(now, bucket.at)
                tokens = bucket.tokens if wrong else bucket.tokens + (at - bucket.at) * self._per_second
                tokens = min(self._capacity, tokens)
                wait = max(0.0, (1 - tokens) / self._per_second)
                if wait:
                    return _Bucket(tokens=tokens, at=at) if wrong else None
                return _Bucket(tokens=tokens - 1, at=at)

            await self._shared[kind].change(spend)
            if not wait:
                return
            await self._pause(wait)
