"""The sweep over real S3: what nobody will read goes, what a job might still read stays."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
import pytest_asyncio
from kit import manifest_of, new_job

from consumers.ports import ObjectSummary
from consumers.sweep import Abandoned, Reason, Swept, sweep
from consumers.worker.ledger import Ledger
from events.keys import Flow, JobRef, ManifestKey
from events.results import Completed, Failed, FailureCode
from infra.s3_store import S3ObjectStore

pytestmark = pytest.mark.asyncio(loop_scope="module")

HOUR = timedelta(hours=1)
JSON = "application/json"
NOTHING = Swept()


@pytest_asyncio.fixture(loop_scope="module")
async def store(s3):
    bucket = f"sweep-{uuid4().hex}"
    await s3.create_bucket(Bucket=bucket)
    return S3ObjectStore(s3, bucket)


async def uploaded(store, job, *, files=1):
    for index in range(files):
        await store.put(job.file_key(index), b"12345", media_type="text/csv")


async def handed_in(store, job):
    await uploaded(store, job)
    await store.put_new(job.manifest_key(Flow.QUERY), json.dumps(manifest_of(job)).encode(), media_type=JSON)
    return ManifestKey(job, Flow.QUERY)


async def begin(store, s3, key, *, part=True):
    upload = await s3.create_multipart_upload(Bucket=store.bucket, Key=key)
    if part:
        await s3.upload_part(Bucket=store.bucket, Key=key, UploadId=upload["UploadId"], PartNumber=1, Body=b"part")


async def begun(store):
    return sorted([upload.key async for upload in store.uploads("")])  # moto lists them as they were begun


async def keys(store, prefix=""):
    return [found.key async for found in store.list(prefix)]


async def swept_after(store, passed, *, dry_run=False, older_than=HOUR):
    """What a sweep finds when so much time has passed, and its sum."""
    found: list[Abandoned] = []
    now = datetime.now(UTC) + passed
    return found, await sweep(store, older_than=older_than, now=now, dry_run=dry_run, on_abandoned=found.append)


async def ended(store, key, outcome):
    claim = await Ledger(store, worker="w", claim_seconds=30).claim(key)
    await claim.end(outcome)


def completed(job):
    return Completed(session_id=job.session_id, job_id=job.job_id, flow=Flow.QUERY)


def cancelled(job):
    return Failed(
        session_id=job.session_id, job_id=job.job_id, flow=Flow.QUERY, code=FailureCode.CANCELLED, message="Stopped."
    )


# ---------------------------------------------------------------- what goes


async def test_files_that_were_never_handed_in_go_after_an_hour(store):
    job, other = sorted([new_job(), new_job()])
    await uploaded(store, job, files=3)
    await uploaded(store, other)
    before = await swept_after(store, HOUR - timedelta(minutes=5))
    found, swept = await swept_after(store, HOUR + timedelta(minutes=5))

    assert before == ([], NOTHING)
    assert swept == Swept(jobs=2, objects=4, bytes=20, uploads=0)
    assert [(each.job, each.reason, each.objects) for each in found] == [
        (job, Reason.NEVER_SENT, 3),
        (other, Reason.NEVER_SENT, 1),
    ]
    assert await keys(store) == []


@pytest.mark.parametrize("outcome", ["completed", "failed"])
async def test_what_a_crash_left_of_a_job_that_ended_goes_and_its_answer_stays(store, outcome):
    key = await handed_in(store, new_job())
    job = key.job
    await store.put(job.result_key(1, "result.csv"), b"x", media_type="text/csv")
    await store.put(job.appended_key(1), b"x", media_type=JSON)
    failed = Failed(
        **completed(job).model_dump(include={"session_id", "job_id", "flow"}),
        code=FailureCode.EXPIRED,
        message="Too late.",
    )
    await ended(store, key, completed(job) if outcome == "completed" else failed)
    found, swept = await swept_after(store, 2 * HOUR)

    assert swept == Swept(jobs=1, objects=1, bytes=5, uploads=0)
    assert found[0].reason is Reason.ENDED
    assert await keys(store) == [
        job.appended_key(1),
        job.manifest_key(Flow.QUERY),
        job.result_key(1, "result.csv"),
        job.status_key,
    ]


@pytest.mark.parametrize("claimed", [False, True])
async def test_files_of_a_job_whose_day_is_over_go(store, claimed):
    key = await handed_in(store, new_job())
    if claimed:
        await Ledger(store, worker="dead", claim_seconds=30).claim(key)
    before, _ = await swept_after(store, timedelta(hours=23))
    found, _ = await swept_after(store, timedelta(hours=25))

    assert before == []
    assert [each.reason for each in found] == [Reason.EXPIRED]
    assert await keys(store, key.job.files_prefix) == []
    assert key.job.manifest_key(Flow.QUERY) in await keys(store)


async def test_uploads_left_open_go_with_or_without_files(store, s3):
    alone, beside = sorted([new_job(), new_job()])
    await begin(store, s3, alone.file_key(0))
    await uploaded(store, beside)
    await begin(store, s3, beside.file_key(1))
    await begin(store, s3, beside.file_key(1), part=False)
    found, swept = await swept_after(store, 2 * HOUR)

    assert swept == Swept(jobs=2, objects=1, bytes=5, uploads=3)
    assert {each.job: each.reason for each in found} == {
        beside: Reason.NEVER_SENT,
        alone: Reason.HALF_UPLOADED,
    }
    assert (await keys(store), await begun(store)) == ([], [])


async def test_a_result_that_a_dead_worker_had_half_uploaded_goes_and_the_files_stay(store, s3):
    key = await handed_in(store, new_job())
    await Ledger(store, worker="dead", claim_seconds=30).claim(key)
    await begin(store, s3, key.job.result_key(1, "result.xlsx"))
    found, swept = await swept_after(store, 2 * HOUR)

    assert swept == Swept(jobs=1, objects=0, bytes=0, uploads=1)
    assert found[0].reason is Reason.HALF_UPLOADED
    assert await begun(store) == []
    assert await keys(store, key.job.files_prefix) == [key.job.file_key(0)]


async def test_a_listing_without_end_goes_in_pieces(store):
    crowded = _Crowded(store, new_job(), 2_500)
    swept = await sweep(crowded, older_than=HOUR, now=datetime.now(UTC))

    assert swept.objects == len(crowded.deleted) == 2_500
    assert crowded.longest == 1_000


class _Crowded:
    """A store with so many old files of one job more than there are."""

    def __init__(self, store: S3ObjectStore, job: JobRef, files: int) -> None:
        self._store = store
        self._keys = [job.file_key(index) for index in range(files)]
        self.deleted: set[str] = set()
        self.longest = 0

    def __getattr__(self, name: str):
        return getattr(self._store, name)

    async def list(self, prefix: str) -> AsyncIterator[ObjectSummary]:
        for key in self._keys:
            yield ObjectSummary(key, 1, "etag", datetime.now(UTC) - 2 * HOUR)

    async def delete(self, keys: Sequence[str]) -> None:
        self.deleted.update(keys)
        self.longest = max(self.longest, len(keys))


# ---------------------------------------------------------------- what stays


async def test_a_job_that_waits_for_its_worker_keeps_its_files(store):
    key = await handed_in(store, new_job())

    assert await swept_after(store, timedelta(hours=23)) == ([], NOTHING)
    assert await keys(store, key.job.files_prefix) == [key.job.file_key(0)]


async def test_a_job_between_two_attempts_keeps_its_files(store):
    key = await handed_in(store, new_job())
    claim = await Ledger(store, worker="w", claim_seconds=30).claim(key)
    await claim.give_back(counts=True)

    assert await swept_after(store, timedelta(hours=23)) == ([], NOTHING)
    assert await keys(store, key.job.files_prefix) == [key.job.file_key(0)]


async def test_a_job_that_a_claim_holds_is_left_alone_even_past_its_day_or_without_its_manifest(store, s3):
    key = await handed_in(store, new_job())
    orphan = await handed_in(store, new_job())
    for each in (key, orphan):
        await Ledger(store, worker="w", claim_seconds=30 * 3600).claim(each)
        await begin(store, s3, each.job.result_key(1, "result.xlsx"))
    await store.delete([orphan.job.manifest_key(Flow.QUERY)])

    assert await swept_after(store, timedelta(hours=25)) == ([], NOTHING)
    assert len(await keys(store)) == 5
    assert len(await begun(store)) == 2


@pytest.mark.parametrize("ended_too", [False, True])
async def test_what_was_written_after_a_close_had_removed_the_manifest_goes(store, ended_too):
    job = new_job()
    claim = await Ledger(store, worker="late", claim_seconds=30).claim(ManifestKey(job, Flow.QUERY))
    if ended_too:
        await claim.end(cancelled(job))
    await store.put(job.result_key(1, "result.csv"), b"12345", media_type="text/csv")
    await uploaded(store, job)
    found, swept = await swept_after(store, 2 * HOUR)

    assert [each.reason for each in found] == [Reason.LEFT_OVER]
    assert swept.objects == 3
    assert await keys(store) == []


async def test_a_result_without_a_ledger_and_a_manifest_goes(store):
    job = new_job()
    await store.put(job.result_key(1, "result.csv"), b"12345", media_type="text/csv")
    found, _ = await swept_after(store, 2 * HOUR)

    assert [each.reason for each in found] == [Reason.LEFT_OVER]
    assert await keys(store) == []


async def test_the_ledger_of_an_answer_or_of_rows_in_a_sheet_stays_without_its_manifest(store):
    answered, writing = new_job(), new_job()
    await ended(store, ManifestKey(answered, Flow.QUERY), completed(answered))
    claim = await Ledger(store, worker="dead", claim_seconds=30).claim(ManifestKey(writing, Flow.QUERY))
    await claim.note(appending_to="spreadsheet")
    await uploaded(store, writing)
    found, _ = await swept_after(store, 2 * HOUR)

    assert [(each.job, each.objects) for each in found] == [(writing, 1)]
    assert sorted(await keys(store)) == sorted([answered.status_key, writing.status_key])


async def test_a_job_whose_upload_is_under_way_is_left_alone(store, s3):
    job = new_job()
    await uploaded(store, job)
    await begin(store, s3, job.file_key(1))
    old_files = _OldObjects(store, 2 * HOUR)
    found = await sweep(old_files, older_than=HOUR, now=datetime.now(UTC))

    assert found == NOTHING
    assert await keys(store) == [job.file_key(0)]
    assert await begun(store) == [job.file_key(1)]


class _OldObjects:
    """A store whose objects (not its open uploads) are older than they are."""

    def __init__(self, store: S3ObjectStore, age: timedelta) -> None:
        self._store = store
        self._age = age

    def __getattr__(self, name: str):
        return getattr(self._store, name)

    async def list(self, prefix: str) -> AsyncIterator[ObjectSummary]:
        async for found in self._store.list(prefix):
            yield replace(found, last_modified=found.last_modified - self._age)


async def test_a_manifest_that_comes_while_the_sweep_lists_saves_its_files(store):
    job = new_job()
    await uploaded(store, job)

    async def handed_in_meanwhile(count):
        if count == 1:
            await store.put_new(job.manifest_key(Flow.QUERY), b"{}", media_type=JSON)

    found = await sweep(_ListsThen(store, handed_in_meanwhile), older_than=HOUR, now=datetime.now(UTC) + 2 * HOUR)

    assert found == NOTHING
    assert await keys(store) == [job.file_key(0), job.manifest_key(Flow.QUERY)]


class _ListsThen:
    """A store where something happens right after each listing."""

    def __init__(self, store: S3ObjectStore, then) -> None:
        self._store = store
        self._then = then
        self._count = 0

    def __getattr__(self, name: str):
        return getattr(self._store, name)

    async def list(self, prefix: str) -> AsyncIterator[ObjectSummary]:
        listed = [found async for found in self._store.list(prefix)]
        self._count += 1
        await self._then(self._count)
        for found in listed:
            yield found


async def test_a_status_of_another_version_protects_its_job(store):
    key = await handed_in(store, new_job())
    await store.put(key.job.status_key, b'{"version": 2}', media_type=JSON)

    assert await swept_after(store, timedelta(hours=25)) == ([], NOTHING)
    assert len(await keys(store)) == 3


async def test_what_is_no_upload_of_a_job_is_none_of_the_sweep_s_business(store, s3):
    job = new_job()
    others = [
        "shared/tokens/x.json",
        f"sessions/{job.session_id}/close.control.json",
        job.cancel_key,
        "sessions/x",
        job.status_key,
    ]
    for key in others:
        await store.put(key, b"{", media_type=JSON)
    await begin(store, s3, "shared/half")

    assert await swept_after(store, timedelta(days=3)) == ([], NOTHING)
    assert await keys(store) == sorted(others)
    assert await begun(store) == ["shared/half"]


# ---------------------------------------------------------------- how it goes about it


async def test_a_dry_run_tells_the_same_and_removes_nothing(store, s3):
    job, alone = new_job(), new_job()
    await uploaded(store, job, files=2)
    await begin(store, s3, job.file_key(2))
    await begin(store, s3, alone.file_key(0))
    dry = await swept_after(store, 2 * HOUR, dry_run=True)
    left = await keys(store), await begun(store)
    wet = await swept_after(store, 2 * HOUR)

    assert left == ([job.file_key(0), job.file_key(1)], sorted([job.file_key(2), alone.file_key(0)]))
    assert dry == wet
    assert dry[1] == Swept(jobs=2, objects=2, bytes=10, uploads=2)


async def test_sweeping_again_and_twice_at_once_is_harmless(store, s3):
    for _ in range(5):
        job = new_job()
        await uploaded(store, job)
        await begin(store, s3, job.file_key(1))
    both = await asyncio.gather(*(swept_after(store, 2 * HOUR) for _ in range(2)))
    again = await swept_after(store, 2 * HOUR)

    assert sum(swept.uploads for _, swept in both) == 5
    assert again == ([], NOTHING)
    assert (await keys(store), await begun(store)) == ([], [])


async def test_jobs_that_need_no_look_cost_no_request(store, proxy):
    for _ in range(3):
        await handed_in(store, new_job())
    listed = []
    proxy.forget()
    await sweep(store, older_than=HOUR, now=datetime.now(UTC) + 2 * HOUR, on_listed=listed.append)

    assert listed == [1, 2, 3, 4, 5, 6]
    assert proxy.count("GET") == 2


async def test_ids_that_begin_alike_are_two_jobs(store):
    waiting, abandoned = JobRef("session-1", "job-00001"), JobRef("session-1", "job-00001-2")
    await handed_in(store, waiting)
    await uploaded(store, abandoned)
    found, _ = await swept_after(store, 2 * HOUR)

    assert [each.job for each in found] == [abandoned]
    assert waiting.file_key(0) in await keys(store)
