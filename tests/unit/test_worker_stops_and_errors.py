"""What a stop, a frozen service or an error nobody foresaw leaves behind: stories on virtual time."""

import asyncio
import json
from contextlib import suppress
from dataclasses import replace

import pytest
import virtual_time
from botocore.exceptions import ClientError
from fake_sqs import FakeSqs
from pydantic import ValidationError
from test_worker_races import Scene, tell
from world import CLAIM_SECONDS, POLICY

from consumers.drop import Answer
from consumers.errors import LeaseLost, Permanent, Transient
from consumers.ports import Message
from consumers.worker.budget import ByteBudget
from consumers.worker.drain import run_until
from consumers.worker.job import JobTransaction
from consumers.worker.lease import keep_lease
from consumers.worker.ledger import Ledger
from consumers.worker.message import Handlers, MessageHandler
from consumers.worker.outcome import Completed, Released, Retry
from consumers.worker.poll import Poller
from events import results
from events.keys import Control, Flow
from events.results import Accepted, FailureCode, Stage
from events.status import State
from infra.aws_errors import job_error
from infra.settings import Settings
from infra.sqs_batches import SqsBatches
from infra.sqs_queue import SqsDeadLetters, SqsQueue


class Slow:
    """A store that carries some calls out, and tells of it late; or late, and tells of it then."""

    def __init__(self, store, **seconds):
        self._store = store
        self._seconds = seconds

    def __getattr__(self, name):
        return getattr(self._store, name)

    async def put_new(self, key, body, **rest):
        etag = await self._store.put_new(key, body, **rest)
        await asyncio.sleep(self._seconds.get("after_claim", 0))
        return etag

    async def put_over(self, key, body, **rest):
        if json.loads(body)["state"] == State.WAITING:
            await asyncio.sleep(self._seconds.get("before_giving_back", 0))
        return await self._store.put_over(key, body, **rest)


def transaction(scene: Scene, flow, *, store=None, policy=POLICY, stopping=lambda: False, bytes_at_once=None):
    jobs = scene.jobs("worker-1", flow=flow)
    store = store or scene.store
    ledger = Ledger(store, worker="worker-1", claim_seconds=CLAIM_SECONDS, now=virtual_time.now)
    return JobTransaction(
        {Flow.QUERY: flow},
        ledger=ledger,
        store=store,
        events=scene,
        finish=jobs._finish,
        policy=policy,
        bytes_at_once=bytes_at_once,
        stopping=stopping,
        now=virtual_time.now,
    )


async def answers(drop, *, report):
    await report(Stage.PREPARE, "Reading.")
    return Answer((), text="2")


async def fails(drop, *, report):
    raise Transient(FailureCode.MODEL_UNREACHABLE, "no answer")


async def status_of(scene, key):
    return (await scene.ledger("anybody").read(key.job))[0]


async def cancelled_after(seconds, work):
    task = asyncio.create_task(work)
    await asyncio.sleep(seconds)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


# ---------------------------------------------------------------- stops


def test_a_claim_that_was_under_way_at_a_stop_is_given_back_and_is_no_attempt():
    async def story(scene):
        key = await scene.drop()
        jobs = transaction(scene, answers, store=Slow(scene.store, after_claim=2))
        await cancelled_after(1, jobs.run(key, scene.bury))
        status = await status_of(scene, key)

        assert (status.state, status.attempts) == (State.WAITING, 0)

    tell(story)


def test_a_failed_attempt_is_given_back_although_the_stop_comes_meanwhile():
    async def story(scene):
        key = await scene.drop()
        jobs = transaction(scene, fails, store=Slow(scene.store, before_giving_back=2))
        await cancelled_after(1, jobs.run(key, scene.bury))
        status = await status_of(scene, key)

        assert (status.state, status.attempts) == (State.WAITING, 1)

    tell(story)


def test_a_stop_does_not_wait_for_a_store_that_does_not_answer():
    async def story(scene):
        key = await scene.drop()
        jobs = transaction(scene, _for_ever, store=Slow(scene.store, before_giving_back=1_000), stopping=lambda: True)
        await cancelled_after(1, jobs.run(key, scene.bury))

        assert asyncio.get_running_loop().time() < 10

    tell(story)


def test_a_stop_in_the_moment_in_which_a_job_ended_does_not_open_it_again():
    async def story(scene):
        key = await scene.drop()
        claim = await scene.ledger("worker-1").claim(key)
        await claim.end(results.Completed(session_id=key.job.session_id, job_id=key.job.job_id, flow=Flow.QUERY))
        await claim.give_back(counts=False)

        assert (await status_of(scene, key)).state is State.COMPLETED

    tell(story)


async def _for_ever(drop, *, report):
    await asyncio.Event().wait()


