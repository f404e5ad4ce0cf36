"""The job transaction over real S3 and SQS: one terminal status, one event, nothing left behind."""

import asyncio
import contextlib
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from kit import DeliveringFlow, Kit, StuckFlow, manifest_of, new_job, until

from consumers.drop import Answer
from consumers.errors import ClaimLost, Permanent, Transient
from consumers.worker.ledger import Ledger
from consumers.worker.outcome import Completed, Released, Retry
from events import results
from events.keys import Control, ControlKey, Flow, ManifestKey, close_key, session_prefix
from events.results import AcceptedEvent, CompletedEvent, FailedEvent, FailureCode
from events.status import State
from infra.s3_store import S3ObjectStore
from infra.sqs_queue import SqsEventSink


async def test_a_job_ends_once_with_its_result_and_without_its_uploads(kit: Kit):
    flow = DeliveringFlow(kit.store)
    key = await kit.drop()

    outcome = await kit.transaction(flow).run(key, kit.bury)

    assert outcome == Completed()
    status = await kit.status(key.job)
    assert status is not None
    assert (status.state, status.epoch, status.attempts, status.published) == (State.COMPLETED, 1, 1, True)
    accepted, completed = await kit.published(key.job)
    assert isinstance(accepted, AcceptedEvent)
    assert isinstance(completed, CompletedEvent)
    assert completed.data.answer == "2"
    assert await kit.keys(key.job.prefix) == [
        key.job.manifest_key(Flow.QUERY),
        key.job.result_key(1, "result.csv"),
        key.job.status_key,
    ]


async def test_a_second_notification_changes_nothing(kit: Kit):
    flow = DeliveringFlow(kit.store)
    key = await kit.drop()
    await kit.transaction(flow).run(key, kit.bury)
    await kit.published(key.job)

    outcome = await kit.transaction(flow, worker="worker-2").run(key, kit.bury)

    assert outcome == Completed()
    assert flow.calls == 1
    assert await kit.published(key.job) == []


async def test_a_crash_before_publishing_is_made_good_by_the_next_worker(kit: Kit):
    flow = DeliveringFlow(kit.store)
    key = await kit.drop()
    nowhere = SqsEventSink(kit.clients.batches, kit.stack.queue_urls["results"] + "-missing")
    with pytest.raises((Transient, Permanent)):
        await kit.transaction(flow, events=_OnlyAtTheEnd(nowhere)).run(key, kit.bury)

    await kit.transaction(flow, worker="worker-2").run(key, kit.bury)

    assert flow.calls == 1
    assert [type(event) for event in await kit.published(key.job)] == [CompletedEvent]
    assert not await kit.keys(key.job.files_prefix)


class _OnlyAtTheEnd:
    """Publishes terminal events to a real queue, and drops the others."""

    def __init__(self, sink: SqsEventSink) -> None:
        self._sink = sink

    async def publish(self, event: results.JobEvent) -> None:
        if isinstance(event, CompletedEvent | FailedEvent):
            await self._sink.publish(event)


async def test_a_job_held_by_a_live_claim_is_released_until_it_ends(kit: Kit):
    flow = DeliveringFlow(kit.store)
    key = await kit.drop()
    await kit.ledger("other", claim_seconds=20).claim(key)

    outcome = await kit.transaction(flow).run(key, kit.bury)

    assert isinstance(outcome, Released)
    assert 15 < outcome.delay_seconds <= 20
    assert flow.calls == 0


async def test_a_claim_that_ran_out_is_taken_over_and_its_holder_can_end_nothing(kit: Kit):
    key = await kit.drop()
    stale = await kit.ledger("dead", claim_seconds=-1).claim(key)
    await kit.store.put(key.job.result_key(1, "half"), b"x", media_type="text/plain")

    await kit.transaction(DeliveringFlow(kit.store)).run(key, kit.bury)

    with pytest.raises(ClaimLost):
        await stale.end(
            results.Completed(session_id=key.job.session_id, job_id=key.job.job_id, flow=Flow.QUERY, answer="stale")
        )
    status = await kit.status(key.job)
    assert status is not None
    assert (status.epoch, status.attempts, status.worker) == (2, 2, "worker-1")
    assert await kit.keys(key.job.results_prefix) == [key.job.result_key(2, "result.csv")]


