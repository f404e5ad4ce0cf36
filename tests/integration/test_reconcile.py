"""Reconciling over the real stack: what never came to its end is asked for again, and then comes to it."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from kit import DeliveringFlow, Kit, new_job
from test_message import handler, with_flow

from consumers.ports import ObjectSummary
from consumers.reconcile import Reason, Reconciled, Stuck, reconcile
from events.keys import ROOT, Flow, JobRef, ManifestKey, close_key
from events.results import Completed, Failed, FailureCode, Undone
from events.status import Undo
from infra.s3_store import S3ObjectStore
from infra.work_queues import WorkQueues

MINUTES = timedelta(minutes=1)
JSON = "application/json"


@pytest.fixture(autouse=True)
async def nothing_from_before(kit: Kit):
    await kit.store.delete(await kit.keys(ROOT))


def facts(job: JobRef) -> dict[str, Any]:
    return {"session_id": job.session_id, "job_id": job.job_id, "flow": Flow.QUERY}


def failed(job: JobRef) -> Failed:
    return Failed(**facts(job), code=FailureCode.FILE_EMPTY, message="Empty.")


async def lost(kit: Kit, **changes: Any) -> JobRef:
    """A drop whose notification never comes."""
    key = await kit.drop(**changes)
    await kit.lose_notifications(key.job.manifest_key(key.flow))
    return key.job


async def reconciled(
    kit: Kit, passed: timedelta = 11 * MINUTES, *, store: Any = None, dry_run: bool = False
) -> tuple[list[Stuck], Reconciled]:
    """What is found when so much time has passed, and its sum."""
    found: list[Stuck] = []
    queues = WorkQueues(kit.clients.control, kit.stack)
    result = await reconcile(
        store or kit.store,
        queues.ask_again,
        queues.waiting,
        older_than=10 * MINUTES,
        now=datetime.now(UTC) + passed,
        dry_run=dry_run,
        on_stuck=found.append,
    )
    return found, result


def reasons(found: list[Stuck]) -> dict[JobRef | None, Reason]:
    return {each.job: each.reason for each in found}


async def waiting(kit: Kit) -> list[int]:
    return [(await kit.in_queue(name))[0] for name in ("queries", "visualizations", "controls")]


# ---------------------------------------------------------------- what is asked for again


async def test_a_drop_whose_notification_never_came_is_answered(kit: Kit):
    job, flow = await lost(kit), DeliveringFlow(kit.store)
    before = await reconciled(kit, 9 * MINUTES)
    found, _ = await reconciled(kit)
    (message,) = await kit.queue().receive(max_messages=1, wait_seconds=5, visibility_seconds=10)

    await handler(kit, with_flow(kit, flow)).handle(kit.queue(), message)

    assert before == ([], Reconciled())
    assert reasons(found) == {job: Reason.NEVER_STARTED}
    assert await kit.exists(job.result_key(1, "result.csv"))
    assert await kit.in_queue("queries") == (0, 0)
    assert await reconciled(kit) == ([], Reconciled())


async def test_each_goes_to_its_own_queue(kit: Kit):
    await lost(kit)
    await lost(kit, flow=Flow.VISUALIZATION)
    controls = (new_job().undo_key, new_job().cancel_key, close_key(new_job().session_id))
    for key in controls:
        await kit.store.put(key, b"{}", media_type=JSON)
    await kit.lose_notifications(*controls)
    found, result = await reconciled(kit)

    assert result == Reconciled(jobs=2, controls=3)
    assert len(found) == 5
    assert await waiting(kit) == [1, 1, 3]


async def test_a_job_that_its_worker_left_is_asked_for_when_its_claim_is_over(kit: Kit):
    dead, alive, given_back = [ManifestKey(await lost(kit), Flow.QUERY) for _ in range(3)]
    await kit.ledger("dead", claim_seconds=60).claim(dead)
    await kit.ledger("alive", claim_seconds=3600).claim(alive)
    await (await kit.ledger("stopped").claim(given_back)).give_back(counts=False)
    found, _ = await reconciled(kit)

    assert reasons(found) == {dead.job: Reason.LEFT, given_back.job: Reason.LEFT}
    assert await waiting(kit) == [2, 0, 0]


async def test_an_end_that_was_not_told_is_told_once(kit: Kit):
    key = ManifestKey(await lost(kit), Flow.QUERY)
    claim = await kit.ledger("dead").claim(key)
    await claim.end(Completed(**facts(key.job), answer="42"))
    found, _ = await reconciled(kit)
    (message,) = await kit.queue().receive(max_messages=1, wait_seconds=5, visibility_seconds=10)
    await handler(kit, with_flow(kit, DeliveringFlow(kit.store))).handle(kit.queue(), message)

    again = await reconciled(kit)

    assert reasons(found) == {key.job: Reason.NOT_TOLD}
    assert again == ([], Reconciled())
    assert len(await kit.published(key.job)) == 1
    assert await kit.keys(key.job.files_prefix) == []


async def test_rows_that_a_failed_job_left_in_a_sheet_are_asked_for_until_they_were_taken_back(kit: Kit):
    left, taken_back, answered = [await kit.drop() for _ in range(3)]
    for key in (left, taken_back, answered):
        claim = await kit.ledger("dead").claim(key)
        await claim.note(appending_to="1AbCdEfGhIjKlMnOp")
        await claim.end(Completed(**facts(key.job)) if key is answered else failed(key.job))
        await claim.mark_published()
        if key is taken_back:
            undone = Undone(**facts(key.job), request=0, rows=2, message="2 rows removed.")
            await claim.note(undo=Undo(data=undone, at=datetime.now(UTC)))
    found, _ = await reconciled(kit)

    assert reasons(found) == {left.job: Reason.NOT_TAKEN_BACK}


async def test_a_day_later_it_is_asked_for_so_that_its_uploader_is_told_but_not_once_the_bucket_forgets(kit: Kit):
    job = await lost(kit)
    expired, _ = await reconciled(kit, timedelta(hours=24))
    forgotten, _ = await reconciled(kit, timedelta(hours=48))

    assert reasons(expired) == {job: Reason.NEVER_STARTED}
    assert forgotten == []


# ---------------------------------------------------------------- what waits


async def test_a_timer_adds_no_message_while_no_worker_comes(kit: Kit):
    await lost(kit)
    rounds = [await reconciled(kit, minutes * MINUTES) for minutes in range(11, 71, 10)]

    assert [result for _, result in rounds] == [Reconciled(jobs=1)] + [Reconciled(waiting=1)] * 5
    assert await waiting(kit) == [1, 0, 0]


async def test_jobs_are_asked_for_when_there_are_more_of_them_than_messages_in_their_own_queue(kit: Kit):
    for _ in range(3):
        await lost(kit)
    await lost(kit, flow=Flow.VISUALIZATION)
    left = ManifestKey(await lost(kit), Flow.QUERY)
    await (await kit.ledger("stopped").claim(left)).give_back(counts=False)
    queues = WorkQueues(kit.clients.control, kit.stack)
    for _ in range(2):
        await queues.ask_again(new_job().manifest_key(Flow.QUERY))
    await queues.ask_again(new_job().manifest_key(Flow.VISUALIZATION))
    found, result = await reconciled(kit)
    again = await reconciled(kit)

    assert result == Reconciled(jobs=4, waiting=1)
    assert sorted(each.reason for each in found) == sorted([Reason.NEVER_STARTED] * 3 + [Reason.LEFT])
    assert await waiting(kit) == [2 + 4 + 1, 1, 0]
    assert again[1] == Reconciled(jobs=1, waiting=4)


async def test_what_is_waiting_and_also_cancelled_has_its_control_asked_for(kit: Kit):
    job = await lost(kit)
    await kit.store.put(job.cancel_key, b"{}", media_type=JSON)
    await kit.lose_notifications(job.cancel_key)
    await WorkQueues(kit.clients.control, kit.stack).ask_again(job.manifest_key(Flow.QUERY))

    assert (await reconciled(kit))[1] == Reconciled(controls=1, waiting=1)
    assert await waiting(kit) == [1, 0, 1]


# ---------------------------------------------------------------- what is left alone


async def test_what_came_to_its_end_and_what_was_never_handed_in_is_left_alone(kit: Kit):
    key, flow = ManifestKey(await lost(kit), Flow.QUERY), DeliveringFlow(kit.store)
    await kit.transaction(flow).run(key, kit.bury)
    await kit.store.put(new_job().file_key(0), b"x", media_type="text/csv")
    await kit.store.put("shared/other.json", b"{}", media_type=JSON)

    assert await reconciled(kit) == ([], Reconciled())
    assert await waiting(kit) == [0, 0, 0]


async def test_jobs_of_a_session_that_is_to_be_closed_are_left_to_its_close(kit: Kit):
    job = await lost(kit)
    await kit.store.put(job.cancel_key, b"{}", media_type=JSON)
    await kit.store.put(close_key(job.session_id), b"{}", media_type=JSON)
    found, _ = await reconciled(kit)

    assert [(each.key, each.reason) for each in found] == [(close_key(job.session_id), Reason.CONTROL)]


async def test_a_status_of_another_version_is_left_alone_and_told(kit: Kit):
    job = await lost(kit)
    await kit.store.put(job.status_key, b'{"version": 2}', media_type=JSON)

    assert await reconciled(kit) == ([], Reconciled(unreadable=1))


async def test_what_was_removed_while_the_bucket_was_listed_is_not_asked_for(kit: Kit):
    job = await lost(kit)
    await kit.store.put(job.undo_key, b"{}", media_type=JSON)
    await kit.lose_notifications(job.undo_key)

    found = await reconciled(kit, store=_ClosedMeanwhile(kit.store))

    assert found == ([], Reconciled())
    assert await waiting(kit) == [0, 0, 0]


class _ClosedMeanwhile:
    """A store that loses everything right after it was listed."""

    def __init__(self, store: S3ObjectStore) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def list(self, prefix: str) -> AsyncIterator[ObjectSummary]:
        listed = [replace(found) async for found in self._store.list(prefix)]
        await self._store.delete([found.key for found in listed])
        for found in listed:
            yield found


# ---------------------------------------------------------------- how it goes about it


async def test_a_dry_run_tells_the_same_and_sends_nothing(kit: Kit):
    for _ in range(20):  # more than are looked at together
        await lost(kit)
    dry = await reconciled(kit, dry_run=True)
    sent_dry = await waiting(kit)
    wet = await reconciled(kit)

    assert sent_dry == [0, 0, 0]
    assert sorted(each.key for each in dry[0]) == sorted(each.key for each in wet[0])
    assert dry[1] == wet[1] == Reconciled(jobs=20)
    assert await waiting(kit) == [20, 0, 0]


async def test_reconciling_twice_at_once_while_workers_run_does_every_job_once(kit: Kit):
    flow = DeliveringFlow(kit.store)
    jobs = [await lost(kit) for _ in range(4)]
    await asyncio.gather(reconciled(kit), reconciled(kit))
    # Who comes second is given back until the first one's claim would have run out.
    work = handler(kit, with_flow(kit, flow, ledger=kit.ledger(claim_seconds=1)))
    while messages := await kit.queue().receive(max_messages=10, wait_seconds=3, visibility_seconds=20):
        await asyncio.gather(*(work.handle(kit.queue(), message) for message in messages))

    ends = [event for event in await kit.drain("results") if '"io.dropchute.job.completed"' in event.body]
    assert flow.calls == len(ends) == len(jobs)
    assert await kit.in_queue("queries") == (0, 0)
