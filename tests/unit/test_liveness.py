"""Liveness on a clock that only the test moves: what stands still is found, what takes long is not."""

import asyncio
from typing import Any

import pytest
from structlog.testing import capture_logs

from consumers.ports import Message
from consumers.worker.liveness import LOOP_BLOCKED_SECONDS, POLL_GRACE_SECONDS, Liveness, keep_watch
from consumers.worker.outcome import Completed, Outcome, Released, Retry
from consumers.worker.poll import Step

WAIT = 20
LONGEST = WAIT + POLL_GRACE_SECONDS
MESSAGE = Message("queries", "m", "r", "{}")
HALF_AN_HOUR = 1800.0


class Worker:
    """A worker's liveness with one poller, and a clock."""

    def __init__(self) -> None:
        self.time = 1000.0
        self.stopping = False
        self.liveness = Liveness(
            no_progress_seconds=HALF_AN_HOUR, stopping=lambda: self.stopping, now=lambda: self.time
        )
        self.step = self.liveness.poller("queries", wait_seconds=WAIT)
        self.handle = self.liveness.watching("queries", self._until_told)
        self.gates: list[asyncio.Event] = []
        self.outcome: Outcome = Completed()

    async def _until_told(self, queue: Any, message: Message) -> Outcome:
        self.gates.append(gate := asyncio.Event())
        await gate.wait()
        return self.outcome

    def passes(self, seconds: float, *, beating: bool = True) -> None:
        self.time += seconds
        if beating:
            self.liveness.beat()

    async def start(self) -> "asyncio.Task[Outcome | None]":
        task = asyncio.ensure_future(self.handle(None, MESSAGE))  # type: ignore[arg-type]
        await asyncio.sleep(0)
        return task

    @property
    def problems(self) -> tuple[str, ...]:
        return self.liveness.vitals().problems


@pytest.fixture
def worker() -> Worker:
    return Worker()


@pytest.mark.parametrize("step", [Step.RECEIVING, Step.PAUSING])
def test_a_receive_that_does_not_come_back_is_a_problem(worker: Worker, step: Step):
    worker.step(step)
    worker.passes(LONGEST)
    before = worker.problems
    worker.passes(1)

    assert before == ()
    assert worker.problems == (f"the poller of queries has been {step} for 81 s",)


def test_a_poller_that_polls_on_is_well_for_days(worker: Worker):
    for _ in range(10_000):
        worker.step(Step.WAITING)
        worker.step(Step.RECEIVING)
        worker.passes(WAIT)

        assert worker.problems == ()


def test_a_poller_that_died_is_a_problem_at_once_but_not_at_a_stop(worker: Worker):
    worker.step(Step.RECEIVING)
    worker.step(Step.ENDED)
    worker.passes(1)
    died = worker.problems
    worker.stopping = True

    assert died == ("the poller of queries has been ended for 1 s",)
    assert worker.problems == ()


async def test_waiting_for_room_is_well_while_messages_are_in_flight_and_no_longer(worker: Worker):
    task = await worker.start()
    worker.step(Step.WAITING)
    worker.passes(HALF_AN_HOUR * 10)
    busy = worker.problems
    worker.gates[0].set()
    await task
    worker.passes(LONGEST)
    just_idle = worker.problems
    worker.passes(1)

    assert busy == just_idle == ()
    assert worker.problems == ("the poller of queries has been waiting for room for 81 s",)


def test_a_loop_that_does_not_come_round_is_a_problem_until_it_does(worker: Worker):
    worker.step(Step.RECEIVING)
    worker.passes(LOOP_BLOCKED_SECONDS + 1, beating=False)
    blocked = worker.problems
    worker.passes(0)

    assert blocked == ("the event loop has been blocked for 16 s",)
    assert worker.problems == ()


