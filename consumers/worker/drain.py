"""Run and stop without loss: stop polling, let what runs end, give back what does not end in time."""

import asyncio
from collections.abc import Sequence

import structlog

from consumers.worker.poll import Poller

log = structlog.get_logger(__name__)


async def run_until(stop: asyncio.Event, pollers: Sequence[Poller], *, drain_seconds: float) -> None:
    """Poll until ``stop`` is set, then return once every started message is settled.

    Long polls are cut short; a message that SQS was just handing out stays hidden for its visibility
    time, a minute, at the most. After ``drain_seconds`` the running jobs are cancelled, which gives
    their messages back. Cancelling this does the same at once.
    """
    try:
        async with asyncio.timeout(None) as deadline, asyncio.TaskGroup() as running:
            async with asyncio.TaskGroup() as polling:
                polls = [polling.create_task(poller.poll(running), name="poll") for poller in pollers]
                await stop.wait()
                for poll in polls:
                    poll.cancel()
            log.info("worker.draining", drain_seconds=drain_seconds)
            deadline.reschedule(asyncio.get_running_loop().time() + drain_seconds)
    except TimeoutError:
        log.warning("worker.drain_deadline", drain_seconds=drain_seconds)
    log.info("worker.stopped")