def test_a_drain_deadline_in_the_middle_of_a_dead_letter_neither_doubles_it_nor_hides_its_message():
    class SlowlyConfirming(FakeSqs):
        async def send_message_batch(self, **entries):
            reply = await super().send_message_batch(**entries)
            await asyncio.sleep(3)
            return reply

    async def story():
        sqs = SlowlyConfirming()
        urls = [(await sqs.create_queue(QueueName=name))["QueueUrl"] for name in ("queries", "dead")]
        await sqs.send_message(QueueUrl=urls[0], MessageBody="no notification")
        async with SqsBatches(sqs) as batches:
            handler = message_handler(SqsDeadLetters(batches, urls[1]))
            queue, stop = SqsQueue(sqs, batches, name="queries", url=urls[0]), asyncio.Event()
            poller = Poller(queue, handler.handle, lanes=2, wait_seconds=20, visibility_seconds=60)
            running = asyncio.create_task(run_until(stop, [poller], drain_seconds=1))
            await asyncio.sleep(1)
            stop.set()
            await running
        return [len(sqs.queue(url).stored) for url in urls]

    assert virtual_time.run(story()) == [0, 1]


def message_handler(dead_letters, manifest=None):
    return MessageHandler(
        Handlers(manifest=manifest, control=None),
        bucket="bucket",
        dead_letters=dead_letters,
        worker="worker-1",
        visibility_seconds=60,
        now=virtual_time.now,
    )


# ---------------------------------------------------------------- leases and messages


@pytest.mark.parametrize("visibility", [2, 10, 60])
def test_a_lease_that_nobody_answers_for_is_lost_when_it_runs_out(visibility):
    class Silent:
        name = "queries"

        async def change_visibility(self, message, seconds):
            await asyncio.sleep(1_000)

    async def story():
        with pytest.raises(LeaseLost):
            await keep_lease(Silent(), Message("queries", "m", "r", ""), visibility_seconds=visibility, phase=0.3)
        return asyncio.get_running_loop().time()

    assert virtual_time.run(story()) == pytest.approx(visibility)


@pytest.mark.parametrize(("outcome", "handled"), [(Retry(600), 1), (Completed(), 1), (None, 2)])
def test_a_message_that_came_again_is_handled_again_only_if_it_was_not_settled(outcome, handled):
    receipts = []

    class TwiceTheSame:
        name = "queries"

        async def receive(self, **wanted):
            await asyncio.sleep(1)
            receipt = f"receipt-{asyncio.get_running_loop().time()}"
            return [Message("queries", "m", receipt, "")] if asyncio.get_running_loop().time() < 3 else []

    async def handle(queue, message):
        receipts.append(message.receipt_handle)
        await asyncio.sleep(5)
        return outcome

    async def story():
        async with asyncio.TaskGroup() as running:
            poller = Poller(TwiceTheSame(), handle, lanes=3, wait_seconds=1, visibility_seconds=60)
            polling = running.create_task(poller.poll(running))
            await asyncio.sleep(30)
            polling.cancel()

    virtual_time.run(story())

    assert len(receipts) == handled


def test_one_record_that_fails_holds_up_no_other_one_of_its_message():
    done = []

    async def manifest(key, bury):
        if key.job.job_id == "job-00001":
            raise Transient(FailureCode.STORAGE_UNAVAILABLE, "not now")
        done.append(key.job.job_id)
        return Completed()

    def record(number):
        key = f"sessions/session-01/jobs/job-0000{number}/query.manifest.json"
        facts = {"bucket": {"name": "bucket"}, "object": {"key": key}}
        return {"eventVersion": "2.1", "eventSource": "aws:s3", "eventName": "ObjectCreated:Put", "s3": facts}

    async def story():
        sqs = FakeSqs()
        url = (await sqs.create_queue(QueueName="queries"))["QueueUrl"]
        await sqs.send_message(QueueUrl=url, MessageBody=json.dumps({"Records": [record(1), record(2)]}))
        async with SqsBatches(sqs) as batches:
            queue = SqsQueue(sqs, batches, name="queries", url=url)
            (message,) = await queue.receive(max_messages=1, wait_seconds=0, visibility_seconds=60)
            return await message_handler(None, manifest).handle(queue, message)

    assert isinstance(virtual_time.run(story()), Retry)
    assert done == ["job-00002"]


def test_a_poller_outlives_errors_that_nobody_foresaw_and_the_jobs_go_on():
    errors = [RuntimeError("the credentials are still expired"), Permanent(FailureCode.INTERNAL, "no"), KeyError("x")]
    handled = []

    class Failing:
        name = "queries"

        async def receive(self, **wanted):
            if errors:
                raise errors.pop()
            await asyncio.sleep(10)
            return [Message("queries", "m", "r", "")]

    async def handle(queue, message):
        handled.append(message)
        return Completed()

    async def story():
        async with asyncio.TaskGroup() as running:
            poller = Poller(Failing(), handle, lanes=1, wait_seconds=1, visibility_seconds=60)
            polling = running.create_task(poller.poll(running))
            await asyncio.sleep(60)
            polling.cancel()

    virtual_time.run(story())

    assert handled