async def test_in_flight_and_none_ended_is_told_and_is_no_problem(worker: Worker):
    worker.passes(HALF_AN_HOUR * 2)  # idle: no reason to expect anything
    first, second = await worker.start(), await worker.start()
    worker.step(Step.WAITING)
    worker.passes(HALF_AN_HOUR - 1)
    early = worker.liveness.vitals()
    worker.passes(1)
    late = worker.liveness.vitals()
    worker.gates[0].set()
    await first
    after_one = worker.liveness.vitals()
    worker.passes(HALF_AN_HOUR)
    again = worker.liveness.vitals()
    worker.gates[1].set()
    await second

    assert (early.no_progress, early.in_flight) == (None, 2)
    assert late.no_progress == "2 in flight, and none has come to its end for 30 minutes"
    assert late.is_alive
    assert after_one.no_progress is None
    assert again.no_progress == "1 in flight, and none has come to its end for 30 minutes"
    assert worker.liveness.vitals().no_progress is None


async def test_a_message_that_comes_again_and_again_is_no_progress(worker: Worker):
    worker.outcome = Retry(60)
    for _ in range(4):
        task = await worker.start()
        worker.gates.pop().set()
        await task
        worker.passes(HALF_AN_HOUR / 3)
    tried = worker.liveness.vitals()
    worker.outcome = Completed()
    task = await worker.start()
    worker.gates.pop().set()
    await task

    assert tried.no_progress == "messages come again and again, and none has come to its end for 40 minutes"
    assert worker.liveness.vitals().no_progress is None


async def test_what_another_worker_has_is_not_for_this_one_to_end(worker: Worker):
    worker.outcome = Released(60)
    for _ in range(4):
        task = await worker.start()
        worker.gates.pop().set()
        await task
        worker.passes(HALF_AN_HOUR / 3)

    assert worker.liveness.vitals().no_progress is None


async def test_what_failed_here_once_long_ago_is_forgotten(worker: Worker):
    worker.outcome = Retry(60)
    task = await worker.start()
    worker.gates.pop().set()
    await task
    worker.passes(HALF_AN_HOUR * 2)
    at_rest = worker.liveness.vitals()
    task = await worker.start()

    assert at_rest.no_progress is worker.liveness.vitals().no_progress is None
    task.cancel()


async def test_waiting_for_the_room_that_another_flow_uses_is_well(worker: Worker):
    charts = worker.liveness.poller("visualizations", wait_seconds=WAIT)
    task = await worker.start()
    charts(Step.WAITING)
    worker.passes(HALF_AN_HOUR * 10)

    assert worker.problems == ()
    task.cancel()


async def test_a_message_that_fails_or_is_cancelled_is_no_longer_in_flight(worker: Worker):
    task = await worker.start()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert worker.liveness.in_flight == 0


def test_it_is_ready_when_every_poller_has_begun_and_until_it_stops(worker: Worker):
    worker.liveness.poller("controls", wait_seconds=WAIT)
    nothing_yet = Liveness(no_progress_seconds=1).unready
    worker.step(Step.WAITING)
    one = worker.liveness.unready
    worker.liveness.poller("controls", wait_seconds=WAIT)(Step.WAITING)
    both = worker.liveness.unready
    worker.stopping = True

    assert (nothing_yet, one, both, worker.liveness.unready) == ("starting", "starting", None, "draining")


async def test_each_change_is_logged_once(worker: Worker):
    with capture_logs() as logs:
        watch = asyncio.create_task(keep_watch(worker.liveness, every_seconds=0))
        task = await worker.start()
        for seconds in (1, HALF_AN_HOUR, 1, 1):
            worker.time += seconds
            for _ in range(3):
                await asyncio.sleep(0)
        worker.step(Step.ENDED)
        for _ in range(3):
            await asyncio.sleep(0)
        worker.step(Step.RECEIVING)
        worker.gates[0].set()
        await task
        for _ in range(3):
            await asyncio.sleep(0)
        watch.cancel()
        await asyncio.wait((watch,))

    assert [(log["event"], log["log_level"]) for log in logs] == [
        ("worker.no_progress", "warning"),
        ("worker.stalled", "error"),
        ("worker.progress_again", "info"),
    ]
