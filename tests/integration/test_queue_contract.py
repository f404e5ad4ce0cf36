"""What every queue keeps to: receive, renew, give back, acknowledge, publish once."""

from datetime import UTC, datetime
from uuid import uuid4

import pytest
import pytest_asyncio
from endpoints import each_of
from faulty_proxy import DropReply, sqs_error

from consumers.errors import Permanent, QueueMessageLost, Transient
from consumers.ports import Message
from events.keys import Flow
from events.results import Accepted, Completed, FailureCode, event_of, parse_event
from infra.sqs_queue import SqsDeadLetters, SqsEventSink, SqsQueue

# One set of clients for all: making one takes longer than most of the tests.
pytestmark = pytest.mark.asyncio(loop_scope="module")

endpoint_url = each_of("moto", "localstack", "ministack")

NOW = datetime(2025, 1, 2, 3, 4, 5, tzinfo=UTC)
JOB = {"session_id": "session-1", "job_id": "job-00001", "flow": Flow.QUERY}
TRACE = "Root=1-5759e988-bd862e3fe1be46a994272793;Sampled=1"
BEYOND_TWELVE_HOURS = (
    "Value 43200 for parameter VisibilityTimeout is invalid. "
    "Reason: Total VisibilityTimeout for the message is beyond the limit [43200 seconds]"
)
UNAVAILABLE = sqs_error(503, "ServiceUnavailable")


@pytest_asyncio.fixture(loop_scope="module")
async def url(clients, proxy_here):
    return _through(proxy_here, await clients.control.create_queue(QueueName=f"work-{uuid4().hex}"))


@pytest_asyncio.fixture(loop_scope="module")
async def fifo_url(clients, proxy_here):
    queue = await clients.control.create_queue(
        QueueName=f"results-{uuid4().hex}.fifo", Attributes={"FifoQueue": "true"}
    )
    return _through(proxy_here, queue)


def _through(proxy, queue):
    """The queue's URL by way of the proxy, whatever host the endpoint calls itself."""
    return f"{proxy.endpoint}/{'/'.join(queue['QueueUrl'].split('/')[-2:])}"


@pytest.fixture
def queue(clients, url):
    return SqsQueue(clients.polls, clients.batches, name="queries", url=url)


async def receive(queue, *, visibility_seconds=60, max_messages=10):
    return await queue.receive(max_messages=max_messages, wait_seconds=0, visibility_seconds=visibility_seconds)


async def one_message(clients, queue, url):
    await clients.control.send_message(QueueUrl=url, MessageBody="body")
    return (await receive(queue))[0]


# ---------------------------------------------------------------- work


async def test_a_message_comes_with_its_body_and_sqs_own_attributes(clients, queue, url):
    trace = {"AWSTraceHeader": {"DataType": "String", "StringValue": TRACE}}
    sent = await clients.control.send_message(QueueUrl=url, MessageBody="body ü", MessageSystemAttributes=trace)
    (message,) = await receive(queue)

    assert (message.queue, message.message_id, message.body) == ("queries", sent["MessageId"], "body ü")
    assert message.attributes["ApproximateReceiveCount"] == "1"
    assert int(message.attributes["SentTimestamp"]) > 1_700_000_000_000
    assert message.attributes["AWSTraceHeader"] == TRACE


async def test_an_empty_queue_gives_nothing(queue):
    assert await receive(queue) == []


async def test_no_more_messages_come_than_asked_for(clients, queue, url):
    for _ in range(3):
        await clients.control.send_message(QueueUrl=url, MessageBody="body")

    assert len(await receive(queue, max_messages=1)) == 1


async def test_a_received_message_is_hidden(clients, queue, url):
    await one_message(clients, queue, url)

    assert await receive(queue) == []


async def test_a_message_given_back_comes_again(clients, queue, url):
    message = await one_message(clients, queue, url)
    await queue.change_visibility(message, 0)
    (again,) = await receive(queue)

    assert again.message_id == message.message_id
    assert again.attributes["ApproximateReceiveCount"] == "2"


async def test_a_renewed_message_stays_hidden(clients, queue, url):
    message = await one_message(clients, queue, url)
    await queue.change_visibility(message, 120)

    assert await receive(queue) == []


