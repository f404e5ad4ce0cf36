"""Dead letters over the real queues: found, sent back, deleted; what is not meant stays, and can be seen."""

import json
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from kit import DeliveringFlow, Kit, new_job
from test_message import handler, record, with_flow

from consumers.errors import Permanent, Transient
from consumers.ports import Message
from consumers.worker.outcome import DeadLetter
from events.keys import Flow, JobRef
from events.results import Failed, FailureCode
from infra.dead_letters import DeadLetterBox, Fate
from infra.letter import REFUSED, UNHANDLED, Choice, Letter, read_letter
from infra.letter_queue import Looked
from infra.provision import Stack

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
ALL = Choice()


def box(kit: Kit, *, stack: Stack | None = None) -> DeadLetterBox:
    return DeadLetterBox(kit.clients, stack or kit.stack, kit.store, wait_seconds=0)


def body_of(*keys: str) -> str:
    return json.dumps({"Records": [record(key) for key in keys]})


async def send(kit: Kit, body: str) -> None:
    await kit.clients.control.send_message(QueueUrl=kit.stack.queue_urls["dead_letters"], MessageBody=body)


async def bury(kit: Kit, body: str, *, queue: str = "queries", **facts: Any) -> None:
    told = {"code": "internal", "reason": "It broke.", "worker": "worker-1", "at": datetime.now(UTC)} | facts
    message = Message(queue, "m-1", "r-1", body, {"ApproximateReceiveCount": "3"})
    await send(kit, DeadLetter(**told).envelope(message))


async def find(kit: Kit, choice: Choice = ALL, *, later: timedelta = timedelta()) -> list[Letter]:
    found: list[Letter] = []
    looked = await box(kit).look(choice, now=datetime.now(UTC) + later, on_letter=found.append)

    assert looked == Looked(to_the_end=True)
    return sorted(found, key=lambda letter: (letter.buried_at, letter.id))


async def redriven(kit: Kit, choice: Choice = ALL, *, dry_run: bool = False, stack: Stack | None = None) -> list[Fate]:
    fates: list[Fate] = []
    await box(kit, stack=stack).redrive(
        choice, now=datetime.now(UTC), dry_run=dry_run, on_letter=lambda letter, fate: fates.append(fate)
    )
    return fates


async def bodies(kit: Kit, queue: str) -> list[str]:
    return sorted(message.body for message in await kit.drain(queue))


# ---------------------------------------------------------------- finding


async def test_a_letter_says_all_that_was_put_into_its_envelope(kit: Kit):
    job = new_job()
    body = body_of(job.manifest_key(Flow.QUERY))
    facts = {"session_id": job.session_id, "job_id": job.job_id, "stage": "prepare", "attempts": 3}
    await bury(kit, body, traceparent=TRACE, **facts)
    (letter,) = await find(kit)

    told = letter.envelope
    assert told is not None
    assert (letter.code, told.reason, told.stage, told.attempts, told.worker) == (
        "internal",
        "It broke.",
        "prepare",
        3,
        "worker-1",
    )
    assert (letter.body, letter.queue, letter.jobs, told.traceparent) == (body, "queries", (job,), TRACE)
    assert told.attributes == {"ApproximateReceiveCount": "3"}


async def test_more_than_one_receive_brings_are_all_found_once_and_stay_visible(kit: Kit):
    for number in range(23):
        await bury(kit, body_of(), reason=str(number))
    found = await find(kit)

    assert sorted(int(letter.envelope.reason) for letter in found if letter.envelope) == list(range(23))
    assert await kit.in_queue("dead_letters") == (23, 0)


async def test_letters_are_chosen_by_code_by_job_by_age_and_by_id(kit: Kit):
    job, other = new_job(), new_job()
    await bury(kit, body_of(job.manifest_key(Flow.QUERY)), code="internal")
    await bury(kit, body_of(other.manifest_key(Flow.QUERY)), code="model_rejected")
    await send(kit, body_of(job.undo_key))
    every = {letter.id: letter for letter in await find(kit)}
    one = next(iter(every))
    hour = timedelta(hours=1)

    async def chosen(later: timedelta = timedelta(), **filters: Any) -> list[tuple[str, JobRef]]:
        found = await find(kit, Choice(**filters), later=later)
        return sorted((letter.code, letter.jobs[0]) for letter in found)

    assert await chosen(code="internal") == [("internal", job)]
    assert await chosen(code=UNHANDLED) == [(UNHANDLED, job)]
    assert await chosen(job=job.job_id) == await chosen(job=str(job)) == [("internal", job), (UNHANDLED, job)]
    assert await chosen(job=other.job_id, code="internal") == []
    assert [letter.id for letter in await find(kit, Choice(letter=one[:8]))] == [one]
    assert await chosen(older_than=hour) == []
    assert len(await chosen(older_than=hour, later=2 * hour)) == len(await chosen(newer_than=hour)) == 3
    assert await chosen(newer_than=hour, later=2 * hour) == []


