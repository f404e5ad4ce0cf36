"""The job: the transaction that every flow runs inside.

claim → read and check the manifest → flow → complete (fenced) → publish → mark published → clean up.
A crash between any two steps leads to the same visible result as no crash: one terminal status, one
terminal event after deduplication, no upload left behind.
"""

import asyncio
import random
import sys
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

import structlog

from consumers.drop import Answer, Drop
from consumers.errors import ClaimLost, HeldElsewhere, JobError, ObjectMissing, Permanent, Transient
from consumers.ports import EventSink, ObjectStore, Report, StoredObject
from consumers.s3_file_management import remove_results, remove_uploads
from consumers.uncancelled import uncancelled
from consumers.worker import endings
from consumers.worker.budget import ByteBudget, NoRoom
from consumers.worker.finish import NOTHING_KNOWN, Bury, Finish, Known, owes_a_sheet
from consumers.worker.keep import while_kept
from consumers.worker.ledger import Claim, Ledger, utc_now
from consumers.worker.outcome import Completed, Outcome, Released, Retry
from consumers.worker.progress import FIRST_STAGE, Progress
from events import results
from events.keys import Flow, ManifestKey
from events.manifest import MAX_LIFE, MAX_MANIFEST_BYTES, Manifest, ManifestError, parse_manifest
from events.results import FailureCode, Stage, event_of
from events.status import CompletedOutcome, FailedOutcome

MAX_TEXT_CHARS = 10_000
MAX_NOTES = 200
MAX_NOTE_CHARS = 500
# Until another worker has room, or this one: large drops take minutes.
_NO_ROOM_SECONDS = (20, 60)
_ABANDON_SECONDS = 5

log = structlog.get_logger(__name__)


class _ManifestGone(Exception):
    """The manifest was removed before its job ran: its session was closed, or its day is over."""


class FlowFunction(Protocol):
    async def __call__(self, drop: Drop, *, report: Report) -> Answer: ...


@dataclass(frozen=True, slots=True)
class JobPolicy:
    """How long and how often a job may try; what is larger than ``drop_bytes`` is refused by its flow."""

    attempts: int = 3
    seconds: float = 1800
    drop_bytes: int = sys.maxsize
    heartbeat_seconds: float = 5
    retry_base_seconds: float = 5


