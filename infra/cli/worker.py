"""``dropchute worker``: work off the queues; the first signal drains, the second cancels."""

import asyncio
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import structlog

from infra.cli.endings import Ending, ExitCode
from infra.cli.environment import read_settings
from infra.logs import configure_logs
from infra.provision import locate
from infra.settings import Settings
from infra.wiring import run_worker

SIGNALS = (signal.SIGTERM, signal.SIGINT)

log = structlog.get_logger(__name__)


def run() -> None:
    configure_logs()
    settings = read_settings()
    try:
        asyncio.run(_work(settings))
    except asyncio.CancelledError:
        raise Ending(ExitCode.INTERRUPTED, "Stopped at once; what was running has been given back.") from None


async def _work(settings: Settings) -> None:
    stack = await asyncio.to_thread(locate, settings)
    with stopping_on_signals() as stop:
        log.info(
            "worker.started",
            endpoint=settings.aws_endpoint_url or f"AWS {settings.region}",
            bucket=stack.bucket,
            queues=settings.stack,
            lanes=settings.lanes,
            model=settings.llm_model,
            model_endpoint=settings.openai_base_url,
        )
        await run_worker(settings, stack, stop)


@contextmanager
def stopping_on_signals() -> Iterator[asyncio.Event]:
    """An event that the first SIGTERM or SIGINT sets; the next one cancels the task that entered here."""
    loop, task, stop = asyncio.get_running_loop(), asyncio.current_task(), asyncio.Event()

    def on_signal() -> None:
        if stop.is_set() and task is not None:
            task.cancel()
        stop.set()

    for each in SIGNALS:
        loop.add_signal_handler(each, on_signal)
    try:
        yield stop
    finally:
        for each in SIGNALS:
            loop.remove_signal_handler(each)