async def test_of_many_workers_at_once_one_does_the_job(kit: Kit):
    flow = DeliveringFlow(kit.store)
    key = await kit.drop()

    outcomes = await asyncio.gather(
        *(kit.transaction(flow, worker=f"worker-{number}").run(key, kit.bury) for number in range(8))
    )

    assert flow.calls == 1
    assert Completed() in outcomes
    assert all(isinstance(outcome, Completed | Released) for outcome in outcomes)


async def test_what_the_uploader_can_mend_fails_without_a_dead_letter(kit: Kit):
    key = await kit.drop()
    flow = DeliveringFlow(kit.store, raising=Permanent(FailureCode.FILE_EMPTY, "It is empty."))

    assert await kit.transaction(flow).run(key, kit.bury) == Completed()

    failed = (await kit.published(key.job))[-1]
    assert isinstance(failed, FailedEvent)
    assert (failed.data.code, failed.data.message) == (FailureCode.FILE_EMPTY, "It is empty.")
    assert kit.letters == []
    assert await kit.keys(key.job.prefix) == [key.job.manifest_key(Flow.QUERY), key.job.status_key]


async def test_what_an_operator_must_see_leaves_a_dead_letter(kit: Kit):
    key = await kit.write_manifest(new_job(), b"{")

    await kit.transaction(DeliveringFlow(kit.store)).run(key, kit.bury)

    (letter,) = kit.letters
    assert (letter.code, letter.job_id, letter.stage, letter.attempts) == (
        FailureCode.MANIFEST_NOT_JSON,
        key.job.job_id,
        "read",
        1,
    )


async def test_a_transient_error_is_tried_three_times_and_then_told(kit: Kit):
    key = await kit.drop()
    flow = DeliveringFlow(kit.store, raising=Transient(FailureCode.MODEL_UNREACHABLE, "no answer"))

    outcomes = [await kit.transaction(flow).run(key, kit.bury) for _ in range(3)]

    assert [type(outcome) for outcome in outcomes] == [Retry, Retry, Completed]
    assert flow.calls == 3
    status = await kit.status(key.job)
    assert status is not None
    assert status.outcome is not None
    assert status.outcome.data.model_dump()["code"] == FailureCode.MODEL_UNREACHABLE
    assert [letter.attempts for letter in kit.letters] == [3]
    assert kit.letters[0].reason.endswith("The cause: no answer")
    assert not await kit.keys(key.job.results_prefix)


async def test_a_bug_gives_the_claim_back_and_counts_until_the_job_is_given_up(kit: Kit):
    key = await kit.drop()
    flow = DeliveringFlow(kit.store, raising=ZeroDivisionError("a bug"))
    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            await kit.transaction(flow).run(key, kit.bury)

    assert await kit.transaction(flow).run(key, kit.bury) == Completed()

    assert flow.calls == 3
    assert [letter.code for letter in kit.letters] == [FailureCode.INTERNAL]


async def test_a_job_cut_short_by_a_stop_goes_back_as_if_it_had_not_been_tried(kit: Kit):
    key = await kit.drop()
    flow = StuckFlow(kit.store)
    task = asyncio.create_task(kit.transaction(flow, stopping=lambda: True).run(key, kit.bury))
    await flow.started.wait()

    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    status = await kit.status(key.job)
    assert status is not None
    assert (status.state, status.attempts) == (State.WAITING, 0)
    assert not await kit.keys(key.job.results_prefix)
    assert await kit.keys(key.job.files_prefix) == [key.job.file_key(0)]


