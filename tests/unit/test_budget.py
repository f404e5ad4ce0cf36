"""Budgets: given out in order, never beyond what there is, and all given back."""

import asyncio
from pathlib import Path

import pytest
import virtual_time

from consumers.worker.budget import ByteBudget, Lanes, NoRoom
from infra.room import memory_bytes, room_of
from infra.settings import Settings

GIB = 1024**3


async def settled(*tasks: "asyncio.Task[object]") -> list[bool]:
    """Which of them are done, once everything that can happen has happened."""
    for _ in range(10):
        await asyncio.sleep(0)
    return [task.done() for task in tasks]


async def test_lanes_give_what_is_free_and_then_make_wait():
    lanes = Lanes(4)
    first, second = await lanes.take_up_to(3), await lanes.take_up_to(10)
    third = asyncio.create_task(lanes.take_up_to(10))
    waits = await settled(third)
    lanes.give_back(2)

    assert (first, second, waits) == (3, 1, [False])
    assert await third == 2


async def test_lanes_within_others_are_bounded_by_both_and_give_back_to_both():
    together = Lanes(3)
    queries, charts = Lanes(2, within=together), Lanes(2, within=together)

    assert [await queries.take_up_to(10), await charts.take_up_to(10)] == [2, 1]

    waiting = asyncio.create_task(charts.take_up_to(10))
    assert await settled(waiting) == [False]
    queries.give_back(2)

    assert await waiting == 1
    assert (queries.free, charts.free, together.free) == (2, 0, 1)


async def test_who_waits_for_shared_lanes_is_not_overtaken_by_who_gives_back_and_asks_again():
    together = Lanes(1)
    greedy, patient = Lanes(1, within=together), Lanes(1, within=together)
    await greedy.take_up_to(1)
    waiting = asyncio.create_task(patient.take_up_to(1))
    await settled(waiting)
    greedy.give_back(1)
    again = asyncio.create_task(greedy.take_up_to(1))

    assert await settled(waiting, again) == [True, False]
    again.cancel()


async def test_who_is_cancelled_while_waiting_keeps_no_lane():
    together = Lanes(1)
    lanes, others = Lanes(2, within=together), Lanes(1, within=together)
    await others.take_up_to(1)
    waiting = asyncio.create_task(lanes.take_up_to(2))
    await settled(waiting)
    waiting.cancel()
    await settled(waiting)

    assert lanes.free == 2
    others.give_back(1)
    assert await lanes.take_up_to(2) == 1


@pytest.mark.parametrize(("size", "waits"), [(39, False), (40, False), (41, True)])
async def test_bytes_at_below_and_above_what_is_left(size: int, waits: bool):
    budget = ByteBudget(100)
    async with budget.hold(60):
        assert budget.has(size) is not waits

        holding = asyncio.create_task(budget.hold(size).__aenter__())
        assert await settled(holding) == [not waits]
    await holding


async def test_a_drop_larger_than_all_has_it_to_itself_and_every_byte_is_kept_for_it():
    budget, order = ByteBudget(6400), list[str]()

    async def job(name: str, size: int) -> None:
        try:
            async with budget.hold(size):
                order.append(f"{name} begins")
                await asyncio.sleep(10)
                order.append(f"{name} ends")
        except NoRoom:
            order.append(f"{name} goes elsewhere")

    async def story() -> None:
        async with asyncio.TaskGroup() as jobs:
            for name, size in (("large", 3200), ("huge", 10**13), ("late", 101), ("small", 100)):
                jobs.create_task(job(name, size))
                await asyncio.sleep(1)

    await asyncio.to_thread(virtual_time.run, story())

    assert order == [
        "large begins",
        "late goes elsewhere",
        "small begins",
        "large ends",
        "huge begins",
        "small ends",
        "huge ends",
    ]


async def test_who_waits_for_bytes_gives_up_when_there_is_a_reason():
    budget, stopping = ByteBudget(100), list[bool]()

    async def story() -> float:
        async with budget.hold(60):
            asyncio.get_running_loop().call_later(5, stopping.append, True)
            with pytest.raises(NoRoom):
                await budget.hold(60, unless=lambda: bool(stopping)).__aenter__()
        async with budget.hold(100):
            return asyncio.get_running_loop().time()

    assert 5 <= await asyncio.to_thread(virtual_time.run, story()) <= 6


async def test_who_is_cancelled_while_waiting_for_bytes_lets_others_wait():
    budget = ByteBudget(100)
    async with budget.hold(60):
        first = asyncio.create_task(budget.hold(60).__aenter__())
        await settled(first)
        first.cancel()
        await settled(first)
        second = asyncio.create_task(budget.hold(60).__aenter__())
        assert await settled(second) == [False]
    await second


# ---------------------------------------------------------------- of the machine


def test_a_container_has_what_its_limit_says_and_a_machine_what_it_has(tmp_path: Path):
    limited, unlimited = tmp_path / "memory.max", tmp_path / "unlimited"
    limited.write_text("1048576\n")
    unlimited.write_text("max\n")
    machine = memory_bytes((tmp_path / "not there",))

    assert machine > GIB // 8
    assert memory_bytes((unlimited,)) == machine
    assert memory_bytes((unlimited, limited)) == 1_048_576


@pytest.mark.parametrize(("memory", "jobs"), [(1, 1), (4 * GIB - 1, 1), (4 * GIB, 2), (4 * GIB + 1, 2)])
def test_as_many_jobs_as_sandboxes_fit_into_memory_but_one_at_least(tmp_path: Path, memory: int, jobs: int):
    told = Settings(_env_file=None, memory_bytes=memory, bytes_at_once=7)

    assert room_of(told, tmp_path).jobs == jobs
    assert room_of(told, tmp_path).bytes_at_once == 7


def test_a_disk_without_room_still_lets_jobs_run_one_by_one():
    assert room_of(Settings(_env_file=None), Path("/proc")).bytes_at_once == 1
