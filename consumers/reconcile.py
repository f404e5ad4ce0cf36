"""Reconciling: what was handed in and never came to its end, found in the bucket and asked for again.

A notification may never have come, or its message may be lost: the bucket knows what is still to be done.
To ask once too often is harmless: the ledger knows what was done.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

import structlog
from pydantic import ValidationError

from consumers.errors import ObjectMissing
from consumers.listed_job import ListedJob, counted, listed_jobs
from consumers.ports import ObjectStore, ObjectSummary
from consumers.worker.ledger import read_status
from events.keys import ROOT, Flow, JobRef, parse_control_key
from events.status import JobStatus

# So many jobs are looked at together: each costs two requests, and most of them turn out to be well.
TOGETHER = 16
# The content does not matter: only whether it is there.
_PRESENCE_BYTES = 1

log = structlog.get_logger(__name__)


class Reason(StrEnum):
    """What is still to be done, though nobody seems to be about to do it."""

    NEVER_STARTED = "never started"
    LEFT = "begun and left"
    NOT_TOLD = "its end was not told"
    NOT_TAKEN_BACK = "its rows were not taken back"
    CONTROL = "a control that was not done"


@dataclass(frozen=True, slots=True)
class Stuck:
    """One object that is asked for again; ``job`` is None for the close of a session."""

    key: str
    session_id: str
    job: JobRef | None
    reason: Reason
    since: datetime


@dataclass(slots=True)
class Reconciled:
    """How many were found; how many jobs ``waiting`` in their queue were not asked for; and how many could not be
    judged because their status is of another version."""

    jobs: int = 0
    controls: int = 0
    waiting: int = 0
    unreadable: int = 0

    def add(self, stuck: Stuck) -> None:
        if stuck.reason is Reason.CONTROL:
            self.controls += 1
        else:
            self.jobs += 1


AskAgain = Callable[[str], Awaitable[None]]
"""Sends a notification of the object under a key to the queue that is for it."""
Waiting = Callable[[Flow], Awaitable[int]]
"""About how many messages wait for a worker in a flow's queue."""


async def reconcile(
    store: ObjectStore,
    ask_again: AskAgain,
    waiting: Waiting,
    *,
    older_than: timedelta,
    now: datetime,
    dry_run: bool = False,
    on_listed: Callable[[int], None] = lambda keys: None,
    on_stuck: Callable[[Stuck], None] = lambda stuck: None,
) -> Reconciled:
    """Ask again for what has not changed for ``older_than`` and is not at its end. A dry run only tells.

    That is: a manifest whose job has no terminal status and no live claim, or whose terminal event was not
    published, or whose rows were not taken back although it failed; and every control object that still lies
    there. An expired one is asked for as well: its uploader is then told so. Workers may be at work meanwhile, and
    other reconcilers.

    Jobs that were never started are asked for only if there are more of them than messages in their flow's queue:
    else their own messages wait there, and a timer would add to them for as long as no worker comes. So the bucket is
    listed twice, the first time to count them. Memory is that of a few jobs, and of the closes that wait.
    """
    reconciler = _Reconciler(store, ask_again, now - older_than, now, dry_run=dry_run, on_stuck=on_stuck)
    await reconciler.count_never_started(waiting, on_listed)
    listing = reconciler.watched(counted(store.list(ROOT), on_listed))
    batch: list[ListedJob] = []
    async for job in listed_jobs(listing):
        if reconciler.may_be_stuck(job):
            batch.append(job)
        if len(batch) == TOGETHER:
            await reconciler.look_at(batch)
            batch.clear()
    await reconciler.look_at(batch)
    await reconciler.ask_for_closes()
    return reconciler.reconciled


