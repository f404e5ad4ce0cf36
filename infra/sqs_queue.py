"""SQS behind the ports: the work queues, the results queue, the dead letters."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from consumers.aws_retry import error_code, retried
from consumers.errors import QueueMessageLost
from consumers.ports import Message
from events.results import JobEvent
from infra.aws_errors import in_our_words

if TYPE_CHECKING:
    from types_aiobotocore_sqs import SQSClient


class SqsQueue:
    """``consumers.ports.WorkQueue``: long polls on ``polls``, all else on ``control``."""

    def __init__(self, polls: "SQSClient", control: "SQSClient", *, name: str, url: str) -> None:
        self._polls = polls
        self._control = control
        self._url = url
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
        return [
            Message(
                queue=self.name,
                message_id=received["MessageId"],
                receipt_handle=received["ReceiptHandle"],
                body=received["Body"],
                attributes={str(name): value for name, value in received.get("Attributes", {}).items()},
            )
            for received in reply.get("Messages", [])
        ]

    async def change_visibility(self, message: Message, seconds: int) -> None:
        with _about(message):
            await retried(
                lambda: self._control.change_message_visibility(
                    QueueUrl=self._url, ReceiptHandle=message.receipt_handle, VisibilityTimeout=seconds
                )
            )

    async def delete(self, message: Message) -> None:
        try:
            with _about(message):
                await retried(
                    lambda: self._control.delete_message(QueueUrl=self._url, ReceiptHandle=message.receipt_handle)
                )
        except QueueMessageLost:
            # Deleted before, or visible to others again; the ledger tells them that the job is done.
            return


class SqsEventSink:
    """``consumers.ports.EventSink``: the FIFO results queue, in order within a session, each event once."""

    def __init__(self, control: "SQSClient", url: str) -> None:
        self._control = control
        self._url = url

    async def publish(self, event: JobEvent) -> None:
        with in_our_words():
            await retried(
                lambda: self._control.send_message(
                    QueueUrl=self._url,
                    MessageBody=event.model_dump_json(exclude_none=True),
                    MessageGroupId=event.data.session_id,
                    MessageDeduplicationId=event.deduplication_id,
                )
            )


class SqsDeadLetters:
    """``consumers.ports.DeadLetters``; where a confirmation got lost, the same letter may arrive twice."""

    def __init__(self, control: "SQSClient", url: str) -> None:
        self._control = control
        self._url = url

    async def send(self, body: str) -> None:
        with in_our_words():
            await retried(lambda: self._control.send_message(QueueUrl=self._url, MessageBody=body))


@contextmanager
def _about(message: Message) -> Iterator[None]:
    with in_our_words():
        try:
            yield
        except ClientError as error:
            if _is_lost(error):
                raise QueueMessageLost(message.message_id) from error
            raise


def _is_lost(error: ClientError) -> bool:
    """Whether SQS says that the receipt no longer holds the message.

    A receipt never issued: ReceiptHandleIsInvalid. A deleted or expired one: InvalidParameterValue, whose
    text names the parameter (aws/aws-sdk-java issue 1628), and LocalStack likewise. Visible again:
    MessageNotInflight.
    """
    code = error_code(error).removesuffix("Exception")
    if code in {"ReceiptHandleIsInvalid", "MessageNotInflight"}:
        return True
    return code == "InvalidParameterValue" and "parameter ReceiptHandle" in error.response["Error"].get("Message", "")
