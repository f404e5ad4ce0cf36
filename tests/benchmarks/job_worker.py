"""The worker of ``bench_job``, in a process of its own: whole jobs, whose flow does nothing.

    python job_worker.py ENDPOINT BUCKET JOBS

Prints what it used, as JSON, from its first receive to the last job's acknowledgement.
"""

import asyncio
import sys

from pydantic import SecretStr
from transport_consumers import Meter

from consumers.delivery.google_sheet import GoogleSheets
from consumers.drop import Answer, Drop
from consumers.errors import Permanent
from consumers.ports import Limits, Message, Report, WorkQueue
from consumers.worker.finish import Bury, Finish
from consumers.worker.job import JobPolicy, JobTransaction
from consumers.worker.ledger import Ledger
from consumers.worker.message import Handlers, MessageHandler
from consumers.worker.outcome import Outcome
from consumers.worker.poll import Poller
from events.keys import ControlKey, Flow
from events.results import FailureCode
from infra.clients import Clients
from infra.logs import configure_logs
from infra.provision import Stack, provision
from infra.s3_store import S3ObjectStore
from infra.settings import Settings
from infra.sqs_queue import SqsDeadLetters, SqsEventSink, SqsQueue

WORKER = "benchmark"


def settings_for(endpoint: str, bucket: str) -> Settings:
    return Settings(
        _env_file=None,
        aws_endpoint_url=endpoint,
        aws_access_key_id="test",
        aws_secret_access_key=SecretStr("test"),
        bucket=bucket,
        stack=bucket,
        lanes=20,
    )


async def nothing(drop: Drop, *, report: Report) -> Answer:
    return Answer((), text="Nothing.")


async def no_controls(key: ControlKey, bury: Bury) -> Outcome:
    raise Permanent(FailureCode.INTERNAL, "There are no controls in this benchmark.")


def handler(settings: Settings, stack: Stack, clients: Clients) -> MessageHandler:
    store = S3ObjectStore(clients.s3, stack.bucket)
    events = SqsEventSink(clients.batches, stack.queue_urls["results"])
    sheets = GoogleSheets(None, None, store, limits=Limits())
    jobs = JobTransaction(
        {Flow.QUERY: nothing},
        ledger=Ledger(store, worker=WORKER, claim_seconds=settings.claim_seconds),
        store=store,
        events=events,
        finish=Finish(store, events, sheets, link_seconds=settings.link_seconds),
        policy=JobPolicy(),
    )
    return MessageHandler(
        Handlers(manifest=jobs.run, control=no_controls),
        bucket=stack.bucket,
        dead_letters=SqsDeadLetters(clients.batches, stack.queue_urls["dead_letters"]),
        worker=WORKER,
        visibility_seconds=settings.visibility_seconds,
    )


async def work(endpoint: str, bucket: str, jobs: int) -> None:
    settings = settings_for(endpoint, bucket)
    stack, left, all_done = provision(settings), jobs, asyncio.Event()
    configure_logs()
    async with Clients(settings) as clients, asyncio.TaskGroup() as running:
        messages = handler(settings, stack, clients)

        async def counted(queue: WorkQueue, message: Message) -> None:
            nonlocal left
            await messages.handle(queue, message)
            left -= "Records" in message.body  # not the test event that S3 sends to a new queue
            if not left:
                all_done.set()

        queue = SqsQueue(clients.polls, clients.batches, name="queries", url=stack.queue_urls["queries"])
        meter = Meter()
        poller = Poller(queue, counted, lanes=settings.lanes, wait_seconds=1, visibility_seconds=60)
        polling = running.create_task(poller.poll(running))
        await all_done.wait()
        meter.tell()
        polling.cancel()


if __name__ == "__main__":
    asyncio.run(work(sys.argv[1], sys.argv[2], int(sys.argv[3])))
