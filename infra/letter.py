"""A dead letter: what it says, which message it is about, and which letters are meant."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from consumers.ports import Message
from events.json_object import JsonError, load_object
from events.keys import JobRef, parse_job_key
from events.notification import NotificationError, ObjectCreated, parse_notification
from infra.work_queues import WORK_QUEUES, work_queue_of

UNHANDLED = "received_too_often"
"""The code of what the queue's own redrive policy moved here: no worker said anything about it."""
REFUSED = frozenset({"notification", "foreign_bucket", "unknown_key"})
"""The codes of messages that no worker understands (``consumers.worker.message``)."""


class Envelope(BaseModel):
    """What ``consumers.worker.outcome.DeadLetter`` writes; lenient, for letters of other versions."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    code: str
    reason: str
    queue: str
    body: str
    body_chars: int
    worker: str | None = None
    at: datetime | None = None
    message_id: str | None = None
    attributes: Mapping[str, str] = Field(default_factory=dict)
    session_id: str | None = None
    job_id: str | None = None
    stage: str | None = None
    attempts: int | None = None
    traceparent: str | None = None


@dataclass(frozen=True, slots=True)
class Letter:
    """One message of the dead-letter queue; without an envelope, the queue itself moved it here."""

    message: Message
    envelope: Envelope | None
    created: tuple[ObjectCreated, ...]
    """What the original notification speaks of; nothing if it is none."""
    is_notification: bool
    sent_at: datetime
    """When it came here; or, of what the queue itself moved here, when its message was first sent."""

    @property
    def id(self) -> str:
        return self.message.message_id

    @property
    def code(self) -> str:
        return self.envelope.code if self.envelope else UNHANDLED

    @property
    def buried_at(self) -> datetime:
        """When a worker wrote it, if one did. Its age counts from here."""
        told = self.envelope.at if self.envelope else None
        if told is None:
            return self.sent_at
        return told if told.tzinfo else told.replace(tzinfo=UTC)

    @property
    def keys(self) -> tuple[str, ...]:
        return tuple(each.key for each in self.created)

    def asks(self, bucket: str) -> tuple[str, ...]:
        """The keys that a worker for this bucket would do something about."""
        return tuple(each.key for each in self.created if each.bucket == bucket and work_queue_of(each.key))

    def is_understood(self, bucket: str) -> bool:
        """Whether a worker for this bucket would not refuse it; that it asks for nothing is no reason to."""
        return self.is_notification and bool(self.asks(bucket) or not self.created)

    @property
    def body(self) -> str:
        """The original message, possibly cut."""
        return self.envelope.body if self.envelope else self.message.body

    @property
    def is_cut(self) -> bool:
        return self.envelope is not None and self.envelope.body_chars > len(self.envelope.body)

    @property
    def jobs(self) -> tuple[JobRef, ...]:
        named = self.envelope
        if named is not None and named.session_id is not None and named.job_id is not None:
            return (JobRef(named.session_id, named.job_id),)
        return tuple(parsed[0] for key in self.keys if (parsed := parse_job_key(key)))

    @property
    def queue(self) -> str | None:
        """The work queue that it came from; None if that cannot be told."""
        if self.envelope is not None:
            return self.envelope.queue if self.envelope.queue in WORK_QUEUES else None
        return next((queue for key in self.keys if (queue := work_queue_of(key))), None) or self._moved_from()

    def _moved_from(self) -> str | None:
        arn = self.message.attributes.get("DeadLetterQueueSourceArn", "")
        return next((queue for queue in sorted(WORK_QUEUES) if arn.endswith(f"-{queue}")), None)


def read_letter(message: Message) -> Letter:
    """Whatever was sent there is a letter of some kind."""
    try:
        envelope = Envelope.model_validate(load_object(message.body))
    except (JsonError, ValidationError):
        envelope = None
    try:
        created, is_notification = parse_notification(envelope.body if envelope else message.body), True
    except NotificationError:
        created, is_notification = [], False
    sent_at = datetime.fromtimestamp(int(message.attributes.get("SentTimestamp", "0")) / 1000, UTC)
    return Letter(message, envelope, tuple(created), is_notification, sent_at)


@dataclass(frozen=True, slots=True)
class Choice:
    """Which letters are meant; what is None does not matter. ``job`` is a job's id, ``letter`` begins a letter's id."""

    code: str | None = None
    job: str | None = None
    letter: str | None = None
    older_than: timedelta | None = None
    newer_than: timedelta | None = None
    ids: frozenset[str] | None = None

    def takes(self, letter: Letter, now: datetime) -> bool:
        age = now - letter.buried_at
        return (
            self.code in (None, letter.code)
            and (self.job is None or any(self.job in (job.job_id, str(job)) for job in letter.jobs))
            and (self.letter is None or letter.id.startswith(self.letter))
            and (self.older_than is None or age >= self.older_than)
            and (self.newer_than is None or age < self.newer_than)
            and (self.ids is None or letter.id in self.ids)
        )
