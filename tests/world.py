"""A small world on virtual time: drops, workers that die and freeze, services that fail; and what must hold in it.

Workers are the real ones (poller, message, lease, job, ledger, finish, controls); queues and store are in memory,
behind a faulty wire. Everything that is drawn comes from one seed.
"""

import asyncio
import json
import random
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from datetime import timedelta

import virtual_time
from fake_sqs import FakeSqs, Odds
from faulty_wire import CALM, Wire, WiredSqs, WiredStore
from memory_store import MemoryStore

from consumers.drop import Answer
from consumers.errors import ObjectMissing, Permanent, Transient
from consumers.ports import TakenBack
from consumers.session_control import SessionControl
from consumers.sweep import sweep
from consumers.worker.drain import run_until
from consumers.worker.finish import Finish
from consumers.worker.job import JobPolicy, JobTransaction
from consumers.worker.ledger import Ledger
from consumers.worker.message import Handlers, MessageHandler
from consumers.worker.poll import Poller
from events.keys import Flow, JobRef, close_key, parse_control_key, parse_manifest_key
from events.results import FailureCode, ResultFile, SheetRows, Stage
from infra.sqs_batches import SqsBatches
from infra.sqs_queue import SqsDeadLetters, SqsEventSink, SqsQueue

CONTENT = b"a,b\n1,2\n"
CLAIM_SECONDS = VISIBILITY_SECONDS = 60
HEARTBEAT_SECONDS = 5
DRAIN_SECONDS = 25
JOB_SECONDS = 300
POLICY = JobPolicy(attempts=3, seconds=JOB_SECONDS, heartbeat_seconds=HEARTBEAT_SECONDS, retry_base_seconds=5)
REDRIVE = {"maxReceiveCount": 100, "deadLetterTargetArn": "arn:aws:sqs:us-east-1:000000000000:dead"}
LONG_KEPT = {"MessageRetentionPeriod": "1209600"}
TEXT = "text/plain"


@dataclass
class Plan:
    """What one drop's flow does, and how it would end if nothing went wrong."""

    kind: str
    seconds: float
    failures: int = 0
    calls: int = 0
    cancelled: bool = False
    closed: bool = False
    undone: bool = False


KINDS = ("answer", "answer", "upload", "sheet", "sheet", "refuse", "hiccup", "bug", "hang")


@dataclass
class FakeSheet:
    """The one spreadsheet of this world: whose rows it has; a job that was taken back never gets any."""

    rows: dict = field(default_factory=dict)
    barred: set = field(default_factory=set)

    async def append(self, job, epoch):
        if job in self.barred:
            raise Permanent(FailureCode.SHEET_CHANGED, "It was taken back.")
        self.rows.setdefault(job, epoch)

    async def withdraw(self, job):
        self.barred.add(job)
        return TakenBack(1 if self.rows.pop(job, None) else 0, "Taken back.")


class WatchedStore(MemoryStore):
    """Tells of every object that is written or removed."""

    def __init__(self, *, now, wrote, removed):
        super().__init__(now=now)
        self._wrote = wrote
        self._removed = removed

    async def put(self, key, body, *, media_type):
        self._wrote(key, body)
        return await super().put(key, body, media_type=media_type)

    async def delete(self, keys):
        for key in keys:
            self._removed(key)
        await super().delete(keys)


