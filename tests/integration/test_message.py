"""One message over the real queues: its one outcome, whatever is in it."""

import asyncio
import json
from typing import Any

import pytest
from kit import DeliveringFlow, Kit, StuckFlow, new_job, until

from consumers.errors import Permanent, Transient
from consumers.ports import Message
from consumers.worker.message import Handlers, MessageHandler
from consumers.worker.outcome import Completed
from events.keys import ControlKey, Flow, ManifestKey
from events.results import FailureCode
from infra.sqs_queue import SqsDeadLetters, SqsQueue


def handler(kit: Kit, handlers: Handlers, *, visibility_seconds: int = 10) -> MessageHandler:
    return MessageHandler(
        handlers,
        bucket=kit.stack.bucket,
        dead_letters=SqsDeadLetters(kit.clients.batches, kit.stack.queue_urls["dead_letters"]),
        worker="worker-1",
        visibility_seconds=visibility_seconds,
        retry_seconds=1,
    )


def with_flow(kit: Kit, flow: Any, **changes: Any) -> Handlers:
    async def control(key: ControlKey, bury: Any) -> Completed:
        raise AssertionError(key)

    return Handlers(manifest=kit.transaction(flow, **changes).run, control=control)


async def send(kit: Kit, body: str) -> Message:
    """Put a body into the work queue as S3 would, and receive it."""
    await kit.clients.control.send_message(QueueUrl=kit.stack.queue_urls["queries"], MessageBody=body)
    return await receive(kit)


async def receive(kit: Kit, *, visibility_seconds: int = 10) -> Message:
    (message,) = await kit.queue().receive(max_messages=1, wait_seconds=5, visibility_seconds=visibility_seconds)
    return message


def record(key: str, bucket: str = "dropchute-tests") -> dict[str, Any]:
    return {
        "eventVersion": "2.1",
        "eventSource": "aws:s3",
        "eventName": "ObjectCreated:Put",
        "s3": {"bucket": {"name": bucket}, "object": {"key": key}},
    }


async def test_a_drop_s_notification_becomes_a_done_job_and_an_empty_queue(kit: Kit):
    flow = DeliveringFlow(kit.store)
    key = await kit.drop()
    message = await receive(kit)

    await handler(kit, with_flow(kit, flow)).handle(kit.queue(), message)

    assert flow.calls == 1
    assert await kit.exists(key.job.result_key(1, "result.csv"))
    assert await kit.in_queue("queries") == (0, 0)
    assert await kit.in_queue("dead_letters") == (0, 0)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ("not json", "notification"),
        ("[]", "notification"),
        (json.dumps({"Records": [{"eventVersion": "3.0"}]}), "notification"),
        (json.dumps({"Records": [record("sessions/abcdefgh/jobs/ijklmnop/other.json")]}), "unknown_key"),
        (json.dumps({"Records": [record("sessions/a/jobs/b/query.manifest.json")]}), "unknown_key"),
        (
            json.dumps({"Records": [record("sessions/abcdefgh/jobs/ijklmnop/query.manifest.json", "x")]}),
            "foreign_bucket",
        ),
    ],
)
async def test_what_is_no_notification_of_ours_goes_to_the_dead_letters_whole(body: str, code: str, kit: Kit):
    message = await send(kit, body)

    await handler(kit, with_flow(kit, DeliveringFlow(kit.store))).handle(kit.queue(), message)

    assert await kit.in_queue("queries") == (0, 0)
    (letter,) = await kit.drain("dead_letters")
    envelope = json.loads(letter.body)
    assert (envelope["code"], envelope["body"], envelope["queue"]) == (code, body, "queries")
    assert envelope["attributes"]["ApproximateReceiveCount"] == "1"
    assert envelope["reason"]


@pytest.mark.parametrize(
    ("bucket", "padding"), [("\uffff", 0), ("x", 100_000), ("x" * 200_000, 0)], ids=["U+FFFF", "long body", "long name"]
)
async def test_a_dead_letter_is_always_one_that_the_queue_takes(bucket: str, padding: int, kit: Kit):
    records = {"Records": [record("sessions/abcdefgh/jobs/ijklmnop/query.manifest.json", bucket)], "x": '"' * padding}
    message = await send(kit, json.dumps(records))

    await handler(kit, with_flow(kit, DeliveringFlow(kit.store))).handle(kit.queue(), message)

    (letter,) = await kit.drain("dead_letters")
    assert json.loads(letter.body)["body_chars"] == len(message.body)
    assert await kit.in_queue("queries") == (0, 0)