async def test_a_job_longer_than_its_claim_keeps_it(kit: Kit):
    key = await kit.drop()
    flow = StuckFlow(kit.store)
    ledger = kit.ledger(claim_seconds=1)
    task = asyncio.create_task(kit.transaction(flow, ledger=ledger).run(key, kit.bury))
    await flow.started.wait()
    taken_at = datetime.now(UTC)

    async def outlived() -> bool:
        status = await kit.status(key.job)
        return status is not None and status.updated_at > taken_at + timedelta(seconds=1.5)

    await until(outlived)
    assert isinstance(await kit.transaction(flow, worker="other").run(key, kit.bury), Released)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_cancelling_a_running_job_stops_it_and_tells_once(kit: Kit):
    key = await kit.drop()
    flow = StuckFlow(kit.store)
    running = asyncio.create_task(kit.transaction(flow).run(key, kit.bury))
    await flow.started.wait()
    await kit.store.put(key.job.cancel_key, b"{}", media_type="application/json")

    control = ControlKey(key.job.session_id, Control.CANCEL, key.job)
    outcome = await kit.control()(control, kit.bury)

    assert outcome == Completed()
    assert await running == Released()
    assert flow.cancelled.is_set()
    assert await kit.transaction(flow).run(key, kit.bury) == Completed()
    ends = [event for event in await kit.published(key.job) if isinstance(event, FailedEvent | CompletedEvent)]
    assert [event.data.model_dump()["code"] for event in ends] == [FailureCode.CANCELLED]
    assert await kit.keys(key.job.prefix) == [key.job.manifest_key(Flow.QUERY), key.job.status_key]


async def test_cancelling_an_ended_job_changes_nothing(kit: Kit):
    key = await kit.drop()
    await kit.transaction(DeliveringFlow(kit.store)).run(key, kit.bury)
    before = await kit.keys(key.job.prefix)

    await kit.control()(ControlKey(key.job.session_id, Control.CANCEL, key.job), kit.bury)

    assert await kit.keys(key.job.prefix) == before
    status = await kit.status(key.job)
    assert status is not None
    assert status.state is State.COMPLETED


async def test_a_job_cancelled_before_it_began_never_begins(kit: Kit):
    key = await kit.drop()
    flow = DeliveringFlow(kit.store)

    await kit.control()(ControlKey(key.job.session_id, Control.CANCEL, key.job), kit.bury)
    assert await kit.transaction(flow).run(key, kit.bury) == Completed()

    assert flow.calls == 0
    assert [type(event) for event in await kit.published(key.job)] == [FailedEvent]


async def test_a_closed_session_leaves_nothing(kit: Kit):
    key = await kit.drop()
    session = key.job.session_id
    await kit.transaction(DeliveringFlow(kit.store)).run(key, kit.bury)
    waiting = await kit.drop(type(key.job)(session, "waiting-job"))
    await kit.store.put(close_key(session), b"{}", media_type="application/json")

    assert await kit.control()(ControlKey(session, Control.CLOSE, None), kit.bury) == Completed()

    assert await kit.keys(session_prefix(session)) == []
    assert await kit.transaction(DeliveringFlow(kit.store)).run(waiting, kit.bury) == Completed()
    assert await kit.keys(session_prefix(session)) == []


async def _half_upload(kit: Kit, key: str) -> None:
    await kit.clients.s3.create_multipart_upload(Bucket=kit.stack.bucket, Key=key)


async def _half_uploads(kit: Kit, prefix: str) -> list[str]:
    listed = await kit.clients.s3.list_multipart_uploads(Bucket=kit.stack.bucket, Prefix=prefix)
    return [str(upload.get("Key")) for upload in listed.get("Uploads", [])]


async def test_what_a_killed_worker_had_half_uploaded_is_aborted_at_the_end(kit: Kit):
    key = await kit.drop()
    await kit.ledger("dead", claim_seconds=-1).claim(key)
    await _half_upload(kit, key.job.result_key(1, "result.xlsx"))

    await kit.transaction(DeliveringFlow(kit.store)).run(key, kit.bury)

    assert await _half_uploads(kit, key.job.prefix) == []


async def test_closing_a_session_aborts_what_is_half_uploaded(kit: Kit):
    job = new_job()
    await _half_upload(kit, job.file_key(0))
    await kit.store.put(close_key(job.session_id), b"{}", media_type="application/json")

    await kit.control()(ControlKey(job.session_id, Control.CLOSE, None), kit.bury)

    assert await _half_uploads(kit, session_prefix(job.session_id)) == []


