"""One message: leased, read, handed to who does it, settled. The one boundary that catches everything."""

import json
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime

import structlog

from consumers.errors import HeldElsewhere, LeaseLost, Transient
from consumers.ports import DeadLetters, Message, WorkQueue
from consumers.uncancelled import uncancelled
from consumers.worker.finish import Bury
from consumers.worker.keep import while_kept
from consumers.worker.lease import keep_lease
from consumers.worker.ledger import utc_now
from consumers.worker.outcome import (
    LONGEST_RETRY_SECONDS,
    Completed,
    DeadLetter,
    Failed,
    Outcome,
    Released,
    Retry,
    settle,
    worst,
)
from events.keys import ControlKey, ManifestKey, parse_control_key, parse_manifest_key
from events.notification import NotificationError, ObjectCreated, parse_notification

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Handlers:
    """Who does what a key asks for."""

    manifest: Callable[[ManifestKey, Bury], Awaitable[Outcome]]
    control: Callable[[ControlKey, Bury], Awaitable[Outcome]]


class MessageHandler:
    """Takes one received message to its one outcome, whatever is in it."""

    def __init__(
        self,
        handlers: Handlers,
        *,
        bucket: str,
        dead_letters: DeadLetters,
        worker: str,
        visibility_seconds: int,
        retry_seconds: float = 30,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self._handlers = handlers
        self._bucket = bucket
        self._dead_letters = dead_letters
        self._worker = worker
        self._visibility_seconds = visibility_seconds
        self._retry_seconds = retry_seconds
        self._now = now
        self._lease_phase = random.random()  # noqa: S311 - spreads load, guards nothing

    async def handle(self, queue: WorkQueue, message: Message) -> Outcome | None:
        """Returns the outcome, or None if the lease was lost. Never raises but for cancellation: then the
        message is given back at once.
        """
        try:
            lease = keep_lease(queue, message, visibility_seconds=self._visibility_seconds, phase=self._lease_phase)
            outcome = await while_kept(lease, self._outcome(message), name=f"message {message.message_id}")
        except LeaseLost as lost:
            log.warning("message.lease_lost", queue=queue.name, message_id=message.message_id, reason=str(lost))
            return None
        except Exception as error:  # noqa: BLE001 - the boundary: nothing may stop the worker
            outcome = self._after_an_error(message, error)
        except BaseException:
            await uncancelled(self._settle(queue, message, Released()))
            raise
        await uncancelled(self._settle(queue, message, outcome))
        return outcome

    async def _outcome(self, message: Message) -> Outcome:
        try:
            created = parse_notification(message.body)
        except NotificationError as error:
            return self._refused("notification", str(error))
        return worst([await self._of_record(record, message) for record in created])

    async def _of_record(self, created: ObjectCreated, message: Message) -> Outcome:
        """One that fails holds up no other one of the same message."""
        try:
            return await self._one(created, message)
        except Exception as error:  # noqa: BLE001 - as above
            return self._after_an_error(message, error)

    def _after_an_error(self, message: Message, error: Exception) -> Outcome:
        """The boundary: whatever went wrong, the worker goes on, and the message comes back."""
        if isinstance(error, HeldElsewhere):
            return Released(error.wait_seconds)
        if isinstance(error, Transient):
            log.warning("message.retry", message_id=message.message_id, code=error.code, reason=error.message)
        else:
            log.error("message.failed", message_id=message.message_id, exc_info=error)
        # Longer and longer, up to a quarter of an hour: the queue gives up after so many receives, not so many hours.
        received = int(message.attributes.get("ApproximateReceiveCount", "1"))
        longest = min(LONGEST_RETRY_SECONDS, self._retry_seconds * 2 ** min(received - 1, 10))
        return Retry(random.uniform(0, longest))  # noqa: S311 - spreads load, guards nothing

    async def _one(self, created: ObjectCreated, message: Message) -> Outcome:
        if created.bucket != self._bucket:
            return self._refused("foreign_bucket", f"Bucket {created.bucket} is not ours.")
        manifest = parse_manifest_key(created.key)
        if manifest is not None:
            return await self._handlers.manifest(manifest, self._burier(message))
        control = parse_control_key(created.key)
        if control is not None:
            return await self._handlers.control(control, self._burier(message))
        return self._refused("unknown_key", f"Key {json.dumps(created.key)} asks for nothing that we know.")

    def _burier(self, message: Message) -> Bury:
        async def bury(letter: DeadLetter) -> None:
            await self._dead_letters.send(letter.envelope(message))

        return bury

    def _refused(self, code: str, reason: str) -> Outcome:
        log.warning("message.refused", code=code, reason=reason)
        return Failed(DeadLetter(code=code, reason=reason, worker=self._worker, at=self._now()))

    async def _settle(self, queue: WorkQueue, message: Message, outcome: Outcome) -> None:
        try:
            await settle(queue, message, outcome, dead_letters=self._dead_letters)
        except Exception:
            # It comes back when its visibility ends, and the ledger knows how far it was.
            log.exception("message.not_settled", message_id=message.message_id)
        else:
            if not isinstance(outcome, Completed):
                log.info("message.settled", message_id=message.message_id, outcome=type(outcome).__name__.lower())
