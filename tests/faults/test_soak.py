"""A soak: thousands of small drops, a fifth of them bad, through three workers that are killed all along."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from signal import SIGKILL
from typing import Any

import pytest
from kit import until
from outage_cloud import Cloud, breakable_cloud
from outage_world import (
    COMPLETED,
    WORK_QUEUES,
    Tally,
    Worker,
    Workers,
    World,
    end_of,
    outage_settings,
    tell,
    worker_forks,
)

from events.results import FailureCode
from infra.provision import Stack, provision
from infra.settings import Settings

DROPS, FEWER_DROPS = 2_000, 150
WORKERS = 3
HANDED_IN_AT_ONCE = 8
SECONDS_BETWEEN_KILLS = 1.0

# What a drop asks for: how often, and how it ends.
MIXTURE: dict[str, tuple[float, str]] = {
    "Answer.": (80, COMPLETED),
    "Refuse.": (6, FailureCode.FILE_EMPTY),
    "Hiccup once.": (6, COMPLETED),
    "Hiccup for ever.": (4, FailureCode.MODEL_UNREACHABLE),
    "Find a bug.": (3, FailureCode.INTERNAL),
    "Kill the worker.": (1, FailureCode.INTERNAL),
}
# A worker that is killed was an attempt of every job that it held: who is hit three times is given up as this.
HIT_TOO_OFTEN = FailureCode.INTERNAL


@pytest.fixture(scope="module")
def cloud() -> Iterator[Cloud]:
    with breakable_cloud() as cloud:
        yield cloud


@pytest.fixture
def settings(cloud: Cloud) -> Settings:
    return outage_settings(cloud.endpoint_url, "soak")


@pytest.fixture
def stack(settings: Settings) -> Stack:
    return provision(settings)


@pytest.fixture
def workers(tmp_path: Path) -> Iterator[Workers]:
    with worker_forks(tmp_path) as workers:
        yield workers


@dataclass
class Mortals:
    """Three workers, one of which is killed every now and then; who is gone is replaced."""

    world: World
    workers: Workers
    chance: random.Random
    running: list[Worker] = field(default_factory=list)
    died: int = 0

    async def live(self, done: asyncio.Event) -> None:
        while not done.is_set():
            self._replace()
            pause = self.chance.expovariate(1 / SECONDS_BETWEEN_KILLS)
            try:
                await asyncio.wait_for(done.wait(), pause)
            except TimeoutError:
                self.chance.choice(self.running).send(SIGKILL)

    def _replace(self) -> None:
        alive = [worker for worker in self.running if worker.is_running]
        self.died += len(self.running) - len(alive)
        kit = self.world.kit
        self.running = alive + [self.workers.start(kit.settings, kit.stack) for _ in range(WORKERS - len(alive))]


async def hand_in(world: World, kinds: list[str]) -> None:
    slots = asyncio.Semaphore(HANDED_IN_AT_ONCE)

    async def one(words: str) -> None:
        async with slots:
            await world.hand_in(1, words, MIXTURE[words][1], HIT_TOO_OFTEN)

    async with asyncio.TaskGroup() as group:
        for words in kinds:
            group.create_task(one(words))


async def all_are_told(world: World) -> bool:
    """As a front end sees it, and the queues."""
    await world.collect()
    if not all(world.told[job] for job in world.ends):
        return False
    return [await world.kit.in_queue(name) for name in WORK_QUEUES] == [(0, 0)] * len(WORK_QUEUES)


@pytest.mark.timeout(900)
async def test_many_drops_end_once_each_while_workers_are_killed(
    kit: Any, workers: Workers, request: pytest.FixtureRequest
):
    is_long = bool(request.config.getoption("--long"))
    began, world, chance, done = time.monotonic(), World(kit), random.Random(7), asyncio.Event()
    weights = [weight for weight, _ in MIXTURE.values()]
    kinds = chance.choices(list(MIXTURE), weights, k=DROPS if is_long else FEWER_DROPS)
    mortals = Mortals(world, workers, chance)
    async with asyncio.TaskGroup() as living:
        living.create_task(mortals.live(done), name="kills")
        await hand_in(world, kinds)
        await until(lambda: all_are_told(world), seconds=800 if is_long else 120)
        done.set()
    seconds = time.monotonic() - began
    tally = await world.tally()
    tell(request, "soak", runs=1, tally=tally, seconds=seconds)
    hit = await hit_too_often(world)
    print(summary(tally, mortals.died, hit, seconds))

    assert tally.is_clean, tally
    assert len(world.ends) == len(kinds)
    assert mortals.died >= (20 if is_long else 3)
    assert sum(hit.values()) < len(kinds) / 10


async def hit_too_often(world: World) -> Counter[str]:
    """Drops that would have ended otherwise, had their workers lived; by how many attempts they had."""
    statuses = await world.statuses(sorted(world.ends))
    given_up = [status for status in statuses if end_of(status) == HIT_TOO_OFTEN]
    return Counter(str(status.attempts) for status in given_up if world.ends[status.ref] != {HIT_TOO_OFTEN})


def summary(tally: Tally, died: int, hit: Counter[str], seconds: float) -> str:
    return (
        f"\nsoak: {tally.drops} drops, lost {tally.lost}, doubled {tally.doubled}, stuck {tally.stuck}, "
        f"left behind {tally.left_behind}, wrong {len(tally.wrong)}; {died} workers died, "
        f"{sum(hit.values())} drops given up because it was under them each time; "
        f"{tally.drops / seconds:.1f} jobs/s"
    )
