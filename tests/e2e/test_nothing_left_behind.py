"""After 500 mixed jobs and closed sessions the bucket holds what it should, and nothing else.

Most jobs run cheap flows, because their answers prove nothing here; some run the real ones, sandbox and all.
Everything else is what runs in production: notifications, queues, pollers, ledger, controls.
"""

import asyncio
import json
import random
import urllib.request
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.error import HTTPError

import pytest
from kit import CONTENT, Kit, manifest_of, new_job, until
from pydantic import SecretStr
from scripted_model import Reply, ScriptedModel

from consumers.drop import Answer, Drop
from consumers.errors import Permanent, Transient
from consumers.ports import EventSink, Report
from consumers.session_control import SessionControl
from consumers.worker.drain import run_until
from consumers.worker.finish import Finish
from consumers.worker.job import JobPolicy, JobTransaction
from consumers.worker.ledger import Ledger
from consumers.worker.message import Handlers, MessageHandler
from consumers.worker.poll import Poller
from events.keys import Flow, JobRef, close_key, parse_job_key
from events.results import CompletedEvent, FailureCode, JobEvent, ResultFile
from events.status import CompletedOutcome, FailedOutcome, JobStatus
from infra.provision import Stack, provision
from infra.settings import Settings
from infra.sqs_queue import SqsDeadLetters
from infra.wiring import run_worker

JOBS, FEWER_JOBS = 500, 100
CLAIM_SECONDS = 8
JSON = "application/json"
BOTH = "```python\nresult = df\nif 'alt' in dir():\n    chart = alt.Chart(df).mark_bar().encode(x='a:N', y='b:Q')\n```"
FORMATS = ("xlsx", "csv", "parquet", "json", "jsonl")

# How a job is meant to end.
COMPLETED = "completed"
CLOSED = "closed"

# What each cheap job is: how often, and how it ends.
MIXTURE: dict[str, tuple[int, str]] = {
    "answer": (26, COMPLETED),
    "answer after a hiccup": (4, COMPLETED),
    "answer after a crash": (4, COMPLETED),
    "refuse": (16, FailureCode.FILE_EMPTY),
    "hiccup for ever": (4, FailureCode.MODEL_UNREACHABLE),
    "no manifest": (8, FailureCode.MANIFEST_NOT_JSON),
    "another's file": (4, FailureCode.FOREIGN_FILE),
    "expired": (8, FailureCode.EXPIRED),
    "write until cancelled": (8, FailureCode.CANCELLED),
    "upload until cancelled": (1, FailureCode.CANCELLED),
    "write until closed": (8, CLOSED),
    "upload until closed": (1, CLOSED),
    "answer, then close": (10, CLOSED),
}


@pytest.fixture
def settings(own_moto: str) -> Settings:
    return Settings(
        _env_file=None,
        aws_endpoint_url=own_moto,
        aws_access_key_id="test",
        aws_secret_access_key=SecretStr("test"),
        bucket="nothing-left-behind",
        stack="nothing-left-behind",
        receive_wait_seconds=1,
        # A poll that is cut short may still take a message: the next worker has it after this time.
        visibility_seconds=5,
        lanes=4,
    )


@pytest.fixture
def stack(settings: Settings) -> Stack:
    return provision(settings)


class CheapFlow:
    """Does what the request says: answers, fails, or writes results until it is stopped."""

    def __init__(self, kit: Kit) -> None:
        self._store = kit.store
        self._tried: set[JobRef] = set()
        self.writing: defaultdict[JobRef, asyncio.Event] = defaultdict(asyncio.Event)

    async def __call__(self, drop: Drop, *, report: Report) -> Answer:
        first, query = drop.job not in self._tried, drop.manifest.query
        self._tried.add(drop.job)
        result = await self._deliver(drop, "result.csv")
        if query == "refuse":
            raise Permanent(FailureCode.FILE_EMPTY, "It is empty.")
        if query == "hiccup for ever" or (query == "answer after a hiccup" and first):
            raise Transient(FailureCode.MODEL_UNREACHABLE, "No answer.")
        if "until" in query:
            self.writing[drop.job].set()
            await self._write_until_stopped(drop, in_parts=query.startswith("upload"))
        return Answer((result,), text="2")

    async def _write_until_stopped(self, drop: Drop, *, in_parts: bool) -> None:
        for number in range(4):
            await self._deliver(drop, f"part-{number}")
        if in_parts:
            await self._store.upload(drop.job.result_key(drop.epoch, "large"), _endless(), media_type="text/csv")
        await asyncio.Event().wait()

    async def _deliver(self, drop: Drop, name: str) -> ResultFile:
        key = drop.job.result_key(drop.epoch, name)
        await self._store.put(key, b"b\n2\n", media_type="text/csv")
        return ResultFile(key=key, name=name, media_type="text/csv", size=4)


