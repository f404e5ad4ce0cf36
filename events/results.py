"""What workers emit to the results queue: CloudEvents 1.0, structured JSON.

The ids are deterministic: the same fact published twice has the same id, and the FIFO queue (group =
session) drops the second. Source: CloudEvents 1.0.2, "JSON Event Format".
"""

import hashlib
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, TypeAdapter

from events.keys import Flow, Id, JobRef

SOURCE = "/dropchute/worker"
TYPE_PREFIX = "io.dropchute.job"


class FailureCode(StrEnum):
    """Why a job failed: stable names that a front end can translate."""

    MANIFEST_NOT_JSON = "manifest_not_json"
    MANIFEST_TOO_LARGE = "manifest_too_large"
    MANIFEST_VERSION = "manifest_version"
    MANIFEST_INVALID = "manifest_invalid"
    MANIFEST_MISMATCH = "manifest_mismatch"
    MANIFEST_GONE = "manifest_gone"
    INDEX_RULE = "index_rule"
    FOREIGN_FILE = "foreign_file"
    S3_URL_MISMATCH = "s3_url_mismatch"
    NOT_SUPPORTED = "not_supported"
    EXPIRED = "expired"
    FILE_MISSING = "file_missing"
    FILE_CHANGED = "file_changed"
    FILE_EMPTY = "file_empty"
    FILE_TOO_LARGE = "file_too_large"
    FILE_TYPE = "file_type"
    FILE_PROTECTED = "file_protected"
    FILE_UNREADABLE = "file_unreadable"
    MODEL_UNREACHABLE = "model_unreachable"
    MODEL_REJECTED = "model_rejected"
    MODEL_REFUSED = "model_refused"
    MODEL_NO_CODE = "model_no_code"
    CODE_FAILED = "code_failed"
    CODE_TIMEOUT = "code_timeout"
    CODE_MEMORY = "code_memory"
    CODE_OUTPUT = "code_output"
    RESULT_EMPTY = "result_empty"
    RESULT_TOO_LARGE = "result_too_large"
    STORAGE_UNAVAILABLE = "storage_unavailable"
    CANCELLED = "cancelled"
    INTERNAL = "internal"


class Stage(StrEnum):
    """Where a job is; in this order."""

    READ = "read"
    PREPARE = "prepare"
    ANALYSE = "analyse"
    DELIVER = "deliver"


class _Ours(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ResultFile(_Ours):
    """One delivered object; ``size`` in bytes, ``rows`` and ``columns`` for tables."""

    key: str
    name: str
    media_type: str
    size: int
    rows: int | None = None
    columns: int | None = None


class Job(_Ours):
    """Which job an event speaks of."""

    session_id: Id
    job_id: Id
    flow: Flow

    @property
    def ref(self) -> JobRef:
        return JobRef(self.session_id, self.job_id)


class Accepted(Job):
    """A worker has taken the job."""

    epoch: int


class Progress(Job):
    """The job has reached a stage; ``detail`` is one sentence for people."""

    epoch: int
    step: int
    stage: Stage
    detail: str


class Completed(Job):
    """The answer is there.

    ``notes`` tell every decision that was taken on the way (how a column was read, say), ``seconds``
    the time that each stage took.
    """

    answer: str | None = None
    files: tuple[ResultFile, ...] = ()
    notes: tuple[str, ...] = ()
    seconds: dict[Stage, float] = Field(default_factory=dict)


class Failed(Job):
    """The job will not be done; ``message`` tells the uploader what to do."""

    code: FailureCode
    message: str
    stage: Stage | None = None


class _CloudEvent(_Ours):
    specversion: Literal["1.0"] = "1.0"
    id: str
    source: str = SOURCE
    subject: str
    time: AwareDatetime
    datacontenttype: Literal["application/json"] = "application/json"
    traceparent: str | None = None

    @property
    def deduplication_id(self) -> str:
        """At most 128 characters, as SQS wants it."""
        return hashlib.sha256(self.id.encode()).hexdigest()


class AcceptedEvent(_CloudEvent):
    type: Literal["io.dropchute.job.accepted"] = "io.dropchute.job.accepted"
    data: Accepted


class ProgressEvent(_CloudEvent):
    type: Literal["io.dropchute.job.progress"] = "io.dropchute.job.progress"
    data: Progress


class CompletedEvent(_CloudEvent):
    type: Literal["io.dropchute.job.completed"] = "io.dropchute.job.completed"
    data: Completed


class FailedEvent(_CloudEvent):
    type: Literal["io.dropchute.job.failed"] = "io.dropchute.job.failed"
    data: Failed


JobEvent = Annotated[
    AcceptedEvent | ProgressEvent | CompletedEvent | FailedEvent, Field(discriminator="type")
]
_ADAPTER: TypeAdapter[AcceptedEvent | ProgressEvent | CompletedEvent | FailedEvent] = TypeAdapter(JobEvent)


def parse_event(body: str | bytes) -> JobEvent:
    """Read one body of the results queue; raises pydantic's ValidationError if it is none of ours."""
    return _ADAPTER.validate_json(body)


def event_of(
    data: Accepted | Progress | Completed | Failed, *, time: datetime, traceparent: str | None = None
) -> JobEvent:
    """Wrap what happened into its event.

    ``time`` must come from the job's own record for terminal events, so that a repeated publication is
    the same to the byte.
    """
    subject = data.ref.prefix.removesuffix("/")
    match data:
        case Accepted():
            name = f"{data.ref}/accepted/{data.epoch}"
            return AcceptedEvent(id=name, subject=subject, time=time, traceparent=traceparent, data=data)
        case Progress():
            name = f"{data.ref}/progress/{data.epoch}/{data.step}"
            return ProgressEvent(id=name, subject=subject, time=time, traceparent=traceparent, data=data)
        case Completed():
            name = f"{data.ref}/end"
            return CompletedEvent(id=name, subject=subject, time=time, traceparent=traceparent, data=data)
        case Failed():
            name = f"{data.ref}/end"
            return FailedEvent(id=name, subject=subject, time=time, traceparent=traceparent, data=data)
