"""Turns: one job at a time changes a spreadsheet."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from memory_store import MemoryStore

from consumers.delivery.sheet.turns import TURN_SECONDS, Turns
from consumers.errors import Transient
from events.results import FailureCode


class SlowStore(MemoryStore):
    failing = False

    async def get(self, key, *, max_bytes):
        await asyncio.sleep(0)
        if self.failing:
            raise Transient(FailureCode.STORAGE_UNAVAILABLE, "down")
        return await super().get(key, max_bytes=max_bytes)


class World:
    def __init__(self):
        self.store = SlowStore()
        self.time = datetime(2026, 1, 1, tzinfo=UTC)
        self.log = []

    async def pause(self, seconds):
        self.time += timedelta(seconds=seconds)
        await asyncio.sleep(0)

    def turns(self):
        return Turns(self.store, now=lambda: self.time, pause=self.pause)

    async def job(self, name, sheet="sheet"):
        async with self.turns().turn(sheet):
            self.log.append(f"{name} begins")
            for _ in range(5):
                await asyncio.sleep(0)
            self.log.append(f"{name} ends")


@pytest.fixture
def world():
    return World()


async def test_jobs_on_one_spreadsheet_go_one_after_another(world):
    await asyncio.gather(*(world.job(name) for name in "abcd"))

    begun, ended = world.log[::2], world.log[1::2]
    assert sorted(begun) == [f"{name} begins" for name in "abcd"]
    assert [line.split()[0] for line in begun] == [line.split()[0] for line in ended]


async def test_jobs_on_two_spreadsheets_go_at_once(world):
    await asyncio.gather(world.job("a", "one"), world.job("b", "two"))

    assert world.log[:2] == ["a begins", "b begins"]


async def test_the_turn_of_a_dead_worker_ends(world):
    dead = world.turns().turn("sheet")
    await dead.__aenter__()
    began = world.time
    await world.job("b")

    assert TURN_SECONDS <= (world.time - began).total_seconds() < TURN_SECONDS + 1
    assert world.log == ["b begins", "b ends"]


async def test_a_turn_that_has_ended_is_not_given_back_for_another(world):
    late = world.turns().turn("sheet")
    await late.__aenter__()
    world.time += timedelta(seconds=TURN_SECONDS)
    async with world.turns().turn("sheet"):
        await late.__aexit__(None, None, None)
        held = next(iter(world.store.objects.values()))[0]

    assert b'"by":null' not in held
    assert b'"by":null' in next(iter(world.store.objects.values()))[0]


async def test_a_job_that_fails_gives_its_turn_back(world):
    with pytest.raises(ValueError, match="no"):
        async with world.turns().turn("sheet"):
            raise ValueError("no")
    began = world.time
    await world.job("b")

    assert world.time == began


async def test_a_job_that_is_cancelled_while_it_waits_takes_no_turn(world):
    async with world.turns().turn("sheet"):
        waiting = asyncio.create_task(world.job("b"))
        for _ in range(10):
            await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait([waiting])
    await world.job("c")

    assert world.log == ["c begins", "c ends"]


async def test_a_turn_that_cannot_be_given_back_hides_nothing(world):
    async with world.turns().turn("sheet"):
        world.store.failing = True
    world.store.failing = False
    began = world.time
    await world.job("b")

    assert (world.time - began).total_seconds() >= TURN_SECONDS