@dataclass(slots=True)
class _Reconciler:
    store: ObjectStore
    ask_again: AskAgain
    cutoff: datetime
    now: datetime
    dry_run: bool = field(kw_only=True)
    on_stuck: Callable[[Stuck], None] = field(kw_only=True)
    reconciled: Reconciled = field(default_factory=Reconciled)
    closing: dict[str, Stuck] = field(default_factory=dict)
    """The closes of sessions that were seen, by session."""
    waiting: frozenset[Flow] = frozenset()
    """The flows whose queues hold a message for each of their jobs that was never started."""

    async def watched(self, listing: AsyncIterator[ObjectSummary]) -> AsyncIterator[ObjectSummary]:
        """The same listing. A session's close comes before its jobs: "c" before "j"."""
        async for found in listing:
            control = parse_control_key(found.key)
            if control is not None and control.job is None:
                session_id = control.session_id
                self.closing[session_id] = Stuck(found.key, session_id, None, Reason.CONTROL, found.last_modified)
            yield found

    async def count_never_started(self, waiting: Waiting, on_listed: Callable[[int], None]) -> None:
        never_started: Counter[Flow] = Counter()
        async for job in listed_jobs(self.watched(counted(self.store.list(ROOT), on_listed))):
            if self.may_be_stuck(job) and self._is_never_started(job):
                never_started.update(job.manifests.keys())
        self.waiting = frozenset([flow for flow, jobs in never_started.items() if await waiting(flow) >= jobs])

    def may_be_stuck(self, job: ListedJob) -> bool:
        """Whether a closer look is worth it; what a close is about to remove is left to it."""
        asked = bool(job.manifests or job.controls)
        return asked and job.last_active < self.cutoff and job.ref.session_id not in self.closing

    async def look_at(self, jobs: Sequence[ListedJob]) -> None:
        failure: Exception | None = None
        try:
            async with asyncio.TaskGroup() as looking:
                for job in jobs:
                    looking.create_task(self._look_at(job), name=f"look at {job.ref}")
        except ExceptionGroup as failures:
            # One is as good as all: they fail together, because a server does not answer.
            failure = failures.exceptions[0]
        if failure is not None:
            raise failure

    async def ask_for_closes(self) -> None:
        for stuck in self.closing.values():
            if stuck.since < self.cutoff:
                await self._ask_again(stuck)

    async def _look_at(self, job: ListedJob) -> None:
        for key, since in job.controls.items():
            await self._ask_again(Stuck(key, job.ref.session_id, job.ref, Reason.CONTROL, since))
        try:
            found = await read_status(self.store, job.ref)
        except ValidationError:
            log.warning("reconcile.status_unreadable", job=str(job.ref))
            self.reconciled.unreadable += 1
            return
        status = found[0] if found is not None else None
        reason = self._reason(job, status)
        if reason is None:
            return
        # Whichever flow claimed the job has it; without a claim, each manifest asks for itself.
        for flow in job.manifests if status is None else {status.flow} & job.manifests.keys():
            if reason is Reason.NEVER_STARTED and flow in self.waiting:
                self.reconciled.waiting += 1
                continue
            key = job.ref.manifest_key(flow)
            await self._ask_again(Stuck(key, job.ref.session_id, job.ref, reason, job.last_active))

    def _is_never_started(self, job: ListedJob) -> bool:
        """As far as a listing tells."""
        return not job.has_status and job.manifest_at is not None and not self._may_be_forgotten(job.manifest_at)

    def _reason(self, job: ListedJob, status: JobStatus | None) -> Reason | None:
        if status is None:
            return Reason.NEVER_STARTED if self._is_never_started(job) else None
        if not status.is_terminal:
            return None if status.is_held(self.now) else Reason.LEFT
        if not status.published:
            return Reason.NOT_TOLD
        return Reason.NOT_TAKEN_BACK if status.may_have_left_rows else None

    def _may_be_forgotten(self, manifest_at: datetime) -> bool:
        """Whether the bucket's lifecycle may have removed the ledger before the manifest: then the job may have ended.

        It removes in no order, once a day has been rounded up to the next midnight UTC. Source: S3 User Guide,
        "Expiring objects".
        """
        due = manifest_at + timedelta(days=2)
        return self.now >= due.replace(hour=0, minute=0, second=0, microsecond=0)

    async def _ask_again(self, stuck: Stuck) -> None:
        """Unless it was done, or removed, since it was listed."""
        try:
            await self.store.get(stuck.key, max_bytes=_PRESENCE_BYTES)
        except ObjectMissing:
            return
        if not self.dry_run:
            await self.ask_again(stuck.key)
            log.info("reconcile.asked_again", key=stuck.key, reason=stuck.reason)
        self.reconciled.add(stuck)
        self.on_stuck(stuck)
