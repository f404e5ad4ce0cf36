"""A broken world around real workers: what they were given still ends once, and nothing is left behind."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from signal import SIGKILL
from typing import Any

import pytest
from kit import until
from outage_cloud import Cloud, breakable_cloud
from outage_proxy import FAIR, Proxy, Weather, proxy_before
from outage_world import COMPLETED, Worker, Workers, World, outage_settings, own_name, tell, worker_forks

from events.results import FailureCode
from events.status import JobStatus
from infra.provision import Stack, provision
from infra.settings import Settings

ANSWER = "Answer."
AT_THE_GATE = "Answer at the gate."
REFUSE_AT_THE_GATE = "Wait at the gate, then refuse."
HOUR = 3600.0


@pytest.fixture(scope="module")
def cloud() -> Iterator[Cloud]:
    with breakable_cloud() as cloud:
        yield cloud


@pytest.fixture
def settings(cloud: Cloud, request: pytest.FixtureRequest) -> Settings:
    return outage_settings(cloud.endpoint_url, own_name(request))


@pytest.fixture
def stack(settings: Settings) -> Stack:
    return provision(settings)


@pytest.fixture
def workers(tmp_path: Path) -> Iterator[Workers]:
    with worker_forks(tmp_path) as workers:
        yield workers


@pytest.fixture
def world(kit: Any) -> World:
    return World(kit)


@pytest.fixture
async def proxy(cloud: Cloud) -> AsyncIterator[Proxy]:
    async with proxy_before(cloud.endpoint_url) as proxy:
        yield proxy


@pytest.fixture
def is_long(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--long"))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "jump" in metafunc.fixturenames:
        is_long = metafunc.config.getoption("--long")
        metafunc.parametrize("jump", [HOUR, -HOUR] if is_long else [HOUR], ids=lambda jump: f"{jump:+.0f}s")


def has_begun(status: JobStatus) -> bool:
    return status.stage is not None and status.detail == "Reading 1 file."


async def hold_at_the_gate(world: World, workers: Workers, count: int, *ends: str) -> None:
    """So many jobs of each kind that are half done, and go on when the gate is opened."""
    workers.close_gate()
    held = await world.hand_in(count, AT_THE_GATE, *ends)
    held += await world.hand_in(1, REFUSE_AT_THE_GATE, FailureCode.FILE_EMPTY, *ends[1:])
    await world.all_have(held, has_begun)


async def go_through(
    world: World,
    workers: Workers,
    outage: AbstractAsyncContextManager[None],
    *ends: str,
    hand_in_during: bool = True,
) -> None:
    """Drops before, during and after; what was half done goes on in the middle of it."""
    await world.hand_in(2, ANSWER)
    await world.all_end()
    await hold_at_the_gate(world, workers, 4, COMPLETED, *ends)
    async with outage:
        workers.open_gate()
        if hand_in_during:
            await world.hand_in(2, ANSWER, COMPLETED, *ends)
    await world.hand_in(2, ANSWER)
    await world.all_end()


class Clock:
    """Tells a test's fault to the table."""

    def __init__(self, request: pytest.FixtureRequest) -> None:
        self._request = request
        self._began = time.monotonic()

    async def check(self, fault: str, world: World, *, runs: int = 1) -> None:
        tally = await world.tally()
        tell(self._request, fault, runs=runs, tally=tally, seconds=time.monotonic() - self._began)

        assert tally.is_clean, tally


@pytest.fixture
def clock(request: pytest.FixtureRequest) -> Clock:
    return Clock(request)


# ---------------------------------------------------------------- two workers


async def test_two_workers_with_the_same_notification_do_it_once(
    world: World, workers: Workers, clock: Clock, is_long: bool
):
    rounds = 20 if is_long else 2
    for _ in range(2):
        workers.start(world.kit.settings, world.kit.stack)
    for number in range(rounds):
        workers.close_gate()
        jobs = await world.hand_in(4, AT_THE_GATE if number % 2 else ANSWER)
        await world.notify_again(jobs, 4)
        await world.all_have(jobs, lambda status: status.stage is not None)
        workers.open_gate()
    await world.all_end()

    await clock.check("two workers on one message", world, runs=rounds)
    assert sorted(workers.runs()) == sorted(f"{job} 1" for job in world.ends)


# ---------------------------------------------------------------- the endpoint


async def passes(seconds: float) -> None:
    """Wait until visibility and claims of that length have run out: on the endpoint's clock, which is this one."""
    over = time.monotonic() + seconds

    async def is_over() -> bool:
        return time.monotonic() > over

    await until(is_over, seconds=seconds + 5)


