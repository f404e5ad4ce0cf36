"""Stopping the real command: what runs ends or is given back, and nothing stays hidden for long."""

import asyncio
import json
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from signal import SIGINT, SIGTERM, Signals
from typing import Any
from urllib.error import URLError

import pytest
from kit import Kit, until
from localstack_server import free_port
from outage_world import Workers, World, outage_settings, own_name, worker_forks
from scripted_model import Reply, ScriptedModel
from worker_process import worker_process

from events.keys import JobRef
from events.status import JobStatus, State
from infra.provision import Stack, provision
from infra.settings import Settings

INTERRUPTED = 130


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    is_long = metafunc.config.getoption("--long")
    if "number" in metafunc.fixturenames:
        metafunc.parametrize("number", [SIGTERM, SIGINT] if is_long else [SIGTERM])
    if "second" in metafunc.fixturenames:
        metafunc.parametrize(
            ("first", "second"), [(SIGINT, SIGTERM), (SIGTERM, SIGINT)] if is_long else [(SIGINT, SIGTERM)]
        )


class GatedModel(ScriptedModel):
    """Answers only after ``gate`` is set."""

    def __init__(self) -> None:
        super().__init__(Reply("```python\nresult = df\n```"))
        self.gate = threading.Event()

    def _next(self, request: Any) -> Any:
        step = super()._next(request)
        self.gate.wait(60)
        return step

    def __exit__(self, *error: object) -> None:
        self.gate.set()
        super().__exit__(*error)


@pytest.fixture
def settings(moto_endpoint: str, request: pytest.FixtureRequest) -> Settings:
    return outage_settings(moto_endpoint, own_name(request))


@pytest.fixture
def stack(settings: Settings) -> Stack:
    return provision(settings)


@pytest.fixture
def model() -> Iterator[GatedModel]:
    with GatedModel() as model:
        yield model


@pytest.fixture
def others(tmp_path: Path) -> Iterator[Workers]:
    with worker_forks(tmp_path) as others:
        yield others


async def running_job(kit: Kit, world: World, model: GatedModel) -> JobRef:
    """A drop whose job waits for the model."""
    (job,) = await world.hand_in(1, "Add up.")

    async def asks() -> bool:
        return bool(model.requests)

    await until(asks, seconds=60)
    return job


async def logged(path: Path, event: str) -> None:
    async def it_is() -> bool:
        return f'"event": "{event}"' in path.read_text()

    await until(it_is, seconds=20)


async def code_of(worker: "subprocess.Popen[bytes]") -> int:
    return await asyncio.to_thread(worker.wait, 30)


async def status_of(kit: Kit, job: JobRef) -> JobStatus:
    status = await kit.status(job)
    assert status is not None
    return status


async def finish_by_another(kit: Kit, world: World, others: Workers) -> None:
    """What is left is visible soon, and done by another worker."""
    others.start(kit.settings, kit.stack)
    await world.all_end(seconds=kit.settings.visibility_seconds + 16)
    tally = await world.tally()

    assert tally.is_clean, tally


async def test_a_running_job_ends_in_the_drain_time_and_nothing_new_begins(
    kit: Kit, model: GatedModel, others: Workers, tmp_path: Path, number: Signals
):
    world, log = World(kit), tmp_path / "log"
    with worker_process(kit.settings, model.base_url, log) as worker:
        job = await running_job(kit, world, model)
        worker.send_signal(number)
        await logged(log, "worker.draining")
        (later,) = await world.hand_in(1, "Come later.")
        model.gate.set()
        code = await code_of(worker)

    status = await status_of(kit, job)
    assert code == 0
    assert (status.state, status.epoch, status.attempts, status.published) == (State.COMPLETED, 1, 1, True)
    assert await kit.status(later) is None
    await finish_by_another(kit, world, others)


async def test_a_job_that_does_not_end_in_the_drain_time_is_given_back_and_that_is_no_attempt(
    kit: Kit, model: GatedModel, others: Workers, tmp_path: Path, number: Signals
):
    world, log = World(kit), tmp_path / "log"
    with worker_process(kit.settings, model.base_url, log, DROPCHUTE_DRAIN_SECONDS="0.2") as worker:
        job = await running_job(kit, world, model)
        worker.send_signal(number)
        code = await code_of(worker)

    status = await status_of(kit, job)
    assert code == 0
    assert (status.state, status.attempts) == (State.WAITING, 0)
    await finish_by_another(kit, world, others)
    ended = await status_of(kit, job)
    assert (ended.state, ended.epoch, ended.attempts) == (State.COMPLETED, 2, 1)


async def test_a_second_signal_gives_running_jobs_back_at_once(
    kit: Kit, model: GatedModel, others: Workers, *, tmp_path: Path, first: Signals, second: Signals
):
    world, log = World(kit), tmp_path / "log"
    with worker_process(kit.settings, model.base_url, log, DROPCHUTE_DRAIN_SECONDS="600") as worker:
        job = await running_job(kit, world, model)
        worker.send_signal(first)
        await logged(log, "worker.draining")
        worker.send_signal(second)
        code = await code_of(worker)

    status = await status_of(kit, job)
    assert code == INTERRUPTED
    assert (status.state, status.attempts) == (State.WAITING, 0)
    await finish_by_another(kit, world, others)


def is_ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5) as reply:
            return bool(reply.status == 200)
    except URLError:
        return False


def seconds_to_stop(log: Path, since: float) -> float:
    """From the signal to the worker's last word; the interpreter's own end is not ours."""
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    stopped = next(line["timestamp"] for line in lines if line["event"] == "worker.stopped")
    return datetime.fromisoformat(stopped).timestamp() - since


async def test_an_idle_worker_stops_within_a_second_and_hides_nothing_for_long(
    kit: Kit, model: GatedModel, others: Workers, tmp_path: Path
):
    world, port = World(kit), free_port()
    idle = {"DROPCHUTE_RECEIVE_WAIT_SECONDS": "20", "DROPCHUTE_HEALTH_PORT": str(port)}
    with worker_process(kit.settings, model.base_url, tmp_path / "log", **idle) as worker:

        async def is_polling() -> bool:
            return await asyncio.to_thread(is_ready, port)

        await until(is_polling, seconds=60)
        signalled = time.time()
        worker.send_signal(SIGTERM)
        assert await code_of(worker) == 0
        # The endpoint may still hold the long polls of a worker that is gone, and give this to one of them.
        await world.hand_in(3, "Come later.")

    assert seconds_to_stop(tmp_path / "log", signalled) < 1
    await finish_by_another(kit, world, others)
