"""Drop to completed event: a 100 KB CSV, a replayed model, the embedded stack, a worker of its own process.

    python tests/benchmarks/bench_latency.py [--quick | --record]

The clock runs from the first byte of the upload to the arrival of the completed event on the results
queue. Beside it stand the same drops with the stages that the worker itself reports, and what a cold
sandbox alone costs on this machine. ``--record`` asks a real model again (OPENAI_BASE_URL and its kin).
"""

import argparse
import asyncio
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random

from rich.console import Console
from rich.table import Table

from consumers.ports import SandboxTask
from consumers.sandbox.tiers import open_tier
from events.keys import JobRef
from events.manifest import DownloadDestination
from events.results import Completed, CompletedEvent, FailedEvent, Stage, parse_event
from events.status import State
from infra.clients import Clients
from infra.drop_client import DropClient, Request
from infra.embedded.replayed_model import RECORDINGS, ReplayedModel, replace_recordings
from infra.embedded.stack import EmbeddedStack, embedded_stack
from infra.s3_store import S3ObjectStore
from infra.settings import Settings
from infra.sqs_queue import SqsQueue

TARGET_SECONDS = 1.5
BENCHMARK_RECORDINGS = RECORDINGS / "benchmark"
QUESTION = Request(
    query="What is the total amount per city? Sort by total, largest first.",
    destination=DownloadDestination(format="csv"),
)
CITIES = ("Aarhus", "Bilbao", "Cork", "Delft", "Essen", "Faro")


@dataclass(frozen=True)
class Result:
    """Medians over the drops, in seconds; ``stages`` as the worker reports them."""

    drops: int
    seconds: float
    slowest: float
    stages: dict[Stage, float]
    sandbox: float


def write_csv(path: Path) -> None:
    """100 KB, the same each time."""
    chance = Random(7)
    rows = [f"{number:06d},{CITIES[int(chance.random() * 6)]},{chance.random() * 900:.2f}" for number in range(4_650)]
    path.write_text("\n".join(["order_id,city,amount", *rows]) + "\n")


def run(*, quick: bool) -> list[Result]:
    with ReplayedModel(BENCHMARK_RECORDINGS) as model:
        return [asyncio.run(_measure(model, drops=5 if quick else 25))]


async def _measure(model: ReplayedModel, *, drops: int) -> Result:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "orders.csv"
        write_csv(path)
        async with _stack(model) as embedded, Clients(embedded.settings) as clients:
            client = DropClient(S3ObjectStore(clients.s3, embedded.stack.bucket))
            queue = SqsQueue(clients.polls, clients.batches, name="results", url=embedded.stack.queue_urls["results"])
            await _one(client, queue, path)  # the first drop also warms the file cache
            timed = [await _one(client, queue, path) for _ in range(drops)]
        seconds = [one for one, _ in timed]
        return Result(
            drops=drops,
            seconds=statistics.median(seconds),
            slowest=max(seconds),
            stages={stage: statistics.median(completed.seconds[stage] for _, completed in timed) for stage in Stage},
            sandbox=await _sandbox(Path(folder)),
        )


@asynccontextmanager
async def _stack(model: ReplayedModel) -> AsyncIterator[EmbeddedStack]:
    """S3 and SQS here, the worker in a process of its own: they do not share an interpreter in real life either."""
    async with embedded_stack(Settings(_env_file=None), replayed=model, worker=False) as embedded:
        settings = embedded.settings
        environment = {
            "PATH": os.environ["PATH"],
            "AWS_ENDPOINT_URL": str(settings.aws_endpoint_url),
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "OPENAI_BASE_URL": settings.openai_base_url,
            "OPENAI_API_KEY": "replayed",
        }
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "infra.cli.app", "worker"), env=environment, stderr=subprocess.DEVNULL
        )
        try:
            yield embedded
        finally:
            process.send_signal(signal.SIGTERM)
            await process.wait()


async def _one(client: DropClient, queue: SqsQueue, path: Path) -> tuple[float, Completed]:
    began = time.perf_counter()
    job = await client.drop([path], QUESTION)
    completed = await _completed(queue, job)
    return time.perf_counter() - began, completed


async def _completed(queue: SqsQueue, job: JobRef) -> Completed:
    async with asyncio.timeout(60):
        while True:
            for message in await queue.receive(max_messages=10, wait_seconds=20, visibility_seconds=30):
                event = parse_event(message.body)
                await queue.delete(message)
                if event.data.ref == job and isinstance(event, FailedEvent):
                    raise RuntimeError(f"{event.data.code}: {event.data.message}")
                if event.data.ref == job and isinstance(event, CompletedEvent):
                    return event.data


async def _sandbox(folder: Path) -> float:
    """A task that does nothing but try the walls, a spare being ready."""
    task = SandboxTask("consumers.sandbox.guest.probe:probe", {"outside": []}, inputs={}, output=folder)
    async with open_tier("namespaces", folder) as sandbox:
        return statistics.median([(await sandbox.run(task)).seconds for _ in range(5)])


async def record(settings: Settings) -> None:
    """Ask the configured model; its replies take the place of the recordings."""
    upstream, key = settings.openai_base_url, settings.openai_api_key.get_secret_value()
    with tempfile.TemporaryDirectory() as folder:
        path, fresh = Path(folder) / "orders.csv", Path(folder) / "recordings"
        write_csv(path)
        fresh.mkdir()
        with ReplayedModel(fresh, upstream=upstream, api_key=key) as recorder:
            await _ask(settings, recorder, path)
        for recording in replace_recordings(fresh, BENCHMARK_RECORDINGS):
            Console().print("recorded", recording)


async def _ask(settings: Settings, recorder: ReplayedModel, path: Path) -> None:
    async with embedded_stack(settings, replayed=recorder) as embedded, Clients(embedded.settings) as clients:
        client = DropClient(S3ObjectStore(clients.s3, embedded.stack.bucket))
        status = None
        async for status in client.follow(await client.drop([path], QUESTION)):
            Console().print(status.state, status.detail)
        if status is None or status.state is not State.COMPLETED:
            raise RuntimeError("The drop did not complete; the recordings stay as they were.")


def show(results: list[Result], console: Console) -> None:
    for one in results:
        table = Table(title=f"Drop to completed event, 100 KB CSV, {one.drops} drops, medians")
        for heading in ("what", "seconds", "share"):
            table.add_column(heading, justify="left" if heading == "what" else "right")
        for stage, seconds in one.stages.items():
            table.add_row(f"stage {stage}", f"{seconds:.3f}", f"{seconds / one.seconds:.0%}")
        rest = one.seconds - sum(one.stages.values())
        table.add_row("upload, notification, claim, event", f"{rest:.3f}", f"{rest / one.seconds:.0%}")
        table.add_row("[bold]whole", f"[bold]{one.seconds:.3f}", "")
        table.add_row("slowest", f"{one.slowest:.3f}", "")
        table.add_row("for comparison: an empty task, a guest being ready", f"{one.sandbox:.3f}", "")
        console.print(table)
        verdict = "under" if one.seconds < TARGET_SECONDS else "NOT under"
        console.print(f"Median {one.seconds:.2f} s: {verdict} the {TARGET_SECONDS} s that we promise.")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="five drops, to see that it works")
    parser.add_argument("--record", action="store_true", help="ask the configured model again")
    options = parser.parse_args()
    if options.record:
        asyncio.run(record(Settings(_env_file=None)))
    else:
        show(run(quick=options.quick), Console())


if __name__ == "__main__":
    main()
