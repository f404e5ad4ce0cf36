"""The transport alone: receive, do nothing, acknowledge; beside what others use, on one endpoint.

    python tests/benchmarks/bench_transport.py [--quick]

Every contestant is a process of its own; its CPU is what the kernel counts for that process alone, without
its start. Each message was sent before its clock started. ``--quick`` leaves out the frameworks, which
need an environment of their own.
"""

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import boto3
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parents[1]))

from environments import installed
from localstack_server import localstack
from ministack_server import ministack

OURS = "ours"
PLAIN = (OURS, "boto3 one by one", "aiobotocore, single deletes", "aiobotocore, batch deletes")
FRAMEWORKS = ("celery", "taskiq-aio-sqs")
REQUIREMENTS = ("celery[sqs]==5.7.0", "taskiq==0.13.0", "taskiq-aio-sqs==2.1.1")
TARGET_CPU_MS = 0.20
TARGET_RATIO = 3
HERE = Path(__file__).parent
PROJECT = HERE.parents[1]
SECONDS = 60
# About as long as one of S3's notifications.
BODY = json.dumps({"Records": [{"eventName": "ObjectCreated:Put", "filler": "x" * 800}]})


@dataclass(frozen=True)
class Run:
    """Medians of one contestant: CPU milliseconds for each message, and messages per second."""

    name: str
    cpu_ms: float
    rate: float


@dataclass(frozen=True)
class Result:
    endpoint: str
    messages: int
    runs: list[Run]

    @property
    def ours(self) -> Run:
        return next(run for run in self.runs if run.name == OURS)


def run(quick: bool) -> Result:
    messages, times = (200, 1) if quick else (3_000, 3)
    contestants = PLAIN if quick else (*PLAIN, *FRAMEWORKS)
    with endpoint_for(quick) as (name, url):
        # In turns, so that whatever else the machine does meets all of them.
        turns = [{one: _once(one, url, messages) for one in contestants} for _ in range(times)]
    runs = [
        Run(
            one,
            statistics.median(turn[one]["cpu_seconds"] for turn in turns) / messages * 1000,
            messages / statistics.median(turn[one]["seconds"] for turn in turns),
        )
        for one in contestants
    ]
    return Result(name, messages, runs)


@contextmanager
def endpoint_for(quick: bool) -> Iterator[tuple[str, str]]:
    """MiniStack where it can be installed, else LocalStack, which the tests have anyway; its name and URL."""
    if not quick:
        try:
            with ministack() as url:
                yield "MiniStack", url
                return
        except subprocess.CalledProcessError:
            Console().print("MiniStack cannot be installed here; LocalStack takes its place.")
    with localstack() as url:
        yield "LocalStack", url


def _once(contestant: str, endpoint: str, messages: int) -> dict[str, float]:
    client = boto3.client(
        "sqs",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
    )
    url = client.create_queue(QueueName=f"transport-{uuid4().hex}")["QueueUrl"]
    url = f"{endpoint}/{'/'.join(url.split('/')[-2:])}"
    if contestant in FRAMEWORKS:
        _framework("send", contestant, endpoint, url, messages)
        used = _framework("consume", contestant, endpoint, url, messages)
    else:
        _fill(client, url, messages)
        used = output_of([sys.executable, HERE / "transport_consumers.py", contestant, endpoint, url, str(messages)])
    reply: dict[str, float] = json.loads(used)
    return reply


def _fill(client: Any, url: str, messages: int) -> None:
    for _ in range(0, messages, 10):
        client.send_message_batch(
            QueueUrl=url, Entries=[{"Id": str(number), "MessageBody": BODY} for number in range(10)]
        )


def _framework(action: str, contestant: str, endpoint: str, url: str, messages: int) -> str:
    environment = installed("queue-frameworks-1", REQUIREMENTS, fingerprint=repr(REQUIREMENTS).encode())
    script = HERE / "transport_frameworks.py"
    return output_of([environment / "bin" / "python", script, action, contestant, endpoint, url, str(messages)])


def output_of(command: list[Any]) -> str:
    """The last line that a process prints."""
    ran = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=SECONDS, check=False)
    if ran.returncode != 0:
        raise RuntimeError(f"{command[1:3]} failed:\n{ran.stderr[-3000:]}")
    return ran.stdout.strip().rpartition("\n")[2]


def show(result: Result, console: Console) -> None:
    table = Table(title=f"Receive, nothing, acknowledge: {result.messages} messages, {result.endpoint}, medians")
    for heading in ("with", "CPU ms/message", "messages/s", "ours is quicker by"):
        table.add_column(heading, justify="left" if heading == "with" else "right")
    for one in result.runs:
        table.add_row(one.name, f"{one.cpu_ms:.2f}", f"{one.rate:,.0f}", f"{result.ours.rate / one.rate:.1f}")
    console.print(table)
    verdict = "within" if result.ours.cpu_ms <= TARGET_CPU_MS else "NOT within"
    console.print(f"{result.ours.cpu_ms:.2f} ms of CPU for each message: {verdict} the {TARGET_CPU_MS:.2f} allowed.")
    frameworks = [one.rate for one in result.runs if one.name in FRAMEWORKS]
    if frameworks:
        ratio = result.ours.rate / max(frameworks)
        verdict = "at least" if ratio >= TARGET_RATIO else "NOT"
        console.print(f"{ratio:.1f} times the rate of the quickest framework: {verdict} the {TARGET_RATIO} promised.")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="200 messages once, without the frameworks")
    show(run(parser.parse_args().quick), Console())


if __name__ == "__main__":
    main()
