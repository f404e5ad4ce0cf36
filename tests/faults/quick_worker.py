"""A worker around a cheap flow, quick to start: forked from a process that has imported everything it needs.

Run as a program this is that process. It takes its orders as lines of JSON: ``{"start": …}`` forks a worker and says
its process id; ``{"reap": id}`` waits for one that was killed or told to stop, and says its exit code. When there are
no more orders, it kills what still runs.
"""

import asyncio
import contextlib
import gc
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Never, Self

import structlog
from pydantic import SecretStr

from consumers.drop import Answer, Drop
from consumers.errors import Permanent, Transient
from consumers.ports import Report, TakenBack
from consumers.s3_file_actions import stream_upload
from consumers.s3_multipart import MIN_PART_BYTES
from consumers.session_control import SessionControl
from consumers.worker.drain import run_until
from consumers.worker.finish import Finish
from consumers.worker.job import JobPolicy, JobTransaction
from consumers.worker.ledger import Ledger
from consumers.worker.message import Handlers, MessageHandler
from consumers.worker.poll import Poller
from events.keys import Flow, JobRef
from events.results import FailureCode, ResultFile, Stage
from infra.clients import Clients
from infra.s3_store import S3ObjectStore
from infra.settings import Settings
from infra.sqs_queue import SqsDeadLetters, SqsEventSink, SqsQueue

ROOT = Path(__file__).parents[2]
TABLE, LARGE = "table.csv", "large.csv"
CSV = "text/csv"
ATTEMPTS = 6
WAIT_SECONDS = 3

# What a request may ask of the flow.
ANSWER, REFUSE, BREAK, RETRY, HOLD = "answer", "refuse", "break", "retry", "hold"
# What it tells once it holds.
HOLDING = "Waiting to be stopped."


@dataclass(frozen=True)
class Work:
    """What a worker is told: where to work, and how patient to be."""

    endpoint: str
    bucket: str
    queue_urls: dict[str, str]
    log: str
    claim_seconds: float = 1.5
    heartbeat_seconds: float = 0.5
    visibility_seconds: int = 2


# ---------------------------------------------------------------- the worker


class CheapFlow:
    """Does to S3 what real flows do: reads the file, writes results at once and in parts, tells how far it is."""

    def __init__(self, clients: Clients, store: S3ObjectStore) -> None:
        self._clients = clients
        self._store = store

    async def __call__(self, drop: Drop, *, report: Report) -> Answer:
        asked = drop.manifest.query
        await report(Stage.PREPARE, "Reading the file.")
        async with self._store.open(drop.job.file_key(0)) as stream:
            content = b"".join([chunk async for chunk in stream])
        table = drop.job.result_key(drop.epoch, TABLE)
        await self._store.put(table, content, media_type=CSV)
        if asked == REFUSE:
            raise Permanent(FailureCode.RESULT_EMPTY, "There is nothing in it.")
        if asked == BREAK:
            raise Permanent(FailureCode.MODEL_REJECTED, "The model rejected our key.")
        if asked == RETRY and drop.epoch == 1:
            raise Transient(FailureCode.MODEL_UNREACHABLE, "No answer.")
        await report(Stage.DELIVER, "Writing the large one.")
        large = drop.job.result_key(drop.epoch, LARGE)
        chunks = _two_parts(report, hold=asked == HOLD)
        uploaded = await stream_upload(
            self._clients.s3, self._store.bucket, large, chunks, media_type=CSV, part_bytes=MIN_PART_BYTES
        )
        return Answer((_file(table, TABLE, len(content)), _file(large, LARGE, uploaded.size)), text="2")


async def _two_parts(report: Report, *, hold: bool) -> AsyncIterator[bytes]:
    yield bytes(MIN_PART_BYTES)
    yield bytes(MIN_PART_BYTES if hold else 1)
    if hold:
        await report(Stage.DELIVER, HOLDING)
        await asyncio.Event().wait()


def _file(key: str, name: str, size: int) -> ResultFile:
    return ResultFile(key=key, name=name, media_type=CSV, size=size)


