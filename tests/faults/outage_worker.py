"""A worker around a cheap flow, made of all the real parts; and the process that forks as many as a test wants.

    python outage_worker.py

reads one order a line, as JSON: ``{"start": {…}}`` is answered with a pid, ``{"poll": pid}`` with its exit code,
or null while it runs. With its standard input it ends, and its workers with it.
"""

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from consumers.delivery.google_sheet import GoogleSheets
from consumers.drop import Answer, Drop
from consumers.errors import Permanent, Transient
from consumers.ports import Limits, Report
from consumers.session_control import SessionControl
from consumers.worker.drain import run_until
from consumers.worker.finish import Finish
from consumers.worker.job import JobPolicy, JobTransaction
from consumers.worker.ledger import Ledger
from consumers.worker.message import Handlers, MessageHandler
from consumers.worker.poll import Poller
from events.keys import Flow
from events.results import FailureCode, ResultFile, Stage
from infra.cli.worker import stopping_on_signals
from infra.clients import Clients
from infra.logs import configure_logs
from infra.provision import Stack
from infra.s3_store import S3ObjectStore
from infra.settings import Settings
from infra.sqs_queue import SqsDeadLetters, SqsEventSink, SqsQueue

RESULT = b"b\n2\n"
LOOK_SECONDS = 0.02


class Surroundings:
    """What a test holds in its hands, as files: the worker's wall clock, a gate, and a list of what ran."""

    def __init__(self, folder: Path, name: str) -> None:
        self._gate = folder / "gate"
        self._runs = folder / "runs"
        self._offset = folder / f"{name}.offset"

    def now(self) -> datetime:
        try:
            offset = float(self._offset.read_text())
        except FileNotFoundError:
            offset = 0
        return datetime.now(UTC) + timedelta(seconds=offset)

    def note(self, drop: Drop) -> None:
        with self._runs.open("a") as runs:
            runs.write(f"{drop.job} {drop.epoch}\n")

    async def gate_opens(self) -> None:
        while not self._gate.exists():  # noqa: ASYNC110 - another process opens it
            await asyncio.sleep(LOOK_SECONDS)


class CheapFlow:
    """Reads the file, writes a result, and ends as the words of the request say."""

    def __init__(self, store: S3ObjectStore, surroundings: Surroundings) -> None:
        self._store = store
        self._surroundings = surroundings

    async def __call__(self, drop: Drop, *, report: Report) -> Answer:
        self._surroundings.note(drop)
        await report(Stage.PREPARE, "Reading 1 file.")
        async with self._store.open(drop.job.file_key(0)) as content:
            read = b"".join([chunk async for chunk in content])
        key = drop.job.result_key(drop.epoch, "result.csv")
        await self._store.put(key, RESULT, media_type="text/csv")
        words = drop.manifest.query.lower()
        if "at the gate" in words:
            await self._surroundings.gate_opens()
        _end_badly(words, drop.epoch)
        file = ResultFile(key=key, name="result.csv", media_type="text/csv", size=len(RESULT))
        return Answer((file,), text=f"{len(read)} bytes")


def _end_badly(words: str, epoch: int) -> None:
    if "refuse" in words:
        raise Permanent(FailureCode.FILE_EMPTY, "It is empty.")
    if "hiccup for ever" in words or ("hiccup once" in words and epoch == 1):
        raise Transient(FailureCode.MODEL_UNREACHABLE, "No answer.")
    if "bug" in words:
        raise ZeroDivisionError
    if "kill" in words:
        os.kill(os.getpid(), signal.SIGKILL)


async def work(name: str, settings: Settings, stack: Stack, folder: Path) -> None:
    """What ``infra.wiring`` builds, but for the flow and the clock."""
    with stopping_on_signals() as stop:
        async with Clients(settings) as clients:
            surroundings = Surroundings(folder, name)
            handler = _handler(name, settings, stack, clients, surroundings)
            pollers = [
                Poller(
                    SqsQueue(clients.polls, clients.batches, name=queue, url=stack.queue_urls[queue]),
                    handler.handle,
                    lanes=settings.lanes,
                    wait_seconds=settings.receive_wait_seconds,
                    visibility_seconds=settings.visibility_seconds,
                )
                for queue in ("queries", "controls")
            ]
            await run_until(stop, pollers, drain_seconds=settings.drain_seconds)


def _handler(
    name: str, settings: Settings, stack: Stack, clients: Clients, surroundings: Surroundings
) -> MessageHandler:
    store = S3ObjectStore(clients.s3, stack.bucket, links=clients.links)
    events = SqsEventSink(clients.batches, stack.queue_urls["results"])
    sheets = GoogleSheets(None, None, store, limits=Limits())
    ledger = Ledger(store, worker=name, claim_seconds=settings.claim_seconds, now=surroundings.now)
    finish = Finish(store, events, sheets, link_seconds=settings.link_seconds)
    jobs = JobTransaction(
        {Flow.QUERY: CheapFlow(store, surroundings)},
        ledger=ledger,
        store=store,
        events=events,
        finish=finish,
        policy=JobPolicy(
            attempts=settings.job_attempts,
            seconds=settings.job_seconds,
            heartbeat_seconds=settings.heartbeat_seconds,
            retry_base_seconds=settings.retry_base_seconds,
        ),
        now=surroundings.now,
    )
    return MessageHandler(
        Handlers(manifest=jobs.run, control=SessionControl(ledger, store, finish, sheets).run),
        bucket=stack.bucket,
        dead_letters=SqsDeadLetters(clients.batches, stack.queue_urls["dead_letters"]),
        worker=name,
        visibility_seconds=settings.visibility_seconds,
        retry_seconds=settings.retry_base_seconds,
        now=surroundings.now,
    )


def run(order: dict[str, Any]) -> None:
    """In the forked process; ends with it."""
    folder = Path(order["folder"])
    nowhere = os.open(os.devnull, os.O_RDWR)
    log = os.open(folder / f"{order['name']}.log", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    for ours, theirs in ((0, nowhere), (1, nowhere), (2, log)):
        os.dup2(theirs, ours)
    configure_logs()
    settings = Settings.model_validate(order["settings"])
    asyncio.run(work(order["name"], settings, Stack(settings.bucket, order["queue_urls"]), folder))


def fork(order: dict[str, Any]) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        run(order)
        code = 0
    finally:
        os._exit(code)


def poll(pid: int) -> int | None:
    ended, status = os.waitpid(pid, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if ended else None


def main() -> None:
    # A Ctrl-C in the terminal of the tests is theirs to handle; each worker sets its own handlers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    running: set[int] = set()
    for line in sys.stdin:
        match json.loads(line):
            case {"start": dict(order)}:
                answer: int | None = fork(order)
                running.add(answer or 0)
            case {"poll": int(pid)}:
                answer = poll(pid)
                if answer is not None:
                    running.discard(pid)
        print(json.dumps(answer), flush=True)
    for pid in running:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + 10
    while running and time.monotonic() < deadline:
        running.discard(os.wait()[0])


if __name__ == "__main__":
    main()
