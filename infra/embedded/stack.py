"""The embedded stack: S3, SQS, the queues' wiring and a worker, all in this process."""

import asyncio
import json
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydantic import SecretStr

from infra.embedded.cloud import EmbeddedCloud
from infra.embedded.replayed_model import ReplayedModel
from infra.embedded.sheets import SheetsEmulator
from infra.provision import Stack, provision
from infra.settings import Settings
from infra.wiring import run_worker


@dataclass(frozen=True, slots=True)
class EmbeddedStack:
    """``settings`` point at this process; ``stack`` names the bucket and the queues."""

    settings: Settings
    stack: Stack


@asynccontextmanager
async def embedded_stack(
    settings: Settings, *, replayed: ReplayedModel | None = None, worker: bool = True
) -> AsyncIterator[EmbeddedStack]:
    """Bring everything up, provisioned; take it down at the end, with all that it held.

    The model is ``replayed``, already started, or else the one that ``settings`` name. One at a time, as
    the embedded cloud wants it. Raises what ``run_worker`` raises, SandboxUnavailable above all.
    """
    with EmbeddedCloud() as cloud:
        here = cloud.settings(settings if replayed is None else _answered_by(replayed, settings))
        embedded = EmbeddedStack(here, await asyncio.to_thread(provision, here))
        if not worker:
            yield embedded
            return
        stop = asyncio.Event()
        try:
            async with asyncio.TaskGroup() as running:
                running.create_task(run_worker(_unasked(here), embedded.stack, stop), name="worker")
                try:
                    yield embedded
                finally:
                    stop.set()
        except BaseExceptionGroup as errors:
            # Either the worker could not go on, or the caller: the other one was only cancelled for it.
            raise errors.exceptions[0] from None


def _unasked(settings: Settings) -> Settings:
    """Nobody asks after the health of a worker inside another command; the port is a real worker's."""
    return settings.model_copy(update={"health_port": None})


@contextmanager
def emulated_sheets(settings: Settings) -> Iterator[tuple[Settings, SheetsEmulator]]:
    """An emulator of Google Sheets, and the settings with a service account of its own that leads there."""
    with tempfile.TemporaryDirectory(prefix="dropchute-sheets-") as folder, SheetsEmulator() as emulator:
        key = Path(folder) / "service-account.json"
        key.touch(mode=0o600)
        key.write_text(json.dumps(emulator.service_account_info()))
        there = {"google_service_account_file": key, "sheets_endpoint_url": emulator.base_url}
        yield settings.model_copy(update=there), emulator


def _answered_by(replayed: ReplayedModel, settings: Settings) -> Settings:
    """What shapes a request must be as it was when the replies were recorded."""
    fields = Settings.model_fields
    as_recorded = {name: fields[name].default for name in ("llm_max_reply_tokens", "llm_sample_rows", "llm_attempts")}
    return settings.model_copy(
        update={
            **as_recorded,
            "openai_base_url": replayed.base_url,
            "openai_api_key": SecretStr("replayed"),
        }
    )