async def _endless() -> AsyncIterator[bytes]:
    """Enough for a multipart upload, and then no end."""
    for _ in range(11):
        yield bytes(1024 * 1024)
    await asyncio.Event().wait()


class Told:
    """The results queue; ``completed`` tells here too which jobs it was told of."""

    def __init__(self, sink: EventSink) -> None:
        self._sink = sink
        self.completed: defaultdict[JobRef, asyncio.Event] = defaultdict(asyncio.Event)

    async def publish(self, event: JobEvent) -> None:
        await self._sink.publish(event)
        if isinstance(event, CompletedEvent):
            self.completed[event.data.ref].set()


class NoSheets:
    """None of these jobs goes to a sheet."""

    async def withdraw(self, job: JobRef, spreadsheet_id: str) -> Any:
        raise AssertionError(job)

    undo = withdraw


@asynccontextmanager
async def cheap_workers(kit: Kit, flow: CheapFlow, told: Told) -> AsyncIterator[None]:
    """Two workers around a cheap flow."""
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as running:
        for name in ("worker-1", "worker-2"):
            running.create_task(run_until(stop, _pollers(kit, flow, told, name), drain_seconds=20), name=name)
        try:
            yield
        finally:
            stop.set()


def _pollers(kit: Kit, flow: CheapFlow, told: Told, name: str) -> list[Poller]:
    ledger = kit.ledger(name, claim_seconds=CLAIM_SECONDS)
    finish = Finish(kit.store, told, NoSheets(), link_seconds=900)
    jobs = JobTransaction(
        {Flow.QUERY: flow},
        ledger=ledger,
        store=kit.store,
        events=told,
        finish=finish,
        policy=JobPolicy(attempts=3, seconds=60, heartbeat_seconds=2, retry_base_seconds=0.05),
    )
    handler = MessageHandler(
        Handlers(manifest=jobs.run, control=SessionControl(ledger, kit.store, finish, NoSheets()).run),
        bucket=kit.stack.bucket,
        dead_letters=SqsDeadLetters(kit.clients.batches, kit.stack.queue_urls["dead_letters"]),
        worker=name,
        visibility_seconds=30,
        retry_seconds=1,
    )
    return [
        Poller(kit.queue(queue), handler.handle, lanes=lanes, wait_seconds=1, visibility_seconds=30)
        for queue, lanes in (("queries", 6), ("controls", 2))
    ]


async def hand_in(kit: Kit, job: JobRef, query: str) -> None:
    """A drop of one kind."""
    changes: dict[str, Any] = {"query": query}
    if query == "expired":
        changes["created_at"] = (datetime.now(UTC) - timedelta(hours=25)).isoformat()
    if query == "another's file":
        theirs = {**manifest_of(job)["files"][0], "s3Key": new_job().file_key(0)}
        changes["files"] = [theirs]
    if query == "answer after a crash":
        await leave_as_a_crash_does(kit, job)
    body = b"{" if query == "no manifest" else json.dumps(manifest_of(job, **changes)).encode()
    await kit.store.put(job.file_key(0), CONTENT, media_type="text/csv")
    await kit.write_manifest(job, body)


async def leave_as_a_crash_does(kit: Kit, job: JobRef) -> None:
    """A claim that has run out, a result, another one half uploaded, and a record of rows."""
    dead = Ledger(kit.store, worker="dead", claim_seconds=-1)
    await dead._put_new(dead._fresh(job, Flow.QUERY))
    await kit.store.put(job.result_key(1, "half.csv"), b"x", media_type="text/csv")
    await kit.store.put(job.appended_key(1), b"x", media_type=JSON)
    upload = await kit.clients.s3.create_multipart_upload(Bucket=kit.stack.bucket, Key=job.result_key(1, "half.xlsx"))
    await kit.clients.s3.upload_part(
        Bucket=kit.stack.bucket, Key=upload["Key"], UploadId=upload["UploadId"], PartNumber=1, Body=b"x"
    )


async def fetched(url: str) -> bytes | None:
    """What anybody gets who kept a link; None if it is gone."""

    def get() -> bytes | None:
        try:
            with urllib.request.urlopen(url, timeout=10) as reply:
                body: bytes = reply.read()
                return body
        except HTTPError as error:
            error.close()
            if error.code not in (403, 404):  # moto: 403
                raise
            return None

    return await asyncio.to_thread(get)


async def ended(kit: Kit, job: JobRef) -> JobStatus:
    async def published() -> bool:
        status = await kit.status(job)
        return status is not None and status.published

    await until(published, seconds=60)
    status = await kit.status(job)
    assert status is not None
    return status


