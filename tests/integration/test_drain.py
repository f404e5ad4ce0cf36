"""Run and stop without loss, over the real queues."""

import asyncio
import time
from typing import Any

from kit import DeliveringFlow, Kit, StuckFlow, until
from test_message import handler, with_flow

from consumers.worker.drain import run_until
from consumers.worker.poll import Poller
from infra.sqs_queue import SqsQueue


def poller(
    kit: Kit,
    flow: Any,
    *,
    lanes: int = 2,
    wait_seconds: int = 20,
    queue: SqsQueue | None = None,
    stop: asyncio.Event | None = None,
) -> Poller:
    handlers = with_flow(kit, flow, stopping=(stop or asyncio.Event()).is_set)
    return Poller(
        queue or kit.queue(),
        handler(kit, handlers).handle,
        lanes=lanes,
        wait_seconds=wait_seconds,
        visibility_seconds=10,
    )


async def test_an_idle_worker_stops_in_under_a_second_though_its_poll_lasts_twenty(kit: Kit):
    stop = asyncio.Event()
    running = asyncio.create_task(run_until(stop, [poller(kit, DeliveringFlow(kit.store))], drain_seconds=30))
    await asyncio.sleep(0)

    began = time.monotonic()
    stop.set()
    await running

    assert time.monotonic() - began < 1


async def test_a_stop_lets_running_jobs_end(kit: Kit):
    flow = _Gated(kit)
    key = await kit.drop()
    stop = asyncio.Event()
    running = asyncio.create_task(run_until(stop, [poller(kit, flow, wait_seconds=1)], drain_seconds=30))
    await flow.started.wait()

    stop.set()
    flow.gate.set()
    await running

    status = await kit.status(key.job)
    assert status is not None
    assert status.is_terminal
    assert await kit.in_queue("queries") == (0, 0)


class _Gated(DeliveringFlow):
    """Delivers once the test opens its gate."""

    def __init__(self, kit: Kit) -> None:
        super().__init__(kit.store)
        self.started = asyncio.Event()
        self.gate = asyncio.Event()

    async def __call__(self, drop: Any, *, report: Any) -> Any:
        self.started.set()
        await self.gate.wait()
        return await super().__call__(drop, report=report)


async def test_what_does_not_end_in_time_is_given_back(kit: Kit):
    flow = StuckFlow(kit.store)
    key = await kit.drop()
    stop = asyncio.Event()
    running = asyncio.create_task(run_until(stop, [poller(kit, flow, wait_seconds=1, stop=stop)], drain_seconds=0.2))
    await flow.started.wait()

    stop.set()
    await running

    # A long poll that was cut short may still take the message on the server's side, for its visibility time.
    again = await kit.queue().receive(max_messages=1, wait_seconds=12, visibility_seconds=1)
    assert len(again) == 1
    await kit.queue().delete(again[0])
    status = await kit.status(key.job)
    assert status is not None
    assert status.attempts == 0


async def test_no_more_is_received_than_there_are_lanes(kit: Kit):
    flow = StuckFlow(kit.store)
    for _ in range(5):
        await kit.drop()
    running = asyncio.create_task(
        run_until(asyncio.Event(), [poller(kit, flow, lanes=2, wait_seconds=1)], drain_seconds=1)
    )

    async def two_are_running() -> bool:
        return await kit.in_queue("queries") == (3, 2)

    await until(two_are_running)
    running.cancel()
    await asyncio.wait((running,))
    assert await kit.in_queue("queries") == (5, 0)
    await kit.drain("queries")


async def test_a_slow_job_does_not_hold_up_another_lane(kit: Kit):
    stuck, quick = StuckFlow(kit.store), DeliveringFlow(kit.store)
    first = await kit.drop()

    async def flow(drop: Any, *, report: Any) -> Any:
        return await (stuck if drop.job == first.job else quick)(drop, report=report)

    stop = asyncio.Event()
    running = asyncio.create_task(run_until(stop, [poller(kit, flow, lanes=2, wait_seconds=1)], drain_seconds=0))
    await stuck.started.wait()
    await kit.drop()
    await kit.drop()

    async def both_done() -> bool:
        return quick.calls == 2

    await until(both_done)
    stop.set()
    await running
    await kit.drain("queries")


async def test_a_queue_that_does_not_answer_is_asked_again(kit: Kit):
    """A queue that is missing for a while: polled with growing pauses, and the other queue is served."""
    flow = DeliveringFlow(kit.store)
    missing = SqsQueue(kit.clients.polls, kit.clients.batches, name="missing", url="http://127.0.0.1:1/0/missing")
    await kit.drop()
    stop = asyncio.Event()
    pollers = [poller(kit, flow, queue=missing), poller(kit, flow, wait_seconds=1)]
    running = asyncio.create_task(run_until(stop, pollers, drain_seconds=5))

    async def done() -> bool:
        return flow.calls == 1

    await until(done)
    stop.set()
    await running
