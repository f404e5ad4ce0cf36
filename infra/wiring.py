"""The worker, wired: settings in, everything that runs out."""

import asyncio
import math
import os
import secrets
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import structlog

from consumers.analyst import Analyst
from consumers.answering import Answering
from consumers.data_visualization import visualize_data
from consumers.delivery.download import Downloads
from consumers.delivery.google_sheet import GoogleSheets
from consumers.delivery.sheet.quota import SharedQuota
from consumers.llm_service import Budget, OpenAILanguageModel
from consumers.ports import LanguageModel, Limits, ObjectStore, Sandbox, Spreadsheets
from consumers.preprocessing.prepare import FileLimits, Preprocessor
from consumers.process_query import process_query
from consumers.s3_file_management import Scratch
from consumers.sandbox.tiers import strongest
from consumers.session_control import SessionControl
from consumers.worker.budget import ByteBudget, Lanes
from consumers.worker.drain import run_until
from consumers.worker.finish import Finish
from consumers.worker.job import FlowFunction, JobPolicy, JobTransaction
from consumers.worker.ledger import Ledger
from consumers.worker.liveness import Liveness, keep_watch
from consumers.worker.message import Handlers, MessageHandler
from consumers.worker.poll import Poller
from events.keys import Flow
from infra.clients import Clients
from infra.google_sheets import GOOGLE, GoogleSpreadsheets, read_service_account
from infra.health import health_server
from infra.provision import Stack
from infra.room import room_of
from infra.s3_store import S3ObjectStore
from infra.settings import Settings
from infra.sqs_queue import SqsDeadLetters, SqsEventSink, SqsQueue
from infra.work_queues import CONTROL_QUEUE, FLOW_QUEUES

CONTROL_LANES = 8

log = structlog.get_logger(__name__)


def worker_name() -> str:
    """Unique to this start of the process: the ledger tells two holders apart by it."""
    return f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"


async def run_worker(settings: Settings, stack: Stack, stop: asyncio.Event) -> None:
    """Work off the stack's queues until ``stop`` is set, then drain.

    Raises:
        SandboxUnavailable: this machine cannot hold untrusted code.
        ServiceAccountError: the key file for Google Sheets cannot be used.
    """
    async with AsyncExitStack() as exits:
        scratch = await exits.enter_async_context(Scratch(settings.scratch))
        clients = await exits.enter_async_context(Clients(settings))
        model = await exits.enter_async_context(language_model(settings))
        store = S3ObjectStore(clients.s3, stack.bucket, links=clients.links)
        spreadsheets = google_spreadsheets(settings, store)
        if spreadsheets is not None:
            await exits.enter_async_context(spreadsheets)
        liveness = await exits.enter_async_context(_watched(settings, stop))
        sandbox = await exits.enter_async_context(
            strongest(scratch.folder, at_least=settings.sandbox_min_tier, spares=settings.sandbox_spares)
        )
        log.info("worker.sandbox", tier=sandbox.tier, walls=list(sandbox.walls))
        parts = _Parts(clients, store, model, spreadsheets, sandbox, scratch, stop, liveness)
        await run_until(stop, _pollers(settings, stack, parts), drain_seconds=settings.drain_seconds)


@dataclass(frozen=True, slots=True)
class _Parts:
    """What is opened at start and closed at the end."""

    clients: Clients
    store: S3ObjectStore
    model: LanguageModel
    spreadsheets: Spreadsheets | None
    sandbox: Sandbox
    scratch: Scratch
    stop: asyncio.Event
    liveness: Liveness


@asynccontextmanager
async def _watched(settings: Settings, stop: asyncio.Event) -> AsyncIterator[Liveness]:
    """The worker's liveness, kept up to date while the block runs, and answered for over HTTP if that is asked for."""
    liveness = Liveness(no_progress_seconds=settings.no_progress_minutes * 60, stopping=stop.is_set)
    with ExitStack() as exits:
        if settings.health_port is not None:
            server = health_server(liveness, host=settings.health_host, port=settings.health_port)
            log.info("worker.health", host=settings.health_host, port=exits.enter_context(server))
        # No task group: what the block raises must come out as it is.
        watch = asyncio.create_task(keep_watch(liveness), name="watch")
        try:
            yield liveness
        finally:
            watch.cancel()
            await asyncio.wait((watch,))


def language_model(settings: Settings) -> OpenAILanguageModel:
    return OpenAILanguageModel(
        base_url=settings.openai_base_url,
        api_key=settings.openai_api_key.get_secret_value(),
        model=settings.llm_model,
        timeout_seconds=settings.llm_timeout_seconds,
        max_reply_tokens=settings.llm_max_reply_tokens,
        attempts=settings.llm_attempts,
    )


