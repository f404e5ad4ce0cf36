"""Outcomes: every message ends in exactly one, and each has one way to be settled."""

import json
from dataclasses import dataclass
from datetime import datetime

from consumers.ports import DeadLetters, Message, WorkQueue

# SQS: 0 to 43,200 seconds.
_MAX_DELAY_SECONDS = 43_200
LONGEST_RETRY_SECONDS = 900
# As JSON in ASCII, which SQS never refuses, a character takes up to 12 bytes of the 1 MiB that a message may have.
# S3's own notifications have at most 64 KB (S3 User Guide, "Event message structure").
MAX_BODY_CHARS = 65_536


@dataclass(frozen=True, slots=True)
class Completed:
    """Done, or nothing to do: acknowledge."""


@dataclass(frozen=True, slots=True)
class Failed:
    """It can never be done, and an operator must look: to the dead letters, then acknowledge."""

    letter: "DeadLetter"


@dataclass(frozen=True, slots=True)
class Retry:
    """Something failed that may work later: visible again after the delay."""

    delay_seconds: float


@dataclass(frozen=True, slots=True)
class Released:
    """Not our turn; no attempt was made: visible again after the delay."""

    delay_seconds: float = 0


Outcome = Completed | Failed | Retry | Released


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """What an operator needs to know: why, where, how often, by whom."""

    code: str
    reason: str
    worker: str
    at: datetime
    session_id: str | None = None
    job_id: str | None = None
    stage: str | None = None
    attempts: int | None = None
    traceparent: str | None = None

    def envelope(self, message: Message) -> str:
        """The body of the dead letter: the reason and the original message, cut where SQS would refuse it."""
        facts = {name: getattr(self, name) for name in self.__slots__ if getattr(self, name) is not None}
        return json.dumps(
            facts
            | {
                "at": self.at.isoformat(),
                "queue": message.queue,
                "message_id": message.message_id,
                "attributes": dict(message.attributes),
                "body": message.body[:MAX_BODY_CHARS],
                "body_chars": len(message.body),
            }
        )


def worst(outcomes: list[Outcome]) -> Outcome:
    """The outcome of a message with several records: again if any must be, else failed if any has."""
    order = (Retry, Released, Failed, Completed)
    return min(outcomes, key=lambda outcome: order.index(type(outcome)), default=Completed())


async def settle(queue: WorkQueue, message: Message, outcome: Outcome, *, dead_letters: DeadLetters) -> None:
    """Tell the queue how the message ended; it is deleted only after a dead letter was confirmed."""
    match outcome:
        case Completed():
            await queue.delete(message)
        case Failed(letter):
            await dead_letters.send(letter.envelope(message))
            await queue.delete(message)
        case Retry(delay) | Released(delay):
            await queue.change_visibility(message, min(_MAX_DELAY_SECONDS, max(0, round(delay))))
