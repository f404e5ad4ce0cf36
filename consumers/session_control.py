"""The flow of controls: close a session, cancel a job; nothing is left behind.

A close works in two passes where jobs are running: the first ends them in the ledger and removes all
that it finds; the second comes when their claims would have run out, and removes what a worker may
still have written before it noticed.
"""

from datetime import datetime

import structlog

from consumers.ports import EventSink, ObjectStore
from consumers.worker.finish import Bury, finish
from consumers.worker.ledger import Ledger, utc_now
from consumers.worker.outcome import Completed, Outcome, Released
from events.keys import MANIFEST_SUFFIXES, Control, ControlKey, Flow, JobRef, close_key, parse_job_key, session_prefix
from events.results import Failed, FailureCode

log = structlog.get_logger(__name__)


async def session_control(
    control: ControlKey, bury: Bury, *, ledger: Ledger, store: ObjectStore, events: EventSink
) -> Outcome:
    """Do what a control object asks for; repeating it is harmless."""
    canceller = _Canceller(ledger, store, events, bury)
    if control.control is Control.CANCEL and control.job is not None:
        await canceller.cancel(control.job, "The request was cancelled.")
        await store.delete([control.job.cancel_key])
        return Completed()
    return await _close(control.session_id, canceller, store)


async def _close(session_id: str, canceller: "_Canceller", store: ObjectStore) -> Outcome:
    jobs = {parsed[0] async for found in store.list(session_prefix(session_id)) if (parsed := parse_job_key(found.key))}
    held = {job: until for job in sorted(jobs) if (until := await canceller.cancel(job, "The session was closed."))}

    # The ledger of a job that may still run stays until the second pass: it is what stops the job's worker.
    kept = {close_key(session_id), *(job.status_key for job in held)}
    found = [stored.key async for stored in store.list(session_prefix(session_id))]
    await store.delete([key for key in found if key not in kept])
    await store.abort_uploads(session_prefix(session_id))
    if held:
        return Released((max(held.values()) - utc_now()).total_seconds() + 1)
    await store.delete([close_key(session_id)])
    log.info("session.closed", session_id=session_id)
    return Completed()


class _Canceller:
    """Ends jobs in the ledger and tells the front end."""

    def __init__(self, ledger: Ledger, store: ObjectStore, events: EventSink, bury: Bury) -> None:
        self._ledger = ledger
        self._store = store
        self._events = events
        self._bury = bury

    async def cancel(self, job: JobRef, message: str) -> datetime | None:
        """End a job that has not ended. Returns until when a worker may still be at it, if one is."""
        found = await self._ledger.read(job)
        if found is not None:
            status = found[0]
            held_until = status.claim_expires_at if status.is_held(utc_now()) else None
            flow: Flow | None = status.flow
        else:
            held_until, flow = None, await self._flow_of(job)
        if flow is None:
            return None
        failed = Failed(
            session_id=job.session_id, job_id=job.job_id, flow=flow, code=FailureCode.CANCELLED, message=message
        )
        claim = await self._ledger.end_now(job, flow, failed)
        await finish(claim, store=self._store, events=self._events, bury=self._bury)
        return held_until

    async def _flow_of(self, job: JobRef) -> Flow | None:
        flows = {suffix: flow for flow, suffix in MANIFEST_SUFFIXES.items()}
        async for found in self._store.list(job.prefix):
            flow = flows.get(found.key.removeprefix(job.prefix))
            if flow is not None:
                return flow
        return None
