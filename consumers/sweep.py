"""The sweep: uploads that no job will ever read, and what was written after its session was closed.

A job is left alone while anything of it is recent, while a claim holds it, and while it may still read
what was uploaded. What it answered is none of the sweep's business: that goes with its session, or its day.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

import structlog
from pydantic import ValidationError

from consumers.listed_job import ListedJob, counted, listed_jobs
from consumers.ports import ObjectStore
from consumers.worker.ledger import read_status, utc_now
from events.keys import ROOT, JobRef, parse_control_key, parse_job_key
from events.manifest import MAX_LIFE
from events.status import CompletedOutcome, JobStatus

DELETE_BATCH = 1000

log = structlog.get_logger(__name__)


class Reason(StrEnum):
    """Why nobody will read what was uploaded for a job."""

    NEVER_SENT = "never handed in"
    ENDED = "the job has ended"
    EXPIRED = "the job has expired"
    HALF_UPLOADED = "half uploaded"
    LEFT_OVER = "left of a request that was removed"


@dataclass(frozen=True, slots=True)
class Abandoned:
    """What of one job was abandoned: objects with their ``bytes``, and open multipart ``uploads``."""

    job: JobRef
    reason: Reason
    objects: int
    bytes: int
    uploads: int
    last_active: datetime


@dataclass(slots=True)
class Swept:
    """The sum of all that was abandoned."""

    jobs: int = 0
    objects: int = 0
    bytes: int = 0
    uploads: int = 0

    def add(self, abandoned: Abandoned) -> None:
        self.jobs += 1
        self.objects += abandoned.objects
        self.bytes += abandoned.bytes
        self.uploads += abandoned.uploads


async def sweep(
    store: ObjectStore,
    *,
    older_than: timedelta,
    now: datetime,
    clock: Callable[[], datetime] = utc_now,
    dry_run: bool = False,
    on_listed: Callable[[int], None] = lambda keys: None,
    on_abandoned: Callable[[Abandoned], None] = lambda abandoned: None,
) -> Swept:
    """Remove what was abandoned: no part of its job has changed for ``older_than``. A dry run only tells.

    Abandoned are the uploads of a job that has no manifest, that has ended, or whose day is over; multipart
    uploads that were left open; and what a worker still wrote, too late or with its last breath, of a job whose
    manifest a close had removed. Workers may be at work meanwhile, and other sweeps. ``on_listed`` is told how many
    keys have been looked at; ``clock`` is this machine's, which tells whether a claim has run out. Memory is that of
    one job, and of the uploads that are open.
    """
    sweeper, swept, seen = _Sweeper(store, now - older_than, now, clock, dry_run=dry_run), Swept(), set[JobRef]()

    def found(abandoned: Abandoned | None) -> None:
        if abandoned is not None:
            swept.add(abandoned)
            seen.add(abandoned.job)
            on_abandoned(abandoned)

    async for listed in listed_jobs(counted(store.list(ROOT), on_listed)):
        if sweeper.may_be_abandoned(listed):
            found(await sweeper.look_at(listed.ref))
    # Those that have nothing else; in a dry run, the others' are still there.
    async for upload in store.uploads(ROOT):
        parsed = parse_job_key(upload.key)
        if parsed is not None and parsed[0] not in seen and upload.last_active < sweeper.cutoff:
            found(await sweeper.look_at(parsed[0]))
    return swept


class _Sweeper:
    """Looks at one job after the other."""

    def __init__(
        self, store: ObjectStore, cutoff: datetime, now: datetime, clock: Callable[[], datetime], *, dry_run: bool
    ) -> None:
        self._store = store
        self._now = now
        self._clock = clock
        self._dry_run = dry_run
        self.cutoff = cutoff

    def may_be_abandoned(self, job: ListedJob) -> bool:
        """Whether a closer look is worth it: most jobs are told apart by the listing alone."""
        if job.last_active >= self.cutoff:
            return False
        if job.manifest_at is None:
            return job.has_files or job.has_status or job.has_results
        return job.has_files and (job.has_status or self._expired(job))

    async def look_at(self, ref: JobRef) -> Abandoned | None:
        """Look again, and remove at once: a long listing may be older than the manifest that came meanwhile."""
        job = ListedJob(ref)
        async for listed in self._store.list(ref.prefix):
            job.add(listed)
        uploads = [upload async for upload in self._store.uploads(ref.prefix)]
        job.last_active = max([job.last_active, *(upload.last_active for upload in uploads)])
        if job.last_active >= self.cutoff:
            return None
        try:
            found = await read_status(self._store, ref, now=self._clock)
        except ValidationError:
            log.warning("sweep.status_unreadable", job=str(ref))
            return None
        status = found[0] if found is not None else None
        if status is not None and status.is_held(self._now):
            return None
        reason = self._reason(job, status)
        goes = job.ref.prefix if reason is Reason.LEFT_OVER else job.ref.files_prefix
        aborted = sum([self._dry_run or await self._store.abort_upload(upload) for upload in uploads])
        objects, size = (0, 0) if reason is None else await self._remove(goes)
        if not aborted and not objects:
            return None
        why = reason if reason is not None and objects else Reason.HALF_UPLOADED
        if not self._dry_run:
            log.info("sweep.removed", job=str(ref), reason=why, objects=objects, bytes=size, uploads=aborted)
        return Abandoned(ref, why, objects, size, aborted, job.last_active)

    def _expired(self, job: ListedJob) -> bool:
        return job.manifest_at is not None and job.manifest_at + MAX_LIFE <= self._now

    def _reason(self, job: ListedJob, status: JobStatus | None) -> Reason | None:
        """Why what lies there is not needed any more; None if it may be."""
        if job.manifest_at is None and not _is_remembered(status):
            return Reason.LEFT_OVER if job.has_status or job.has_results else Reason.NEVER_SENT
        if status is not None and status.is_terminal:
            return Reason.ENDED
        return Reason.EXPIRED if job.manifest_at is None or self._expired(job) else None

    async def _remove(self, prefix: str) -> tuple[int, int]:
        """Whatever is under it, but for controls: theirs is another way."""
        objects, size, batch = 0, 0, list[str]()
        async for found in self._store.list(prefix):
            if parse_control_key(found.key) is not None:
                continue
            objects, size = objects + 1, size + found.size
            batch.append(found.key)
            if len(batch) == DELETE_BATCH:
                await self._delete(batch)
                batch.clear()
        await self._delete(batch)
        return objects, size

    async def _delete(self, keys: list[str]) -> None:
        if not self._dry_run:
            await self._store.delete(keys)


def _is_remembered(status: JobStatus | None) -> bool:
    """Whether the ledger is the way to an answer, or to rows in a spreadsheet: then it goes with its day."""
    return status is not None and (isinstance(status.outcome, CompletedOutcome) or status.appending_to is not None)