async def test_a_frozen_endpoint_loses_and_doubles_nothing(
    world: World, workers: Workers, cloud: Cloud, clock: Clock, is_long: bool
):
    @asynccontextmanager
    async def frozen() -> AsyncIterator[None]:
        cloud.freeze()
        try:
            yield
            await passes(world.kit.settings.visibility_seconds + 1)
        finally:
            cloud.thaw()

    for _ in range(2):
        workers.start(world.kit.settings, world.kit.stack)
    rounds = 4 if is_long else 1
    for _ in range(rounds):
        await go_through(world, workers, frozen(), hand_in_during=False)

    await clock.check("endpoint frozen", world, runs=rounds)


@pytest.mark.long
async def test_a_restarted_endpoint_loses_and_doubles_nothing(
    world: World, workers: Workers, cloud: Cloud, clock: Clock, is_long: bool
):
    started = [workers.start(world.kit.settings, world.kit.stack) for _ in range(2)]
    rounds = 4 if is_long else 1

    @asynccontextmanager
    async def stopped() -> AsyncIterator[None]:
        failed = [count_of(worker, "poll.failed") for worker in started]
        await asyncio.to_thread(cloud.stop)
        try:
            yield
            await all_log(started, "poll.failed", more_than=failed)
        finally:
            cloud.start()

    for _ in range(rounds):
        await go_through(world, workers, stopped(), hand_in_during=False)

    await clock.check("endpoint restarted, with its state", world, runs=rounds)


def count_of(worker: Worker, event: str) -> int:
    return sum(line["event"] == event for line in worker.log())


async def all_log(started: list[Worker], event: str, *, more_than: list[int]) -> None:
    async def they_did() -> bool:
        return all(count_of(worker, event) > before for worker, before in zip(started, more_than, strict=True))

    await until(they_did, seconds=60)


def start_behind(proxy: Proxy, world: World, workers: Workers, **changes: Any) -> list[Worker]:
    """Two workers that reach the endpoint through the proxy."""
    settings = world.kit.settings.model_copy(update={"aws_endpoint_url": proxy.endpoint_url, **changes})
    return [workers.start(settings, world.kit.stack) for _ in range(2)]


@pytest.mark.long
async def test_an_endpoint_that_is_not_there_for_a_while_loses_and_doubles_nothing(
    world: World, workers: Workers, proxy: Proxy, clock: Clock, is_long: bool
):
    started = start_behind(proxy, world, workers)
    rounds = 4 if is_long else 1

    @asynccontextmanager
    async def gone() -> AsyncIterator[None]:
        failed = [count_of(worker, "poll.failed") for worker in started]
        await proxy.vanish()
        yield
        await all_log(started, "poll.failed", more_than=failed)
        await proxy.appear()

    for _ in range(rounds):
        await go_through(world, workers, gone())

    await clock.check("endpoint not there", world, runs=rounds)


async def test_an_endpoint_that_refuses_everything_for_a_while_loses_and_doubles_nothing(
    world: World, workers: Workers, proxy: Proxy, clock: Clock, is_long: bool
):
    started = start_behind(proxy, world, workers)
    rounds = 4 if is_long else 1

    @asynccontextmanager
    async def refusing() -> AsyncIterator[None]:
        failed = [count_of(worker, "poll.failed") for worker in started]
        proxy.weather = Weather(refused=1)
        yield
        await all_log(started, "poll.failed", more_than=failed)
        await passes(world.kit.settings.visibility_seconds + 1)
        proxy.weather = FAIR

    for _ in range(rounds):
        await go_through(world, workers, refusing())

    await clock.check("503 to everything", world, runs=rounds)


@pytest.mark.parametrize(
    ("fault", "weather"),
    [
        ("503 to a fifth of the calls", Weather(refused=0.2)),
        ("a tenth of the calls reset, and a tenth of the replies", Weather(cut_before=0.1, cut_after=0.1)),
    ],
    ids=["refused", "reset"],
)
async def test_calls_that_fail_now_and_then_lose_and_double_nothing(
    world: World, workers: Workers, proxy: Proxy, clock: Clock, *, is_long: bool, fault: str, weather: Weather
):
    start_behind(proxy, world, workers)
    rounds = 20 if is_long else 1

    @asynccontextmanager
    async def stormy() -> AsyncIterator[None]:
        proxy.weather = weather
        yield
        await world.all_end()
        proxy.weather = FAIR

    for _ in range(rounds):
        # Three tries of a call, and three of a job: what fails nevertheless is told as it is.
        await go_through(world, workers, stormy(), FailureCode.STORAGE_UNAVAILABLE)

    await clock.check(fault, world, runs=rounds)
    assert proxy.failed > 5


