"""SQS in memory, as its documentation says that it behaves, behind the calls of an aiobotocore client.

Time is the running loop's. What SQS may do but rarely does (deliver twice, late, out of order) is drawn by ``odds``.
Source: SQS Developer Guide, "Standard queues", "FIFO queues", "Visibility timeout", "Dead-letter queues".
"""

import asyncio
import itertools
import json
import random
from dataclasses import dataclass, field, replace

from botocore.exceptions import ClientError

DEDUPLICATION_SECONDS = 300
MAX_HIDDEN_SECONDS = 43_200
REGION_URL = "http://sqs.memory/000000000000"


@dataclass(frozen=True)
class Odds:
    """How often SQS uses its liberties; ``late_seconds`` is how late a message, or its second copy, may come."""

    twice: float = 0
    late: float = 0
    late_seconds: float = 120
    entry_fails: float = 0
    stale_delete_works: float = 0.5


@dataclass(eq=False)
class Stored:
    """One copy of a message."""

    message_id: str
    body: str
    sent_at: float
    visible_at: float
    system: dict = field(default_factory=dict)
    group: str | None = None
    receives: int = 0
    received_at: float = 0
    first_received_at: float = 0
    handle: str | None = None


@dataclass(eq=False)
class FakeQueue:
    """One queue's messages, and every receipt handle it ever gave."""

    name: str
    fifo: bool = False
    visibility_seconds: int = 30
    retention_seconds: int = 345_600
    # Of any copy of a message, by its id.
    most_receives: dict[str, int] = field(default_factory=dict)
    # At which receive, for how many seconds.
    hidden: set[tuple[int, int]] = field(default_factory=set)
    max_receives: int | None = None
    dead_letters: "FakeQueue | None" = None
    stored: list[Stored] = field(default_factory=list)
    handles: dict[str, Stored] = field(default_factory=dict)
    sent: dict[str, tuple[float, str]] = field(default_factory=dict)
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    deleted: list[str] = field(default_factory=list)
    redriven: list[str] = field(default_factory=list)
    expired: list[str] = field(default_factory=list)

    def in_flight(self, now):
        return [found for found in self.stored if found.handle is not None and found.visible_at > now]

    def wake(self):
        self.changed.set()
        self.changed = asyncio.Event()


def refusal(operation, code, text="", *, status=400):
    return ClientError(
        {"Error": {"Code": code, "Message": text}, "ResponseMetadata": {"HTTPStatusCode": status}}, operation
    )


def _expired_receipt(operation, handle):
    why = f"Value {handle} for parameter ReceiptHandle is invalid. Reason: The receipt handle has expired."
    return refusal(operation, "InvalidParameterValue", why)


