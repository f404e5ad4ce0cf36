"""A broken world around real workers: what they were given still ends once, and nothing is left behind."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from kit import Kit, until
from outage_cloud import Cloud, breakable_cloud
from outage_proxy import Proxy, Weather, proxy_before
from outage_world import Worker, Workers, World, outage_settings, tell, worker_forks

from events.keys import Flow, ManifestKey
from events.results import FailureCode
from events.status import JobStatus
from infra.provision import Stack, provision
from infra.settings import Settings

AT_THE_GATE = "Answer at the gate."


@pytest.fixture(scope="module")
def cloud() -> Iterator[Cloud]:
    with breakable_cloud() as cloud:
        yield cloud


@pytest.fixture
def settings(cloud: Cloud, request: pytest.FixtureRequest) -> Settings:
    return outage_settings(cloud.endpoint_url, f"outage-{abs(hash(request.node.name)) % 10**8}")


@pytest.fixture
def stack(settings: Settings) -> Stack:
    return provision(settings)


@pytest.fixture
def workers(tmp_path: Path) -> Iterator[Workers]:
    with worker_forks(tmp_path) as workers:
        yield workers


@pytest.fixture
def world(kit: Kit) -> World:
    return World(kit)


@pytest.mark.parametrize("again", range(1))
async def test_two_workers_on_one_message_do_it_once(
    world: World, workers: Workers, request: pytest.FixtureRequest, again: int
):
    began = time.monotonic()
    kit, rounds = world.kit, 20 if request.config.getoption("--long") else 4
    for _ in range(2):
        workers.start(kit.settings, kit.stack)
    for number in range(rounds):
        words = "Answer." if number % 2 else AT_THE_GATE
        jobs = await world.hand_in(4, words)
        await world.notify_again([ManifestKey(job, Flow.QUERY) for job in jobs], 4)
        if words == AT_THE_GATE:
            await world.all_have(jobs, lambda status: status.stage is not None)
            workers.open_gate()
    await world.all_end()
    tally = await world.tally()
    tell(request, "two workers on one message", runs=rounds, tally=tally, seconds=time.monotonic() - began)
    runs = workers.runs()

    assert tally.is_clean, tally
    assert sorted(runs) == sorted(f"{job} 1" for job in world.ends)
