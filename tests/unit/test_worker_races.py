"""Races that the simulation found, each told as a story of its own."""

import asyncio
import json
from datetime import timedelta

import pytest
import virtual_time
from simulation import undisturbed
from world import CLAIM_SECONDS, POLICY, World

from consumers.drop import Answer
from consumers.errors import ClaimLost, HeldElsewhere, Transient
from consumers.session_control import SessionControl
from consumers.worker.finish import Finish
from consumers.worker.job import JobTransaction
from consumers.worker.ledger import Ledger
from consumers.worker.outcome import Completed, Released, Retry
from events import results
from events.keys import Control, ControlKey, Flow, ManifestKey, session_prefix
from events.results import FailureCode


class Scene:
    """A world without workers of its own: a test calls their parts by hand."""

    def __init__(self, world):
        self.world = world
        self.store = world.store
        self.letters = []
        self.events = []

    def ledger(self, worker, *, skew=0):
        clock = lambda: virtual_time.now() + timedelta(seconds=skew)  # noqa: E731
        return Ledger(self.store, worker=worker, claim_seconds=CLAIM_SECONDS, now=clock)

    async def drop(self, kind="answer"):
        return ManifestKey(await self.world.drop("01", kind), Flow.QUERY)

    async def publish(self, event):
        self.events.append(event)

    async def bury(self, letter):
        self.letters.append(letter)

    async def withdraw(self, job, spreadsheet_id):
        return await self.world.sheet.withdraw(job)

    async def undo(self, job, epoch, spreadsheet_id):
        return await self.world.sheet.withdraw(job)

    def jobs(self, worker, *, store=None, flow=None):
        store = store or self.store
        ledger = Ledger(store, worker=worker, claim_seconds=CLAIM_SECONDS, now=virtual_time.now)
        finish = Finish(self.store, self, self, link_seconds=900)
        return JobTransaction(
            {Flow.QUERY: flow},
            ledger=ledger,
            store=store,
            events=self,
            finish=finish,
            policy=POLICY,
            now=virtual_time.now,
        )

    async def control(self, control, job, *, session_id=None):
        finish = Finish(self.store, self, self, link_seconds=900)
        controls = SessionControl(self.ledger("controller"), self.store, finish, self)
        return await controls.run(ControlKey(session_id or job.session_id, control, job), self.bury)


def tell(story):
    """Run one story in a scene of its own."""

    async def told():
        world = World(0)
        await world.begin(workers=0)
        await story(Scene(world))

    with undisturbed():
        virtual_time.run(told())


def _failed(job):
    return results.Failed(
        session_id=job.session_id, job_id=job.job_id, flow=Flow.QUERY, code=FailureCode.CANCELLED, message="No."
    )


def test_an_undo_of_a_failed_job_does_not_keep_its_rows_from_being_taken_back():
    async def story(scene):
        key = await scene.drop("sheet")
        claim = await scene.ledger("worker-1").claim(key)
        await claim.note(appending_to="spreadsheet-1")
        await scene.world.sheet.append(key.job, 1)
        await claim.end(_failed(key.job))  # and the worker dies before it takes the rows back
        await scene.world.undo(key.job)
        await scene.control(Control.UNDO, key.job)
        await scene.jobs("worker-2").run(key, scene.bury)

        assert scene.world.sheet.rows == {}

    tell(story)


def test_a_close_that_is_repeated_still_waits_for_whoever_was_at_work():
    async def story(scene):
        key = await scene.drop()
        claim = await scene.ledger("worker-1").claim(key)
        await scene.world.close("01")
        first = await scene.control(Control.CLOSE, None, session_id="session-01")
        again = await scene.control(Control.CLOSE, None, session_id="session-01")
        await scene.store.put(key.job.result_key(claim.epoch, "late"), b"x", media_type="text/plain")
        await asyncio.sleep(CLAIM_SECONDS + 1)

        assert isinstance(first, Released)
        assert isinstance(again, Released)
        assert await scene.control(Control.CLOSE, None, session_id="session-01") == Completed()
        assert [found.key async for found in scene.store.list(session_prefix("session-01"))] == []

    tell(story)