class FakeSqs:
    """The service; also its client, for those who speak to it without a wire between."""

    def __init__(self, *, odds=None, rng=None):
        self.odds = odds or Odds()
        self._rng = rng or random.Random(0)
        self._numbers = itertools.count(1)
        self.queues = {}

    # ------------------------------------------------------------ queues

    async def create_queue(self, *, QueueName, Attributes=None):  # noqa: N803 - as the client has it
        facts = Attributes or {}
        queue = FakeQueue(QueueName, fifo=facts.get("FifoQueue") == "true")
        queue.visibility_seconds = int(facts.get("VisibilityTimeout", 30))
        queue.retention_seconds = int(facts.get("MessageRetentionPeriod", 345_600))
        if redrive := json.loads(facts.get("RedrivePolicy", "null")):
            queue.max_receives = int(redrive["maxReceiveCount"])
            queue.dead_letters = self.queue(f"{REGION_URL}/{redrive['deadLetterTargetArn'].split(':')[-1]}")
        url = f"{REGION_URL}/{QueueName}"
        self.queues.setdefault(url, queue)
        return {"QueueUrl": url}

    async def get_queue_attributes(self, *, QueueUrl, AttributeNames):  # noqa: N803
        queue, now = self.queue(QueueUrl), _now()
        flying = len(queue.in_flight(now))
        waiting = sum(stored.visible_at > now for stored in queue.stored) - flying
        facts = {
            "ApproximateNumberOfMessages": str(len(queue.stored) - flying - waiting),
            "ApproximateNumberOfMessagesNotVisible": str(flying),
            "ApproximateNumberOfMessagesDelayed": str(waiting),
            "QueueArn": f"arn:aws:sqs:us-east-1:000000000000:{queue.name}",
        }
        asked = facts if "All" in AttributeNames else AttributeNames
        return {"Attributes": {name: value for name, value in facts.items() if name in asked}}

    def queue(self, url):
        try:
            return self.queues[url]
        except KeyError:
            raise refusal("AnyCall", "AWS.SimpleQueueService.NonExistentQueue", "The queue does not exist.") from None

    # ------------------------------------------------------------ sending

    async def send_message(self, *, QueueUrl, MessageBody, **rest):  # noqa: N803
        queue = self.queue(QueueUrl)
        group, token = rest.get("MessageGroupId"), rest.get("MessageDeduplicationId")
        if queue.fifo and (group is None or token is None):
            raise refusal("SendMessage", "MissingParameter", "A FIFO queue needs a group and a deduplication id.")
        now = _now()
        if token is not None:
            at, message_id = queue.sent.get(token, (float("-inf"), ""))
            if now - at < DEDUPLICATION_SECONDS:
                return {"MessageId": message_id}
        message_id = f"message-{next(self._numbers):08}"
        if token is not None:
            queue.sent[token] = (now, message_id)
        system = {"SentTimestamp": str(int(1_769_860_800_000 + now * 1000))}
        system |= {name: value["StringValue"] for name, value in rest.get("MessageSystemAttributes", {}).items()}
        system |= {"MessageGroupId": group, "MessageDeduplicationId": token} if queue.fifo else {}
        late = 0 if queue.fifo else rest.get("DelaySeconds", 0) + self._lateness()
        queue.stored.append(Stored(message_id, MessageBody, now, now + late, system, group))
        queue.wake()
        return {"MessageId": message_id}

    def _lateness(self):
        return self._rng.uniform(0, self.odds.late_seconds) if self._rng.random() < self.odds.late else 0

    # ------------------------------------------------------------ receiving

    async def receive_message(self, *, QueueUrl, MaxNumberOfMessages=1, WaitTimeSeconds=0, **rest):  # noqa: N803
        queue = self.queue(QueueUrl)
        hidden = rest.get("VisibilityTimeout", queue.visibility_seconds)
        deadline = _now() + WaitTimeSeconds
        while True:
            taken = self.take(queue, MaxNumberOfMessages, hidden)
            if taken:
                return {"Messages": taken}
            now = _now()
            if now >= deadline:
                return {}
            wakes = [stored.visible_at for stored in queue.stored if stored.visible_at > now]
            try:
                async with asyncio.timeout_at(min([deadline, *wakes])):
                    await queue.changed.wait()
            except TimeoutError:
                continue

    def take(self, queue, most, hidden):
        now = _now()
        self._expire(queue, now)
        ready = self._in_order(queue, now) if queue.fifo else self._in_any_order(queue, now)
        return [
            self._hand_out(queue, stored, hidden, now) for stored in ready[:most] if not self._redriven(queue, stored)
        ]

    def _in_any_order(self, queue, now):
        ready = [stored for stored in queue.stored if stored.visible_at <= now]
        self._rng.shuffle(ready)
        return ready

    def _in_order(self, queue, now):
        locked = {stored.group for stored in queue.in_flight(now)}
        return [stored for stored in queue.stored if stored.visible_at <= now and stored.group not in locked]

    def _expire(self, queue, now):
        for stored in [old for old in queue.stored if old.sent_at + queue.retention_seconds < now]:
            queue.stored.remove(stored)
            queue.expired.append(stored.message_id)

    def _redriven(self, queue, stored):
        if queue.max_receives is None or queue.dead_letters is None or stored.receives < queue.max_receives:
            return False
        queue.stored.remove(stored)
        queue.redriven.append(stored.message_id)
        queue.dead_letters.stored.append(replace(stored, receives=0, handle=None, visible_at=_now()))
        queue.dead_letters.wake()
        return True

    def _hand_out(self, queue, stored, hidden, now):
        if not queue.fifo and self._rng.random() < self.odds.twice:
            # A server that did not hear of this receive keeps its own copy.
            copy = replace(stored, visible_at=now + self._rng.uniform(0, self.odds.late_seconds))
            queue.stored.append(copy)
        stored.receives += 1
        most = queue.most_receives.get(stored.message_id, 0)
        queue.most_receives[stored.message_id] = max(most, stored.receives)
        stored.received_at = now
        stored.first_received_at = stored.first_received_at or now
        stored.visible_at = now + hidden
        stored.handle = f"{stored.message_id}/{next(self._numbers)}"
        queue.handles[stored.handle] = stored
        counted = {"ApproximateReceiveCount": str(stored.receives)}
        return {
            "MessageId": stored.message_id,
            "ReceiptHandle": stored.handle,
            "Body": stored.body,
            "Attributes": stored.system | counted,
        }

    # ------------------------------------------------------------ receipts

    async def change_message_visibility(self, *, QueueUrl, ReceiptHandle, VisibilityTimeout):  # noqa: N803
        operation, queue, now = "ChangeMessageVisibility", self.queue(QueueUrl), _now()
        stored = self._of_handle(operation, queue, ReceiptHandle)
        if stored not in queue.stored or stored.handle != ReceiptHandle:
            raise _expired_receipt(operation, ReceiptHandle)
        if stored.visible_at <= now:
            raise refusal(operation, "AWS.SimpleQueueService.MessageNotInflight", "It is visible again.")
        if now + VisibilityTimeout - stored.received_at > MAX_HIDDEN_SECONDS:
            why = f"Value {VisibilityTimeout} for parameter VisibilityTimeout is invalid. Reason: beyond the limit."
            raise refusal(operation, "InvalidParameterValue", why)
        stored.visible_at = now + VisibilityTimeout
        queue.hidden.add((queue.most_receives[stored.message_id], VisibilityTimeout))
        queue.wake()
        return {}

    async def delete_message(self, *, QueueUrl, ReceiptHandle):  # noqa: N803
        queue = self.queue(QueueUrl)
        stored = self._of_handle("DeleteMessage", queue, ReceiptHandle)
        if stored not in queue.stored:
            return {}
        if queue.fifo and (stored.handle != ReceiptHandle or stored.visible_at <= _now()):
            raise _expired_receipt("DeleteMessage", ReceiptHandle)
        if stored.handle == ReceiptHandle or self._rng.random() < self.odds.stale_delete_works:
            queue.stored.remove(stored)
            queue.deleted.append(stored.message_id)
            queue.wake()
        return {}

    def _of_handle(self, operation, queue, handle):
        try:
            return queue.handles[handle]
        except KeyError:
            raise refusal(operation, "ReceiptHandleIsInvalid", "The input receipt handle is invalid.") from None

    # ------------------------------------------------------------ batches

    async def send_message_batch(self, *, QueueUrl, Entries):  # noqa: N803
        return await self._each(self.send_message, QueueUrl, Entries)

    async def delete_message_batch(self, *, QueueUrl, Entries):  # noqa: N803
        return await self._each(self.delete_message, QueueUrl, Entries)

    async def change_message_visibility_batch(self, *, QueueUrl, Entries):  # noqa: N803
        return await self._each(self.change_message_visibility, QueueUrl, Entries)

    async def _each(self, call, url, entries):
        queue = self.queue(url)
        if not 1 <= len(entries) <= 10 or len({entry["Id"] for entry in entries}) != len(entries):
            raise refusal("Batch", "AWS.SimpleQueueService.TooManyEntriesInBatchRequest", queue.name)
        reply = {"Successful": [], "Failed": []}
        for entry in entries:
            arguments = {name: value for name, value in entry.items() if name != "Id"}
            try:
                if self._rng.random() < self.odds.entry_fails:
                    raise refusal("Batch", "InternalError", "Try again.", status=500)
                reply["Successful"].append({"Id": entry["Id"]} | await call(QueueUrl=url, **arguments))
            except ClientError as error:
                told = error.response["Error"]
                theirs = error.response["ResponseMetadata"]["HTTPStatusCode"] >= 500
                fault = {"SenderFault": not theirs, "Code": told["Code"], "Message": told["Message"]}
                reply["Failed"].append({"Id": entry["Id"]} | fault)
        return {name: found for name, found in reply.items() if found}


def _now():
    return asyncio.get_running_loop().time()