class JobTransaction:
    """Takes one manifest key to one outcome."""

    def __init__(
        self,
        flows: Mapping[Flow, FlowFunction],
        *,
        ledger: Ledger,
        store: ObjectStore,
        events: EventSink,
        finish: Finish,
        policy: JobPolicy,
        bytes_at_once: ByteBudget | None = None,
        stopping: Callable[[], bool] = lambda: False,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self._flows = flows
        self._ledger = ledger
        self._store = store
        self._events = events
        self._finish = finish
        self._policy = policy
        self._bytes_at_once = bytes_at_once or ByteBudget(sys.maxsize)
        self._stopping = stopping
        self._now = now

    async def run(self, key: ManifestKey, bury: Bury) -> Outcome:
        """Do the job, or find that it is done, or that it is not our turn.

        ``bury`` sends a dead letter about the message that brought the key. Unexpected errors are the
        caller's to log: the claim has been given back then, and the attempt counted.
        """
        try:
            claim = await self._claim(key)
        except HeldElsewhere as held:
            return Released(held.wait_seconds)
        known = NOTHING_KNOWN
        if not claim.status.is_terminal:
            try:
                known = await self._attempt(claim)
            except ClaimLost:
                log.warning("job.claim_lost", job=str(claim.job), epoch=claim.epoch)
                await uncancelled(self._discard_results(claim))
                return Released()
            except _ManifestGone:
                return await uncancelled(self._withdraw(claim))
            except NoRoom:
                return await uncancelled(self._leave_to_others(claim))
            except Transient as error:
                return await uncancelled(self._try_again(claim, error))
            except BaseException as error:
                # Only a stop takes the job away from a worker that would have gone on with it.
                stopped = isinstance(error, asyncio.CancelledError) and self._stopping()
                await uncancelled(self._abandon_now(claim, counts=not stopped))
                raise
        await self._finish(claim, bury, known)
        failed = isinstance(claim.status.outcome, FailedOutcome)
        if failed and not owes_a_sheet(claim.status) and await self._is_removed(key):
            await self._store.delete([claim.job.status_key])
        return Completed()

    async def _claim(self, key: ManifestKey) -> Claim:
        claiming = asyncio.create_task(self._ledger.claim(key, stage=FIRST_STAGE, detail="Reading the request."))
        try:
            return await asyncio.shield(claiming)
        except asyncio.CancelledError:
            await uncancelled(self._give_back_unused(claiming))
            raise

    async def _give_back_unused(self, claiming: "asyncio.Task[Claim]") -> None:
        """A claim that was under way when its caller was cancelled: nobody shall have to wait for its end."""
        with suppress(HeldElsewhere, ClaimLost, JobError, TimeoutError):
            async with asyncio.timeout(_ABANDON_SECONDS):
                claim = await claiming
                await claim.give_back(counts=False)

    async def _is_removed(self, key: ManifestKey) -> bool:
        """Whether a session was closed before this job was claimed, and all of it is gone but its ledger."""
        try:
            await self._store.get(key.job.manifest_key(key.flow), max_bytes=0)
        except ObjectMissing:
            return True
        return False

    async def _attempt(self, claim: Claim) -> Known:
        """Work up to the terminal write, completed or failed; raises what is worth another attempt."""
        progress = Progress(claim, self._events)
        attempts = claim.status.attempts
        log.info("job.claimed", job=str(claim.job), epoch=claim.epoch, attempt=attempts)
        try:
            if attempts > self._policy.attempts:
                # They may have taken their workers with them.
                await self._fail(claim, endings.given_up(FailureCode.INTERNAL), progress.stage)
                return Known(cause=endings.NO_WORD)
            keeper = claim.keep(every_seconds=self._policy.heartbeat_seconds)
            return Known(keys=await while_kept(keeper, self._work(claim, progress), name=f"job {claim.job}"))
        except Permanent as error:
            await self._fail(claim, error, progress.stage)
        except Transient as error:
            if attempts < self._policy.attempts:
                raise
            log.warning("job.given_up", job=str(claim.job), code=error.code, message=error.message)
            await self._fail(claim, endings.given_up(error.code), progress.stage)
            return Known(cause=error.message)
        return NOTHING_KNOWN

    async def _work(self, claim: Claim, progress: Progress) -> Collection[str]:
        """Returns the keys that the job had just before its end."""
        manifest, stored = await self._read_manifest(claim)
        await claim.remember(traceparent=manifest.traceparent, manifest_etag=stored.etag)
        async with self._bytes_for(manifest, progress):
            answer = await self._in_time(claim, manifest, stored, progress)
        await progress.accepted()
        found = {each.key: each.etag async for each in self._store.list(claim.job.prefix)}
        # Without a manifest its session was closed: then the ledger knows, and refuses the end.
        if found.get(claim.job.manifest_key(claim.status.flow), stored.etag) != stored.etag:
            raise endings.manifest_changed()
        await claim.end(
            results.Completed(
                **claim.identity,
                answer=None if answer.text is None else answer.text[:MAX_TEXT_CHARS],
                files=answer.files,
                sheet=answer.sheet,
                notes=_bounded(answer.notes),
                seconds=progress.seconds(),
            )
        )
        log.info("job.completed", job=str(claim.job), files=len(answer.files), sheet=answer.sheet is not None)
        return found.keys()

    @asynccontextmanager
    async def _bytes_for(self, manifest: Manifest, progress: Progress) -> AsyncIterator[None]:
        """Its files' share of what the worker may have in hand; waiting for it takes none of the job's own time."""
        declared = sum(file.size for file in manifest.files)
        size = declared if declared <= self._policy.drop_bytes else 0
        if not self._bytes_at_once.has(size):
            await progress(Stage.READ, "Waiting until other large files are done.")
        async with self._bytes_at_once.hold(size, unless=self._stopping):
            yield

    async def _in_time(self, claim: Claim, manifest: Manifest, stored: StoredObject, progress: Progress) -> Answer:
        left = self._seconds_to_expiry(manifest, stored.last_modified)
        try:
            async with asyncio.timeout(min(left, self._policy.seconds)) as clock:
                drop = Drop(claim.job, claim.epoch, manifest)
                return await self._flows[claim.status.flow](drop, report=progress)
        except TimeoutError as error:
            if not clock.expired():
                raise
            if left <= self._policy.seconds:
                raise endings.expired() from error
            raise endings.too_slow() from error

    async def _read_manifest(self, claim: Claim) -> tuple[Manifest, StoredObject]:
        """The manifest, and the object that it was read from: the same one in every attempt."""
        key = ManifestKey(claim.job, claim.status.flow)
        try:
            stored = await self._store.get(claim.job.manifest_key(key.flow), max_bytes=MAX_MANIFEST_BYTES)
        except ObjectMissing as error:
            if claim.status.appending_to is not None:
                # What it may have written must be taken back first, and the ledger is what remembers it.
                raise endings.manifest_gone() from error
            raise _ManifestGone from error
        if claim.status.manifest_etag not in (None, stored.etag):
            raise endings.manifest_changed()
        try:
            return parse_manifest(stored.body, key, bucket=self._store.bucket), stored
        except ManifestError as error:
            raise Permanent(error.code, error.message) from error

    def _seconds_to_expiry(self, manifest: Manifest, written_at: datetime) -> float:
        # Whatever the manifest says of itself: a day after S3 was given it, it is over.
        expires = min(manifest.created_at, written_at) + MAX_LIFE
        if manifest.expires_at is not None:
            expires = min(expires, manifest.expires_at)
        left = (expires - self._now()).total_seconds()
        if left <= 0:
            raise endings.expired()
        return left

    async def _fail(self, claim: Claim, error: Permanent, stage: Stage | None) -> None:
        log.info("job.failed", job=str(claim.job), code=error.code, stage=stage, message=error.message)
        await claim.end(results.Failed(**claim.identity, code=error.code, message=error.message, stage=stage))

    async def _try_again(self, claim: Claim, error: Transient) -> Outcome:
        await self._abandon(claim, counts=True)
        # Attempts go on being counted while even giving up cannot be written.
        tried = min(claim.status.attempts, self._policy.attempts)
        longest = self._policy.retry_base_seconds * 2**tried
        delay = random.uniform(0, longest)  # noqa: S311 - spreads load, guards nothing
        log.warning("job.retry", job=str(claim.job), code=error.code, message=error.message, delay_seconds=delay)
        return Retry(delay)

    async def _leave_to_others(self, claim: Claim) -> Outcome:
        await self._abandon(claim, counts=False)
        return Released(0 if self._stopping() else random.uniform(*_NO_ROOM_SECONDS))  # noqa: S311 - spreads load

    async def _abandon_now(self, claim: Claim, *, counts: bool) -> None:
        """Before whatever ended the attempt goes on its way: no error of ours takes its place, nor much of its time."""
        try:
            async with asyncio.timeout(_ABANDON_SECONDS):
                await self._abandon(claim, counts=counts)
        except (JobError, TimeoutError) as error:
            # Then the claim runs out.
            log.warning("job.not_given_back", job=str(claim.job), reason=str(error))

    async def _abandon(self, claim: Claim, *, counts: bool) -> None:
        """Let anybody claim the job, and leave nothing of this attempt behind."""
        try:
            await claim.give_back(counts=counts)
        except ClaimLost:
            log.info("job.taken_meanwhile", job=str(claim.job))
        await self._discard_results(claim)

    async def _discard_results(self, claim: Claim) -> None:
        """Remove what this epoch delivered, unless the ledger says that the job was completed with it."""
        found = await self._ledger.read(claim.job)
        if found is not None and isinstance(found[0].outcome, CompletedOutcome) and found[0].epoch == claim.epoch:
            return
        await remove_results(self._store, claim.job, epoch=claim.epoch)

    async def _withdraw(self, claim: Claim) -> Outcome:
        """The manifest is gone: say so, and leave nothing behind, not even a ledger.

        The event has the id of every end: where a close of the session told of it just now, it is dropped.
        """
        log.info("job.manifest_gone", job=str(claim.job))
        gone = endings.manifest_gone()
        failed = results.Failed(**claim.identity, code=gone.code, message=gone.message)
        try:
            await self._events.publish(event_of(failed, time=claim.status.accepted_at))
            await remove_uploads(self._store, claim.job)
        except Transient:
            await self._abandon(claim, counts=False)
            raise
        await self._store.delete([claim.job.status_key])
        return Completed()


def _bounded(notes: tuple[str, ...]) -> tuple[str, ...]:
    # A terminal event must fit into one SQS message, 1 MiB, however much there is to tell.
    told = [note[:MAX_NOTE_CHARS] for note in notes[:MAX_NOTES]]
    left = len(notes) - len(told)
    return (*told, f"… and {left} more.") if left else tuple(told)
