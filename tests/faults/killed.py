"""Workers that are killed at one request of one job: its requests by what they are for, and the one to die at."""

import json
import os
import re
import signal
import threading
from collections import Counter
from dataclasses import dataclass

from faulty_proxy import Fault, Kill, Request
from quick_worker import ANSWER, BREAK, HOLD, REFUSE, RETRY

from events.keys import Control
from events.results import FailureCode
from events.status import JobStatus

COMPLETED, GONE = "completed", "gone"


@dataclass(frozen=True)
class Story:
    """What happens to a drop: what its flow does, which control comes then, how it ends."""

    name: str
    query: str
    end: str
    control: Control | None = None

    @property
    def queue(self) -> str:
        """Where the message is whose handling is followed."""
        return "queries" if self.control is None else "controls"

    @property
    def completes(self) -> bool:
        """Whether the job comes to an answer; its session may be closed then."""
        return self.query in (ANSWER, RETRY)


STORIES = (
    Story("answered", ANSWER, COMPLETED),
    Story("refused", REFUSE, FailureCode.RESULT_EMPTY),
    Story("failed for an operator", BREAK, FailureCode.MODEL_REJECTED),
    Story("tried again", RETRY, COMPLETED),
    Story("cancelled while it runs", HOLD, FailureCode.CANCELLED, Control.CANCEL),
    Story("closed while it runs", HOLD, GONE, Control.CLOSE),
    Story("closed after its end", ANSWER, GONE, Control.CLOSE),
    Story("asked to be undone", ANSWER, COMPLETED, Control.UNDO),
)


@dataclass(frozen=True)
class Point:
    """The n-th request of a step; the worker dies before the endpoint has it, or before its own side has the reply."""

    step: str
    nth: int
    before: bool

    @property
    def is_poll(self) -> bool:
        return self.step.startswith("ReceiveMessage")

    def __str__(self) -> str:
        return f"{'before' if self.before else 'after'} {self.step}{f' ({self.nth})' if self.nth > 1 else ''}"


def points_of(recorded: Counter[str]) -> list[Point]:
    """Before and after each request that was recorded; all polls of a queue are one."""
    return [
        Point(step, nth, before)
        for step, count in recorded.items()
        for nth in range(1, (1 if step.startswith("ReceiveMessage") else count) + 1)
        for before in (True, False)
    ]


def step_of(request: Request, stack: str) -> str:
    """What a request is for, in the same words for every job."""
    if request.action:
        bodies = [entry["MessageBody"] for entry in request.json.get("Entries", ()) if "MessageBody" in entry]
        return " ".join((request.action, request.queue.removeprefix(f"{stack}-"), *map(_told, bodies)))
    path = re.sub(r"sessions(/|%2F)[\w-]+(/|%2F)(jobs(/|%2F)[\w-]+(/|%2F))?", "", request.path)
    path = re.sub(r"(uploadId=)[^&]+", r"\1…", path).removeprefix(f"/{stack}").removeprefix("/")
    if request.method == "PUT" and path == "status.json":
        path = f"{path} {_written(JobStatus.model_validate_json(request.body))}"
    if request.method == "POST" and path == "?delete":
        keys = re.findall(rb"<Key>sessions/[\w-]+/(?:jobs/[\w-]+/)?(.*?)</Key>", request.body)
        path = " ".join((path, *sorted(key.decode() for key in keys)))
    return f"{request.method} {path}"


def _told(body: str) -> str:
    """An event by its type, and a letter by its code."""
    message = json.loads(body)
    if "code" in message:
        return f"letter {message['code']}"
    return f"{message['type'].rpartition('.')[2]} {message['data'].get('detail', '')}".strip()


def _written(status: JobStatus) -> str:
    facts = [status.state.value, status.stage or "claimed"]
    if not status.is_terminal:
        facts += [status.detail or "", "read" if status.manifest_etag else ""]
    facts += ["published" if status.published else "", "undo" if status.undo else ""]
    return ", ".join(filter(None, facts))


class Watch:
    """Counts the requests of one stack's workers by their steps, and kills the worker at a point."""

    def __init__(self, stack: str) -> None:
        self._stack = stack
        self._point: Point | None = None
        self._pid = 0
        self.seen: Counter[str] = Counter()
        self.killed = threading.Event()

    def begin(self, point: Point | None = None, *, pid: int = 0) -> None:
        """Count anew, and kill this process at that point."""
        self.killed, self.seen = threading.Event(), Counter()
        self._pid, self._point = pid, point

    def __call__(self, request: Request) -> Fault | None:
        bucket = request.path.removeprefix("/").partition("?")[0].partition("/")[0]
        if self._stack != bucket and not request.queue.startswith(f"{self._stack}-"):
            return None
        step, point = step_of(request, self._stack), self._point
        self.seen[step] += 1
        if point is None or step != point.step or self.killed.is_set():
            return None
        if point.is_poll:
            return Kill(self._kill, before=point.before, answer=b"ReceiptHandle")
        return Kill(self._kill, before=point.before) if self.seen[step] == point.nth else None

    def _kill(self) -> None:
        # Whoever waits for a worker's end reaps it only after this: the id is still its own.
        if not self.killed.is_set():
            os.kill(self._pid, signal.SIGKILL)
            self.killed.set()
