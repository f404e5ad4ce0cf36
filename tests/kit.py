"""What tests of jobs need: drops to hand in, and what became of them, over the real endpoint."""

import asyncio
import json
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from process_sandbox import process_sandbox

from consumers.delivery.google_sheet import GoogleSheets
from consumers.drop import Answer, Drop
from consumers.errors import ObjectMissing
from consumers.ports import Limits, Message, Report
from consumers.session_control import SessionControl
from consumers.worker.finish import Finish
from consumers.worker.job import JobPolicy, JobTransaction
from consumers.worker.ledger import Ledger
from consumers.worker.outcome import DeadLetter
from events.keys import Flow, JobRef, ManifestKey
from events.notification import NotificationError, parse_notification
from events.results import JobEvent, ResultFile, parse_event
from events.status import JobStatus
from infra.clients import Clients
from infra.provision import Stack
from infra.s3_store import S3ObjectStore
from infra.settings import Settings
from infra.sqs_queue import SqsEventSink, SqsQueue

CONTENT = b"a,b\n1,2\n"


def new_job() -> JobRef:
    return JobRef(f"session-{secrets.token_hex(6)}", f"job-{secrets.token_hex(6)}")


def manifest_of(job: JobRef, **changes: Any) -> dict[str, Any]:
    """A manifest that is right, but for the changes; its one file is ``CONTENT``."""
    return {
        "version": 1,
        "session_id": job.session_id,
        "job_id": job.job_id,
        "created_at": datetime.now(UTC).isoformat(),
        "query": "Add up column b.",
        "files": [
            {
                "name": "numbers.csv",
                "type": "text/csv",
                "extension": ".csv",
                "size": len(CONTENT),
                "index": 0,
                "s3Key": job.file_key(0),
            }
        ],
        "destination": {"type": "download", "format": "csv"},
    } | changes