class NoSheets:
    """None of these jobs goes to a sheet."""

    async def withdraw(self, job: JobRef, spreadsheet_id: str) -> TakenBack:
        raise AssertionError(job)

    async def undo(self, job: JobRef, epoch: int, spreadsheet_id: str) -> TakenBack:
        raise AssertionError(job)


async def _work(work: Work) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    settings = Settings(
        _env_file=None,
        aws_endpoint_url=work.endpoint,
        aws_access_key_id="test",
        aws_secret_access_key=SecretStr("test"),
        bucket=work.bucket,
        lanes=1,
        receive_wait_seconds=WAIT_SECONDS,
    )
    async with Clients(settings) as clients:
        await run_until(stop, _pollers(work, clients), drain_seconds=5)


def _pollers(work: Work, clients: Clients) -> list[Poller]:
    """As ``infra.wiring`` puts them together."""
    name, urls, store = f"quick-{os.getpid()}", work.queue_urls, S3ObjectStore(clients.s3, work.bucket)
    events = SqsEventSink(clients.batches, urls["results"])
    ledger = Ledger(store, worker=name, claim_seconds=work.claim_seconds)
    finish = Finish(store, events, NoSheets(), link_seconds=900)
    jobs = JobTransaction(
        {Flow.QUERY: CheapFlow(clients, store)},
        ledger=ledger,
        store=store,
        events=events,
        finish=finish,
        policy=JobPolicy(
            attempts=ATTEMPTS, seconds=60, heartbeat_seconds=work.heartbeat_seconds, retry_base_seconds=0.05
        ),
    )
    handler = MessageHandler(
        Handlers(manifest=jobs.run, control=SessionControl(ledger, store, finish, NoSheets()).run),
        bucket=work.bucket,
        dead_letters=SqsDeadLetters(clients.batches, urls["dead_letters"]),
        worker=name,
        visibility_seconds=work.visibility_seconds,
        retry_seconds=1,
    )
    return [
        Poller(
            SqsQueue(clients.polls, clients.batches, name=queue, url=urls[queue]),
            handler.handle,
            lanes=1,
            wait_seconds=WAIT_SECONDS,
            visibility_seconds=work.visibility_seconds,
        )
        for queue in ("queries", "controls")
    ]


# ---------------------------------------------------------------- the process that forks


def _serve() -> None:
    # What is there is for ever: no worker shall copy its pages only to look for garbage in them.
    gc.freeze()
    alive: set[int] = set()
    for line in sys.stdin:
        order = json.loads(line)
        if "start" in order:
            pid = os.fork()
            if not pid:
                _become(Work(**order["start"]))
            alive.add(pid)
            print(pid, flush=True)
        else:
            alive.discard(order["reap"])
            _, status = os.waitpid(order["reap"], 0)
            print(os.waitstatus_to_exitcode(status), flush=True)
    for pid in alive:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def _become(work: Work) -> Never:
    """A worker, until it is told to stop; its own session, so that no signal of the terminal reaches it."""
    os.setsid()
    with Path(work.log).open("a", buffering=1) as log, Path(os.devnull).open() as nothing:
        os.dup2(nothing.fileno(), 0)
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
        structlog.configure(
            processors=[structlog.processors.TimeStamper("iso"), structlog.processors.JSONRenderer()],
            logger_factory=structlog.PrintLoggerFactory(log),
        )
        asyncio.run(_work(work))
    sys.exit()


# ---------------------------------------------------------------- for the tests


class ForkServer:
    """The process that forks workers, for as long as the ``with`` block lasts."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process = subprocess.Popen(
            [sys.executable, __file__],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with self._process:
            self._process.communicate(timeout=20)

    def start(self, work: Work) -> int:
        """A new worker's process id."""
        return self._order(start=asdict(work))

    def reap(self, pid: int) -> int:
        """The exit code of a worker that was killed or told to stop: until then its id is nobody else's."""
        return self._order(reap=pid)

    def _order(self, **order: Any) -> int:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with self._lock:
            print(json.dumps(order), file=self._process.stdin, flush=True)
            return int(self._process.stdout.readline())


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        _serve()
