"""kill -9 before and after every request that a worker makes for a job: the next worker ends it, and nobody sees more.

The requests are found by recording undisturbed jobs, so that no step is forgotten. Each run then kills a real process
at one of them, and judges what there is when the next worker has found the message again. Many stacks run side by side
on one endpoint, because most of the time is waiting for the claims and the visibility of the dead.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TypeVar

import pytest
from faulty_proxy import FaultyProxy
from killed import STORIES, Point, Story, Watch, points_of
from kit import Kit
from pydantic import SecretStr
from quick_worker import ForkServer, Work
from stage import Stage, Verdict

from infra.clients import Clients
from infra.provision import provision
from infra.settings import Settings

Item = TypeVar("Item")
Done = TypeVar("Done")

SHORT_SAMPLE = 2


@dataclass(frozen=True)
class Extent:
    """How much of it: stacks side by side, and repetitions of each kill."""

    stacks: int
    repetitions: int
    whole: bool


SHORT = Extent(stacks=6, repetitions=1, whole=False)
# LocalStack answers more slowly.
LONG = {
    "moto": Extent(stacks=10, repetitions=10, whole=True),
    "localstack": Extent(stacks=6, repetitions=3, whole=True),
}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    metafunc.parametrize("endpoint", ["moto", "localstack"] if metafunc.config.getoption("--long") else ["moto"])


@pytest.fixture
def upstream(endpoint: str, request: pytest.FixtureRequest) -> str:
    url: str = request.getfixturevalue({"moto": "own_moto", "localstack": "localstack_endpoint"}[endpoint])
    return url


@pytest.mark.timeout(7200)
async def test_a_worker_killed_at_any_request_loses_and_doubles_nothing(
    endpoint: str, upstream: str, tmp_path: Path, request: pytest.FixtureRequest, fault_table: Callable[..., None]
) -> None:
    extent = LONG[endpoint] if request.config.getoption("--long") else SHORT
    with ExitStack() as exits:
        proxy = exits.enter_context(FaultyProxy(upstream).running())
        server = exits.enter_context(ForkServer())
        async with Clients(_settings(upstream, "kill")) as clients:
            stages = []
            for number in range(extent.stacks):
                settings = _settings(upstream, f"killed-{number:02}")
                kit = Kit(settings, provision(settings), clients)
                await kit.empty_queues()  # S3 sends a test event to each new queue
                stages.append(_stage(kit, proxy, server, tmp_path))
            recorded = await _each(stages, STORIES, Stage.record)
            runs = _runs([(story, points_of(steps)) for story, steps in recorded], extent)
            verdicts = [verdict for _, verdict in await _each(stages, runs, lambda stage, run: stage.kill(*run))]
    for story in STORIES:
        of_it = [verdict for verdict in verdicts if verdict.story is story]
        _tell(fault_table, f"worker killed, drop {story.name} ({endpoint})", of_it, extent.stacks)

    assert [wrong for verdict in verdicts for wrong in verdict.wrong] == []
    # Where a control meets a running job, not every order of their requests comes again.
    assert sum(verdict.killed for verdict in verdicts) >= 0.9 * len(verdicts)


def _settings(endpoint_url: str, name: str) -> Settings:
    return Settings(
        _env_file=None,
        aws_endpoint_url=endpoint_url,
        aws_access_key_id="test",
        aws_secret_access_key=SecretStr("test"),
        bucket=name,
        stack=name,
    )


def _stage(kit: Kit, proxy: FaultyProxy, server: ForkServer, folder: Path) -> Stage:
    """Its workers reach the stack through the proxy; what is judged is asked without it."""
    name = kit.settings.stack
    watch = Watch(name)
    proxy.watch(watch)
    return Stage(kit, server, Work(proxy.endpoint, name, kit.stack.queue_urls, str(folder / f"{name}.log")), watch)


async def _each(
    stages: list[Stage], items: Iterable[Item], act: Callable[[Stage, Item], Awaitable[Done]]
) -> list[tuple[Item, Done]]:
    """``act(stage, item)`` for every item, on whichever stage is free; returns each item with its result."""
    waiting = iter(items)

    async def on(stage: Stage) -> list[tuple[Item, Done]]:
        return [(item, await act(stage, item)) for item in waiting]

    return list(chain.from_iterable(await asyncio.gather(*map(on, stages))))


def _runs(points: list[tuple[Story, list[Point]]], extent: Extent) -> list[tuple[Story, Point]]:
    """Every point of every story, or of all stories but the first a sample."""
    drawn = random.Random(7)
    runs = []
    for story, found in sorted(points, key=lambda each: STORIES.index(each[0])):
        chosen = found if extent.whole or story is STORIES[0] else drawn.sample(found, SHORT_SAMPLE)
        runs += [(story, point) for point in chosen] * extent.repetitions
    drawn.shuffle(runs)
    return runs


def _tell(fault_table: Callable[..., None], fault: str, verdicts: list[Verdict], stages: int) -> None:
    fault_table(
        fault,
        runs=sum(verdict.killed for verdict in verdicts),
        drops=len(verdicts),
        lost=sum(bool(verdict.lost) for verdict in verdicts),
        doubled=sum(bool(verdict.doubled) for verdict in verdicts),
        stuck=sum(bool(verdict.stuck) for verdict in verdicts),
        left_behind=sum(bool(verdict.left_behind) for verdict in verdicts),
        seconds=sum(verdict.seconds for verdict in verdicts) / stages,
    )