# ---------------------------------------------------------------- what others wrote, and when


def test_an_undo_between_the_end_and_its_publication_is_not_forgotten():
    async def story(scene):
        key = await scene.drop("sheet")
        claim = await scene.ledger("worker-1").claim(key)
        await claim.note(appending_to="spreadsheet-1")
        await scene.world.sheet.append(key.job, 1)
        await claim.end(_completed(key))
        await scene.world.undo(key.job)
        await scene.control(Control.UNDO, key.job)
        noted = (await status_of(scene, key)).undo
        await claim.mark_published()
        status = await status_of(scene, key)

        assert status.published
        assert status.undo == noted is not None

    tell(story)


def _completed(key):
    rows = results.SheetRows(
        spreadsheet_id="spreadsheet-1",
        url="https://sheet",
        tab="t",
        tab_id=0,
        new_tab=False,
        first_row=2,
        rows=1,
        columns=1,
    )
    return results.Completed(session_id=key.job.session_id, job_id=key.job.job_id, flow=Flow.QUERY, sheet=rows)


def test_who_is_told_that_a_request_was_accepted_can_rely_on_which_one_it_was():
    async def story(scene):
        key, known = await scene.drop(), []

        class Noticing(Scene):
            async def publish(self, event):
                if isinstance(event.data, Accepted):
                    known.append((await status_of(scene, key)).manifest_etag)

        scene.publish = Noticing.publish.__get__(scene)
        await transaction(scene, answers).run(key, scene.bury)

        assert len(known) == 1
        assert known[0] is not None

    tell(story)


# ---------------------------------------------------------------- bytes


def test_a_large_drop_that_finds_no_room_is_left_to_others_and_that_is_no_attempt():
    async def story(scene):
        budget, key = ByteBudget(8), await scene.drop()
        jobs = transaction(scene, answers, bytes_at_once=budget)
        async with budget.hold(8):
            waiting = asyncio.create_task(budget.hold(8).__aenter__())
            await asyncio.sleep(0)
            outcome = await jobs.run(key, scene.bury)
        status = await status_of(scene, key)
        await waiting

        assert isinstance(outcome, Released)
        assert 20 <= outcome.delay_seconds <= 60
        assert (status.state, status.attempts) == (State.WAITING, 0)

    tell(story)


def test_a_drop_that_waits_for_bytes_says_so_and_is_given_back_at_a_stop():
    async def story(scene):
        budget, key, stopping = ByteBudget(8), await scene.drop(), []
        jobs = transaction(scene, answers, bytes_at_once=budget, stopping=lambda: bool(stopping))
        async with budget.hold(8):
            running = asyncio.create_task(jobs.run(key, scene.bury))
            await asyncio.sleep(100)
            told = (await status_of(scene, key)).detail
            stopping.append(True)
            outcome = await running
        status = await status_of(scene, key)

        assert told == "Waiting until other large files are done."
        assert outcome == Released(0)
        assert (status.state, status.attempts) == (State.WAITING, 0)
        assert asyncio.get_running_loop().time() < 103

    tell(story)


def test_a_drop_larger_than_any_may_be_waits_for_nothing_and_is_refused_by_its_flow():
    async def refuses(drop, *, report):
        raise Permanent(FailureCode.FILE_TOO_LARGE, "It is too large.")

    async def story(scene):
        budget, key = ByteBudget(8), await scene.drop()
        jobs = transaction(scene, refuses, bytes_at_once=budget, policy=replace(POLICY, drop_bytes=4))
        async with budget.hold(8):
            outcome = await jobs.run(key, scene.bury)

        assert outcome == Completed()
        assert (await status_of(scene, key)).state is State.FAILED

    tell(story)


# ---------------------------------------------------------------- what an operator can mend


@pytest.mark.parametrize(
    "code", ["AccessDeniedException", "ExpiredTokenException", "InvalidSecurity", "RequestExpired", "NotAuthorized"]
)
def test_a_refusal_that_an_operator_can_mend_is_tried_again_whatever_its_status(code):
    reply = {"Error": {"Code": code, "Message": ""}, "ResponseMetadata": {"HTTPStatusCode": 400}}

    assert isinstance(job_error(ClientError(reply, "SendMessageBatch")), Transient)


def test_a_claim_must_outlast_its_renewals():
    Settings(_env_file=None, claim_seconds=15, heartbeat_seconds=5)

    with pytest.raises(ValidationError, match="three times DROPCHUTE_HEARTBEAT_SECONDS"):
        Settings(_env_file=None, claim_seconds=14.9, heartbeat_seconds=5)
