"""status.json: a job's ledger, one object that says who has the job and how it ended."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from events.fields import Count, Epoch, Moment, Prose, TraceParent, VersionOne
from events.keys import Flow, Id, JobRef
from events.results import Completed, Failed, JobEvent, Stage, Undone, UndoRefused, event_of


class State(StrEnum):
    """``running`` is held by a claim, ``waiting`` by nobody; the other two never change again."""

    RUNNING = "running"
    WAITING = "waiting"
    COMPLETED = "completed"
    FAILED = "failed"


class CompletedOutcome(BaseModel):
    """The job ended with an answer."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    state: Literal["completed"] = "completed"
    data: Completed


class FailedOutcome(BaseModel):
    """The job ended without one."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    state: Literal["failed"] = "failed"
    data: Failed


TerminalOutcome = Annotated[CompletedOutcome | FailedOutcome, Field(discriminator="state")]


class Undo(BaseModel):
    """How the latest undo went; of a job that failed, how what it had written was taken back.

    ``asked_at`` is when S3 was given the control that asked, if one did: by it, one that is handled again is known.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    data: Undone | UndoRefused
    at: Moment
    asked_at: Moment | None = None


class JobStatus(BaseModel):
    """One version of the ledger.

    ``epoch`` rises with every claim and fences out whoever held an older one. ``attempts`` counts the
    claims that began work, without those that were given back. ``published`` says that the terminal
    event has reached the results queue. ``appending_to`` is the spreadsheet that the job may have written
    to: put down before the first write, so that whoever ends the job can take that back.
    ``manifest_etag`` is the manifest's when it was first read: the job answers that one, or none. ``sandbox`` is the
    tier of the worker's sandbox, then each of its walls that was found standing.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: VersionOne = 1
    session_id: Id
    job_id: Id
    flow: Flow
    state: State
    epoch: Epoch
    attempts: Count
    worker: Prose
    sandbox: tuple[Prose, ...] = ()
    accepted_at: Moment
    updated_at: Moment
    claim_expires_at: Moment | None = None
    ended_at: Moment | None = None
    stage: Stage | None = None
    detail: Prose | None = None
    outcome: TerminalOutcome | None = None
    published: bool = False
    appending_to: str | None = None
    manifest_etag: str | None = None
    undo: Undo | None = None
    traceparent: TraceParent | None = None

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> Self:
        state = State(self.outcome.state) if self.outcome else None
        fits = self.state is state if state else self.state in (State.RUNNING, State.WAITING)
        if not fits or (self.ended_at is None) != (state is None):
            raise PydanticCustomError("contradiction", "state, outcome and ended_at must agree")
        return self

    @property
    def ref(self) -> JobRef:
        return JobRef(self.session_id, self.job_id)

    @property
    def is_terminal(self) -> bool:
        return self.outcome is not None

    @property
    def is_finished(self) -> bool:
        """Whether it has ended, its event was published, and what it wrote although it failed was looked after."""
        return self.is_terminal and self.published and not self.may_have_left_rows

    @property
    def may_have_left_rows(self) -> bool:
        """Whether it failed after it had begun to write to a spreadsheet, which nobody has looked at since."""
        return isinstance(self.outcome, FailedOutcome) and self.appending_to is not None and self.undo is None

    def is_held(self, now: datetime) -> bool:
        """Whether a live claim holds the job at ``now``."""
        return self.state is State.RUNNING and self.claim_expires_at is not None and self.claim_expires_at > now

    def end_event(self) -> JobEvent:
        """The terminal event: the same to the byte however often it is made; ValueError before the end."""
        if self.outcome is None or self.ended_at is None:
            raise ValueError(f"{self.ref} has not ended")
        return event_of(self.outcome.data, time=self.ended_at, traceparent=self.traceparent)