async def test_closing_a_session_stops_its_running_job_and_comes_back_for_the_rest(kit: Kit):
    key = await kit.drop()
    session = key.job.session_id
    flow = StuckFlow(kit.store)
    running = asyncio.create_task(kit.transaction(flow, ledger=kit.ledger(claim_seconds=2)).run(key, kit.bury))
    await flow.started.wait()
    await kit.store.put(close_key(session), b"{}", media_type="application/json")
    control = ControlKey(session, Control.CLOSE, None)

    first = await kit.control()(control, kit.bury)
    assert isinstance(first, Released)
    assert await running == Released()

    async def closed() -> bool:
        return await kit.control()(control, kit.bury) == Completed()

    await until(closed)
    assert await kit.keys(session_prefix(session)) == []


class _LosesTheReplyOfTheEnd:
    """A store whose terminal write is applied, and whose reply is then lost, as often as one asks for it."""

    def __init__(self, store: S3ObjectStore, error: BaseException) -> None:
        self._store = store
        self._error = error

    def __getattr__(self, name: str):
        return getattr(self._store, name)

    async def put_over(self, key: str, body: bytes, *, etag: str, media_type: str) -> str:
        applied = await self._store.put_over(key, body, etag=etag, media_type=media_type)
        if b'"outcome"' in body and b'"published":true' not in body.replace(b" ", b""):
            raise self._error
        return applied


@pytest.mark.parametrize(
    "error", [Transient(FailureCode.STORAGE_UNAVAILABLE, "timed out"), asyncio.CancelledError()], ids=["lost", "cancel"]
)
async def test_results_stay_when_the_end_was_written_but_its_reply_got_lost(error: BaseException, kit: Kit):
    flow = DeliveringFlow(kit.store)
    key = await kit.drop()
    lossy = _LosesTheReplyOfTheEnd(kit.store, error)
    ledger = Ledger(lossy, worker="first", claim_seconds=30)
    with contextlib.suppress(asyncio.CancelledError):
        await kit.transaction(flow, ledger=ledger, store=lossy).run(key, kit.bury)

    assert await kit.transaction(flow, worker="second").run(key, kit.bury) == Completed()

    assert flow.calls == 1
    completed = (await kit.published(key.job))[-1]
    assert isinstance(completed, CompletedEvent)
    assert [await kit.exists(file.key) for file in completed.data.files] == [True]


class _Hiccups:
    """A store that fails its first renewals."""

    def __init__(self, store: S3ObjectStore, *, failures: int) -> None:
        self._store = store
        self.failures = failures

    def __getattr__(self, name: str):
        return getattr(self._store, name)

    async def put_over(self, key: str, body: bytes, *, etag: str, media_type: str) -> str:
        if b'"stage"' in body and self.failures > 0:
            self.failures -= 1
            raise Transient(FailureCode.STORAGE_UNAVAILABLE, "a hiccup")
        return await self._store.put_over(key, body, etag=etag, media_type=media_type)


async def test_a_failed_renewal_does_not_end_a_job_whose_claim_still_holds(kit: Kit):
    key = await kit.drop()
    hiccups = _Hiccups(kit.store, failures=0)
    flow = StuckFlow(kit.store)
    ledger = Ledger(hiccups, worker="worker-1", claim_seconds=30)
    task = asyncio.create_task(kit.transaction(flow, ledger=ledger).run(key, kit.bury))
    await flow.started.wait()
    hiccups.failures = 2

    async def renewed_again() -> bool:
        return hiccups.failures == 0

    await until(renewed_again)
    assert not flow.cancelled.is_set()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_claim_that_cannot_be_renewed_for_its_whole_time_is_lost(kit: Kit):
    key = await kit.drop()
    hiccups = _Hiccups(kit.store, failures=0)
    flow = StuckFlow(kit.store)
    ledger = Ledger(hiccups, worker="worker-1", claim_seconds=1)
    task = asyncio.create_task(kit.transaction(flow, ledger=ledger).run(key, kit.bury))
    await flow.started.wait()
    hiccups.failures = 1_000

    assert await asyncio.wait_for(task, 10) == Released()
    assert flow.cancelled.is_set()