def google_spreadsheets(settings: Settings, store: ObjectStore) -> GoogleSpreadsheets | None:
    """None without a service account: then sheets are refused, and all else works."""
    if settings.google_service_account_file is None:
        return None
    credentials = read_service_account(settings.google_service_account_file)
    if settings.sheets_endpoint_url != GOOGLE:
        # An emulator's account is none of Google's: with a subject, google-auth asks Google nothing about it.
        credentials = credentials.with_subject(credentials.service_account_email)  # type: ignore[no-untyped-call]
    quota = SharedQuota(store, credentials.service_account_email, per_minute=settings.sheets_calls_per_minute)
    return GoogleSpreadsheets(credentials, quota, base_url=settings.sheets_endpoint_url)


def _pollers(settings: Settings, stack: Stack, parts: _Parts) -> list[Poller]:
    """One for each work queue. Those of the flows share the machine; controls need next to nothing of it."""
    room = room_of(settings, parts.scratch.folder)
    log.info("worker.room", jobs=room.jobs, bytes_at_once=room.bytes_at_once, lanes=settings.lanes)
    together, bytes_at_once = Lanes(room.jobs), ByteBudget(room.bytes_at_once)
    handle = _handler(settings, stack, parts, bytes_at_once).handle

    def poller(queue: str, lanes: int, *, wait_seconds: int, **shared: Any) -> Poller:
        progress = parts.liveness.poller(queue, wait_seconds=wait_seconds)
        return Poller(
            SqsQueue(parts.clients.polls, parts.clients.batches, name=queue, url=stack.queue_urls[queue]),
            parts.liveness.watching(queue, handle),
            lanes=lanes,
            wait_seconds=wait_seconds,
            visibility_seconds=settings.visibility_seconds,
            progress=progress,
            **shared,
        )

    flows, wait_seconds = FLOW_QUEUES.values(), settings.receive_wait_seconds
    # With room for fewer jobs than there are flows, they take turns in asking.
    turn_seconds = wait_seconds if room.jobs >= len(flows) else min(1, wait_seconds)
    return [
        poller(CONTROL_QUEUE, CONTROL_LANES, wait_seconds=wait_seconds),
        *(poller(flow, settings.lanes, wait_seconds=turn_seconds, within=together) for flow in flows),
    ]


def _handler(settings: Settings, stack: Stack, parts: _Parts, bytes_at_once: ByteBudget) -> MessageHandler:
    name, store = worker_name(), parts.store
    sheets = GoogleSheets(parts.spreadsheets, parts.sandbox, store, limits=_run_limits(settings))
    events = SqsEventSink(parts.clients.batches, stack.queue_urls["results"])
    walls = (parts.sandbox.tier, *parts.sandbox.walls)
    ledger = Ledger(store, worker=name, claim_seconds=settings.claim_seconds, sandbox=walls)
    finish = Finish(store, events, sheets, link_seconds=settings.link_seconds)
    jobs = JobTransaction(
        _flows(settings, sheets, parts),
        ledger=ledger,
        store=store,
        events=events,
        finish=finish,
        policy=JobPolicy(
            attempts=settings.job_attempts,
            seconds=settings.job_seconds,
            drop_bytes=settings.max_drop_bytes,
            heartbeat_seconds=settings.heartbeat_seconds,
            retry_base_seconds=settings.retry_base_seconds,
        ),
        bytes_at_once=bytes_at_once,
        stopping=parts.stop.is_set,
    )
    return MessageHandler(
        Handlers(manifest=jobs.run, control=SessionControl(ledger, store, finish, sheets).run),
        bucket=stack.bucket,
        dead_letters=SqsDeadLetters(parts.clients.batches, stack.queue_urls["dead_letters"]),
        worker=name,
        visibility_seconds=settings.visibility_seconds,
    )


def _run_limits(settings: Settings) -> Limits:
    return Limits(
        wall_seconds=settings.sandbox_wall_seconds,
        cpu_seconds=math.ceil(settings.sandbox_wall_seconds),
        memory_bytes=settings.sandbox_memory_bytes,
    )


def _flows(settings: Settings, sheets: GoogleSheets, parts: _Parts) -> dict[Flow, FlowFunction]:
    store, run_limits = parts.store, _run_limits(settings)
    answering = Answering(
        store=store,
        preprocessor=Preprocessor(
            store,
            parts.sandbox,
            limits=FileLimits(file_bytes=settings.max_file_bytes, drop_bytes=settings.max_drop_bytes),
            run_limits=run_limits,
        ),
        analyst=Analyst(
            model=parts.model,
            sandbox=parts.sandbox,
            attempts=settings.llm_attempts,
            limits=run_limits,
            show_values=settings.llm_sample_rows > 0,
        ),
        budget=Budget,
        sample_rows=settings.llm_sample_rows,
    )
    downloads = Downloads(store, parts.sandbox, limits=run_limits, max_bytes=settings.max_result_bytes)
    return {
        Flow.QUERY: partial(
            process_query, answering=answering, downloads=downloads, sheets=sheets, scratch=parts.scratch
        ),
        Flow.VISUALIZATION: partial(visualize_data, answering=answering, downloads=downloads, scratch=parts.scratch),
    }