def test_a_job_that_was_closed_and_ended_again_by_a_late_control_leaves_no_ledger():
    async def story(scene):
        key = await scene.drop()
        await scene.world.close("01")
        await scene.control(Control.CLOSE, None, session_id="session-01")
        await scene.ledger("worker-1").claim(key)  # a late notification, whose worker dies
        await scene.control(Control.CANCEL, key.job)

        assert await scene.jobs("worker-2").run(key, scene.bury) == Completed()
        assert [found.key async for found in scene.store.list(session_prefix("session-01"))] == []

    tell(story)


def test_a_claim_is_not_taken_for_the_same_workers_next_one_of_a_job_that_was_removed_meanwhile():
    async def story(scene):
        key = await scene.drop()
        ledger = scene.ledger("worker-1")
        before = await ledger.claim(key)
        await scene.store.delete([key.job.status_key])
        await asyncio.sleep(1)
        await ledger.claim(key)

        try:
            await before.note(detail="still here")
        except ClaimLost:
            return
        raise AssertionError("two claims of one epoch can write")

    tell(story)


def test_a_claim_by_a_clock_that_is_ahead_ends_when_it_should():
    async def story(scene):
        key = await scene.drop()
        await scene.ledger("ahead", skew=7200).claim(key)
        try:
            await scene.ledger("right").claim(key)
        except HeldElsewhere as held:
            wait = held.wait_seconds
        await asyncio.sleep(CLAIM_SECONDS + 1)
        taken = await scene.ledger("right").claim(key)

        assert 0 < wait <= CLAIM_SECONDS
        assert taken.epoch == 2

    tell(story)


def test_a_claim_by_a_clock_that_is_behind_is_not_taken_from_its_holder():
    async def story(scene):
        key = await scene.drop()
        await scene.ledger("behind", skew=-7200).claim(key)

        try:
            await scene.ledger("right").claim(key)
        except HeldElsewhere:
            return
        raise AssertionError("a live claim was taken over")

    tell(story)


@pytest.mark.parametrize("skew", [7200, -7200])
def test_whoever_s_clock_is_wrong_takes_no_live_claim_and_a_dead_one_in_time(skew):
    async def story(scene):
        key, wrong = await scene.drop(), scene.ledger("wrong", skew=skew)
        await scene.ledger("right").claim(key)
        try:
            await wrong.claim(key)
        except HeldElsewhere as held:
            wait = held.wait_seconds
        await asyncio.sleep(CLAIM_SECONDS + 1)
        taken = await wrong.claim(key)

        assert 0 < wait <= CLAIM_SECONDS
        assert taken.epoch == 2

    tell(story)


async def _nothing_to_do(drop, *, report):
    return Answer((), text="2")


class _Refusing:
    """A store that takes no terminal write."""

    def __init__(self, store):
        self._store = store

    def __getattr__(self, name):
        return getattr(self._store, name)

    async def put_over(self, key, body, *, etag, media_type):
        if "outcome" in json.loads(body):
            raise Transient(FailureCode.STORAGE_UNAVAILABLE, "not now")
        return await self._store.put_over(key, body, etag=etag, media_type=media_type)


def test_the_pause_between_tries_stops_growing():
    async def story(scene):
        key = await scene.drop()
        jobs = scene.jobs("worker-1", store=_Refusing(scene.store), flow=_nothing_to_do)
        outcomes = [await jobs.run(key, scene.bury) for _ in range(30)]

        assert all(isinstance(outcome, Retry) for outcome in outcomes)
        assert max(outcome.delay_seconds for outcome in outcomes) <= POLICY.retry_base_seconds * 2**POLICY.attempts

    tell(story)