def test_age_counts_from_when_a_worker_wrote_the_letter_and_else_from_when_its_message_was_sent():
    sent, at = datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 3, 2)  # noqa: DTZ001 - what others write may have none
    facts = {"SentTimestamp": str(int(sent.timestamp() * 1000))}
    told = {"code": "internal", "reason": "r", "queue": "queries", "body": "", "body_chars": 0, "at": at.isoformat()}
    written = read_letter(Message("dead_letters", "m", "r", json.dumps(told), facts))
    moved = read_letter(Message("dead_letters", "m", "r", body_of(), facts))
    minute = timedelta(minutes=1)

    for letter, begun in ((written, at.replace(tzinfo=UTC)), (moved, sent)):
        assert letter.buried_at == begun
        assert Choice(older_than=minute).takes(letter, begun + minute)
        assert not Choice(newer_than=minute).takes(letter, begun + minute)
        assert not Choice(older_than=minute).takes(letter, begun + minute - timedelta.resolution)
        assert Choice(newer_than=minute).takes(letter, begun + minute - timedelta.resolution)


@pytest.mark.parametrize(
    "body",
    ["no JSON", "[]", "{}", '{"code": 1}', '{"code": "x", "reason": "y", "queue": "queries"}', "[" * 5000],
    ids=lambda body: body[:20],
)
def test_whatever_lies_there_is_a_letter(body: str):
    letter = read_letter(Message("dead_letters", "m", "r", body))

    assert (letter.code, letter.queue, letter.keys, letter.body) == (UNHANDLED, None, (), body)


# ---------------------------------------------------------------- sending back


async def test_a_message_goes_back_as_it_was_and_its_letter_goes(kit: Kit):
    queries, charts = (new_job().manifest_key(flow) for flow in (Flow.QUERY, Flow.VISUALIZATION))
    await bury(kit, body_of(queries))
    await bury(kit, body_of(charts), queue="visualizations")

    assert await redriven(kit) == [Fate.SENT_BACK] * 2
    assert await bodies(kit, "queries") == [body_of(queries)]
    assert await bodies(kit, "visualizations") == [body_of(charts)]
    assert await kit.in_queue("dead_letters") == (0, 0)


async def test_only_what_was_chosen_goes_back_and_the_rest_can_be_seen_at_once(kit: Kit):
    mine, other = new_job().manifest_key(Flow.QUERY), new_job().manifest_key(Flow.QUERY)
    await bury(kit, body_of(mine), code="internal")
    await bury(kit, body_of(other), code="model_rejected")

    assert await redriven(kit, Choice(code="internal")) == [Fate.SENT_BACK]
    assert await bodies(kit, "queries") == [body_of(mine)]
    assert [letter.code for letter in await find(kit)] == ["model_rejected"]
    assert await kit.in_queue("dead_letters") == (1, 0)


async def test_what_the_queue_itself_moved_away_goes_back_to_where_its_key_belongs(kit: Kit):
    undo = new_job().undo_key
    await send(kit, body_of(undo))

    assert await redriven(kit) == [Fate.SENT_BACK]
    assert await bodies(kit, "controls") == [body_of(undo)]


async def test_a_queue_s_own_redrive_policy_makes_a_letter_that_can_be_sent_back(kit: Kit):
    """Received until the queue moves it: the attribute says from where, even if the body says nothing."""
    await kit.clients.control.send_message(QueueUrl=kit.stack.queue_urls["queries"], MessageBody=body_of())
    queue = kit.queue()
    for _ in range(101):
        if not await queue.receive(max_messages=1, wait_seconds=0, visibility_seconds=0):
            break
    (letter,) = await find(kit)
    fates = await redriven(kit)
    told = "DeadLetterQueueSourceArn" in letter.message.attributes

    assert (letter.code, letter.envelope, letter.body) == (UNHANDLED, None, body_of())
    assert (letter.queue, fates) == (("queries", [Fate.SENT_BACK]) if told else (None, [Fate.NO_QUEUE]))
    assert await bodies(kit, "queries") == ([body_of()] if told else [])


@pytest.mark.parametrize(
    ("arn", "queue"),
    [("arn:aws:sqs:eu-west-1:1:mine-visualizations", "visualizations"), ("arn:aws:sqs:eu-west-1:1:others", None)],
)
def test_the_queue_that_moved_a_letter_here_is_told_by_its_attribute(arn: str, queue: str | None):
    letter = read_letter(Message("dead_letters", "m", "r", body_of(), {"DeadLetterQueueSourceArn": arn}))

    assert letter.queue == queue


async def test_a_dry_run_tells_the_same_and_moves_nothing(kit: Kit):
    await bury(kit, body_of(new_job().manifest_key(Flow.QUERY)))

    assert await redriven(kit, dry_run=True) == [Fate.SENT_BACK]
    assert await kit.in_queue("queries") == (0, 0)
    assert await kit.in_queue("dead_letters") == (1, 0)


