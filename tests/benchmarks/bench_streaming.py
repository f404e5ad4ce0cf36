"""A 350 MB object from S3 to a sink: get_streaming_body beside aiobotocore's own iter_chunks.

    python tests/benchmarks/bench_streaming.py [--quick]

The object comes over HTTP from moto's server in a process of its own, which sends whole GETs fast
(about 1 GB/s on the machines that we know), so that the reader is what is measured and not the network.
Every run is a fresh process; the readers take turns. Memory is the process's peak less what it held
when idle (client made, one small GET done); Linux counts both.
"""

import argparse
import asyncio
import json
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parents[2]))

from consumers.s3_file_actions import CHUNK_BYTES, get_streaming_body, stream_upload
from infra.clients import Clients
from infra.settings import Settings

BUCKET, BIG, SMALL = "benchmark", "big", "small"
MB = 1_000_000
OBJECT_MB = 350
RUNS = 7
MAX_PEAK_MB = 80
READY_SECONDS = 30


@dataclass(frozen=True)
class Result:
    """Medians of one reader over all runs; ``ratio`` is its throughput to ours, round by round."""

    reader: str
    mb_per_second: float
    ratio: float
    cpu_seconds: float
    peak_over_idle_mb: float


async def ours(s3: Any, key: str) -> int:
    total = 0
    async with get_streaming_body(s3, BUCKET, key) as body, aclosing(aiter(body)) as chunks:
        async for chunk in chunks:
            total += len(chunk)
    return total


async def iter_chunks(s3: Any, key: str, *size: int) -> int:
    total = 0
    reply = await s3.get_object(Bucket=BUCKET, Key=key)
    async with reply["Body"] as body:
        async for chunk in body.iter_chunks(*size):
            total += len(chunk)
    return total


READERS: dict[str, Callable[[Any, str], Awaitable[int]]] = {
    "get_streaming_body": ours,
    f"iter_chunks({CHUNK_BYTES})": lambda s3, key: iter_chunks(s3, key, CHUNK_BYTES),
    "iter_chunks()": iter_chunks,
}


def run(quick: bool) -> list[Result]:
    """Measure every reader; the first result is ours."""
    megabytes, runs = (50, 3) if quick else (OBJECT_MB, RUNS)
    measured: dict[str, list[dict[str, float]]] = {reader: [] for reader in READERS}
    with moto_server() as endpoint:
        asyncio.run(fill(endpoint, megabytes))
        for number in range(runs):
            # Nobody is always the first of the round.
            for reader in rotated(list(READERS), number):
                measured[reader].append(in_fresh_process(endpoint, reader))
    first = measured[next(iter(READERS))]
    return [
        Result(
            reader=reader,
            mb_per_second=statistics.median(megabytes / one["seconds"] for one in ones),
            ratio=statistics.median(base["seconds"] / one["seconds"] for one, base in zip(ones, first, strict=True)),
            cpu_seconds=statistics.median(one["cpu_seconds"] for one in ones),
            peak_over_idle_mb=statistics.median(one["peak_over_idle_bytes"] / MB for one in ones),
        )
        for reader, ones in measured.items()
    ]


def rotated(readers: list[str], by: int) -> list[str]:
    start = by % len(readers)
    return readers[start:] + readers[:start]


@contextmanager
def moto_server() -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    endpoint = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            wait_until_ready(endpoint)
            yield endpoint
        finally:
            server.terminate()


def wait_until_ready(endpoint: str) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while True:
        try:
            urllib.request.urlopen(f"{endpoint}/moto-api/", timeout=5).close()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
        else:
            return


def clients(endpoint: str) -> Clients:
    return Clients(
        Settings(aws_endpoint_url=endpoint, aws_access_key_id="test", aws_secret_access_key="test", region="us-east-1")
    )


async def fill(endpoint: str, megabytes: int) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for number in range(megabytes):
            yield bytes([number % 256]) * MB

    async with clients(endpoint) as made:
        await made.s3.create_bucket(Bucket=BUCKET)
        await made.s3.put_object(Bucket=BUCKET, Key=SMALL, Body=b"small")
        await stream_upload(made.s3, BUCKET, BIG, chunks(), media_type="application/octet-stream")


def in_fresh_process(endpoint: str, reader: str) -> dict[str, float]:
    command = [sys.executable, __file__, "--read", endpoint, reader]
    measured: dict[str, float] = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    return measured


async def read_once(endpoint: str, reader: str) -> dict[str, float]:
    async with clients(endpoint) as made:
        await READERS[reader](made.s3, SMALL)
        forget_peak()
        idle, cpu, begun = memory("VmRSS"), time.process_time(), time.perf_counter()
        total = await READERS[reader](made.s3, BIG)
        seconds, cpu_seconds, peak = time.perf_counter() - begun, time.process_time() - cpu, memory("VmHWM")
        expected = (await made.s3.head_object(Bucket=BUCKET, Key=BIG))["ContentLength"]
        if total != expected:
            raise AssertionError(f"{reader} read {total:,} of {expected:,} bytes")
        return {"seconds": seconds, "cpu_seconds": cpu_seconds, "peak_over_idle_bytes": peak - idle}


def forget_peak() -> None:
    """Let the process's peak memory (VmHWM) begin again from here. Source: proc_pid_clear_refs(5)."""
    Path("/proc/self/clear_refs").write_text("5")


def memory(name: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise LookupError(name)


def show(results: list[Result], console: Console) -> None:
    table = Table(title="One large object to a sink, medians")
    for heading in ("reader", "MB/s", "to ours", "CPU s", "peak over idle, MB"):
        table.add_column(heading, justify="left" if heading == "reader" else "right")
    for one in results:
        table.add_row(
            one.reader,
            f"{one.mb_per_second:,.0f}",
            f"{one.ratio:.2f}",
            f"{one.cpu_seconds:.2f}",
            f"{one.peak_over_idle_mb:.1f}",
        )
    console.print(table)
    ours_, others = results[0], results[1:]
    fastest = max(others, key=lambda one: one.ratio)
    within = "within" if ours_.peak_over_idle_mb <= MAX_PEAK_MB else "NOT within"
    console.print(f"Peak over idle: {ours_.peak_over_idle_mb:.1f} MB, {within} the {MAX_PEAK_MB} MB allowed.")
    console.print(
        f"Throughput: {1 / fastest.ratio:.2f} of {fastest.reader}, the faster one, "
        f"for {ours_.cpu_seconds / fastest.cpu_seconds:.2f} of its CPU time."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="50 MB and three rounds, to see that it works")
    parser.add_argument("--read", nargs=2, metavar=("ENDPOINT", "READER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.read:
        sys.stdout.write(json.dumps(asyncio.run(read_once(*options.read))))
    else:
        show(run(options.quick), Console())


if __name__ == "__main__":
    main()
