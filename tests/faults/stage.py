"""A stage: one stack with one worker at a time, which is killed; the next one ends what that one began."""

import asyncio
import contextlib
import os
import signal
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Any

from killed import COMPLETED, GONE, Point, Story, Watch
from kit import Kit, new_job
from quick_worker import HOLD, HOLDING, LARGE, TABLE, ForkServer, Work

from consumers.errors import OPERATOR_CODES
from events.keys import CONTROL_SUFFIX, Control, Flow, JobRef, session_prefix
from events.results import CompletedEvent, FailedEvent, JobEvent, UndoRefusedEvent, parse_event
from events.status import FailedOutcome, JobStatus

# Nothing is renewed while a job is recorded: what is recorded are its steps alone.
CALM: dict[str, Any] = {"claim_seconds": 5, "heartbeat_seconds": 3, "visibility_seconds": 8}
LIMIT_SECONDS = 40
LOOKING_SECONDS = 0.05
# Asking the queues costs the endpoint more than the job does.
ASKING_SECONDS = 0.5
LIKELY_SECONDS = 4


@dataclass
class Verdict:
    """What is wrong after one run."""

    story: Story
    point: Point | None
    killed: bool = False
    seconds: float = 0
    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    stuck: list[str] = field(default_factory=list)
    left_behind: list[str] = field(default_factory=list)

    @property
    def wrong(self) -> list[str]:
        found = (*self.lost, *self.doubled, *self.stuck, *self.left_behind)
        return [f"{self.story.name}, killed {self.point}: {each}" for each in found]


