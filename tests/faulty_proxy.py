"""A real HTTP proxy between a client and its endpoint, which misbehaves where a test asks it to."""

import http.client
import json
import socket
import struct
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

PER_HOP = {"connection", "transfer-encoding", "content-length", "keep-alive"}


@dataclass(frozen=True)
class Answer:
    """Answer in the endpoint's place; nothing is forwarded."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class DropReply:
    """Forward the request, then cut the connection instead of replying."""


@dataclass(frozen=True)
class CutBody:
    """Forward, reply with the head and so many bytes of the body, then cut the connection."""

    after: int
    politely: bool = False


@dataclass(frozen=True)
class AddHeaders:
    """Forward, and reply with more headers than the endpoint gave."""

    headers: Mapping[str, str]


@dataclass(frozen=True)
class Hold:
    """Keep the request back until the test lets it go; then forward it, or answer."""

    then: Answer | None = None
    arrived: threading.Event = field(default_factory=threading.Event)
    let_go: threading.Event = field(default_factory=threading.Event)


@dataclass(frozen=True)
class Kill:
    """Run ``kill``, which ends the process that asks, and reply nothing.

    Either before the request is forwarded, or after the endpoint has answered: then only if ``answer`` occurs in
    what it said, and otherwise the reply is passed on.
    """

    kill: Callable[[], None]
    before: bool
    answer: bytes = b""


Fault = Answer | DropReply | CutBody | AddHeaders | Hold | Kill


@dataclass(frozen=True)
class Request:
    """One request; of SQS with its action, as in ``SendMessageBatch``, and its queue's name."""

    method: str
    path: str
    action: str = ""
    body: bytes = b""

    @cached_property
    def queue(self) -> str:
        return str(self.json.get("QueueUrl", "")).rpartition("/")[2]

    @cached_property
    def json(self) -> dict[str, Any]:
        """What SQS was asked; nothing for S3."""
        asked: dict[str, Any] = json.loads(self.body) if self.action else {}
        return asked


def s3_error(status: int, code: str) -> Answer:
    body = f'<?xml version="1.0"?><Error><Code>{code}</Code><Message>{code}</Message></Error>'
    return Answer(status, body.encode(), {"Content-Type": "application/xml"})


def sqs_error(status: int, code: str, message: str = "") -> Answer:
    body = f'{{"__type": "com.amazonaws.sqs#{code}", "message": "{message}"}}'
    headers = {"Content-Type": "application/x-amz-json-1.0", "x-amzn-query-error": f"{code};Sender"}
    return Answer(status, body.encode(), headers)


@dataclass
class _Rule:
    fault: Fault
    method: str
    part_of_path: str
    times: int
    action: str
    queue: str

    def fits(self, request: Request) -> bool:
        if self.times < 1 or self.method != request.method or self.part_of_path not in request.path:
            return False
        return self.action in ("", request.action) and self.queue in ("", request.queue)


