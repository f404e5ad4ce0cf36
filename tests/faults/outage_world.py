"""What outage tests need: workers to start and kill, drops to hand in, and the count of what became of them."""

import json
import os
import signal
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest
from kit import Kit, new_job, until
from pydantic import SecretStr

from consumers.errors import OPERATOR_CODES
from events.keys import Flow, JobRef, parse_job_key
from events.notification import notification_of
from events.results import CompletedEvent, FailedEvent, parse_event
from events.status import CompletedOutcome, JobStatus
from infra.provision import Stack
from infra.settings import Settings

ROOT = Path(__file__).parents[2]
COMPLETED = "completed"
WORK_QUEUES = ("queries", "controls")


def outage_settings(endpoint_url: str, name: str, **changes: Any) -> Settings:
    """A stack of its own, and a worker whose every wait is short."""
    quick: dict[str, Any] = {
        "receive_wait_seconds": 1,
        "heartbeat_seconds": 0.5,
        "claim_seconds": 2,
        "visibility_seconds": 4,
        "retry_base_seconds": 0.2,
        "drain_seconds": 10,
        "lanes": 4,
    }
    return Settings(
        _env_file=None,
        aws_endpoint_url=endpoint_url,
        aws_access_key_id="test",
        aws_secret_access_key=SecretStr("test"),
        bucket=name,
        stack=name,
        **quick | changes,
    )


def own_name(request: pytest.FixtureRequest) -> str:
    """Of a stack that no other test has."""
    return f"outage-{crc32(request.node.nodeid.encode())}"


# ---------------------------------------------------------------- workers


class Workers:
    """Starts workers around cheap flows, forked from one process that has imported everything."""

    def __init__(self, process: "subprocess.Popen[str]", folder: Path) -> None:
        self._process = process
        self._started = 0
        self.folder = folder

    def start(self, settings: Settings, stack: Stack) -> "Worker":
        self._started += 1
        name = f"worker-{self._started}"
        dumped = {**settings.model_dump(mode="json"), "aws_secret_access_key": "test"}
        order = {"name": name, "settings": dumped, "queue_urls": stack.queue_urls, "folder": str(self.folder)}
        return Worker(self, name, self.ask({"start": order}))

    def ask(self, order: dict[str, Any]) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def open_gate(self) -> None:
        (self.folder / "gate").touch()

    def close_gate(self) -> None:
        (self.folder / "gate").unlink(missing_ok=True)

    def runs(self) -> list[str]:
        """``session/job epoch`` of each time that a flow began."""
        path = self.folder / "runs"
        return path.read_text().splitlines() if path.exists() else []


@dataclass
class Worker:
    workers: Workers
    name: str
    pid: int
    code: int | None = None

    def send(self, number: signal.Signals) -> None:
        if self.is_running:
            os.kill(self.pid, number)

    @property
    def is_running(self) -> bool:
        if self.code is None:
            self.code = self.workers.ask({"poll": self.pid})
        return self.code is None

    async def has_ended(self) -> bool:
        return not self.is_running

    def set_clock(self, offset_seconds: float) -> None:
        """So far is its wall clock from the right one, from now on."""
        path = self.workers.folder / f"{self.name}.offset"
        beside = path.with_suffix(".new")
        beside.write_text(str(offset_seconds))
        beside.replace(path)

    def log(self) -> list[dict[str, Any]]:
        """What it has logged; a traceback outside of the log is an event without a name."""
        path = self.workers.folder / f"{self.name}.log"
        lines = path.read_text().splitlines() if path.exists() else []
        return [json.loads(line) if line.startswith("{") else {"event": None, "line": line} for line in lines]


@contextmanager
def worker_forks(folder: Path) -> Iterator[Workers]:
    process = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("outage_worker.py"))],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)},
        cwd=folder,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield Workers(process, folder)
    finally:
        process.communicate(timeout=20)


# ---------------------------------------------------------------- drops


@dataclass(frozen=True)
class Tally:
    """What became of so many drops; all but the first should be 0."""

    drops: int
    lost: int
    doubled: int
    stuck: int
    left_behind: int
    wrong: dict[str, str]

    @property
    def is_clean(self) -> bool:
        return not (self.lost or self.doubled or self.stuck or self.left_behind or self.wrong)


