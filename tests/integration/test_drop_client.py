"""The producer's side of the contract, against a real bucket."""

import asyncio
import zlib
from base64 import b64encode
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from consumers.errors import Permanent
from events.keys import Flow, JobRef, ManifestKey, session_prefix
from events.manifest import DownloadDestination, ManifestError, parse_manifest
from events.results import Completed, FailureCode, ResultFile
from events.status import CompletedOutcome, JobStatus, State
from infra.clients import Clients
from infra.drop_client import DropClient, DropError, Request, new_id
from infra.s3_store import S3ObjectStore
from infra.settings import Settings

SESSION = "session-1"
JOB = JobRef(SESSION, "job-00001")
NOW = datetime(2026, 1, 5, tzinfo=UTC)


@pytest.fixture
async def store(moto_endpoint):
    settings = Settings(aws_endpoint_url=moto_endpoint, aws_access_key_id="test", aws_secret_access_key="test")
    async with Clients(settings) as clients:
        bucket = f"drops-{uuid4().hex}"
        await clients.s3.create_bucket(Bucket=bucket)
        yield S3ObjectStore(clients.s3, bucket)


async def keys(store):
    return sorted([found.key async for found in store.list(session_prefix(SESSION))])


async def manifest_of(store, job, flow=Flow.QUERY):
    stored = await store.get(job.manifest_key(flow), max_bytes=10**7)
    return parse_manifest(stored.body, ManifestKey(job, flow), bucket=store.bucket)


async def written(store, status):
    await store.put(status.ref.status_key, status.model_dump_json().encode(), media_type="application/json")


def status(**facts):
    common = {"session_id": SESSION, "job_id": JOB.job_id, "flow": Flow.QUERY, "epoch": 1, "attempts": 1}
    return JobStatus(
        **common, **{"state": State.RUNNING, "worker": "w", "accepted_at": NOW, "updated_at": NOW, **facts}
    )


def completed(*files):
    return Completed(session_id=SESSION, job_id=JOB.job_id, flow=Flow.QUERY, files=files)


def result(name, key=None):
    return ResultFile(key=key or JOB.result_key(1, "result.csv"), name=name, media_type="text/csv", size=5)


async def test_a_drop_is_its_files_and_a_manifest_that_pins_them(store, tmp_path):
    (tmp_path / "Müll (1).csv").write_bytes(b"a,b\n1,2\n")
    job = await DropClient(store).drop(
        [tmp_path / "Müll (1).csv"], Request("Sum it up", destination=DownloadDestination(format="csv"))
    )
    manifest = await manifest_of(store, job)
    (entry,) = manifest.files

    assert (entry.name, entry.type, entry.extension, entry.size) == ("Müll (1).csv", "text/csv", "csv", 8)
    assert entry.crc32 == b64encode(zlib.crc32(b"a,b\n1,2\n").to_bytes(4, "big")).decode()
    assert entry.s3_key == job.file_key(0)
    assert manifest.destination.format == "csv"
    assert (await store.get(job.file_key(0), max_bytes=100)).body == b"a,b\n1,2\n"


async def test_a_large_file_goes_up_in_parts_and_every_byte_is_told(store, tmp_path):
    (tmp_path / "large.csv").write_bytes(b"x" * (20 * 1024 * 1024 + 1))
    told = []
    job = await DropClient(store).drop([tmp_path / "large.csv"], Request("Sum it up"), on_bytes=told.append)
    (listed,) = [found async for found in store.list(job.files_prefix)]

    assert sum(told) == listed.size == 20 * 1024 * 1024 + 1
    assert listed.etag.strip('"').endswith("-3")


async def test_a_small_file_may_travel_inside_the_manifest(store, tmp_path):
    (tmp_path / "small.csv").write_bytes(b"a\n1\n")
    (tmp_path / "large.csv").write_bytes(b"a\n" * 100)
    paths = [tmp_path / "small.csv", tmp_path / "large.csv"]
    job = await DropClient(store).drop(
        paths, Request("Draw it", Flow.VISUALIZATION), session_id=SESSION, inline_bytes=100
    )
    manifest = await manifest_of(store, job, Flow.VISUALIZATION)

    assert manifest.inline_part(0).data == b"a\n1\n"
    assert await keys(store) == [job.file_key(1), job.manifest_key(Flow.VISUALIZATION)]


async def test_a_drop_that_cannot_be_finished_leaves_nothing_behind(store, tmp_path):
    (tmp_path / "there.csv").write_bytes(b"a\n1\n")
    (tmp_path / "folder.csv").mkdir()

    with pytest.raises(IsADirectoryError):
        await DropClient(store).drop(
            [tmp_path / "there.csv", tmp_path / "folder.csv"], Request("Sum it up"), session_id=SESSION
        )
    assert await keys(store) == []


async def test_a_request_that_breaks_the_contract_is_refused_before_anything_is_sent(store, tmp_path):
    (tmp_path / "there.csv").write_bytes(b"a\n1\n")
    told = []

    with pytest.raises(ManifestError):
        await DropClient(store).drop([tmp_path / "there.csv"], Request("  "), on_bytes=told.append)
    assert told == []


async def test_a_job_is_followed_to_its_end(store):
    client = DropClient(store)
    seen = []

    async def watch():
        async for version in client.follow(JOB):
            seen.append(version.state)
            if version.state is State.RUNNING:
                ended = {"state": State.COMPLETED, "ended_at": NOW, "outcome": CompletedOutcome(data=completed())}
                await written(store, status(**ended))

    watching = asyncio.create_task(watch())
    await written(store, status())
    await watching

    assert seen == [State.RUNNING, State.COMPLETED]


