"""status.json: a job's ledger, one object that says who has the job and how it ended."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from events.keys import Flow, Id, JobRef
from events.results import Completed, Failed, Stage


class State(StrEnum):
    """``running`` is held by a claim, ``waiting`` by nobody; the other two never change again."""

    RUNNING = "running"
    WAITING = "waiting"
    COMPLETED = "completed"
    FAILED = "failed"


class CompletedOutcome(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    state: Literal["completed"] = "completed"
    data: Completed


class FailedOutcome(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    state: Literal["failed"] = "failed"
    data: Failed


TerminalOutcome = Annotated[CompletedOutcome | FailedOutcome, Field(discriminator="state")]


class JobStatus(BaseModel):
    """One version of the ledger.

    ``epoch`` rises with every claim and fences out whoever held an older one. ``attempts`` counts the
    claims that began work, without those that were given back. ``published`` says that the terminal
    event has reached the results queue.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: Literal[1] = 1
    session_id: Id
    job_id: Id
    flow: Flow
    state: State
    epoch: int = Field(ge=1)
    attempts: int = Field(ge=0)
    worker: str
    accepted_at: AwareDatetime
    updated_at: AwareDatetime
    claim_expires_at: AwareDatetime | None = None
    stage: Stage | None = None
    detail: str | None = None
    outcome: TerminalOutcome | None = None
    published: bool = False
    traceparent: str | None = None

    @property
    def ref(self) -> JobRef:
        return JobRef(self.session_id, self.job_id)

    @property
    def is_terminal(self) -> bool:
        return self.outcome is not None

    def is_held(self, now: datetime) -> bool:
        """Whether a live claim holds the job at ``now``."""
        return self.state is State.RUNNING and self.claim_expires_at is not None and self.claim_expires_at > now
