"""Progress: tells the user where a job is, and remembers how long each stage took."""

import asyncio
from itertools import pairwise

import structlog

from consumers.errors import JobError
from consumers.ports import EventSink
from consumers.worker.ledger import Claim
from events import results
from events.results import Stage, event_of

FIRST_STAGE = Stage.READ

log = structlog.get_logger(__name__)


class Progress:
    """Of one attempt: to the ledger and, as far as it can be reached, to the results queue."""

    def __init__(self, claim: Claim, events: EventSink) -> None:
        self._claim = claim
        self._events = events
        # The first step is the claim's own; that it was made is what ``accepted`` tells.
        self._step = 1
        self._entered: dict[Stage, float] = {FIRST_STAGE: asyncio.get_running_loop().time()}
        self.stage = FIRST_STAGE
        self._accepted = False

    async def __call__(self, stage: Stage, detail: str) -> None:
        """See ``consumers.ports.Report``."""
        self.stage = stage
        self._entered.setdefault(stage, asyncio.get_running_loop().time())
        self._step += 1
        await self._claim.note(stage=stage, detail=detail)
        await self.accepted()
        step = self._step
        await self._publish(
            results.Progress(**self._claim.identity, epoch=self._claim.epoch, step=step, stage=stage, detail=detail)
        )

    async def appending_to(self, spreadsheet_id: str) -> None:
        """See ``consumers.ports.Report``."""
        if self._claim.status.appending_to != spreadsheet_id:
            await self._claim.note(appending_to=spreadsheet_id)

    async def accepted(self) -> None:
        """Once: after the first write that keeps which manifest it is, so that no other one is answered later."""
        if self._accepted:
            return
        self._accepted = True
        await self._publish(results.Accepted(**self._claim.identity, epoch=self._claim.epoch))

    def seconds(self) -> dict[Stage, float]:
        """From each stage's beginning to the next one's, the last one's to now."""
        begins = [*self._entered.values(), asyncio.get_running_loop().time()]
        return {
            stage: round(until - since, 3)
            for stage, (since, until) in zip(self._entered, pairwise(begins), strict=True)
        }

    async def _publish(self, data: results.Accepted | results.Progress) -> None:
        status = self._claim.status
        try:
            await self._events.publish(event_of(data, time=status.updated_at, traceparent=status.traceparent))
        except JobError as error:
            # status.json has it too; only the terminal event must not be lost.
            log.warning("job.progress_not_published", job=str(self._claim.job), message=error.message)
