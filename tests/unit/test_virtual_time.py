"""Virtual time: hours pass in no time, and the worker's clocks follow."""

import asyncio
import time
from collections import Counter
from itertools import pairwise

import pytest
import virtual_time
from virtual_time import BEGINNING, NothingWillHappen

from consumers.errors import LeaseLost, Transient
from consumers.ports import Message
from consumers.worker.lease import MAX_HIDDEN_SECONDS, keep_lease
from events.results import FailureCode

MESSAGE = Message("queries", "m", "receipt", "")


def test_hours_pass_in_order_and_in_no_time():
    seen = []

    async def at(hours):
        await asyncio.sleep(hours * 3600)
        seen.append((hours, virtual_time.now() - BEGINNING))

    async def story():
        async with asyncio.TaskGroup() as group:
            for hours in (48, 3, 12):
                group.create_task(at(hours))

    began = time.monotonic()
    virtual_time.run(story())

    assert [hours for hours, _ in seen] == [3, 12, 48]
    assert all(passed.total_seconds() == pytest.approx(hours * 3600) for hours, passed in seen)
    assert time.monotonic() - began < 5


def test_what_would_hang_for_ever_is_an_error():
    loop = virtual_time.VirtualTimeLoop()
    forever = loop.create_future()
    with pytest.raises(NothingWillHappen):
        loop.run_until_complete(forever)
    loop.close()


class _Queue:
    """Remembers when each renewal came; fails from a moment on."""

    name = "queries"

    def __init__(self, *, fails_after=float("inf")):
        self.renewals = []
        self._fails_after = fails_after

    async def change_visibility(self, message, seconds):
        now = asyncio.get_running_loop().time()
        if now > self._fails_after:
            raise Transient(FailureCode.STORAGE_UNAVAILABLE, "not now")
        self.renewals.append((now, seconds))


def test_a_lease_is_renewed_before_it_ends_for_almost_twelve_hours_and_never_beyond():
    queue = _Queue()

    async def story():
        with pytest.raises(LeaseLost):
            await keep_lease(queue, MESSAGE, visibility_seconds=60, phase=0.3)
        return asyncio.get_running_loop().time()

    ended = virtual_time.run(story())

    hidden_until = 60.0
    for at, seconds in queue.renewals:
        assert at < hidden_until
        hidden_until = at + seconds
        assert hidden_until < MAX_HIDDEN_SECONDS
    assert MAX_HIDDEN_SECONDS - 60 < ended < MAX_HIDDEN_SECONDS


def test_a_lease_that_cannot_be_renewed_is_lost_when_it_ends_and_not_before():
    async def story():
        with pytest.raises(LeaseLost):
            await keep_lease(_Queue(fails_after=100), MESSAGE, visibility_seconds=60, phase=0.3)
        return asyncio.get_running_loop().time()

    assert 100 + 25 < virtual_time.run(story()) < 100 + 61


def test_leases_that_began_at_different_times_are_renewed_together_and_each_about_at_half_time():
    queue = _Queue()

    async def story():
        async with asyncio.TaskGroup() as leases:
            for _ in range(20):
                leases.create_task(keep_lease(queue, MESSAGE, visibility_seconds=60, phase=0.3))
                await asyncio.sleep(0.7)
            await asyncio.sleep(600)
            for lease in leases._tasks:
                lease.cancel()

    virtual_time.run(story())
    moments = Counter(round(at, 3) for at, _ in queue.renewals)

    assert len(queue.renewals) >= 20 * 600 / 30
    assert len(moments) <= len(queue.renewals) / 5
    assert min(b - a for a, b in pairwise(sorted(moments))) == pytest.approx(5)
