"""What follows a job's terminal write: its event, its dead letter, and the end of what it kept."""

from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog

from consumers.errors import OPERATOR_CODES, ClaimLost, Permanent
from consumers.ports import EventSink, ObjectStore, Sheets, TakenBack
from consumers.s3_file_management import remove_all_but, remove_appended
from consumers.worker.ledger import Claim
from consumers.worker.outcome import DeadLetter
from events.manifest import MAX_LIFE
from events.results import CompletedEvent, FailureCode, JobEvent, Undone, UndoRefused, event_of
from events.status import CompletedOutcome, FailedOutcome, JobStatus, Undo

Bury = Callable[[DeadLetter], Awaitable[None]]
"""Sends a dead letter about the message that brought the job."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Known:
    """What the worker that ended the job knows of it, and who finishes it later does not.

    ``cause`` is for the operator, beyond the uploader's sentence; ``keys`` are what the job had just before its end.
    """

    cause: str | None = None
    keys: Collection[str] | None = None


NOTHING_KNOWN = Known()


class Finish:
    """Each step may be repeated, by this worker or another: a message comes back until all of them are done."""

    def __init__(self, store: ObjectStore, events: EventSink, sheets: Sheets, *, link_seconds: int) -> None:
        self._store = store
        self._events = events
        self._sheets = sheets
        self._link_seconds = link_seconds

    async def __call__(self, claim: Claim, bury: Bury, known: Known = NOTHING_KNOWN) -> None:
        """publish → dead letter → mark published → remove what is not kept → take back what a failed job wrote.

        Raises:
            Transient: something cannot be reached now; asking again goes on where this stopped.
        """
        await self.conclude(claim, bury, known)
        await self.take_back(claim, bury)

    async def conclude(self, claim: Claim, bury: Bury, known: Known = NOTHING_KNOWN) -> None:
        """All but what the job may owe a spreadsheet."""
        if not claim.status.published:
            await self._tell(claim, bury, known.cause)
        kept = claim.epoch if isinstance(claim.status.outcome, CompletedOutcome) else None
        appended = not owes_a_sheet(claim.status)
        await remove_all_but(self._store, claim.job, epoch=kept, appended=appended, found=known.keys)

    async def _tell(self, claim: Claim, bury: Bury, cause: str | None) -> None:
        ended = claim.status
        try:
            await self._events.publish(await self._with_links(ended.end_event(), ended.accepted_at, claim.now()))
        except Permanent as error:
            log.warning("job.event_refused", job=str(claim.job), message=error.message)
            await bury(letter_of(ended, FailureCode.INTERNAL, f"The terminal event was refused: {error.message}"))
        if isinstance(ended.outcome, FailedOutcome) and ended.outcome.data.code in OPERATOR_CODES:
            message = ended.outcome.data.message
            reason = message if cause is None else f"{message} The cause: {cause}"
            await bury(letter_of(ended, ended.outcome.data.code, reason))
        try:
            await claim.mark_published()
        except ClaimLost:
            log.info("job.finished_by_another", job=str(claim.job))

    async def _with_links(self, event: JobEvent, accepted_at: datetime, now: datetime) -> JobEvent:
        """Links to the results, none for longer than the drop's own life. They are not kept beside the job."""
        if not isinstance(event, CompletedEvent) or not event.data.files:
            return event
        left = (accepted_at + MAX_LIFE - now).total_seconds()
        seconds = max(1, min(self._link_seconds, int(left)))
        expires = now + timedelta(seconds=seconds)
        files = []
        for file in event.data.files:
            url = await self._store.link(file.key, name=file.name, media_type=file.media_type, seconds=seconds)
            files.append(file.model_copy(update={"url": url, "url_expires_at": expires}))
        return event.model_copy(update={"data": event.data.model_copy(update={"files": tuple(files)})})

    async def take_back(self, claim: Claim, bury: Bury) -> None:
        """Leave nothing in a spreadsheet of a job that did not complete. What was refused once is the user's to ask.

        Raises:
            Transient: Google Sheets cannot be reached now; the message comes back.
        """
        status = claim.status
        if status.appending_to is None or status.undo is not None or not owes_a_sheet(status):
            return
        spreadsheet_id = status.appending_to
        undo = await undone(claim, 0, lambda: self._sheets.withdraw(claim.job, spreadsheet_id))
        await self.bury_refusal(claim, undo, bury)
        if isinstance(undo.data, UndoRefused) or undo.data.rows:
            await self.tell_of_undo(claim, undo)
        try:
            await claim.note(undo=undo)
        except ClaimLost:
            log.info("job.finished_by_another", job=str(claim.job))
        if isinstance(undo.data, Undone):
            await remove_appended(self._store, claim.job)

    async def bury_refusal(self, claim: Claim, undo: Undo, bury: Bury) -> None:
        """Where an operator must look. The sentence may quote the user's rows: it is for the user alone."""
        refused = undo.data.code if isinstance(undo.data, UndoRefused) else None
        log.info("job.undo", job=str(claim.job), refused=refused)
        if refused in OPERATOR_CODES:
            await bury(letter_of(claim.status, refused, "What the job added to a sheet cannot be removed."))

    async def tell_of_undo(self, claim: Claim, undo: Undo) -> None:
        await self._events.publish(event_of(undo.data, time=undo.at, traceparent=claim.status.traceparent))


def owes_a_sheet(status: JobStatus) -> bool:
    """Whether a job that did not complete may have left something in a spreadsheet."""
    taken_back = status.undo is not None and isinstance(status.undo.data, Undone)
    return isinstance(status.outcome, FailedOutcome) and status.appending_to is not None and not taken_back


async def undone(claim: Claim, request: int, take: Callable[[], Awaitable[TakenBack]]) -> Undo:
    """Take back, and put into words how that went; raises Transient."""
    try:
        taken = await take()
    except Permanent as error:
        refused = UndoRefused(**claim.identity, request=request, code=error.code, message=error.message)
        return Undo(data=refused, at=claim.now())
    return Undo(data=Undone(**claim.identity, request=request, rows=taken.rows, message=taken.message), at=claim.now())


def letter_of(ended: JobStatus, code: FailureCode, reason: str) -> DeadLetter:
    return DeadLetter(
        code=code,
        reason=reason,
        worker=ended.worker,
        at=ended.ended_at or ended.updated_at,
        session_id=ended.session_id,
        job_id=ended.job_id,
        stage=ended.stage,
        attempts=ended.attempts,
        traceparent=ended.traceparent,
    )