async def test_following_ends_when_the_session_was_closed(store):
    await written(store, status())

    async def watch():
        async for _ in DropClient(store).follow(JOB):
            await store.delete([JOB.status_key])

    with pytest.raises(DropError, match="closed"):
        await watch()


async def test_a_status_of_another_version_is_said_to_be_one(store):
    await store.put(JOB.status_key, b'{"version": 2}', media_type="application/json")

    with pytest.raises(DropError, match="another version"):
        await DropClient(store).status(JOB)


@pytest.mark.parametrize("name", ["../../up.csv", "/etc/passwd", "..", ".hidden", "a\nb", "con\u202ecsv", ""])
async def test_a_result_is_saved_under_a_plain_name_inside_the_folder(store, tmp_path, name):
    await store.put(JOB.result_key(1, "result.csv"), b"a\n1\n\n", media_type="text/csv")
    (saved,) = await DropClient(store).save(completed(result(name)), tmp_path / "results")

    assert saved == tmp_path / "results" / "result-1"
    assert saved.read_bytes() == b"a\n1\n\n"
    assert list(tmp_path.rglob("*")) == [tmp_path / "results", saved]


async def test_a_file_that_is_there_is_not_overwritten(store, tmp_path):
    await store.put(JOB.result_key(1, "result.csv"), b"a\n1\n\n", media_type="text/csv")
    saved = [(await DropClient(store).save(completed(result("result.csv")), tmp_path))[0].name for _ in range(3)]

    assert saved == ["result.csv", "result-2.csv", "result-3.csv"]


@pytest.mark.parametrize(
    "key", ["sessions/session-2/jobs/job-00001/result/1/x", f"{JOB.results_prefix}../../x", JOB.status_key]
)
async def test_a_result_outside_its_job_is_not_fetched(store, tmp_path, key):
    await written(store, status())

    with pytest.raises(DropError, match="outside"):
        await DropClient(store).save(completed(result("result.csv", key)), tmp_path)
    assert list(tmp_path.iterdir()) == []


async def test_a_result_that_is_gone_leaves_no_empty_file(store, tmp_path):
    with pytest.raises(DropError, match="no longer there"):
        await DropClient(store).save(completed(result("result.csv")), tmp_path)

    assert list(tmp_path.iterdir()) == []


async def test_what_is_older_than_a_day_is_refused_though_it_is_still_there(store, tmp_path):
    await written(store, status())
    await store.put(JOB.result_key(1, "result.csv"), b"a\n1\n\n", media_type="text/csv")
    waiting = JobRef(SESSION, "job-00002")
    await store.put(waiting.manifest_key(Flow.QUERY), b"{}", media_type="application/json")
    young = DropClient(store, now=lambda: datetime.now(UTC) + timedelta(hours=23))
    old = DropClient(store, now=lambda: datetime.now(UTC) + timedelta(hours=24))

    assert await young.status(JOB) == status()
    assert await young.status(waiting) is None
    assert len(await young.save(completed(result("result.csv")), tmp_path / "young")) == 1
    for reading in (
        old.status(JOB),
        old.status(waiting),
        anext(old.follow(JOB)),
        anext(old.follow(waiting)),
        old.save(completed(result("result.csv")), tmp_path / "old"),
    ):
        with pytest.raises(Permanent) as error:
            await reading
        assert error.value.code is FailureCode.EXPIRED
    assert list((tmp_path / "old").iterdir()) == []


async def test_who_follows_a_job_that_nobody_takes_hears_of_its_end_after_a_day(store):
    await store.put(JOB.manifest_key(Flow.QUERY), b"{}", media_type="application/json")
    passed = iter(map(timedelta, [0, 0, 0, 1]))
    client = DropClient(store, now=lambda: datetime.now(UTC) + next(passed))

    with pytest.raises(Permanent) as error:
        await anext(client.follow(JOB))

    assert error.value.code is FailureCode.EXPIRED
    assert list(passed) == []


async def test_an_undo_is_asked_for_by_a_control_object(store):
    await written(store, status())
    await DropClient(store).undo(JOB)

    assert await keys(store) == [JOB.status_key, JOB.undo_key]


async def test_an_undo_of_a_job_older_than_a_day_is_refused_before_it_is_asked_for(store):
    await written(store, status())
    old = DropClient(store, now=lambda: datetime.now(UTC) + timedelta(hours=24))
    with pytest.raises(Permanent) as error:
        await old.undo(JOB)

    assert error.value.code is FailureCode.EXPIRED
    assert await keys(store) == [JOB.status_key]


async def test_a_job_that_no_worker_has_taken_has_nothing_to_undo_yet(store):
    manifest = JOB.manifest_key(Flow.QUERY)
    await store.put(manifest, b"{}", media_type="application/json")
    with pytest.raises(DropError, match="has not ended yet"):
        await DropClient(store).undo(JOB)

    assert await keys(store) == [manifest]


async def test_without_results_no_folder_is_made(store, tmp_path):
    assert await DropClient(store).save(completed(), tmp_path / "results") == []
    assert list(tmp_path.iterdir()) == []


async def test_a_job_is_found_by_its_id_in_every_session(store):
    client = DropClient(store)
    for session in (SESSION, "session-2"):
        await store.put(JobRef(session, JOB.job_id).file_key(0), b"", media_type="text/csv")
    await store.put(JobRef(SESSION, "job-00002").file_key(0), b"", media_type="text/csv")

    assert await client.find(JOB.job_id) == [JOB, JobRef("session-2", JOB.job_id)]
    assert await client.find("job-00003") == []


def test_ids_are_ids_by_the_contract():
    drawn = {new_id() for _ in range(100)}

    assert len(drawn) == 100
    assert all(
        JobRef(each, each).prefix.startswith("sessions/") and each.isalnum() and len(each) == 16 for each in drawn
    )