@pytest.mark.long
async def test_an_endpoint_that_is_slow_loses_and_doubles_nothing(
    world: World, workers: Workers, proxy: Proxy, clock: Clock, is_long: bool
):
    slow = 3 if is_long else 0.5
    # A claim must outlast its own renewal, as the defaults do.
    start_behind(proxy, world, workers, claim_seconds=5 * slow, visibility_seconds=round(10 * slow))

    @asynccontextmanager
    async def crawling() -> AsyncIterator[None]:
        proxy.weather = Weather(slow_seconds=slow)
        yield
        await world.all_end(seconds=120)
        proxy.weather = FAIR

    await go_through(world, workers, crawling())

    await clock.check(f"every call {slow:g} s slower", world)


# ---------------------------------------------------------------- queues


@pytest.mark.parametrize("queue", ["results", pytest.param("dead_letters", marks=pytest.mark.long)])
async def test_a_queue_that_is_missing_for_a_while_has_everything_in_the_end(
    world: World, workers: Workers, clock: Clock, queue: str
):
    kit = world.kit
    started = [workers.start(kit.settings, kit.stack) for _ in range(2)]
    await world.hand_in(1, "Find a bug.", FailureCode.INTERNAL)

    @asynccontextmanager
    async def missing() -> AsyncIterator[None]:
        await world.collect()
        failed = [count_of(worker, "message.retry") for worker in started]
        await kit.clients.control.delete_queue(QueueUrl=kit.stack.queue_urls[queue])
        yield
        await world.hand_in(2, "Hiccup for ever.", FailureCode.MODEL_UNREACHABLE)
        await any_logs(started, "message.retry", more_than=failed)
        provision(kit.settings)

    await go_through(world, workers, missing())

    await clock.check(f"{queue} queue missing", world)


async def any_logs(started: list[Worker], event: str, *, more_than: list[int]) -> None:
    async def one_did() -> bool:
        return sum(count_of(worker, event) for worker in started) > sum(more_than)

    await until(one_did, seconds=60)


# ---------------------------------------------------------------- a clock that jumps


async def test_a_clock_that_jumps_under_a_job_gives_the_job_to_nobody_else(
    world: World, workers: Workers, clock: Clock, jump: float
):
    kit, patient = world.kit, world.kit.settings.model_copy(update={"claim_seconds": 5})
    jumping = workers.start(patient, kit.stack)
    await world.hand_in(1, ANSWER)
    await world.all_end()
    jobs = await world.hand_in(3, AT_THE_GATE)
    await world.all_have(jobs, has_begun)

    jumping.set_clock(jump)
    await world.all_have(jobs, lambda status: abs(world.ahead(status) - jump) < HOUR / 2)
    right = workers.start(patient, kit.stack)
    await world.notify_again(jobs, 2)
    await any_logs([right], "message.settled", more_than=[len(jobs) - 1])
    jumping.set_clock(0)
    await world.all_have(jobs, lambda status: abs(world.ahead(status)) < HOUR / 2)
    await any_logs([right], "message.settled", more_than=[2 * len(jobs) - 1])
    workers.open_gate()
    await world.hand_in(1, ANSWER)
    await world.all_end()

    await clock.check(f"clock jumps by {jump:+.0f} s and back", world)
    assert sorted(workers.runs()) == sorted(f"{job} 1" for job in world.ends)


@pytest.mark.long
async def test_what_a_worker_with_a_wrong_clock_held_when_it_was_killed_is_soon_another_s(
    world: World, workers: Workers, clock: Clock, jump: float
):
    kit = world.kit
    wrong = workers.start(kit.settings, kit.stack)
    jobs = await world.hand_in(3, AT_THE_GATE)
    await world.all_have(jobs, has_begun)

    wrong.set_clock(jump)
    await world.all_have(jobs, lambda status: abs(world.ahead(status) - jump) < HOUR / 2)
    wrong.send(SIGKILL)
    await until(wrong.has_ended)
    workers.open_gate()
    workers.start(kit.settings, kit.stack)
    # Its claim, and the message's visibility.
    await world.all_end(seconds=20)

    await clock.check(f"killed with a clock {jump:+.0f} s off", world)
    assert sorted(workers.runs()) == sorted(f"{job} {epoch}" for job in jobs for epoch in (1, 2))