@dataclass
class World:
    """One stack, and the drops that were handed in there."""

    kit: Kit
    ends: dict[JobRef, frozenset[str]] = field(default_factory=dict)
    told: defaultdict[JobRef, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    letters: Counter[tuple[JobRef, str]] = field(default_factory=Counter)

    async def hand_in(self, count: int, words: str, *ends: str) -> list[JobRef]:
        """Drops of one kind, each of which may end in one of these ways (completed, or a failure's code)."""
        keys = [await self.kit.drop(new_job(), query=words) for _ in range(count)]
        for key in keys:
            self.ends[key.job] = frozenset(ends or (COMPLETED,))
        return [key.job for key in keys]

    async def notify_again(self, jobs: Sequence[JobRef], times: int) -> None:
        """The same notification, so many times more, all of them at once."""
        for job in jobs:
            body = notification_of(self.kit.stack.bucket, job.manifest_key(Flow.QUERY), at=datetime.now(UTC))
            entries: Any = [{"Id": str(number), "MessageBody": body} for number in range(times)]
            url = self.kit.stack.queue_urls["queries"]
            await self.kit.clients.control.send_message_batch(QueueUrl=url, Entries=entries)

    async def statuses(self, jobs: Sequence[JobRef]) -> list[JobStatus]:
        """Of those that have one."""
        return [status for job in jobs if (status := await self.kit.status(job)) is not None]

    async def all_have(self, jobs: Sequence[JobRef], condition: Any, *, seconds: float = 30) -> None:
        """Wait until the status of each of these jobs is as wanted."""

        async def they_have() -> bool:
            return sum(map(condition, await self.statuses(jobs))) == len(jobs)

        await until(they_have, seconds=seconds)

    def ahead(self, status: JobStatus) -> float:
        """By how many seconds the clock of whoever wrote this last is before ours."""
        return (status.updated_at - datetime.now(UTC)).total_seconds()

    async def all_end(self, *, seconds: float = 60) -> None:
        """Wait until every drop has its end, its event is out, and the work queues are empty."""
        left = set(self.ends)

        async def nothing_is_left() -> bool:
            for job in tuple(left):
                status = await self.kit.status(job)
                if status is None or not status.published:
                    return False
                left.discard(job)
            return [await self.kit.in_queue(name) for name in WORK_QUEUES] == [(0, 0)] * len(WORK_QUEUES)

        try:
            await until(nothing_is_left, seconds=seconds)
        except TimeoutError:
            queues = {name: await self.kit.in_queue(name) for name in WORK_QUEUES}
            found = [str(await self.kit.status(job)) for job in sorted(left)[:3]]
            raise AssertionError(f"{len(left)} have not ended, queues {queues}: {found}") from None

    async def collect(self) -> None:
        """Take what is in the results and the dead-letter queue, as a front end and an operator do."""
        for message in await self.kit.drain("results"):
            event = parse_event(message.body)
            if isinstance(event, CompletedEvent | FailedEvent):
                end = COMPLETED if isinstance(event, CompletedEvent) else str(event.data.code)
                self.told[event.data.ref][f"{event.id} {end}"] += 1
        for message in await self.kit.drain("dead_letters"):
            letter = json.loads(message.body)
            if "session_id" in letter:
                self.letters[JobRef(letter["session_id"], letter["job_id"]), letter["code"]] += 1

    async def tally(self) -> Tally:
        """Look at everything that is there."""
        await self.collect()
        kept: defaultdict[JobRef, set[str]] = defaultdict(set)
        for key in await self.kit.keys("sessions/"):
            parsed = parse_job_key(key)
            kept[parsed[0] if parsed else JobRef("", "")].add(key)
        statuses = {status.ref: status for status in await self.statuses(sorted(self.ends))}
        lost = sum(job not in statuses or not statuses[job].published or not self.told[job] for job in self.ends)
        stuck = sum([sum(await self.kit.in_queue(name)) for name in WORK_QUEUES])
        parts = [upload.key async for upload in self.kit.store.uploads("")]
        surplus = sum(len(keys - _may_be_kept(statuses.get(job))) for job, keys in kept.items())
        doubled = sum(len(self.told[job]) > 1 or self._delivered_twice(statuses, kept, job) for job in self.ends)
        return Tally(len(self.ends), lost, doubled, stuck, surplus + len(parts), dict(self._wrong(statuses, kept)))

    def _delivered_twice(self, statuses: dict[JobRef, JobStatus], kept: dict[JobRef, set[str]], job: JobRef) -> bool:
        status = statuses.get(job)
        results = {key for key in kept.get(job, ()) if key.startswith(job.results_prefix)}
        return status is not None and not results <= _may_be_kept(status)

    def _wrong(self, statuses: dict[JobRef, JobStatus], kept: dict[JobRef, set[str]]) -> Iterator[tuple[str, str]]:
        for job, status in statuses.items():
            end = end_of(status)
            told = {line.split(" ", 1)[1] for line in self.told[job]}
            if end not in self.ends[job]:
                yield str(job), f"ended as {end}, after {status.attempts} attempts"
            elif told != {end}:
                yield str(job), f"ended as {end}, told as {told}"
            elif (end in OPERATOR_CODES) != (self.letters[job, end] > 0):
                yield str(job), f"ended as {end}, with {self.letters[job, end]} letters"
            elif missing := _kept_of(status) - kept[job]:
                yield str(job), f"ended as {end}, without {missing}"


def end_of(status: JobStatus) -> str:
    match status.outcome:
        case None:
            return "not at all"
        case CompletedOutcome():
            return COMPLETED
        case failed:
            return str(failed.data.code)


def _may_be_kept(status: JobStatus | None) -> set[str]:
    """What may be there of a job that has ended like this: the record of a real run, too."""
    return set() if status is None else _kept_of(status) | {status.ref.result_key(status.epoch, "run.json")}


def _kept_of(status: JobStatus) -> set[str]:
    """What must be there."""
    kept = {status.ref.manifest_key(status.flow), status.ref.status_key}
    if isinstance(status.outcome, CompletedOutcome):
        kept |= {file.key for file in status.outcome.data.files}
    return kept


def tell(request: pytest.FixtureRequest, fault: str, *, runs: int, tally: Tally, seconds: float) -> None:
    """To the table at the end of the run, where there is one."""
    counts = {name: getattr(tally, name) for name in ("drops", "lost", "doubled", "stuck", "left_behind")}
    try:
        table = request.getfixturevalue("fault_table")
    except pytest.FixtureLookupError:
        print(f"\n{fault}: {runs} runs, {counts}, {seconds:.0f} s")
    else:
        table(fault, runs=runs, seconds=seconds, **counts)
