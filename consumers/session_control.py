"""The flow of controls: close a session, cancel a job, undo a delivery; nothing is left behind.

A close works in two passes where jobs are running: the first ends them in the ledger and removes all
that it finds; the second comes when their claims would have run out, and removes what a worker may
still have written before it noticed.
"""

from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Protocol

import structlog

from consumers.errors import ObjectMissing, Permanent
from consumers.ports import ObjectStore, Sheets, TakenBack
from consumers.s3_file_management import remove_appended
from consumers.worker.finish import Bury, Finish, owes_a_sheet, undone
from consumers.worker.ledger import Claim, Ledger
from consumers.worker.outcome import Completed, Outcome, Released
from events.keys import MANIFEST_SUFFIXES, Control, ControlKey, Flow, JobRef, close_key, parse_job_key, session_prefix
from events.manifest import MAX_LIFE
from events.results import Failed, FailureCode, SheetRows, UndoRefused
from events.status import CompletedOutcome, FailedOutcome, JobStatus

# The content of a control does not matter.
_CONTROL_BYTES = 1

log = structlog.get_logger(__name__)


class Undoing(Sheets, Protocol):
    """What takes back the rows of any job; see ``consumers.delivery.google_sheet``."""

    async def undo(self, job: JobRef, epoch: int, spreadsheet_id: str) -> TakenBack: ...


@dataclass(frozen=True, slots=True)
class SessionControl:
    """Does what control objects ask for; repeating it is harmless."""

    ledger: Ledger
    store: ObjectStore
    finish: Finish
    sheets: Undoing

    async def run(self, control: ControlKey, bury: Bury) -> Outcome:
        """Raises what is worth another try."""
        if control.job is None:
            return await self._close(control.session_id, bury)
        if control.control is Control.UNDO:
            await self._undo(control.job, bury)
            return Completed()
        ended = await self._end(control.job, "The request was cancelled.", bury)
        if ended is not None:
            claim, held_until = ended
            await self.finish.take_back(claim, bury)
            if held_until is None and not owes_a_sheet(claim.status) and await self._flow_of(control.job) is None:
                # Its session was closed meanwhile: nothing is kept of it, not even how it ended.
                await self.store.delete([control.job.status_key])
        await self.store.delete([control.job.cancel_key])
        return Completed()

    # ------------------------------------------------------------ close and cancel

    async def _close(self, session_id: str, bury: Bury) -> Outcome:
        store, prefix = self.store, session_prefix(session_id)
        jobs = {parsed[0] async for found in store.list(prefix) if (parsed := parse_job_key(found.key))}
        ended = [end for job in sorted(jobs) if (end := await self._end(job, "The session was closed.", bury))]
        held = {claim.job: until for claim, until in ended if until is not None}
        owing = [claim for claim, _ in ended if owes_a_sheet(claim.status)]

        # The ledger of a job that may still run stays until the second pass: it is what stops the job's worker.
        kept = {close_key(session_id), *(job.status_key for job in held)}
        owed = tuple(prefix for claim in owing for prefix in (claim.job.status_key, claim.job.appended_prefix))
        found = [stored.key async for stored in store.list(prefix)]
        await store.delete([key for key in found if key not in kept and not key.startswith(owed)])
        await store.abort_uploads(prefix)
        for claim in owing:
            await self.finish.take_back(claim, bury)
            await remove_appended(store, claim.job)
            if claim.job not in held:
                await store.delete([claim.job.status_key])
        if held:
            return Released(self.ledger.seconds_until(max(held.values())) + 1)
        await store.delete([close_key(session_id)])
        log.info("session.closed", session_id=session_id)
        return Completed()

    async def _end(self, job: JobRef, message: str, bury: Bury) -> tuple[Claim, datetime | None] | None:
        """End a job that has not ended, and say until when a worker may still be at it; None if there is no job."""
        found = await self.ledger.read(job)
        flow = await self._flow_of(job) if found is None else found[0].flow
        if flow is None:
            return None
        failed = Failed(
            session_id=job.session_id, job_id=job.job_id, flow=flow, code=FailureCode.CANCELLED, message=message
        )
        claim = await self.ledger.end_now(job, flow, failed)
        await self.finish.conclude(claim, bury)
        return claim, self.ledger.busy_until(claim.status)

    async def _flow_of(self, job: JobRef) -> Flow | None:
        flows = {suffix: flow for flow, suffix in MANIFEST_SUFFIXES.items()}
        async for found in self.store.list(job.prefix):
            flow = flows.get(found.key.removeprefix(job.prefix))
            if flow is not None:
                return flow
        return None

    # ------------------------------------------------------------ undo

    async def _undo(self, job: JobRef, bury: Bury) -> None:
        asked_at = await self._asked_at(job)
        if asked_at is None:
            return
        found = await self.ledger.read(job)
        if found is not None:
            await self._undo_found(Claim(self.ledger, *found), asked_at, bury)
        await self.store.delete([job.undo_key])

    async def _asked_at(self, job: JobRef) -> datetime | None:
        """When S3 was given the control. One that was done is gone: what comes is a duplicate of its notification."""
        try:
            return (await self.store.get(job.undo_key, max_bytes=_CONTROL_BYTES)).last_modified
        except ObjectMissing:
            return None

    async def _undo_found(self, claim: Claim, asked_at: datetime, bury: Bury) -> None:
        status, undo = claim.status, claim.status.undo
        if undo is None or isinstance(undo.data, UndoRefused):
            request = 1 if undo is None else undo.data.request
            if undo is not None and undo.asked_at != asked_at:
                # Otherwise a worker died before it had removed the control: what it told is told under the same id.
                request += 1
            undo = await undone(claim, request, partial(self._take_back, status))
            undo = undo.model_copy(update={"asked_at": asked_at})
            await self.finish.bury_refusal(claim, undo, bury)
            if status.is_terminal and not self._is_over(status):
                await self.ledger.amend(claim.job, undo=undo)
        await self.finish.tell_of_undo(claim, undo)

    def _is_over(self, status: JobStatus) -> bool:
        return self.ledger.now() >= status.accepted_at + MAX_LIFE

    async def _take_back(self, status: JobStatus) -> TakenBack:
        if status.appending_to is not None and isinstance(status.outcome, FailedOutcome):
            return await self.sheets.withdraw(status.ref, status.appending_to)
        if isinstance(status.outcome, CompletedOutcome) and self._is_over(status):
            raise Permanent(
                FailureCode.EXPIRED, "What a job added to a sheet can be undone for a day. Remove it by hand."
            )
        rows = _rows_of(status)
        return await self.sheets.undo(status.ref, status.epoch, rows.spreadsheet_id)


def _rows_of(status: JobStatus) -> SheetRows:
    if not status.is_terminal:
        raise _nothing("The job has not ended yet. To stop it, cancel it; what it had added is taken back then.")
    if not isinstance(status.outcome, CompletedOutcome):
        raise _nothing("The job failed, so it added nothing.")
    if status.outcome.data.sheet is None:
        raise _nothing("The job delivered files, and changed no sheet. They are removed when the session is closed.")
    return status.outcome.data.sheet


def _nothing(why: str) -> Permanent:
    return Permanent(FailureCode.NOTHING_TO_UNDO, f"There is nothing to undo: {why}")
