"""The work queues by what a key asks for: a manifest its flow's, a control the controls'."""

from typing import TYPE_CHECKING

from consumers.aws_retry import retried
from consumers.worker.ledger import utc_now
from events.keys import Flow, parse_control_key, parse_manifest_key
from events.notification import notification_of
from infra.aws_errors import in_our_words
from infra.provision import Stack
from infra.sqs_queue import counts

if TYPE_CHECKING:
    from types_aiobotocore_sqs import SQSClient

# The template's notifications say the same to S3; tests/unit/test_work_queues.py compares.
FLOW_QUEUES = {Flow.QUERY: "queries", Flow.VISUALIZATION: "visualizations"}
CONTROL_QUEUE = "controls"
WORK_QUEUES = frozenset({*FLOW_QUEUES.values(), CONTROL_QUEUE})


def work_queue_of(key: str) -> str | None:
    """Which queue S3 tells of an object under this key, by its key in ``Stack.queue_urls``; None if of none."""
    manifest = parse_manifest_key(key)
    if manifest is not None:
        return FLOW_QUEUES[manifest.flow]
    return CONTROL_QUEUE if parse_control_key(key) is not None else None


class WorkQueues:
    """Sends to the stack's work queues what S3 would send."""

    def __init__(self, control: "SQSClient", stack: Stack) -> None:
        self._control = control
        self._stack = stack

    async def ask_again(self, key: str) -> None:
        """A notification of the object under a manifest's or control's key, as if it had just been written.

        Raises:
            ValueError: the key asks for nothing.
        """
        queue = work_queue_of(key)
        if queue is None:
            raise ValueError(f"{key} asks for nothing")
        await self.send(queue, notification_of(self._stack.bucket, key, at=utc_now()))

    async def waiting(self, flow: Flow) -> int:
        """About how many messages wait for a worker in the flow's queue; not those that one has."""
        visible, _ = await counts(self._control, self._stack.queue_urls[FLOW_QUEUES[flow]])
        return visible

    async def send(self, queue: str, body: str) -> None:
        """Returns once the queue has confirmed it."""
        with in_our_words():
            await retried(lambda: self._control.send_message(QueueUrl=self._stack.queue_urls[queue], MessageBody=body))