class Worker:
    """One process: its tasks, its clock, its wire."""

    def __init__(self, world, name):
        rng = world.rng
        self.name = name
        self.skew = timedelta(seconds=rng.uniform(-2, 2))
        self.wire = Wire(rng, world.weather, die=self.crash)
        self._world = world
        self._stop = asyncio.Event()
        sqs, urls = WiredSqs(self.wire, world.sqs, rng), world.urls
        self.store = WiredStore(self.wire, world.store)
        self._batches = SqsBatches(sqs)
        queues = [SqsQueue(sqs, self._batches, name=name, url=urls[name]) for name in ("queries", "controls")]
        events, letters = SqsEventSink(self._batches, urls["results"]), SqsDeadLetters(self._batches, urls["dead"])
        ledger = Ledger(self.store, worker=name, claim_seconds=CLAIM_SECONDS, now=self.now)
        finish = Finish(self.store, events, self, link_seconds=900)
        jobs = JobTransaction(
            {Flow.QUERY: self.flow},
            ledger=ledger,
            store=self.store,
            events=events,
            finish=finish,
            policy=POLICY,
            stopping=self._stop.is_set,
            now=self.now,
        )
        handler = MessageHandler(
            Handlers(manifest=jobs.run, control=SessionControl(ledger, self.store, finish, self).run),
            bucket=self.store.bucket,
            dead_letters=letters,
            worker=name,
            visibility_seconds=VISIBILITY_SECONDS,
            now=self.now,
        )
        self._pollers = [
            Poller(queue, handler.handle, lanes=2, wait_seconds=20, visibility_seconds=VISIBILITY_SECONDS)
            for queue in queues
        ]
        self.task = asyncio.create_task(self._run(), name=name)

    def now(self):
        return virtual_time.now() + self.skew

    async def _run(self):
        try:
            async with self._batches:
                await run_until(self._stop, self._pollers, drain_seconds=DRAIN_SECONDS)
        except BaseException:
            # What is left of a dead process is no news to anybody.
            if not self.wire.dead:
                raise

    def crash(self):
        self.wire.dead = True
        self.task.cancel()

    def freeze(self, seconds):
        self.wire.frozen_until = asyncio.get_running_loop().time() + seconds

    def stop(self):
        self._stop.set()

    @property
    def runs(self):
        return not self.wire.dead and not self._stop.is_set()

    # ------------------------------------------------------------ what its jobs do

    async def flow(self, drop, *, report):
        plan = self._world.plans[drop.job]
        plan.calls += 1
        with self._world.at_work(drop.job, drop.epoch):
            await report(Stage.PREPARE, "Reading.")
            try:
                await self.store.get(drop.job.file_key(0), max_bytes=100)
            except ObjectMissing as error:
                raise Permanent(FailureCode.FILE_MISSING, "The file is not there.") from error
            await asyncio.sleep(plan.seconds)
            await self._go_wrong(plan)
            await report(Stage.DELIVER, "Writing.")
            return await self._deliver(drop, plan, report)

    async def _go_wrong(self, plan):
        match plan.kind:
            case "refuse":
                raise Permanent(FailureCode.FILE_EMPTY, "It is empty.")
            case "hiccup" if plan.calls <= plan.failures:
                raise Transient(FailureCode.MODEL_UNREACHABLE, "no answer")
            case "bug":
                raise ZeroDivisionError
            case "hang":
                await asyncio.sleep(10 * JOB_SECONDS)

    async def _deliver(self, drop, plan, report):
        if plan.kind == "sheet":
            await report.appending_to("spreadsheet-1")
            await self._sheet(lambda: self._world.sheet.append(drop.job, drop.epoch))
            rows = SheetRows(
                spreadsheet_id="spreadsheet-1",
                url="https://sheet",
                tab="t",
                tab_id=0,
                new_tab=False,
                first_row=2,
                rows=1,
                columns=1,
            )
            return Answer((), sheet=rows)
        key = drop.job.result_key(drop.epoch, "result.csv")
        if plan.kind == "upload":
            await self.store.upload(key, _slowly(b"b\n", b"2\n"), media_type=TEXT)
        else:
            await self.store.put(key, b"b\n2\n", media_type=TEXT)
        return Answer((ResultFile(key=key, name="result.csv", media_type=TEXT, size=4),), text="2")

    async def _sheet(self, act):
        return await self.wire.call(act, failure=lambda: Transient(FailureCode.SHEETS_UNAVAILABLE, "not now"))

    async def withdraw(self, job, spreadsheet_id):
        return await self._sheet(lambda: self._world.sheet.withdraw(job))

    async def undo(self, job, epoch, spreadsheet_id):
        return await self._sheet(lambda: self._world.sheet.withdraw(job))


async def _slowly(*chunks):
    for chunk in chunks:
        await asyncio.sleep(1)
        yield chunk


