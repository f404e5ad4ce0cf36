"""The scripted model: an OpenAI-compatible server that answers, in order, what a test tells it to.

Nothing here was said by a model; what a real one said is in ``infra/embedded/recordings``.
"""

import contextlib
import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(frozen=True)
class Reply:
    """A chat completion; ``message`` adds to or replaces fields of its message."""

    text: str | None
    finish_reason: str = "stop"
    message: dict = field(default_factory=dict)
    usage: dict | None = field(default_factory=lambda: {"prompt_tokens": 7, "completion_tokens": 3})


@dataclass(frozen=True)
class HttpError:
    status: int
    error: dict = field(default_factory=dict)
    headers: dict = field(default_factory=dict)


@dataclass(frozen=True)
class Raw:
    """Any body with status 200."""

    body: bytes
    media_type: str = "application/json"


class HangUp:
    """The connection closes without an answer."""


class Silence:
    """No answer for as long as the server lives."""


class Drip:
    """An answer that begins at once and comes byte by byte, far slower than anyone waits."""


class ScriptedModel:
    """Plays ``script``; the last step repeats. ``requests`` keeps the bodies that it saw."""

    def __init__(self, *script):
        self.requests = []
        self._script = list(script)
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), name="scripted-model")

    @property
    def base_url(self):
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _next(self, request):
        with self._lock:
            self.requests.append(request)
            return self._script[min(len(self.requests), len(self._script)) - 1]

    def _handler(self):
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                self.close_connection = True
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                step = owner._next(body)
                match step:
                    case Reply():
                        self._send(200, json.dumps(_completion(step, body["model"])).encode())
                    case HttpError():
                        self._send(step.status, json.dumps({"error": step.error}).encode(), headers=step.headers)
                    case Raw():
                        self._send(200, step.body, media_type=step.media_type)
                    case Silence():
                        owner._closing.wait()
                    case Drip():
                        self._drip()

            def _send(self, status, body, *, media_type="application/json", headers=None):
                self.send_response(status)
                for name, value in {"content-type": media_type, "content-length": len(body), **(headers or {})}.items():
                    self.send_header(name, str(value))
                self.end_headers()
                self.wfile.write(body)

            def _drip(self):
                self.send_response(200)
                self.send_header("content-length", "100")
                self.end_headers()
                with contextlib.suppress(ConnectionError):
                    for _ in range(100):
                        owner._closing.wait(0.02)
                        self.wfile.write(b" ")

            def log_message(self, *_):
                pass

        return Handler


def _completion(reply, model):
    message = {"role": "assistant", "content": reply.text, **reply.message}
    choice = {"index": 0, "message": message, "finish_reason": reply.finish_reason}
    completion = {"id": "scripted", "object": "chat.completion", "created": 0, "model": model, "choices": [choice]}
    return completion if reply.usage is None else {**completion, "usage": reply.usage}


class ModelByRequest(ScriptedModel):
    """Answers by what the request says: the first step whose words stand in the conversation, else the default."""

    def __init__(self, steps, default):
        super().__init__(default)
        self._steps = steps

    def _next(self, request):
        default = super()._next(request)
        said = json.dumps(request["messages"])
        return next((step for words, step in self._steps.items() if words in said), default)