class FaultyProxy:
    """``endpoint`` is where clients go; ``requests`` is what came, as ``"PUT /bucket/key?query"``."""

    def __init__(self, upstream: str) -> None:
        self._upstream = urlsplit(upstream).netloc
        self._rules: list[_Rule] = []
        self._watchers: list[Callable[[Request], Fault | None]] = []
        self._lock = threading.Lock()
        self.requests: list[str] = []
        self._server = _Server(("127.0.0.1", 0), type("_Bound", (_Handler,), {"proxy": self}))
        self.endpoint = f"http://127.0.0.1:{self._server.server_address[1]}"

    def on(
        self, method: str, part_of_path: str, fault: Fault, *, times: int = 1, action: str = "", queue: str = ""
    ) -> None:
        """Do this to the next so many requests of a method whose path and query hold the given part.

        Of SQS also: only to one action, as in ``SendMessageBatch``, and only where it is about the queue of this name.
        """
        self._rules.append(_Rule(fault, method, part_of_path, times, action, queue))

    def watch(self, watcher: Callable[[Request], Fault | None]) -> None:
        """Show each request to ``watcher``, one by one, before it is forwarded; what that returns is done to it."""
        self._watchers.append(watcher)

    def count(self, method: str, part_of_path: str = "") -> int:
        return sum(line.startswith(f"{method} ") and part_of_path in line for line in self.requests)

    def take_fault(self, request: Request) -> Fault | None:
        with self._lock:
            self.requests.append(f"{request.method} {request.path}")
            for watcher in self._watchers:
                if fault := watcher(request):
                    return fault
            for rule in self._rules:
                if rule.fits(request):
                    rule.times -= 1
                    return rule.fault
        return None

    def forget(self) -> None:
        """No more faults, nobody watches, and nothing has come yet."""
        self._rules.clear()
        self._watchers.clear()
        self.requests.clear()

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(self._upstream, timeout=30)

    @contextmanager
    def running(self) -> Iterator["FaultyProxy"]:
        thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            thread.join()
            self._server.server_close()


class _Server(ThreadingHTTPServer):
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        # A client that hangs up is part of the game.
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    proxy: FaultyProxy

    def handle(self) -> None:
        with closing(self.proxy.connect()) as self._upstream:
            super().handle()

    def _serve(self) -> None:
        length = int(self.headers.get("Content-Length", 0))
        body = self.rfile.read(length)
        if len(body) < length:
            self.close_connection = True  # the client has gone in the middle of it
            return
        action = self.headers.get("X-Amz-Target", "").rpartition(".")[2]
        fault = self.proxy.take_fault(Request(self.command, self.path, action, body))
        if isinstance(fault, Hold):
            fault.arrived.set()
            fault.let_go.wait(30)
            fault = fault.then
        if isinstance(fault, Answer):
            self._reply(fault.status, fault.headers, fault.body, len(fault.body))
            return
        headers = {name: value for name, value in self.headers.items() if name.lower() != "expect"}
        if isinstance(fault, Kill) and fault.before:
            fault.kill()
            self._reset()
            return
        reply, content = self._forward(headers, body)
        # That of a HEAD speaks of a body that does not come.
        length = int(reply.headers.get("Content-Length", len(content)))
        if isinstance(fault, Kill) and fault.answer in content:
            fault.kill()
            fault = DropReply()
        if isinstance(fault, DropReply):
            self._reset()
            return
        more = fault.headers if isinstance(fault, AddHeaders) else {}
        kept = {name: value for name, value in reply.headers.items() if name.lower() not in PER_HOP}
        if isinstance(fault, CutBody):
            self._reply(reply.status, kept, content[: fault.after], length)
            if not fault.politely:
                self._reset()
            self.close_connection = True
            return
        self._reply(reply.status, {**kept, **more}, content, length)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _serve  # noqa: N815 - http.server's names

    def _forward(self, headers: dict[str, str], body: bytes) -> tuple[http.client.HTTPResponse, bytes]:
        kept_open = self._upstream.sock is not None
        try:
            return self._asked(headers, body)
        except (ConnectionError, http.client.BadStatusLine):
            if not kept_open:
                raise
            # The endpoint had closed it meanwhile.
            self._upstream.close()
            return self._asked(headers, body)

    def _asked(self, headers: dict[str, str], body: bytes) -> tuple[http.client.HTTPResponse, bytes]:
        self._upstream.request(self.command, self.path, body, headers)
        reply = self._upstream.getresponse()
        return reply, reply.read()

    def _reply(self, status: int, headers: Mapping[str, str], body: bytes, length: int) -> None:
        try:
            self.send_response_only(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(length))
            self.end_headers()
            self.wfile.write(body)
        except OSError:
            self.close_connection = True  # the client has gone

    def _reset(self) -> None:
        # Lingering for zero seconds makes close() send RST.
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - http.server's name
        pass