class Stage:
    """Runs stories one after another; ``work`` says where the workers go."""

    def __init__(self, kit: Kit, server: ForkServer, work: Work, watch: Watch) -> None:
        self._kit = kit
        self._server = server
        self._work = work
        self._watch = watch
        self._pid: int | None = None

    async def record(self, story: Story) -> Counter[str]:
        """The requests of one undisturbed job, by their steps; from the control on where one comes."""
        self._start(replace(self._work, **CALM))
        verdict = await self._run(story, None)
        recorded = self._watch.seen
        self.end()

        assert verdict.wrong == []
        idle = f"ReceiveMessage {'controls' if story.control is None else 'queries'}"
        return Counter({step: count for step, count in recorded.items() if step != idle})

    async def kill(self, story: Story, point: Point) -> Verdict:
        """One job, whose worker is killed at the point, judged when the next worker has ended it."""
        if self._pid is None:
            self._start(self._work)
        return await self._run(story, point)

    def end(self) -> None:
        """End the worker that is left, if there is one."""
        if self._pid is not None:
            os.kill(self._pid, signal.SIGKILL)
            self._server.reap(self._pid)
            self._pid = None

    def _start(self, work: Work) -> None:
        self._pid = self._server.start(work)

    # ------------------------------------------------------------ one run

    async def _run(self, story: Story, point: Point | None) -> Verdict:
        job, verdict, clock = new_job(), Verdict(story, point), asyncio.get_running_loop().time
        began = clock()
        try:
            async with asyncio.timeout(LIMIT_SECONDS):
                await self._until_the_point(story, job, point)
                if self._watch.killed.is_set():
                    verdict.killed = True
                    self.end()
                    self._watch.begin()
                    self._start(self._work)
                    await self._until_likely(story)
                await _until(self._is_quiet, pause=ASKING_SECONDS)
        except TimeoutError:
            verdict.stuck.append(f"no end after {LIMIT_SECONDS} s, in the queues: {await self._in_queues()}")
        await self._judge(job, verdict)
        if verdict.wrong:
            await self._clear()
        verdict.seconds = clock() - began
        return verdict

    async def _until_the_point(self, story: Story, job: JobRef, point: Point | None) -> None:
        """Tell the story until its worker is dead, or has ended the message that is followed."""
        watch = self._watch
        if story.control is not None:
            watch.begin()
            await self._kit.drop(job, query=story.query)
            holding = f"SendMessageBatch results.fifo progress {HOLDING}"
            await self._until_seen(holding if story.query == HOLD else "DeleteMessageBatch queries")
        watch.begin(point, pid=self._pid or 0)
        if point is not None and point.is_poll:
            # The poll that is under way already would take the message.
            await self._until_seen(point.step)
        if story.control is None:
            await self._kit.drop(job, query=story.query)
        else:
            await self._kit.store.put(_control_key(story.control, job), b"{}", media_type="application/json")

        async def dead_or_done() -> bool:
            return watch.killed.is_set() or (
                watch.seen[f"DeleteMessageBatch {story.queue}"] > 0 and await self._is_quiet()
            )

        await _until(dead_or_done)

    async def _until_likely(self, story: Story) -> None:
        """Until the next worker has ended the message; where the last one had, nobody will."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LIKELY_SECONDS):
                await self._until_seen(f"DeleteMessageBatch {story.queue}")

    async def _until_seen(self, step: str) -> None:
        async def seen() -> bool:
            return self._watch.seen[step] > 0

        await _until(seen)

    async def _is_quiet(self) -> bool:
        # Asked twice: a message that becomes visible between moto's two counts is in neither.
        return all([await self._in_queues() == [(0, 0), (0, 0)] for _ in range(2)])

    async def _in_queues(self) -> list[tuple[int, int]]:
        return [await self._kit.in_queue(name) for name in ("queries", "controls")]

    async def _clear(self) -> None:
        """So that the next run is judged for itself."""
        self.end()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LIMIT_SECONDS):
                await _until(self._is_emptied, pause=ASKING_SECONDS)
        await self._kit.store.abort_uploads("")

    async def _is_emptied(self) -> bool:
        await self._kit.empty_queues()
        return await self._is_quiet()

    # ------------------------------------------------------------ what must hold

    async def _judge(self, job: JobRef, verdict: Verdict) -> None:
        kit, story, status = self._kit, verdict.story, await self._kit.status(job)
        keys, kept = set(await kit.keys(session_prefix(job.session_id))), set[str]()
        if story.end != GONE:
            kept = _kept(story, job, status)
            if status is None or _end_of(status) != story.end or not status.published:
                verdict.lost.append(f"its status is {status}")
        verdict.lost += [f"{key} is not there" for key in kept - keys]
        for key in keys - kept:
            (verdict.doubled if key.startswith(job.results_prefix) else verdict.left_behind).append(f"{key} is there")
        uploads = await kit.clients.s3.list_multipart_uploads(Bucket=kit.stack.bucket)
        verdict.left_behind += [f"an upload of {upload['Key']} is open" for upload in uploads.get("Uploads", [])]
        _judge_events(verdict, [parse_event(message.body) for message in await kit.drain("results")])
        letters = len(await kit.drain("dead_letters"))
        if story.end in OPERATOR_CODES and not letters:
            verdict.lost.append("there is no dead letter")
        if story.end not in OPERATOR_CODES and letters:
            verdict.left_behind.append(f"there are {letters} dead letters")
        await kit.store.delete(sorted(keys))


def _judge_events(verdict: Verdict, events: list[JobEvent]) -> None:
    """Those that the queue holds after it dropped duplicates by their ids."""
    ends = [event for event in events if isinstance(event, CompletedEvent | FailedEvent)]
    told = {"end": len(ends)}
    if verdict.story.control is Control.UNDO:
        told["undo"] = sum(isinstance(event, UndoRefusedEvent) for event in events)
    for what, count in told.items():
        if count != 1:
            (verdict.doubled if count else verdict.lost).append(f"{count} events tell of its {what}")
    if any(isinstance(event, CompletedEvent) != verdict.story.completes for event in ends):
        verdict.lost.append(f"it was told to have ended otherwise: {ends}")


def _kept(story: Story, job: JobRef, status: JobStatus | None) -> set[str]:
    kept = {job.manifest_key(Flow.QUERY), job.status_key}
    if story.end == COMPLETED and status is not None:
        kept |= {job.result_key(status.epoch, name) for name in (TABLE, LARGE)}
    return kept


def _end_of(status: JobStatus) -> str:
    return status.outcome.data.code if isinstance(status.outcome, FailedOutcome) else status.state


def _control_key(control: Control, job: JobRef) -> str:
    prefix = session_prefix(job.session_id) if control is Control.CLOSE else job.prefix
    return f"{prefix}{control}{CONTROL_SUFFIX}"


async def _until(condition: Callable[[], Awaitable[bool]], *, pause: float = LOOKING_SECONDS) -> None:
    while not await condition():  # noqa: ASYNC110 - no event comes from over there
        await asyncio.sleep(pause)  # the condition is another process's to make true
