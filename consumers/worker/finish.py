"""What follows a job's terminal write: its event, its dead letter, and the end of what it kept."""

from collections.abc import Awaitable, Callable

import structlog

from consumers.errors import OPERATOR_CODES, ClaimLost, Permanent
from consumers.ports import EventSink, ObjectStore
from consumers.s3_file_management import remove_results, remove_uploads
from consumers.worker.ledger import Claim
from consumers.worker.outcome import DeadLetter
from events.results import FailureCode
from events.status import CompletedOutcome, FailedOutcome, JobStatus

Bury = Callable[[DeadLetter], Awaitable[None]]
"""Sends a dead letter about the message that brought the job."""

log = structlog.get_logger(__name__)


async def finish(claim: Claim, *, store: ObjectStore, events: EventSink, bury: Bury) -> None:
    """What follows the terminal write; each step may be repeated, by this worker or another.

    publish → dead letter → mark published → remove the uploads and what other epochs left.
    """
    ended = claim.status
    if not ended.published:
        try:
            await events.publish(ended.end_event())
        except Permanent as error:
            log.warning("job.event_refused", job=str(claim.job), message=error.message)
            await bury(_letter(ended, FailureCode.INTERNAL, f"The terminal event was refused: {error.message}"))
        if isinstance(ended.outcome, FailedOutcome) and ended.outcome.data.code in OPERATOR_CODES:
            await bury(_letter(ended, ended.outcome.data.code, ended.outcome.data.message))
        try:
            await claim.mark_published()
        except ClaimLost:
            log.info("job.finished_by_another", job=str(claim.job))
    await remove_uploads(store, claim.job)
    kept = claim.epoch if isinstance(ended.outcome, CompletedOutcome) else None
    await remove_results(store, claim.job, but_epoch=kept)


def _letter(ended: JobStatus, code: FailureCode, reason: str) -> DeadLetter:
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
