"""SQS behind the ports: the work queues, the results queue, the dead letters."""

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from consumers.aws_retry import retried
from consumers.errors import QueueMessageLost
from consumers.ports import Message
from events.results import JobEvent
from infra.aws_errors import in_our_words
from infra.sqs_batches import SqsBatches, is_lost

if TYPE_CHECKING:
    from types_aiobotocore_sqs import SQSClient

# Far more than one worker has messages; for one that was forgotten, its own receipt is used.
_REMEMBERED_RECEIPTS = 10_000


class SqsQueue:
    """``consumers.ports.WorkQueue``: long polls on ``polls``, all else in batches.

    A message may come again while it is still held here. Its newest receipt then stands for every earlier
    one: with an older one, a delete may succeed without deleting. Source: SQS API reference, DeleteMessage.
    """

    def __init__(self, polls: "SQSClient", batches: SqsBatches, *, name: str, url: str) -> None:
        self._polls = polls
        self._batches = batches
        self._url = url
        self._receipts: OrderedDict[str, str] = OrderedDict()
        self.name = name

    async def receive(self, *, max_messages: int, wait_seconds: int, visibility_seconds: int) -> Sequence[Message]:
        with in_our_words():
            # Not tried again here: the poll loop comes back anyway, and knows when to stop.
            reply = await self._polls.receive_message(
                QueueUrl=self._url,
                MaxNumberOfMessages=max_messages,
                WaitTimeSeconds=wait_seconds,
                VisibilityTimeout=visibility_seconds,
                MessageSystemAttributeNames=["All"],
            )
        messages = [
            Message(
                queue=self.name,
                message_id=received["MessageId"],
                receipt_handle=received["ReceiptHandle"],
                body=received["Body"],
                attributes={str(name): value for name, value in received.get("Attributes", {}).items()},
            )
            for received in reply.get("Messages", [])
        ]
        self._remember(messages)
        return messages

    async def change_visibility(self, message: Message, seconds: int) -> None:
        with _about(message):
            await self._batches.change_visibility(self._url, message.message_id, self._receipt(message), seconds)

    async def delete(self, message: Message) -> None:
        try:
            with _about(message):
                await self._batches.delete(self._url, message.message_id, self._receipt(message))
        except QueueMessageLost:
            # Deleted before, or visible to others again; the ledger tells them that the job is done.
            pass
        self._receipts.pop(message.message_id, None)

    def _remember(self, messages: Sequence[Message]) -> None:
        for message in messages:
            self._receipts[message.message_id] = message.receipt_handle
            self._receipts.move_to_end(message.message_id)
        while len(self._receipts) > _REMEMBERED_RECEIPTS:
            self._receipts.popitem(last=False)

    def _receipt(self, message: Message) -> str:
        return self._receipts.get(message.message_id, message.receipt_handle)


class SqsEventSink:
    """``consumers.ports.EventSink``: the FIFO results queue, in order within a session, each event once."""

    def __init__(self, batches: SqsBatches, url: str) -> None:
        self._batches = batches
        self._url = url

    async def publish(self, event: JobEvent) -> None:
        with in_our_words():
            await self._batches.send_in_order(
                self._url,
                event.model_dump_json(exclude_none=True),
                group=event.data.session_id,
                deduplication_id=event.deduplication_id,
            )


class SqsDeadLetters:
    """``consumers.ports.DeadLetters``; where a confirmation got lost, the same letter may arrive twice."""

    def __init__(self, batches: SqsBatches, url: str) -> None:
        self._batches = batches
        self._url = url

    async def send(self, body: str) -> None:
        with in_our_words():
            await self._batches.send(self._url, body)


@contextmanager
def _about(message: Message) -> Iterator[None]:
    with in_our_words():
        try:
            yield
        except ClientError as error:
            if is_lost(error):
                raise QueueMessageLost(message.message_id) from error
            raise


async def counts(control: "SQSClient", url: str) -> tuple[int, int]:
    """About how many messages of a queue can be received, and how many are hidden."""
    with in_our_words():
        reply = await retried(
            lambda: control.get_queue_attributes(
                QueueUrl=url, AttributeNames=["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
            )
        )
    facts = reply["Attributes"]
    return int(facts["ApproximateNumberOfMessages"]), int(facts["ApproximateNumberOfMessagesNotVisible"])