@dataclass
class Kit:
    """One stack on one endpoint."""

    settings: Settings
    stack: Stack
    clients: Clients
    letters: list[DeadLetter] = field(default_factory=list)

    @property
    def store(self) -> S3ObjectStore:
        return S3ObjectStore(self.clients.s3, self.stack.bucket)

    @property
    def events(self) -> SqsEventSink:
        return SqsEventSink(self.clients.batches, self.stack.queue_urls["results"])

    def queue(self, name: str = "queries") -> SqsQueue:
        return SqsQueue(self.clients.polls, self.clients.batches, name=name, url=self.stack.queue_urls[name])

    def ledger(self, worker: str = "worker-1", *, claim_seconds: float = 30) -> Ledger:
        return Ledger(self.store, worker=worker, claim_seconds=claim_seconds)

    def transaction(self, flow: Any, *, worker: str = "worker-1", **changes: Any) -> JobTransaction:
        """The transaction around one flow function, for queries."""
        parts = {
            "ledger": self.ledger(worker),
            "store": self.store,
            "events": self.events,
            "finish": self.finish(**changes),
            "policy": JobPolicy(attempts=3, seconds=60, heartbeat_seconds=0.2, retry_base_seconds=0.1),
        }
        return JobTransaction({Flow.QUERY: flow}, **(parts | changes))

    def finish(self, *, store: Any = None, events: Any = None, sheets: Any = None, **_: Any) -> Finish:
        """What follows a job's end; without a service account unless ``sheets`` is given."""
        return Finish(store or self.store, events or self.events, sheets or self.no_sheets, link_seconds=900)

    @property
    def no_sheets(self) -> GoogleSheets:
        return GoogleSheets(None, process_sandbox(), self.store, limits=Limits())

    def control(self, *, sheets: Any = None) -> Any:
        """What handles controls, as another worker."""
        finish = self.finish(sheets=sheets)
        return SessionControl(self.ledger("controller"), self.store, finish, sheets or self.no_sheets).run

    async def bury(self, letter: DeadLetter) -> None:
        self.letters.append(letter)

    async def drop(self, job: JobRef | None = None, *, flow: Flow = Flow.QUERY, **changes: Any) -> ManifestKey:
        """Upload the file, then write the manifest."""
        job = job or new_job()
        await self.store.put(job.file_key(0), CONTENT, media_type="text/csv")
        return await self.write_manifest(job, json.dumps(manifest_of(job, **changes)).encode(), flow=flow)

    async def write_manifest(self, job: JobRef, body: bytes, *, flow: Flow = Flow.QUERY) -> ManifestKey:
        await self.store.put_new(job.manifest_key(flow), body, media_type="application/json")
        return ManifestKey(job, flow)

    async def status(self, job: JobRef) -> JobStatus | None:
        found = await self.ledger().read(job)
        return found[0] if found else None

    async def keys(self, prefix: str) -> list[str]:
        return sorted([found.key async for found in self.store.list(prefix)])

    async def exists(self, key: str) -> bool:
        try:
            await self.store.get(key, max_bytes=10)
        except ObjectMissing:
            return False
        return True

    async def published(self, job: JobRef) -> list[JobEvent]:
        """Every event of the job that is in the results queue now."""
        bodies = [message.body for message in await self.drain("results")]
        return [event for event in map(parse_event, bodies) if event.data.ref == job]

    async def drain(self, name: str) -> list[Message]:
        """Take every message that is visible in a queue."""
        queue, taken = self.queue(name), list[Message]()
        while messages := await queue.receive(max_messages=10, wait_seconds=0, visibility_seconds=30):
            await asyncio.gather(*map(queue.delete, messages))
            taken += messages
        return taken

    async def lose_notifications(self, *keys: str) -> None:
        """Wait for what S3 tells of these objects, which may take a moment, and take it away; and all else."""
        awaited = set(keys)

        async def lost() -> bool:
            for name in self.stack.queue_urls:
                for message in await self.drain(name):
                    awaited.difference_update(_keys_told(message))
            return not awaited

        await until(lost)

    async def empty_queues(self) -> None:
        for name in self.stack.queue_urls:
            await self.drain(name)

    async def in_queue(self, name: str) -> tuple[int, int]:
        """How many messages are visible, and how many are in flight."""
        reply = await self.clients.control.get_queue_attributes(
            QueueUrl=self.stack.queue_urls[name],
            AttributeNames=["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"],
        )
        facts = reply["Attributes"]
        return int(facts["ApproximateNumberOfMessages"]), int(facts["ApproximateNumberOfMessagesNotVisible"])


def _keys_told(message: Message) -> set[str]:
    try:
        return {created.key for created in parse_notification(message.body)}
    except NotificationError:
        return set()


class DeliveringFlow:
    """A flow without a model: delivers one small object, and counts its calls."""

    def __init__(self, store: S3ObjectStore, *, raising: Exception | None = None) -> None:
        self._store = store
        self._raising = raising
        self.calls = 0

    async def __call__(self, drop: Drop, *, report: Report) -> Answer:
        self.calls += 1
        key = drop.job.result_key(drop.epoch, "result.csv")
        await self._store.put(key, b"b\n2\n", media_type="text/csv")
        if self._raising is not None:
            raise self._raising
        return Answer((ResultFile(key=key, name="result.csv", media_type="text/csv", size=4),), text="2")


class StuckFlow:
    """A flow that delivers something and then never ends; ``started`` tells that it is there."""

    def __init__(self, store: S3ObjectStore) -> None:
        self._store = store
        self.started = asyncio.Event()
        self.cancelled = asyncio.Event()

    async def __call__(self, drop: Drop, *, report: Report) -> Answer:
        await self._store.put(drop.job.result_key(drop.epoch, "part"), b"x", media_type="text/plain")
        self.started.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.cancelled.set()
        raise AssertionError


async def until_so(condition: Callable[[], object], *, seconds: float = 20) -> None:
    """Poll a condition until it holds; fails after the deadline."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - no event tells of it
            await asyncio.sleep(0.02)


async def until(condition: Any, *, seconds: float = 15) -> None:
    """Poll an async condition until it holds; fails after the deadline."""
    async with asyncio.timeout(seconds):
        while not await condition():  # noqa: ASYNC110 - no event comes from over there
            await asyncio.sleep(0.02)  # the condition is another process's or server's to make true
