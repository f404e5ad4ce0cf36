"""One consumer of ``bench_transport``, in a process of its own: receive, do nothing, acknowledge.

    python transport_consumers.py CONTESTANT ENDPOINT QUEUE_URL MESSAGES

Prints what it used, as JSON, from the first receive to the last confirmed acknowledgement.
"""

import asyncio
import json
import resource
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

import boto3
from aiobotocore.session import get_session
from pydantic import SecretStr

from consumers.ports import Message, WorkQueue
from consumers.worker.poll import Poller
from infra.clients import Clients
from infra.settings import Settings
from infra.sqs_queue import SqsQueue

# Enough to keep the endpoint busy. Ours opens as many by itself, one for each ten lanes.
LOOPS = 4
LANES = 40
CONNECTION = {"region_name": "us-east-1", "aws_access_key_id": "test", "aws_secret_access_key": "test"}


class Meter:
    """CPU (user and system) of this process, and the time on the wall, since it was made."""

    def __init__(self) -> None:
        self._began, self._cpu = time.perf_counter(), _cpu()

    def tell(self) -> None:
        used = {"cpu_seconds": _cpu() - self._cpu, "seconds": time.perf_counter() - self._began}
        print(json.dumps(used), flush=True)


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


async def ours(endpoint: str, url: str, messages: int) -> None:
    settings = Settings(
        _env_file=None,
        aws_endpoint_url=endpoint,
        aws_access_key_id="test",
        aws_secret_access_key=SecretStr("test"),
        lanes=LANES,
    )
    left, all_done = messages, asyncio.Event()

    async def acknowledge(queue: WorkQueue, message: Message) -> None:
        nonlocal left
        await queue.delete(message)
        left -= 1
        if not left:
            all_done.set()

    async with Clients(settings) as clients, asyncio.TaskGroup() as running:
        queue = SqsQueue(clients.polls, clients.batches, name="queue", url=url)
        meter = Meter()
        poller = Poller(queue, acknowledge, lanes=LANES, wait_seconds=1, visibility_seconds=60)
        polling = running.create_task(poller.poll(running))
        await all_done.wait()
        meter.tell()
        polling.cancel()


async def one_by_one(endpoint: str, url: str, messages: int) -> None:
    client = boto3.client("sqs", endpoint_url=endpoint, **CONNECTION)
    meter = Meter()
    while messages:
        received = client.receive_message(QueueUrl=url, MaxNumberOfMessages=10, WaitTimeSeconds=1)
        for message in received.get("Messages", []):
            client.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
            messages -= 1
    meter.tell()


async def single_deletes(endpoint: str, url: str, messages: int) -> None:
    async def acknowledge(client: Any, receipts: list[str]) -> None:
        await asyncio.gather(*(client.delete_message(QueueUrl=url, ReceiptHandle=receipt) for receipt in receipts))

    await _plain(endpoint, url, messages, acknowledge)


async def batch_deletes(endpoint: str, url: str, messages: int) -> None:
    async def acknowledge(client: Any, receipts: list[str]) -> None:
        entries = [{"Id": str(place), "ReceiptHandle": receipt} for place, receipt in enumerate(receipts)]
        await client.delete_message_batch(QueueUrl=url, Entries=entries)

    await _plain(endpoint, url, messages, acknowledge)


async def _plain(
    endpoint: str, url: str, messages: int, acknowledge: Callable[[Any, list[str]], Awaitable[None]]
) -> None:
    left = messages

    async def consume(client: Any) -> None:
        nonlocal left
        while left > 0:
            received = await client.receive_message(QueueUrl=url, MaxNumberOfMessages=10, WaitTimeSeconds=0)
            receipts = [message["ReceiptHandle"] for message in received.get("Messages", [])]
            if receipts:
                await acknowledge(client, receipts)
                left -= len(receipts)

    async with get_session().create_client("sqs", endpoint_url=endpoint, **CONNECTION) as client:
        meter = Meter()
        await asyncio.gather(*(consume(client) for _ in range(LOOPS)))
        meter.tell()


CONTESTANTS = {
    "ours": ours,
    "boto3 one by one": one_by_one,
    "aiobotocore, single deletes": single_deletes,
    "aiobotocore, batch deletes": batch_deletes,
}


if __name__ == "__main__":
    asyncio.run(CONTESTANTS[sys.argv[1]](sys.argv[2], sys.argv[3], int(sys.argv[4])))
