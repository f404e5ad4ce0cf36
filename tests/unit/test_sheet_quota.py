"""The quota: all workers together stay below what Google allows in any minute."""

import asyncio
import random

import pytest
from memory_store import MemoryStore

from consumers.delivery.sheet.quota import SharedQuota


class SlowStore(MemoryStore):
    """Others have their turn between a look and a change."""

    async def get(self, key, *, max_bytes):
        await asyncio.sleep(0)
        stored = await super().get(key, max_bytes=max_bytes)
        await asyncio.sleep(0)
        return stored


class World:
    """One time for all; it goes on whenever somebody waits."""

    def __init__(self, seed):
        random.seed(seed)  # for the pauses of the code itself
        self.random = random.Random(seed)
        self.now = 1_000_000.0
        self.store = SlowStore()

    async def pause(self, seconds):
        self.now += 0.001 + seconds * self.random.uniform(0.3, 1)
        await asyncio.sleep(0)


class Worker:
    def __init__(self, world, per_minute, *, ahead=0.0):
        self.world, self.ahead, self.spent = world, ahead, []
        self.quota = SharedQuota(world.store, "a@b", per_minute=per_minute, clock=self.clock, pause=world.pause)

    def clock(self):
        self.looked = self.world.now
        return self.world.now + self.ahead

    async def take(self, kind="writes"):
        await self.quota.take(kind)
        self.spent.append(self.looked)

    async def work(self, calls, *, jumps=()):
        for _ in range(calls):
            if self.world.random.random() < 0.1:
                self.world.now += self.world.random.uniform(0, 40)
            if jumps and self.world.random.random() < 0.1:
                self.ahead = self.world.random.choice(jumps)
            await self.take()


def busiest_minute(workers):
    spent = sorted(moment for worker in workers for moment in worker.spent)
    return max(sum(start <= moment < start + 60 for moment in spent) for start in spent)


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("per_minute", [1, 6, 60])
async def test_three_workers_stay_below_the_quota_in_any_minute(seed, per_minute):
    world = World(seed)
    workers = [Worker(world, per_minute) for _ in range(3)]
    await asyncio.gather(*(worker.work(40) for worker in workers))

    assert sum(len(worker.spent) for worker in workers) == 120
    assert busiest_minute(workers) <= per_minute


@pytest.mark.parametrize("seed", range(10))
async def test_clocks_that_go_back_give_away_no_more_than_flows_in_meanwhile(seed):
    world, late, per_second = World(seed), 6, 40 / 60
    workers = [Worker(world, 60), Worker(world, 60), Worker(world, 60)]
    await asyncio.gather(workers[0].work(40), *(each.work(40, jumps=(0, -2, -late)) for each in workers[1:]))

    assert busiest_minute(workers) <= 60 + late * per_second


@pytest.mark.parametrize("seed", range(10))
async def test_clocks_that_jump_ahead_give_away_one_burst_at_the_most(seed):
    world = World(seed)
    workers = [Worker(world, 60), Worker(world, 60, ahead=30), Worker(world, 60, ahead=45)]
    await asyncio.gather(*(worker.work(40) for worker in workers))

    assert busiest_minute(workers) <= 80


async def test_nobody_waits_for_the_hour_of_a_wrong_clock():
    world = World(0)
    wrong, right = Worker(world, 60, ahead=3600), Worker(world, 60)
    for _ in range(25):
        await wrong.take()
    started = world.now
    for _ in range(20):
        await right.take()

    assert world.now - started < 60
    assert busiest_minute([wrong, right]) <= 80


async def test_all_that_is_allowed_can_be_used():
    world = World(1)
    worker = Worker(world, 60)
    for _ in range(200):
        await worker.take()

    assert 200 / 40 * 60 > world.now - 1_000_000 > 0


async def test_reads_and_writes_are_counted_apart_and_accounts_too():
    world = World(2)
    worker, other = Worker(world, 3), Worker(world, 3)
    other.quota = SharedQuota(world.store, "c@d", per_minute=3, clock=other.clock, pause=world.pause)
    await worker.take("reads")
    await worker.take("writes")
    await other.take("writes")

    assert world.now == 1_000_000


async def test_a_bucket_that_nobody_can_read_is_begun_anew():
    world = World(3)
    worker = Worker(world, 60)
    await worker.take()
    (key,) = world.store.objects
    await world.store.put(key, b"nonsense", media_type="application/json")
    await worker.take()

    assert b"tokens" in world.store.objects[key][0]