async def test_nothing_that_goes_wrong_stops_the_worker(kit: Kit):
    """The lease cannot be renewed for a reason of its own, and the message cannot be settled either."""
    await kit.drop()
    message = await receive(kit)
    flow = StuckFlow(kit.store)
    queue = _Denied(kit.clients.polls, kit.clients.control, name="queries", url=kit.stack.queue_urls["queries"])

    await asyncio.wait_for(handler(kit, with_flow(kit, flow), visibility_seconds=2).handle(queue, message), 10)

    assert flow.cancelled.is_set()
    await kit.queue().delete(message)


class _Denied(SqsQueue):
    """A queue whose permissions were taken away."""

    async def change_visibility(self, message: Message, seconds: int) -> None:
        raise Permanent(FailureCode.INTERNAL, "denied")


async def test_a_test_event_is_acknowledged(kit: Kit):
    message = await send(kit, json.dumps({"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "b"}))

    await handler(kit, with_flow(kit, DeliveringFlow(kit.store))).handle(kit.queue(), message)

    assert await kit.in_queue("queries") == (0, 0)
    assert await kit.in_queue("dead_letters") == (0, 0)


async def test_every_record_of_a_message_is_done(kit: Kit):
    flow = DeliveringFlow(kit.store)
    jobs = [(await kit.drop()).job for _ in range(3)]
    await kit.drain("queries")
    message = await send(kit, json.dumps({"Records": [record(job.manifest_key(Flow.QUERY)) for job in jobs]}))

    await handler(kit, with_flow(kit, flow)).handle(kit.queue(), message)

    assert flow.calls == 3


async def test_a_transient_error_gives_the_message_back(kit: Kit):
    await kit.drop()
    message = await receive(kit)
    flow = DeliveringFlow(kit.store, raising=Transient(FailureCode.MODEL_UNREACHABLE, "no answer"))

    await handler(kit, with_flow(kit, flow)).handle(kit.queue(), message)

    again = await receive(kit)
    assert again.message_id == message.message_id
    await kit.queue().delete(again)


async def test_a_bug_in_one_job_does_not_stop_the_worker(kit: Kit):
    await kit.drop()
    message = await receive(kit)
    flow = DeliveringFlow(kit.store, raising=ZeroDivisionError("a bug"))

    await handler(kit, with_flow(kit, flow)).handle(kit.queue(), message)

    assert flow.calls == 1
    again = await receive(kit)
    assert again.message_id == message.message_id
    await kit.queue().delete(again)


async def test_the_message_stays_hidden_while_its_job_runs(kit: Kit):
    await kit.drop()
    message = await receive(kit, visibility_seconds=2)
    flow = StuckFlow(kit.store)
    task = asyncio.create_task(handler(kit, with_flow(kit, flow), visibility_seconds=2).handle(kit.queue(), message))
    await flow.started.wait()

    others = await kit.queue().receive(max_messages=10, wait_seconds=4, visibility_seconds=1)

    assert list(others) == []
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    again = await receive(kit)
    assert again.message_id == message.message_id
    await kit.queue().delete(again)


async def test_a_lost_lease_stops_the_job_and_settles_nothing(kit: Kit):
    key = await kit.drop()
    message = await receive(kit, visibility_seconds=2)
    flow = StuckFlow(kit.store)
    task = asyncio.create_task(handler(kit, with_flow(kit, flow), visibility_seconds=2).handle(kit.queue(), message))
    await flow.started.wait()

    await kit.queue().delete(message)
    await asyncio.wait_for(task, 10)

    assert flow.cancelled.is_set()
    status = await kit.status(key.job)
    assert status is not None
    assert not status.is_terminal


async def test_a_control_reaches_its_handler(kit: Kit):
    seen: list[ControlKey] = []

    async def control(key: ControlKey, bury: Any) -> Completed:
        seen.append(key)
        return Completed()

    async def manifest(key: ManifestKey, bury: Any) -> Completed:
        raise AssertionError(key)

    job = new_job()
    await kit.store.put(job.cancel_key, b"{}", media_type="application/json")
    (message,) = await kit.queue("controls").receive(max_messages=1, wait_seconds=5, visibility_seconds=10)

    await handler(kit, Handlers(manifest=manifest, control=control)).handle(kit.queue("controls"), message)

    assert [key.job for key in seen] == [job]
    assert await kit.in_queue("controls") == (0, 0)


async def test_a_held_job_is_given_back_until_its_claim_ends(kit: Kit):
    key = await kit.drop()
    message = await receive(kit)
    await kit.ledger("other", claim_seconds=1).claim(key)
    flow = DeliveringFlow(kit.store)

    await handler(kit, with_flow(kit, flow)).handle(kit.queue(), message)
    again = await receive(kit)
    await handler(kit, with_flow(kit, flow)).handle(kit.queue(), again)

    async def done() -> bool:
        return await kit.in_queue("queries") == (0, 0)

    if flow.calls == 0:  # the queue was a little early: once more
        await handler(kit, with_flow(kit, flow)).handle(kit.queue(), await receive(kit))
    await until(done)
    assert flow.calls == 1
