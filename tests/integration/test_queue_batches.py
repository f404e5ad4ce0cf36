"""What calls that come together keep to: one batch, an outcome for each entry, and nothing taken back."""

import asyncio
import json
from datetime import UTC, datetime
from uuid import uuid4

import pytest
import pytest_asyncio
from faulty_proxy import Answer, DropReply, Hold, sqs_error
from test_queue_contract import UNAVAILABLE, _through, receive

from consumers.errors import Permanent, QueueMessageLost, Transient
from consumers.ports import Message
from events.keys import Flow
from events.results import Accepted, event_of, parse_event
from infra.sqs_batches import SqsBatches
from infra.sqs_queue import SqsDeadLetters, SqsEventSink, SqsQueue

pytestmark = pytest.mark.asyncio(loop_scope="module")

NOW = datetime(2025, 1, 2, 3, 4, 5, tzinfo=UTC)
LONG = 60
"""Seconds that no test takes."""


@pytest_asyncio.fixture(loop_scope="module")
async def url(clients, proxy_here):
    return _through(proxy_here, await clients.control.create_queue(QueueName=f"work-{uuid4().hex}"))


@pytest_asyncio.fixture(loop_scope="module")
async def fifo_url(clients, proxy_here):
    fifo = {"FifoQueue": "true", "VisibilityTimeout": "30"}
    queue = await clients.control.create_queue(QueueName=f"results-{uuid4().hex}.fifo", Attributes=fifo)
    return _through(proxy_here, queue)


@pytest.fixture
def queue(clients, url):
    return SqsQueue(clients.polls, clients.batches, name="queries", url=url)


async def received(clients, queue, url, count):
    """So many messages, sent and received."""
    for first in range(0, count, 10):
        bodies = [{"Id": str(n), "MessageBody": str(n)} for n in range(first, min(count, first + 10))]
        await clients.control.send_message_batch(QueueUrl=url, Entries=bodies)
    messages = []
    while len(messages) < count:
        messages += await receive(queue)
    return messages


async def left(clients, url):
    """How many messages the queue has, hidden or not."""
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    counts = await clients.control.get_queue_attributes(QueueUrl=url, AttributeNames=names)
    return sum(map(int, counts["Attributes"].values()))


def batch_reply(*, confirmed=(), failed=(), code="InternalError", sender_fault=False):
    """What SQS says of the entries of one batch, by their place in it."""
    body = {
        "Successful": [{"Id": str(place)} for place in confirmed],
        "Failed": [{"Id": str(place), "Code": code, "SenderFault": sender_fault} for place in failed],
    }
    return Answer(200, json.dumps(body).encode(), {"Content-Type": "application/x-amz-json-1.0"})


def accepted(session, number):
    job = {"session_id": session, "job_id": f"job-{number:05}", "flow": Flow.QUERY}
    return event_of(Accepted(**job, epoch=1), time=NOW)


# ---------------------------------------------------------------- one call for many


async def test_more_acknowledgements_than_one_batch_holds_are_a_few_calls(clients, queue, url, proxy):
    messages = await received(clients, queue, url, 25)
    proxy.forget()
    await asyncio.gather(*(queue.delete(message) for message in messages))

    assert proxy.count("POST") == 3
    assert await left(clients, url) == 0


async def test_messages_of_more_than_a_mebibyte_together_do_not_share_a_call(clients, url, proxy):
    letters = SqsDeadLetters(clients.batches, url)
    # Either call may come first.
    proxy.on("POST", "/", batch_reply(confirmed=(0, 1, 2)), times=2)
    await asyncio.gather(*(letters.send("x" * 400_000) for _ in range(3)))

    assert proxy.count("POST") == 2


# ---------------------------------------------------------------- an outcome for each


async def test_a_void_receipt_among_good_ones_is_lost_alone(clients, queue, url):
    messages = await received(clients, queue, url, 3)
    void = Message(queue="queries", message_id="void", receipt_handle="nonsense", body="")
    renewals = (queue.change_visibility(message, 120) for message in [messages[0], void, *messages[1:]])
    outcomes = await asyncio.gather(*renewals, return_exceptions=True)

    assert [type(outcome) for outcome in outcomes] == [type(None), QueueMessageLost, type(None), type(None)]


async def test_a_void_receipt_among_acknowledgements_leaves_nothing_of_the_others(clients, queue, url):
    messages = await received(clients, queue, url, 3)
    void = Message(queue="queries", message_id="void", receipt_handle="nonsense", body="")
    await asyncio.gather(*(queue.delete(message) for message in [void, *messages]))

    assert await left(clients, url) == 0


async def test_what_fails_alone_is_sent_again_alone(clients, queue, url, proxy):
    messages = await received(clients, queue, url, 3)
    proxy.forget()
    proxy.on("POST", "/", batch_reply(confirmed=(0, 2), failed=(1,)))
    await asyncio.gather(*(queue.delete(message) for message in messages))

    assert proxy.count("POST") == 2
    assert await left(clients, url) == 2  # the two that the forged reply spoke well of


async def test_an_entry_that_the_reply_forgets_is_sent_again(clients, queue, url, proxy):
    messages = await received(clients, queue, url, 2)
    proxy.on("POST", "/", batch_reply(confirmed=(0,)))
    await asyncio.gather(*(queue.delete(message) for message in messages))

    assert await left(clients, url) == 1


async def test_an_entry_that_is_our_mistake_is_refused_alone_and_not_sent_again(clients, url, proxy):
    letters = SqsDeadLetters(clients.batches, url)
    proxy.on("POST", "/", batch_reply(confirmed=(1,), failed=(0,), code="InvalidMessageContents", sender_fault=True))
    outcomes = await asyncio.gather(letters.send("a"), letters.send("b"), return_exceptions=True)

    assert [type(outcome) for outcome in outcomes] == [Permanent, type(None)]
    assert proxy.count("POST") == 1