async def test_a_job_that_failed_for_good_is_left_and_said(kit: Kit):
    key = await kit.drop()
    (message,) = await kit.queue().receive(max_messages=1, wait_seconds=5, visibility_seconds=10)
    flow = DeliveringFlow(kit.store, raising=Permanent(FailureCode.MODEL_REJECTED, "No."))
    await handler(kit, with_flow(kit, flow)).handle(kit.queue(), message)
    (letter,) = await find(kit)

    assert (letter.code, letter.jobs) == ("model_rejected", (key.job,))
    assert await redriven(kit) == [Fate.JOB_ENDED]
    assert await kit.in_queue("dead_letters") == (1, 0)
    assert await kit.in_queue("queries") == (0, 0)


async def test_a_job_whose_end_was_not_told_goes_back_and_a_control_that_was_done_does_not(kit: Kit):
    untold, done, undone = await kit.drop(), new_job(), new_job()
    claim = await kit.ledger().claim(untold)
    await claim.end(_failed(untold.job))
    await kit.store.put(undone.undo_key, b"{}", media_type="application/json")
    await kit.lose_notifications(untold.job.manifest_key(Flow.QUERY), undone.undo_key)
    for key in (untold.job.manifest_key(Flow.QUERY), done.undo_key, undone.undo_key):
        await bury(kit, body_of(key))
    fates = await redriven(kit)

    assert sorted(fates) == sorted([Fate.SENT_BACK, Fate.CONTROL_DONE, Fate.SENT_BACK])
    assert await bodies(kit, "queries") == sorted(map(body_of, [untold.job.manifest_key(Flow.QUERY), undone.undo_key]))


def _failed(job: JobRef) -> Failed:
    return Failed(
        session_id=job.session_id, job_id=job.job_id, flow=Flow.QUERY, code=FailureCode.INTERNAL, message="It broke."
    )


async def test_of_several_records_one_that_still_asks_for_something_is_enough(kit: Kit):
    done, waits = new_job().undo_key, new_job().manifest_key(Flow.QUERY)
    await bury(kit, body_of(done, waits))
    await bury(kit, body_of(done, new_job().undo_key))

    assert sorted(await redriven(kit)) == sorted([Fate.SENT_BACK, Fate.CONTROL_DONE])
    assert await bodies(kit, "queries") == [body_of(done, waits)]


async def test_a_job_whose_status_cannot_be_read_is_sent_back_for_its_worker_to_judge(kit: Kit):
    job = new_job()
    await kit.store.put(job.status_key, b'{"version": 2}', media_type="application/json")
    await bury(kit, body_of(job.manifest_key(Flow.QUERY)))

    assert await redriven(kit) == [Fate.SENT_BACK]


async def test_what_cannot_be_sent_back_is_left(kit: Kit):
    await bury(kit, "x" * 70_000)
    await bury(kit, body_of(), queue="elsewhere")
    await send(kit, body_of())

    assert sorted(await redriven(kit)) == sorted([Fate.CUT, Fate.NO_QUEUE, Fate.NO_QUEUE])
    assert await kit.in_queue("dead_letters") == (3, 0)


async def test_what_no_worker_understands_is_left_and_what_one_understands_in_part_is_not(kit: Kit):
    ours = record(new_job().manifest_key(Flow.QUERY))
    foreign = record(new_job().manifest_key(Flow.QUERY), "others")
    unknown = record(f"{new_job().result_key(1, 'x')}")
    for code in sorted(REFUSED):
        await bury(kit, json.dumps({"Records": [ours]}), code=code)
    for records in ([foreign], [unknown], [foreign, unknown]):
        await bury(kit, json.dumps({"Records": records}))
    await bury(kit, "no notification")
    await send(kit, "no notification")
    await bury(kit, json.dumps({"Records": [foreign, ours]}))

    assert Counter(await redriven(kit)) == {Fate.REFUSED: 8, Fate.SENT_BACK: 1}
    assert await bodies(kit, "queries") == [json.dumps({"Records": [foreign, ours]})]
    assert await kit.in_queue("dead_letters") == (8, 0)


async def test_a_letter_is_deleted_only_after_the_queue_has_taken_its_message(kit: Kit):
    await bury(kit, body_of(new_job().manifest_key(Flow.QUERY)))
    urls = kit.stack.queue_urls
    nowhere = Stack(kit.stack.bucket, urls | {"queries": urls["queries"] + "-missing"})

    with pytest.raises((Transient, Permanent)):
        await redriven(kit, stack=nowhere)

    assert await kit.in_queue("dead_letters") == (1, 0)


# ---------------------------------------------------------------- deleting


async def test_only_the_chosen_letters_are_deleted(kit: Kit):
    for code in ("internal", "internal", "model_rejected"):
        await bury(kit, body_of(), code=code)
    chosen = {letter.id for letter in await find(kit, Choice(code="internal"))}
    await bury(kit, body_of(), code="internal")  # came while the question was asked
    deleted: list[Letter] = []
    looked = await box(kit).purge(frozenset(chosen), now=datetime.now(UTC), on_letter=deleted.append)

    assert looked.is_whole
    assert {letter.id for letter in deleted} == chosen
    assert sorted(letter.code for letter in await find(kit)) == ["internal", "model_rejected"]
    assert await kit.in_queue("dead_letters") == (2, 0)
