"""The wire between one worker and its services: slow, torn, throttled, frozen; and the worker may die on it."""

import asyncio
from contextlib import suppress
from dataclasses import dataclass

from botocore.exceptions import ConnectionClosedError
from fake_sqs import refusal

from consumers.errors import Transient
from consumers.ports import ObjectSummary
from events.results import FailureCode


class Crashed(BaseException):
    """The worker is dead: nothing that it still does reaches anybody."""


@dataclass(frozen=True)
class Weather:
    """How often a call goes wrong, and how: the odds of each."""

    fails: float = 0
    reply_lost: float = 0
    slow: float = 0
    slow_seconds: float = 90
    crash: float = 0


CALM = Weather()


class Wire:
    """One worker's calls; ``weather`` may change under way."""

    def __init__(self, rng, weather, *, die):
        self.weather = weather
        self.dead = False
        self.frozen_until = 0.0
        self._rng = rng
        self._die = die
        self._afterwards = set()

    async def call(self, act, *, failure):
        """Have ``act`` done over there, unless it goes wrong; ``failure`` makes the error that is seen here then."""
        await self._alive()
        draw = self._rng.random
        if draw() < self.weather.crash:
            self._die()
            if draw() < 0.5:
                await self._done_anyway(act)
            raise Crashed
        try:
            await asyncio.sleep(self._latency())
        except asyncio.CancelledError:
            if draw() < 0.5 or self.dead:
                self._done_later(act)
            raise
        if draw() < self.weather.fails:
            await self._alive()
            raise failure()
        done = await act()
        if draw() < self.weather.crash:
            self._die()
        await asyncio.sleep(self._latency() / 2)
        await self._alive()
        if draw() < self.weather.reply_lost:
            raise failure()
        return done

    async def _alive(self):
        if not self.dead:
            await asyncio.sleep(max(0, self.frozen_until - asyncio.get_running_loop().time()))
        if self.dead:
            raise Crashed

    def _latency(self):
        if self._rng.random() < self.weather.slow:
            return self._rng.uniform(0, self.weather.slow_seconds)
        return self._rng.uniform(0, 0.05)

    def _done_later(self, act):
        """The request was on its way when it was cancelled: it arrives, now or a little later."""

        async def arrive():
            await asyncio.sleep(self._rng.choice((0, 0, 0.01, 1)))
            await self._done_anyway(act)

        task = asyncio.create_task(arrive(), name="late request")
        self._afterwards.add(task)
        task.add_done_callback(self._afterwards.discard)

    async def _done_anyway(self, act):
        with suppress(Exception):
            await act()


def _unavailable():
    return Transient(FailureCode.STORAGE_UNAVAILABLE, "not now")


class WiredStore:
    """``consumers.ports.ObjectStore`` at the other end of a wire; what outlasts the adapter's retries is Transient."""

    def __init__(self, wire, store):
        self._wire = wire
        self._store = store
        self.bucket = store.bucket

    async def _over(self, act):
        return await self._wire.call(act, failure=_unavailable)

    async def get(self, key, *, max_bytes):
        return await self._over(lambda: self._store.get(key, max_bytes=max_bytes))

    async def put(self, key, body, *, media_type):
        return await self._over(lambda: self._store.put(key, body, media_type=media_type))

    async def put_new(self, key, body, *, media_type):
        return await self._over(lambda: self._store.put_new(key, body, media_type=media_type))

    async def put_over(self, key, body, *, etag, media_type):
        return await self._over(lambda: self._store.put_over(key, body, etag=etag, media_type=media_type))

    async def delete(self, keys):
        if keys:
            await self._over(lambda: self._store.delete(keys))

    async def link(self, key, *, name, media_type, seconds):
        return await self._store.link(key, name=name, media_type=media_type, seconds=seconds)

    async def list(self, prefix):
        async def listed() -> list[ObjectSummary]:
            return [found async for found in self._store.list(prefix)]

        for found in await self._over(listed):
            yield found

    async def upload(self, key, chunks, *, media_type):
        async def begin():
            return self._store.begin(key)

        upload = await self._over(begin)
        try:
            body = b"".join([chunk async for chunk in chunks])
            await self.put(key, body, media_type=media_type)
        finally:
            await self._over(lambda: self._store.abort_upload(upload))
        return len(body)

    async def abort_uploads(self, prefix):
        return await self._over(lambda: self._store.abort_uploads(prefix))


def _throttled_or_torn(rng):
    if rng.random() < 0.5:
        return ConnectionClosedError(endpoint_url="http://sqs.memory")
    return refusal("AnyCall", "RequestThrottled", "Slow down.", status=403)


class WiredSqs:
    """An SQS client whose calls go over a wire."""

    def __init__(self, wire, sqs, rng):
        self._wire = wire
        self._sqs = sqs
        self._rng = rng

    def __getattr__(self, name):
        call = getattr(self._sqs, name)

        async def over_the_wire(**arguments):
            failure = lambda: _throttled_or_torn(self._rng)  # noqa: E731
            try:
                return await self._wire.call(lambda: call(**arguments), failure=failure)
            except Crashed:
                # Batches are carried by tasks of their own: they shall tell those who wait for them.
                raise failure() from None

        return over_the_wire

    async def receive_message(self, **arguments):
        """A long poll that is cut short may have been given messages all the same."""

        async def receive():
            try:
                return await self._sqs.receive_message(**arguments)
            except asyncio.CancelledError:
                if self._rng.random() < 0.3:
                    await self._sqs.receive_message(**arguments | {"WaitTimeSeconds": 0})
                raise

        return await self._wire.call(receive, failure=lambda: _throttled_or_torn(self._rng))
