"""What workers emit to the results queue: CloudEvents 1.0, structured JSON.

The ids are deterministic: the same fact published twice has the same id, and the FIFO queue (group =
session) drops the second. Source: CloudEvents 1.0.2, "JSON Event Format".
"""

import hashlib
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from events.fields import Count, Epoch, Moment, Prose, Seconds, TraceParent
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
    MANIFEST_CHANGED = "manifest_changed"
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
    SHEET_URL = "sheet_url"
    SHEET_NOT_FOUND = "sheet_not_found"
    SHEET_NOT_SHARED = "sheet_not_shared"
    SHEET_READ_ONLY = "sheet_read_only"
    SHEET_NOT_A_SHEET = "sheet_not_a_sheet"
    SHEET_TAB_MISSING = "sheet_tab_missing"
    SHEET_NO_HEADER = "sheet_no_header"
    SHEET_PROTECTED = "sheet_protected"
    SHEET_FULL = "sheet_full"
    SHEET_CHANGED = "sheet_changed"
    SHEETS_UNAVAILABLE = "sheets_unavailable"
    SHEETS_NOT_SET_UP = "sheets_not_set_up"
    NOTHING_TO_UNDO = "nothing_to_undo"
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
    """One delivered object; ``size`` in bytes, ``rows`` and ``columns`` for tables.

    ``url`` is there in the completed event only: it fetches the object under its ``name``, without keys,
    until ``url_expires_at``.
    """

    key: str = Field(min_length=1)
    name: Prose
    media_type: str = Field(min_length=1)
    size: Count
    rows: Count | None = None
    columns: Count | None = None
    url: str | None = None
    url_expires_at: Moment | None = None


class SheetRows(_Ours):
    """What was added to the user's Google Sheet, and where it stood right then.

    ``first_row`` counts from 1, as the sheet does, and is the first row of data, not the header's.
    """

    spreadsheet_id: str = Field(min_length=1)
    url: str = Field(min_length=1)
    tab: Prose
    tab_id: Count
    new_tab: bool
    first_row: Annotated[int, Field(ge=1)]
    rows: Count
    columns: Count
    added_columns: tuple[Prose, ...] = ()


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

    epoch: Epoch


class Progress(Job):
    """The job has reached a stage; ``detail`` is one sentence for people."""

    epoch: Epoch
    step: Count
    stage: Stage
    detail: Prose


class Completed(Job):
    """The answer is there.

    ``notes`` tell every decision that was taken on the way (how a column was read, say), ``seconds``
    the time that each stage took.
    """

    answer: Prose | None = None
    files: tuple[ResultFile, ...] = ()
    sheet: SheetRows | None = None
    notes: tuple[Prose, ...] = ()
    seconds: dict[Stage, Seconds] = Field(default_factory=dict)


class Failed(Job):
    """The job will not be done; ``message`` tells the uploader what to do."""

    code: FailureCode
    message: Prose
    stage: Stage | None = None


class Undone(Job):
    """What the job had added to a sheet is gone from it; ``request`` counts the undos asked of this job."""

    request: Count
    rows: Count
    message: Prose


class UndoRefused(Job):
    """The sheet is as it was; ``message`` tells why, and shows the rows in doubt."""

    request: Count
    code: FailureCode
    message: Prose


class _CloudEvent(_Ours):
    specversion: Literal["1.0"] = "1.0"
    id: str = Field(min_length=1)
    source: str = Field(default=SOURCE, min_length=1)
    subject: str = Field(min_length=1)
    time: Moment
    datacontenttype: Literal["application/json"] = "application/json"
    traceparent: TraceParent | None = None

    @property
    def deduplication_id(self) -> str:
        """At most 128 characters, as SQS wants it."""
        return hashlib.sha256(self.id.encode()).hexdigest()


class AcceptedEvent(_CloudEvent):
    """A worker has taken the job."""

    type: Literal["io.dropchute.job.accepted"] = "io.dropchute.job.accepted"
    data: Accepted


class ProgressEvent(_CloudEvent):
    """The job has reached a stage."""

    type: Literal["io.dropchute.job.progress"] = "io.dropchute.job.progress"
    data: Progress


class CompletedEvent(_CloudEvent):
    """The answer is there."""

    type: Literal["io.dropchute.job.completed"] = "io.dropchute.job.completed"
    data: Completed


class FailedEvent(_CloudEvent):
    """The job will not be done."""

    type: Literal["io.dropchute.job.failed"] = "io.dropchute.job.failed"
    data: Failed


class UndoneEvent(_CloudEvent):
    """What the job had added to a sheet is gone from it."""

    type: Literal["io.dropchute.job.undone"] = "io.dropchute.job.undone"
    data: Undone


class UndoRefusedEvent(_CloudEvent):
    """The sheet is as it was."""

    type: Literal["io.dropchute.job.undo_refused"] = "io.dropchute.job.undo_refused"
    data: UndoRefused


JobEvent = Annotated[
    AcceptedEvent | ProgressEvent | CompletedEvent | FailedEvent | UndoneEvent | UndoRefusedEvent,
    Field(
        discriminator="type", title="JobEvent", description="What the results queue carries: CloudEvents 1.0 in JSON."
    ),
]
Happened = Accepted | Progress | Completed | Failed | Undone | UndoRefused
_ADAPTER: TypeAdapter[JobEvent] = TypeAdapter(JobEvent)


def parse_event(body: str | bytes) -> JobEvent:
    """Read one body of the results queue; raises pydantic's ValidationError if it is none of ours."""
    return _ADAPTER.validate_json(body)


def event_of(data: Happened, *, time: datetime, traceparent: str | None = None) -> JobEvent:
    """Wrap what happened into its event.

    ``time`` must come from the job's own record for terminal events: then a repeated publication has nothing
    new but its links.
    """
    envelope: dict[str, Any] = {
        "id": f"{data.ref}/{_fact(data)}",
        "subject": data.ref.prefix.removesuffix("/"),
        "time": time,
        "traceparent": traceparent,
    }
    match data:
        case Accepted():
            return AcceptedEvent(**envelope, data=data)
        case Progress():
            return ProgressEvent(**envelope, data=data)
        case Completed():
            return CompletedEvent(**envelope, data=data)
        case Failed():
            return FailedEvent(**envelope, data=data)
        case Undone():
            return UndoneEvent(**envelope, data=data)
        case UndoRefused():
            return UndoRefusedEvent(**envelope, data=data)


def _fact(data: Happened) -> str:
    """What tells one event of a job from another; a job ends once, however."""
    match data:
        case Accepted():
            return f"accepted/{data.epoch}"
        case Progress():
            return f"progress/{data.epoch}/{data.step}"
        case Undone():
            return f"undo/{data.request}"
        case UndoRefused():
            return f"undo/{data.request}/{data.code}"
        case _:
            return "end"