async def all_done(kit: Kit) -> bool:
    for name in ("queries", "controls"):
        if await kit.in_queue(name) != (0, 0):
            return False
    return True


async def real_jobs(kit: Kit) -> dict[JobRef, str]:
    """Every format, a chart, and two that cannot be read: the worker as it is deployed."""
    stop = asyncio.Event()
    with ScriptedModel(Reply(BOTH)) as model:
        scripted = {"openai_base_url": model.base_url, "openai_api_key": SecretStr("none")}
        async with asyncio.TaskGroup() as running:
            worker = run_worker(kit.settings.model_copy(update=scripted), kit.stack, stop)
            running.create_task(worker, name="real worker")
            handed = [await kit.drop(destination={"type": "download", "format": each}) for each in FORMATS]
            handed.append(await kit.drop(flow=Flow.VISUALIZATION))
            empty, missing = new_job(), new_job()
            await kit.store.put(empty.file_key(0), b"", media_type="text/csv")
            nothing = [{**manifest_of(empty)["files"][0], "size": 0}]
            await kit.write_manifest(empty, json.dumps(manifest_of(empty, files=nothing)).encode())
            await kit.write_manifest(missing, json.dumps(manifest_of(missing)).encode())
            for job in (*(key.job for key in handed), empty, missing):
                await ended(kit, job)
            stop.set()
    completed = {key.job: COMPLETED for key in handed}
    return completed | {empty: FailureCode.FILE_EMPTY, missing: FailureCode.FILE_MISSING}


async def cheap_jobs(kit: Kit, count: int) -> tuple[dict[JobRef, str], list[str]]:
    """Handed in many at once, cancelled and closed while they run. Also links into the closed sessions."""
    flow, told, links = CheapFlow(kit), Told(kit.events), list[str]()
    kinds = list(MIXTURE)
    chosen = random.Random(7).choices(kinds, [MIXTURE[kind][0] for kind in kinds], k=count)
    jobs = {new_job(): kind for kind in chosen}
    slots = asyncio.Semaphore(24)

    async def live(job: JobRef, kind: str) -> None:
        async with slots:
            await hand_in(kit, job, kind)
        if kind == "answer, then close":
            await told.completed[job].wait()
        elif "until" in kind:
            await flow.writing[job].wait()
        else:
            return
        control = job.cancel_key if kind.endswith("cancelled") else close_key(job.session_id)
        url = await kit.store.link(
            job.result_key(1, "result.csv"), name="result.csv", media_type="text/csv", seconds=900
        )
        assert await fetched(url) == b"b\n2\n"
        links.append(url)
        await kit.store.put(control, b"{}", media_type=JSON)

    async with cheap_workers(kit, flow, told):
        async with asyncio.TaskGroup() as lives:
            for job, kind in jobs.items():
                lives.create_task(live(job, kind), name=str(job))
        await until(lambda: all_done(kit), seconds=60)
    return {job: MIXTURE[kind][1] for job, kind in jobs.items()}, links


def kept_of(status: JobStatus, keys: set[str]) -> set[str]:
    """What may be there of a job that ended like this."""
    job = status.ref
    kept = {job.manifest_key(status.flow), job.status_key}
    if isinstance(status.outcome, CompletedOutcome):
        kept |= {file.key for file in status.outcome.data.files}
        # The record of the run lies beside the files, and nothing else.
        kept |= keys & {job.result_key(status.epoch, "run.json")}
    return kept


@pytest.mark.timeout(400)
async def test_mixed_jobs_leave_their_answers_and_nothing_else(kit: Kit, request: pytest.FixtureRequest):
    jobs = JOBS if request.config.getoption("--long") else FEWER_JOBS
    expected = await real_jobs(kit)
    cheap, links = await cheap_jobs(kit, jobs - len(expected))
    expected |= cheap

    left: defaultdict[JobRef, set[str]] = defaultdict(set)
    strays = set()
    for key in await kit.keys(""):
        parsed = parse_job_key(key)
        if parsed is not None:
            left[parsed[0]].add(key)
        elif not key.startswith("shared/"):
            strays.add(key)

    assert len(expected) == jobs
    assert strays == set()
    assert set(left) == {job for job, end in expected.items() if end != CLOSED}
    for job, keys in left.items():
        status = await kit.status(job)
        assert status is not None
        assert status.published
        match status.outcome:
            case CompletedOutcome():
                assert expected[job] == COMPLETED
                assert status.outcome.data.files
            case FailedOutcome(data=failed):
                assert expected[job] == failed.code
        assert keys == kept_of(status, keys)
    assert [upload.key async for upload in kit.store.uploads("")] == []
    assert links
    assert [await fetched(url) for url in links] == [None] * len(links)
