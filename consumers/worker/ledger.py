"""The ledger: status.json, claimed, renewed and ended by conditional writes, fenced by ``epoch``.

Whoever holds the newest ETag may write. A writer that was overtaken meets PreconditionFailed, which
is ClaimLost: it stops, and publishes nothing.
"""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Never

from pydantic import ValidationError

from consumers.errors import ClaimLost, HeldElsewhere, ObjectMissing, PreconditionFailed, Transient
from consumers.ports import ObjectStore
from events.keys import Flow, JobRef, ManifestKey
from events.results import Completed, Failed
from events.status import CompletedOutcome, FailedOutcome, JobStatus, State

MAX_STATUS_BYTES = 1024 * 1024
JSON = "application/json"
_ENDING_TRIES = 10
# Somebody else writes just now.
_A_MOMENT_SECONDS = 1
# S3 tells to the second when an object was written, and what time it is.
_CLOCKS_DIFFER = timedelta(seconds=5)


def utc_now() -> datetime:
    return datetime.now(UTC)


class Claim:
    """The job is ours. Writes are made one after another; each needs the ETag of the one before."""

    def __init__(self, ledger: "Ledger", status: JobStatus, etag: str) -> None:
        self._ledger = ledger
        self._etag = etag
        self._writing = asyncio.Lock()
        self._remembered: dict[str, Any] = {}
        self.status = status

    @property
    def job(self) -> JobRef:
        return self.status.ref

    @property
    def identity(self) -> dict[str, Any]:
        """The fields by which every event names its job."""
        return {"session_id": self.job.session_id, "job_id": self.job.job_id, "flow": self.status.flow}

    @property
    def epoch(self) -> int:
        return self.status.epoch

    def now(self) -> datetime:
        return self._ledger.now()

    async def keep(self, *, every_seconds: float) -> Never:
        """Renew for as long as this runs.

        Raises:
            ClaimLost: the job is no longer ours, or S3 could not be reached for as long as the claim lasts.
        """
        while True:
            await asyncio.sleep(every_seconds)
            try:
                await self._write()
            except Transient as error:
                expires = self.status.claim_expires_at
                if expires is not None and expires <= self._ledger.now():
                    raise ClaimLost(f"the claim of {self.job} ran out while it could not be renewed") from error

    async def note(self, **facts: Any) -> None:
        """Keep fields of the status: the stage reached, what must be taken back if the job fails."""
        await self._write(**facts)

    async def remember(self, **facts: Any) -> None:
        """Keep fields with the next write, whatever it is: for what another attempt would find out again."""
        async with self._writing:
            self._remembered |= facts
            self.status = self.status.model_copy(update=facts)

    async def end(self, outcome: Completed | Failed, *, claim_expires_at: datetime | None = None) -> JobStatus:
        """The one terminal write; raises ClaimLost."""
        await self._write(**self._ledger.terminal(outcome), claim_expires_at=claim_expires_at)
        return self.status

    async def mark_published(self) -> None:
        await self._write(published=True)

    async def give_back(self, *, counts: bool) -> None:
        """Let anybody claim the job again, unless it has ended; ``counts`` says whether this was an attempt."""
        if self.status.is_terminal:
            return
        attempts = self.status.attempts if counts else self.status.attempts - 1
        await self._write(state=State.WAITING, claim_expires_at=None, attempts=attempts)

    async def _write(self, **changes: Any) -> None:
        async with self._writing:
            changes = self._remembered | changes
            try:
                self.status, self._etag = await self._ledger.replace(self.status, self._etag, **changes)
            except ClaimLost:
                # A write of ours that was cancelled half-way may have been applied, or others noted an undo: then
                # it is still our claim.
                found = await self._ledger.read(self.job)
                if found is None or not self._is_ours(found[0]):
                    raise
                self.status, self._etag = await self._ledger.replace(*found, **changes)
            self._remembered = {}

    def _is_ours(self, status: JobStatus) -> bool:
        def holder(of: JobStatus) -> tuple[str, int, datetime, bool]:
            # With a ledger that was removed and begun again, the epochs begin again, too.
            return of.worker, of.epoch, of.accepted_at, of.is_terminal

        return holder(status) == holder(self.status)