async def test_an_entry_that_spoils_the_whole_call_does_not_spoil_the_others(clients, url, proxy):
    letters = SqsDeadLetters(clients.batches, url)
    proxy.on("POST", "/", sqs_error(400, "InvalidMessageContents"), times=2)
    outcomes = await asyncio.gather(letters.send("a"), letters.send("b"), return_exceptions=True)

    assert [type(outcome) for outcome in outcomes] == [Permanent, type(None)]
    assert await left(clients, url) == 1


async def test_an_entry_that_keeps_failing_is_transient(clients, url, proxy):
    proxy.on("POST", "/", batch_reply(failed=(0,)), times=100)

    with pytest.raises(Transient):
        await SqsDeadLetters(clients.batches, url).send("a")
    assert proxy.count("POST") == 3


@pytest.mark.parametrize("fault", [DropReply(), UNAVAILABLE, sqs_error(400, "ThrottlingException")])
async def test_a_batch_that_fails_for_a_moment_is_sent_again(clients, queue, url, proxy, fault):
    messages = await received(clients, queue, url, 12)
    proxy.on("POST", "/", fault, times=2)
    await asyncio.gather(*(queue.delete(message) for message in messages))

    assert await left(clients, url) == 0


# ---------------------------------------------------------------- the newest receipt


async def test_the_newest_receipt_stands_for_an_older_one(clients, queue, url):
    (message,) = await received(clients, queue, url, 1)
    older = Message(queue="queries", message_id=message.message_id, receipt_handle="outdated", body="")
    await queue.change_visibility(older, 120)
    await queue.delete(older)

    assert await left(clients, url) == 0


# ---------------------------------------------------------------- order


async def test_events_of_one_session_keep_their_order_though_the_first_fails(clients, fifo_url, proxy):
    sink = SqsEventSink(clients.batches, fifo_url)
    events = [accepted("session-1", number) for number in range(4)] + [accepted("session-2", 9)]
    # What else is in the first batch seems to be confirmed; of this session, nothing may be.
    proxy.on("POST", "/", batch_reply(confirmed=(1, 2, 3, 4), failed=(0,)))
    proxy.on("POST", "/", DropReply())
    await asyncio.gather(*(sink.publish(event) for event in events))
    arrived = [
        parse_event(message.body)
        for message in await receive(SqsQueue(clients.polls, clients.batches, name="results", url=fifo_url))
    ]

    assert arrived == events[:4]


async def test_a_session_whose_event_is_held_up_holds_up_no_other(clients, fifo_url, proxy):
    sink, hold = SqsEventSink(clients.batches, fifo_url), Hold()
    proxy.on("POST", "/", hold)
    held_up = asyncio.create_task(sink.publish(accepted("session-1", 1)))
    await asyncio.to_thread(hold.arrived.wait)
    behind = asyncio.create_task(sink.publish(accepted("session-1", 2)))
    await sink.publish(accepted("session-2", 3))
    waited = not held_up.done() and not behind.done()
    hold.let_go.set()
    await asyncio.gather(held_up, behind)

    assert waited


# ---------------------------------------------------------------- the end


async def test_closing_sends_what_waits_and_waits_for_its_confirmation(clients, queue, url):
    messages = await received(clients, queue, url, 3)
    async with SqsBatches(clients.control, linger_seconds=LONG) as batches:
        patient = SqsQueue(clients.polls, batches, name="queries", url=url)
        deletes = [asyncio.create_task(patient.delete(message)) for message in messages]
        await asyncio.sleep(0)

    assert await left(clients, url) == 0
    await asyncio.gather(*deletes)


async def test_a_cancelled_caller_takes_nothing_out_of_a_batch_on_its_way(clients, queue, url, proxy):
    messages, hold = await received(clients, queue, url, 2), Hold()
    async with SqsBatches(clients.control) as batches:
        own = SqsQueue(clients.polls, batches, name="queries", url=url)
        proxy.on("POST", "/", hold)
        cancelled, other = (asyncio.create_task(own.delete(message)) for message in messages)
        await asyncio.to_thread(hold.arrived.wait)
        cancelled.cancel()
        await asyncio.wait((cancelled,))
        hold.let_go.set()
        await other

    assert cancelled.cancelled()
    assert await left(clients, url) == 0


async def test_an_acknowledgement_whose_caller_is_cancelled_before_it_is_sent_is_sent(clients, queue, url):
    (message,) = await received(clients, queue, url, 1)
    async with SqsBatches(clients.control, linger_seconds=LONG) as batches:
        delete = asyncio.create_task(SqsQueue(clients.polls, batches, name="queries", url=url).delete(message))
        await asyncio.sleep(0)
        delete.cancel()
        await asyncio.wait((delete,))

    assert await left(clients, url) == 0


async def test_a_cancelled_owner_still_waits_for_what_is_on_its_way(clients, queue, url, proxy):
    (message,), hold = await received(clients, queue, url, 1), Hold()

    async def own() -> None:
        async with SqsBatches(clients.control) as batches:
            await SqsQueue(clients.polls, batches, name="queries", url=url).delete(message)

    proxy.on("POST", "/", hold)
    owner = asyncio.create_task(own())
    await asyncio.to_thread(hold.arrived.wait)
    owner.cancel()
    await asyncio.sleep(0)
    owner.cancel()
    hold.let_go.set()
    await asyncio.wait((owner,))

    assert owner.cancelled()
    assert await left(clients, url) == 0