async def test_an_acknowledged_message_is_gone_and_may_be_acknowledged_twice(clients, queue, url):
    message = await one_message(clients, queue, url)
    await queue.delete(message)
    await queue.delete(message)
    counts = await clients.control.get_queue_attributes(
        QueueUrl=url, AttributeNames=["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    )

    assert set(counts["Attributes"].values()) == {"0"}


async def test_a_deleted_message_cannot_be_renewed(clients, queue, url):
    message = await one_message(clients, queue, url)
    await queue.delete(message)

    with pytest.raises(QueueMessageLost):
        await queue.change_visibility(message, 60)


async def test_a_receipt_that_never_was_is_lost_and_acknowledging_it_is_no_error(queue):
    message = Message(queue="queries", message_id="m", receipt_handle="nonsense", body="")
    await queue.delete(message)

    with pytest.raises(QueueMessageLost):
        await queue.change_visibility(message, 60)


@pytest.mark.parametrize(
    "answer",
    [
        sqs_error(400, "ReceiptHandleIsInvalid"),
        sqs_error(400, "AWS.SimpleQueueService.MessageNotInflight"),
        sqs_error(400, "MessageNotInflight"),
        sqs_error(400, "InvalidParameterValue", "Value x for parameter ReceiptHandle is invalid. Reason: expired."),
        sqs_error(400, "InvalidParameterValueException", "Value x for parameter ReceiptHandle is invalid."),
    ],
)
async def test_every_way_to_say_that_a_receipt_is_void_is_a_lost_message(clients, queue, url, proxy, answer):
    message = await one_message(clients, queue, url)
    proxy.on("POST", "/", answer)

    with pytest.raises(QueueMessageLost):
        await queue.change_visibility(message, 60)


async def test_a_visibility_beyond_twelve_hours_is_our_mistake(clients, queue, url, proxy):
    message = await one_message(clients, queue, url)
    proxy.on("POST", "/", sqs_error(400, "InvalidParameterValue", BEYOND_TWELVE_HOURS))
    with pytest.raises(Permanent) as error:
        await queue.change_visibility(message, 43_200)

    assert error.value.code is FailureCode.INTERNAL


async def test_an_acknowledgement_that_fails_for_a_moment_is_sent_again(clients, queue, url, proxy):
    message = await one_message(clients, queue, url)
    proxy.on("POST", "/", UNAVAILABLE)
    proxy.on("POST", "/", DropReply())
    await queue.delete(message)

    with pytest.raises(QueueMessageLost):
        await queue.change_visibility(message, 60)


async def test_a_queue_that_does_not_answer_is_transient(queue, proxy):
    proxy.on("POST", "/", UNAVAILABLE, times=100)
    with pytest.raises(Transient) as error:
        await receive(queue)

    assert error.value.code is FailureCode.STORAGE_UNAVAILABLE
    assert proxy.count("POST") == 1  # the poll loop decides when to ask again


async def test_a_queue_that_is_not_there_is_transient(clients, url):
    queue = SqsQueue(clients.polls, clients.batches, name="queries", url=f"{url}-not")

    with pytest.raises(Transient):
        await receive(queue)


# ---------------------------------------------------------------- results and dead letters


async def test_an_event_published_twice_arrives_once_and_in_order(clients, fifo_url):
    sink = SqsEventSink(clients.batches, fifo_url)
    accepted = event_of(Accepted(**JOB, epoch=1), time=NOW)
    completed = event_of(Completed(**JOB, answer="42 ü"), time=NOW)
    for event in (accepted, accepted, completed, accepted, completed):
        await sink.publish(event)
    received = await receive(SqsQueue(clients.polls, clients.batches, name="results", url=fifo_url))

    assert [parse_event(message.body) for message in received] == [accepted, completed]
    assert {message.attributes["MessageGroupId"] for message in received} == {"session-1"}
    assert "null" not in "".join(message.body for message in received)


async def test_an_event_whose_confirmation_is_lost_arrives_once(clients, fifo_url, proxy):
    event = event_of(Accepted(**JOB, epoch=1), time=NOW)
    proxy.on("POST", "/", DropReply(), times=2)
    await SqsEventSink(clients.batches, fifo_url).publish(event)
    received = await receive(SqsQueue(clients.polls, clients.batches, name="results", url=fifo_url))

    assert proxy.count("POST") >= 3
    assert [parse_event(message.body) for message in received] == [event]


async def test_an_event_that_is_not_confirmed_is_transient(clients, fifo_url, proxy):
    proxy.on("POST", "/", UNAVAILABLE, times=100)

    with pytest.raises(Transient):
        await SqsEventSink(clients.batches, fifo_url).publish(event_of(Accepted(**JOB, epoch=1), time=NOW))
    assert proxy.count("POST") == 3


async def test_a_dead_letter_arrives_as_it_is(clients, url):
    await SqsDeadLetters(clients.batches, url).send('{"reason": "ü"}')
    (letter,) = await receive(SqsQueue(clients.polls, clients.batches, name="dead", url=url))

    assert letter.body == '{"reason": "ü"}'
