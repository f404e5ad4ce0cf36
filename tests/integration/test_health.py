"""Health over HTTP: the right status for the right reason, also while the worker's loop is blocked."""

import http.client
import json
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from consumers.worker.liveness import LOOP_BLOCKED_SECONDS, Liveness
from consumers.worker.poll import Step
from infra import health
from infra.health import HealthUnavailable, health_server

DOCKERFILE = Path(health.__file__).parent / "Dockerfile"


class Clock:
    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self.ahead


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def liveness(clock: Clock) -> Liveness:
    return Liveness(no_progress_seconds=60, now=clock)


@pytest.fixture
def port(liveness: Liveness) -> Iterator[int]:
    with health_server(liveness, host="127.0.0.1", port=0) as port:
        yield port


def get(port: int, path: str, *, method: str = "GET"):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request(method, path)
    reply = connection.getresponse()
    body = json.loads(reply.read())
    connection.close()
    return reply.status, body


def raw(port: int, request: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(request)
        received = b""
        while chunk := connection.recv(4096):
            received += chunk
        return received


def test_a_worker_is_ready_once_it_polls_and_alive_before(port: int, liveness: Liveness):
    before = get(port, "/healthz"), get(port, "/readyz")
    liveness.poller("queries", wait_seconds=20)(Step.RECEIVING)

    assert before == (
        (200, {"alive": True, "in_flight": 0}),
        (503, {"ready": False, "reason": "starting"}),
    )
    assert get(port, "/readyz?verbose") == (200, {"ready": True})


def test_a_blocked_loop_is_told_while_it_is_blocked(port: int, clock: Clock):
    """Nobody beats: this thread, which is the worker's here, is busy."""
    clock.ahead = LOOP_BLOCKED_SECONDS + 5
    status, facts = get(port, "/healthz")

    assert status == 503
    assert facts["alive"] is False
    assert facts["problems"] == ["the event loop has been blocked for 20 s"]


def test_a_poller_that_died_is_named(port: int, liveness: Liveness):
    liveness.poller("controls", wait_seconds=20)(Step.ENDED)
    status, facts = get(port, "/healthz")

    assert status == 503
    assert "controls" in facts["problems"][0]


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"POST /healthz HTTP/1.1\r\n\r\n", 405),
        (b"HEAD /healthz HTTP/1.1\r\n\r\n", 405),
        (b"GET / HTTP/1.1\r\n\r\n", 404),
        (b"GET /healthz/../readyz HTTP/1.0\r\n\r\n", 404),
        (b"nonsense\r\n\r\n", 400),
        (b"\x16\x03\x01\r\n\r\n", 400),
        (b"GET /healthz HTTP/1.1\r\nX: " + b"x" * 20_000, 431),
    ],
    ids=lambda value: str(value)[:20],
)
def test_what_is_no_probe_is_refused(port: int, request_: bytes, status: int):
    reply = raw(port, request_)

    assert reply.startswith(f"HTTP/1.1 {status} ".encode())
    assert (b"Allow: GET\r\n" in reply) == (status == 405)


def test_who_says_nothing_does_not_keep_others_waiting(port: int):
    silent = [socket.create_connection(("127.0.0.1", port)) for _ in range(10)]
    status, _ = get(port, "/healthz")
    for each in silent:
        each.close()

    assert status == 200


def test_a_port_that_is_taken_is_said_and_one_that_was_served_is_free_again(liveness: Liveness, port: int):
    with (
        pytest.raises(HealthUnavailable, match=f"127.0.0.1:{port} .*in use"),
        health_server(liveness, host="127.0.0.1", port=port),
    ):
        pass
    threads = {thread.name for thread in threading.enumerate()}
    with health_server(liveness, host="::1" if socket.has_ipv6 else "127.0.0.1", port=0) as other:
        assert other != port

    assert {thread.name for thread in threading.enumerate()} == threads


def test_the_image_s_own_check_tells_alive_from_not(port: int, clock: Clock):
    text = DOCKERFILE.read_text().replace("\\\n", "")
    command = json.loads(re.search(r"^HEALTHCHECK.*CMD (\[.*\])$", text, re.MULTILINE)[1])

    def check(at: int) -> int:
        variables = {"DROPCHUTE_HEALTH_PORT": str(at)}
        ran = subprocess.run(
            [sys.executable, *command[1:]], env=variables, capture_output=True, check=False, timeout=30
        )
        return ran.returncode

    alive = check(port)
    clock.ahead = LOOP_BLOCKED_SECONDS + 5

    assert command[0] == "python"
    assert (alive, check(port), check(9)) == (0, 1, 1)