async def test_an_event_that_the_queue_refuses_goes_to_the_operator_and_ends_the_job(kit: Kit):
    key = await kit.drop()

    assert await kit.transaction(DeliveringFlow(kit.store), events=_Refuses()).run(key, kit.bury) == Completed()

    status = await kit.status(key.job)
    assert status is not None
    assert status.published
    assert [letter.code for letter in kit.letters] == [FailureCode.INTERNAL]
    assert await kit.keys(key.job.files_prefix) == []


class _Refuses:
    """A results queue that takes no terminal event."""

    async def publish(self, event: results.JobEvent) -> None:
        if isinstance(event, CompletedEvent | FailedEvent):
            raise Permanent(FailureCode.INTERNAL, "the message is too long")


async def test_a_cancel_that_is_no_stop_counts_as_an_attempt(kit: Kit):
    key = await kit.drop()
    for stopping, attempts in ((False, 1), (True, 1)):
        flow = StuckFlow(kit.store)
        transaction = kit.transaction(flow, stopping=lambda stopping=stopping: stopping)
        task = asyncio.create_task(transaction.run(key, kit.bury))
        await flow.started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

        status = await kit.status(key.job)
        assert status is not None
        assert status.attempts == attempts


async def test_a_job_that_expires_while_it_runs_says_so(kit: Kit):
    key = await kit.drop(expires_at=(datetime.now(UTC) + timedelta(seconds=2)).isoformat())

    await kit.transaction(StuckFlow(kit.store)).run(key, kit.bury)

    end = (await kit.published(key.job))[-1]
    assert isinstance(end, FailedEvent)
    assert end.data.code == FailureCode.EXPIRED


async def test_notes_without_end_are_cut_so_that_the_event_fits(kit: Kit):
    key = await kit.drop()

    async def talkative(drop: Any, *, report: Any) -> Answer:
        return Answer((), text="x" * 100_000, notes=("n" * 10_000,) * 5_000)

    await kit.transaction(talkative).run(key, kit.bury)

    end = (await kit.published(key.job))[-1]
    assert isinstance(end, CompletedEvent)
    assert len(end.data.notes) == 201
    assert end.data.notes[-1] == "… and 4800 more."


async def test_a_manifest_that_is_gone_is_told_and_leaves_no_trace(kit: Kit):
    key = ManifestKey(new_job(), Flow.QUERY)
    await kit.store.put(key.job.file_key(0), b"x", media_type="text/csv")

    assert await kit.transaction(DeliveringFlow(kit.store)).run(key, kit.bury) == Completed()

    assert await kit.keys(session_prefix(key.job.session_id)) == []
    (gone,) = await kit.published(key.job)
    assert isinstance(gone, FailedEvent)
    assert gone.data.code == FailureCode.MANIFEST_GONE


@pytest.mark.parametrize(
    ("created", "expires", "is_expired"),
    [
        (timedelta(hours=-25), None, True),
        (timedelta(hours=-23), None, False),
        (timedelta(0), timedelta(seconds=-1), True),
        (timedelta(0), timedelta(minutes=5), False),
        (timedelta(hours=-25), timedelta(hours=5), True),
    ],
)
async def test_an_expired_manifest_is_not_worked_on(
    created: timedelta, expires: timedelta | None, is_expired: bool, kit: Kit
):
    now = datetime.now(UTC)
    job = new_job()
    times = {"created_at": (now + created).isoformat()}
    if expires is not None:
        times["expires_at"] = (now + expires).isoformat()
    key = await kit.drop(job, **(manifest_of(job) | times))
    flow = DeliveringFlow(kit.store)

    await kit.transaction(flow).run(key, kit.bury)

    end = (await kit.published(job))[-1]
    assert flow.calls == (0 if is_expired else 1)
    assert isinstance(end, FailedEvent if is_expired else CompletedEvent)