class World:
    """All that there is; entered and left on a loop of virtual time."""

    def __init__(self, seed, *, weather=CALM, odds=None):
        self.rng = random.Random(seed)
        self.weather = weather
        self.sqs = FakeSqs(odds=odds or Odds(), rng=self.rng)
        self.store = WatchedStore(now=virtual_time.now, wrote=self._wrote, removed=self._removed)
        self.sheet = FakeSheet()
        self.urls = {}
        self.workers = []
        self.plans = {}
        self.history = defaultdict(list)
        self.busy = Counter()
        self.broken = []
        self.never_told = []
        self.lost_notifications = 0.0
        self._telling = set()

    async def begin(self, workers=2):
        for name, facts in {
            "dead": {},
            "queries": {"RedrivePolicy": json.dumps(REDRIVE)},
            "controls": {"RedrivePolicy": json.dumps(REDRIVE)},
            "results": {"FifoQueue": "true"},
        }.items():
            created = await self.sqs.create_queue(QueueName=name, Attributes=facts | LONG_KEPT)
            self.urls[name] = created["QueueUrl"]
        for _ in range(workers):
            self.start_worker()

    def queue(self, name):
        return self.sqs.queue(self.urls[name])

    def start_worker(self):
        self.workers.append(Worker(self, f"worker-{len(self.workers) + 1}"))

    def change_weather(self, weather):
        self.weather = weather
        for worker in self.workers:
            worker.wire.weather = weather

    # ------------------------------------------------------------ what users do

    async def drop(self, session, kind, *, seconds=5.0, failures=1):
        job = JobRef(f"session-{session}", f"job-{len(self.plans):05}")
        self.plans[job] = Plan(kind, seconds, failures)
        await self.store.put(job.file_key(0), CONTENT, media_type=TEXT)
        file = {"name": "n.csv", "type": "text/csv", "extension": ".csv", "size": len(CONTENT), "index": 0}
        manifest = {
            "version": 1,
            "session_id": job.session_id,
            "job_id": job.job_id,
            "created_at": virtual_time.now().isoformat(),
            "query": "Add up column b.",
            "files": [file | {"s3Key": job.file_key(0)}],
            "destination": {"type": "download", "format": "csv"},
        }
        await self.store.put_new(job.manifest_key(Flow.QUERY), json.dumps(manifest).encode(), media_type=TEXT)
        return job

    async def cancel(self, job):
        self.plans[job].cancelled = True
        await self.store.put(job.cancel_key, b"{}", media_type=TEXT)

    async def undo(self, job):
        self.plans[job].undone = True
        await self.store.put(job.undo_key, b"{}", media_type=TEXT)

    async def close(self, session):
        for job in self.plans:
            if job.session_id == f"session-{session}":
                self.plans[job].closed = True
        await self.store.put(close_key(f"session-{session}"), b"{}", media_type=TEXT)

    # ------------------------------------------------------------ notifications

    def _wrote(self, key, body):
        self.history[key].append(body)
        if parse_manifest_key(key) or parse_control_key(key):
            if self.rng.random() < self.lost_notifications:
                self.never_told.append(key)
            else:
                self.tell(key, copies=1 + (self.rng.random() < 0.2))

    def _removed(self, key):
        if key in self.store.objects:
            self.history[key].append(None)

    def tell(self, key, *, copies=1):
        """S3 notifies, at least once, sooner or later."""
        for _ in range(copies):
            task = asyncio.create_task(self._tell(key, self.rng.choice((0, 0, 1, 10, 200))), name=f"tell {key}")
            self._telling.add(task)
            task.add_done_callback(self._telling.discard)

    async def _tell(self, key, late):
        await asyncio.sleep(late)
        record = {
            "eventVersion": "2.1",
            "eventSource": "aws:s3",
            "eventName": "ObjectCreated:Put",
            "s3": {"bucket": {"name": self.store.bucket}, "object": {"key": key}},
        }
        queue = "queries" if parse_manifest_key(key) else "controls"
        await self.sqs.send_message(QueueUrl=self.urls[queue], MessageBody=json.dumps({"Records": [record]}))

    # ------------------------------------------------------------ what goes on

    def at_work(self, job, epoch):
        return _AtWork(self, (job, epoch))

    async def quiet_down(self, *, hours=12):
        """Nothing fails any more, what was never told is told; then every message is worked off, and workers stop."""
        self.change_weather(CALM)
        self.sqs.odds = Odds()
        self.lost_notifications = 0
        for worker in self.workers:
            worker.wire.frozen_until = 0
        for key in self.never_told:
            self.tell(key)
        self.start_worker()
        async with asyncio.timeout(hours * 3600):
            while self._telling or self.queue("queries").stored or self.queue("controls").stored:  # noqa: ASYNC110
                await asyncio.sleep(60)
            # Whoever was overtaken, or still works on what nobody waits for, has ended, too.
            await asyncio.sleep(JOB_SECONDS + CLAIM_SECONDS)
        await self._sweep()
        for worker in self.workers:
            worker.stop()
        stopped = asyncio.get_running_loop().time()
        await asyncio.gather(*(worker.task for worker in self.workers), return_exceptions=True)
        if asyncio.get_running_loop().time() - stopped > 1:
            self.broken.append("an idle stop took longer than a second")
        self.broken += [
            f"{worker.name} ended with {worker.task.exception()!r}"
            for worker in self.workers
            if not worker.task.cancelled() and worker.task.exception() is not None
        ]

    async def _sweep(self):
        """The timer's sweep. All that it may find is what came too late for a close."""
        before, later = set(self.store.objects), virtual_time.now() + timedelta(minutes=2)
        await sweep(self.store, older_than=timedelta(minutes=1), now=later, clock=virtual_time.now)
        late = {job.status_key for job, plan in self.plans.items() if plan.closed}
        for key in before - set(self.store.objects) - late:
            self.broken.append(f"only a sweep removed {key}")


class _AtWork:
    """One flow of one epoch: two at once would both believe that the job is theirs."""

    def __init__(self, world, claim):
        self._world = world
        self._claim = claim

    def __enter__(self):
        self._world.busy[self._claim] += 1
        if self._world.busy[self._claim] > 1:
            self._world.broken.append(f"two at work on {self._claim}")

    def __exit__(self, kind, error, trace):
        self._world.busy[self._claim] -= 1
        return False