class Ledger:
    """Claims jobs for one worker."""

    def __init__(
        self,
        store: ObjectStore,
        *,
        worker: str,
        claim_seconds: float,
        sandbox: tuple[str, ...] = (),
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self._store = store
        self._worker: dict[str, Any] = {"worker": worker, "sandbox": sandbox}
        self._claim_time = timedelta(seconds=claim_seconds)
        self.now = now

    async def claim(self, key: ManifestKey, **facts: Any) -> Claim:
        """Take the job, or take it over from a claim that has run out; ``facts`` are kept with that.

        The claim's status is terminal where the job has ended already: then nothing was written, and
        all that may be left is to publish.

        Raises:
            HeldElsewhere: a live claim has the job, or won the race for it.
        """
        fresh = self._fresh(key.job, key.flow).model_copy(update=facts)
        try:
            return Claim(self, fresh, await self._put_new(fresh))
        except PreconditionFailed:
            found = await self.read(key.job)
        if found is None:
            raise HeldElsewhere(_A_MOMENT_SECONDS)
        try:
            return await self._take_over(*found, facts)
        except ClaimLost:
            raise HeldElsewhere(_A_MOMENT_SECONDS) from None

    async def read(self, job: JobRef) -> tuple[JobStatus, str] | None:
        """The job's status and its ETag, or None if nobody has claimed it yet."""
        try:
            return await read_status(self._store, job, now=self.now)
        except ValidationError as error:
            raise RuntimeError(f"status.json of {job} is not ours to read") from error

    def busy_until(self, status: JobStatus) -> datetime | None:
        """When to look again, while a worker may be at the job; also at one that was ended under its hands."""
        now = self.now()
        if status.claim_expires_at is None or status.claim_expires_at <= now:
            return None
        # No claim lasts longer from now: what says so was written by a clock that is ahead.
        return min(status.claim_expires_at, now + self._claim_time)

    def seconds_until(self, moment: datetime) -> float:
        """How long to wait for a claim's end: not for longer than one lasts, even if the clock was put back since."""
        return min(max(0, (moment - self.now()).total_seconds()), self._claim_time.total_seconds())

    async def end_now(self, job: JobRef, flow: Flow, outcome: Failed) -> Claim:
        """End the job whoever holds it. The claim's status tells how it really ended.

        A job that has ended already stays as it is. Where a worker held it, ``claim_expires_at`` still tells
        until when it may be at it.
        """
        for _ in range(_ENDING_TRIES):
            found = await self.read(job)
            try:
                if found is None:
                    ended = {**self.terminal(outcome), "claim_expires_at": None}
                    first = self._fresh(job, flow).model_copy(update=ended)
                    return Claim(self, first, await self._put_new(first))
                claim = Claim(self, *found)
                if not claim.status.is_terminal:
                    await claim.end(outcome, claim_expires_at=claim.status.claim_expires_at)
            except (PreconditionFailed, ClaimLost):
                continue
            else:
                return claim
        raise HeldElsewhere(_A_MOMENT_SECONDS)

    async def amend(self, job: JobRef, **facts: Any) -> None:
        """Add facts to the status of a job that has ended; of a job that is gone, nothing is kept."""
        for _ in range(_ENDING_TRIES):
            found = await self.read(job)
            if found is None:
                return
            try:
                await self.replace(*found, **facts)
            except ClaimLost:
                continue
            else:
                return
        raise HeldElsewhere(_A_MOMENT_SECONDS)

    async def replace(self, status: JobStatus, etag: str, **changes: Any) -> tuple[JobStatus, str]:
        """Write the next version over exactly this one; raises ClaimLost."""
        now = self.now()
        renewed = {"claim_expires_at": now + self._claim_time} if status.state is State.RUNNING else {}
        following = status.model_copy(update={"updated_at": now, **renewed, **changes})
        try:
            return following, await self._store.put_over(
                status.ref.status_key, _body(following), etag=etag, media_type=JSON
            )
        except PreconditionFailed as error:
            raise ClaimLost(f"{status.ref} is no longer ours") from error

    def terminal(self, outcome: Completed | Failed) -> dict[str, Any]:
        """The changes that end a job."""
        ended = CompletedOutcome(data=outcome) if isinstance(outcome, Completed) else FailedOutcome(data=outcome)
        return {"state": State(ended.state), "ended_at": self.now(), "outcome": ended}

    async def _take_over(self, status: JobStatus, etag: str, facts: dict[str, Any]) -> Claim:
        if status.is_terminal:
            return Claim(self, status, etag)
        busy_until = self.busy_until(status)
        if busy_until is not None:
            raise HeldElsewhere(self.seconds_until(busy_until))
        taken = await self.replace(
            status,
            etag,
            state=State.RUNNING,
            epoch=status.epoch + 1,
            attempts=status.attempts + 1,
            claim_expires_at=self.now() + self._claim_time,
            **self._worker,
            **facts,
        )
        return Claim(self, *taken)

    def _fresh(self, job: JobRef, flow: Flow) -> JobStatus:
        now = self.now()
        return JobStatus(
            session_id=job.session_id,
            job_id=job.job_id,
            flow=flow,
            state=State.RUNNING,
            epoch=1,
            attempts=1,
            accepted_at=now,
            updated_at=now,
            claim_expires_at=now + self._claim_time,
            **self._worker,
        )

    async def _put_new(self, status: JobStatus) -> str:
        return await self._store.put_new(status.ref.status_key, _body(status), media_type=JSON)


async def read_status(
    store: ObjectStore, job: JobRef, *, now: Callable[[], datetime] = utc_now
) -> tuple[JobStatus, str] | None:
    """The job's status and its ETag, or None; raises pydantic's ValidationError for one of another version.

    Its claim ends when it should on the clock that ``now`` reads, whatever that and the holder's clock say.
    """
    try:
        stored = await store.get(job.status_key, max_bytes=MAX_STATUS_BYTES)
    except ObjectMissing:
        return None
    return _on_time(JobStatus.model_validate_json(stored.body), now() - stored.age), stored.etag


def _on_time(status: JobStatus, written_at: datetime) -> JobStatus:
    """A claim lasts from when the store was given it: ``written_at`` on the clock of whoever reads this."""
    wrong_by = written_at - status.updated_at
    if status.claim_expires_at is None or abs(wrong_by) < _CLOCKS_DIFFER:
        return status
    return status.model_copy(update={"claim_expires_at": status.claim_expires_at + wrong_by})


def _body(status: JobStatus) -> bytes:
    return status.model_dump_json(exclude_none=True).encode()
