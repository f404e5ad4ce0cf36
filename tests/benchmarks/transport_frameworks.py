"""A framework as a consumer of ``bench_transport``, in an environment of its own.

    python transport_frameworks.py (send | consume) (celery | taskiq-aio-sqs) ENDPOINT QUEUE_URL MESSAGES

Prints what it used, as JSON, from its readiness to the last acknowledgement that it was asked for.
"""

import asyncio
import json
import os
import resource
import sys
import time
from collections.abc import AsyncGenerator
from typing import Any

CONNECTION = {"region_name": "us-east-1", "aws_access_key_id": "test", "aws_secret_access_key": "test"}
began: tuple[float, float] = (0, 0)


def start() -> None:
    global began  # noqa: PLW0603 - celery's signals carry nothing of ours
    began = time.perf_counter(), cpu()


def tell() -> None:
    print(json.dumps({"cpu_seconds": cpu() - began[1], "seconds": time.perf_counter() - began[0]}), flush=True)


def cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def celery(action: str, endpoint: str, url: str, messages: int) -> None:
    from celery import Celery, signals  # noqa: PLC0415 - one of the two is measured

    name, left = url.rsplit("/", 1)[-1], messages
    queue = {"url": url, "access_key_id": "test", "secret_access_key": "test"}
    app = Celery(broker=endpoint.replace("http://", "sqs://test:test@"))
    app.conf.update(
        task_default_queue=name,
        task_ignore_result=True,
        worker_redirect_stdouts=False,
        # As many as one receive brings.
        worker_prefetch_multiplier=10,
        worker_enable_remote_control=False,
        broker_connection_retry_on_startup=True,
        broker_transport_options={
            "region": "us-east-1",
            "is_secure": False,
            "predefined_queues": {name: queue},
            "wait_time_seconds": 1,
            "polling_interval": 0,
        },
    )

    @app.task(name="nothing")
    def nothing() -> None:
        nonlocal left
        left -= 1
        if not left:
            # Acknowledged before they run, all of them: celery's default.
            tell()
            os._exit(0)

    if action == "send":
        for _ in range(messages):
            nothing.apply_async()
        return
    signals.worker_ready.connect(lambda **_: start(), weak=False)
    quiet = ("--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel=ERROR")
    app.worker_main(["worker", "--pool=solo", *quiet])


async def taskiq(action: str, endpoint: str, url: str, messages: int) -> None:
    from taskiq.acks import AckableMessage  # noqa: PLC0415 - one of the two is measured
    from taskiq.api import run_receiver_task  # noqa: PLC0415
    from taskiq_aio_sqs import SQSBroker  # noqa: PLC0415

    all_done = asyncio.Event()

    class Counting(SQSBroker):
        left = messages

        async def listen(self) -> AsyncGenerator[AckableMessage, None]:
            async for message in super().listen():
                yield message.model_copy(update={"ack": self._counted(message.ack)})

        def _counted(self, ack: Any) -> Any:
            async def counted() -> None:
                await ack()
                self.left -= 1
                if not self.left:
                    all_done.set()

            return counted

    broker = Counting(
        url.rsplit("/", 1)[-1],
        endpoint_url=endpoint,
        max_number_of_messages=10,
        wait_time_seconds=1,
        **CONNECTION,
    )

    @broker.task(task_name="nothing")
    async def nothing() -> None:
        pass

    await broker.startup()
    if action == "send":
        await asyncio.gather(*(nothing.kiq() for _ in range(messages)))
        await broker.shutdown()
        return
    start()
    receiver = asyncio.create_task(run_receiver_task(broker))
    await all_done.wait()
    tell()
    receiver.cancel()
    os._exit(0)


if __name__ == "__main__":
    action, framework, endpoint, url, messages = sys.argv[1:]
    if framework == "celery":
        celery(action, endpoint, url, int(messages))
    else:
        asyncio.run(taskiq(action, endpoint, url, int(messages)))
