"""Health over HTTP: ``/healthz`` and ``/readyz``, for whoever restarts workers and routes to them.

It answers from a thread with an event loop of its own, so that it can tell that the worker's is blocked.
"""

import asyncio
import json
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from functools import partial
from http import HTTPStatus

from consumers.worker.liveness import Liveness

# A probe's request has a few hundred bytes, and comes at once.
MAX_REQUEST_BYTES = 8 * 1024
REQUEST_SECONDS = 5
MAX_CONNECTIONS = 32

Answer = tuple[HTTPStatus, dict[str, object]]


class HealthUnavailable(Exception):
    """The address cannot be listened on; the text says which, and why."""


@contextmanager
def health_server(liveness: Liveness, *, host: str, port: int) -> Iterator[int]:
    """Serve until the block ends; yields the port, which the system chose if ``port`` is 0.

    Raises:
        HealthUnavailable: somebody else has the port, or the host is not ours.
    """
    with _listening(host, port) as listening:
        started: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = Future()
        thread = threading.Thread(
            target=lambda: asyncio.run(_serve(liveness, listening, started)), name="health", daemon=True
        )
        thread.start()
        loop, stop = started.result()
        try:
            yield int(listening.getsockname()[1])
        finally:
            loop.call_soon_threadsafe(stop.set)
            thread.join()


def _listening(host: str, port: int) -> socket.socket:
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        raise HealthUnavailable(f"{host}:{port} cannot be listened on: {error.strerror}.") from error


async def _serve(
    liveness: Liveness,
    listening: socket.socket,
    started: "Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]]",
) -> None:
    stop = asyncio.Event()
    connections = asyncio.Semaphore(MAX_CONNECTIONS)
    server = await asyncio.start_server(
        partial(_connected, liveness, connections), sock=listening, limit=MAX_REQUEST_BYTES
    )
    started.set_result((asyncio.get_running_loop(), stop))
    async with server:
        await stop.wait()


async def _connected(
    liveness: Liveness, connections: asyncio.Semaphore, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    # One request a connection; who is slow, or one too many, is hung up on.
    try:
        if not connections.locked():
            async with connections:
                with suppress(TimeoutError, ConnectionError, asyncio.IncompleteReadError):
                    async with asyncio.timeout(REQUEST_SECONDS):
                        writer.write(_response(*await _answer(liveness, reader)))
                        await writer.drain()
    finally:
        writer.close()


async def _answer(liveness: Liveness, reader: asyncio.StreamReader) -> Answer:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.LimitOverrunError:
        return HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, {}
    method, _, rest = head.partition(b"\r\n")[0].partition(b" ")
    target, _, version = rest.partition(b" ")
    if not version.startswith(b"HTTP/1."):
        return HTTPStatus.BAD_REQUEST, {}
    if method != b"GET":
        return HTTPStatus.METHOD_NOT_ALLOWED, {}
    pages = {b"/healthz": health, b"/readyz": readiness}
    page = pages.get(target.partition(b"?")[0])
    return page(liveness) if page else (HTTPStatus.NOT_FOUND, {})


def health(liveness: Liveness) -> Answer:
    """503 if the worker should be started again. Work that takes long is told, and is no reason to end it."""
    vitals = liveness.vitals()
    facts: dict[str, object] = {"alive": vitals.is_alive, "in_flight": vitals.in_flight}
    if vitals.problems:
        facts["problems"] = list(vitals.problems)
    if vitals.no_progress is not None:
        facts["no_progress"] = vitals.no_progress
    return HTTPStatus.OK if vitals.is_alive else HTTPStatus.SERVICE_UNAVAILABLE, facts


def readiness(liveness: Liveness) -> Answer:
    """503 while the worker does not take new work: before its pollers run, and while it drains."""
    why = liveness.unready
    if why is None:
        return HTTPStatus.OK, {"ready": True}
    return HTTPStatus.SERVICE_UNAVAILABLE, {"ready": False, "reason": why}


def _response(status: HTTPStatus, facts: dict[str, object]) -> bytes:
    body = json.dumps(facts or {"error": status.phrase}).encode() + b"\n"
    head = (
        f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\nCache-Control: no-store\r\nConnection: close\r\n"
    )
    allow = "Allow: GET\r\n" if status is HTTPStatus.METHOD_NOT_ALLOWED else ""
    return f"{head}{allow}\r\n".encode() + body
