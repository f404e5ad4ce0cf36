"""What the flows need from outside, as Protocols.

Errors of the technology behind a port are translated where they enter: throttling, 5xx, timeouts and
connection errors that outlast the adapter's own retries become ``Transient``.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Literal, Protocol

from events.keys import JobRef
from events.results import JobEvent, Stage

JsonObject = dict[str, Any]

# ---------------------------------------------------------------- objects


@dataclass(frozen=True, slots=True)
class StoredObject:
    """A whole small object; how old it was when it was read, on the store's own clock."""

    body: bytes
    etag: str
    last_modified: datetime
    age: timedelta


@dataclass(frozen=True, slots=True)
class ObjectSummary:
    """What a listing tells of an object; ``size`` in bytes."""

    key: str
    size: int
    etag: str
    last_modified: datetime


@dataclass(frozen=True, slots=True)
class OpenUpload:
    """A multipart upload that is neither completed nor aborted; when it began, or its latest part came."""

    key: str
    upload_id: str
    last_active: datetime


class ObjectStream(Protocol):
    """An open object: facts first, then the bytes, once, in order, in constant memory."""

    size: int
    etag: str
    last_modified: datetime
    version_id: str | None
    crc32: str | None
    """The full-object CRC32 in base64 as S3 keeps it, where it keeps one."""

    def __aiter__(self) -> AsyncIterator[bytes]: ...


class ObjectStore(Protocol):
    """One bucket. Keys are whole keys."""

    bucket: str

    async def get(self, key: str, *, max_bytes: int) -> StoredObject:
        """A whole object, cut after ``max_bytes + 1`` bytes; raises ObjectMissing."""

    def open(self, key: str, *, version_id: str | None = None) -> AbstractAsyncContextManager[ObjectStream]:
        """Stream an object; raises ObjectMissing on entry."""

    async def put(self, key: str, body: bytes, *, media_type: str) -> str:
        """Write, whatever was there. Returns the ETag."""

    async def put_new(self, key: str, body: bytes, *, media_type: str) -> str:
        """Write if nothing is there (``If-None-Match: *``); raises PreconditionFailed."""

    async def put_over(self, key: str, body: bytes, *, etag: str, media_type: str) -> str:
        """Replace exactly this version (``If-Match``); raises PreconditionFailed."""

    async def upload(self, key: str, chunks: AsyncIterator[bytes], *, media_type: str) -> int:
        """Write a stream of any length, in parts where it is long; aborted on failure. Returns its size."""

    async def abort_uploads(self, prefix: str) -> int:
        """Abort every multipart upload begun under a prefix; returns how many.

        An upload that ends meanwhile is no error.
        """

    def uploads(self, prefix: str) -> AsyncIterator[OpenUpload]:
        """Every multipart upload that is open under a prefix, in no order that every store keeps."""

    async def abort_upload(self, upload: OpenUpload) -> bool:
        """Abort it; returns whether it was still there."""

    async def link(self, key: str, *, name: str, media_type: str, seconds: int) -> str:
        """A URL that fetches an object without keys for so many seconds (604,800 at the most), saved as ``name``.

        It is made without asking whether there is such an object. It ends sooner if the keys that sign it do.
        """

    async def delete(self, keys: Sequence[str]) -> None:
        """Remove; a key that is not there is no error."""

    def list(self, prefix: str) -> AsyncIterator[ObjectSummary]:
        """Every object under a prefix."""


# ---------------------------------------------------------------- messages


@dataclass(frozen=True, slots=True)
class Message:
    """One received message. ``attributes`` are SQS's own (strings), ``queue`` the queue's name."""

    queue: str
    message_id: str
    receipt_handle: str
    body: str
    attributes: Mapping[str, str] = field(default_factory=dict)


class WorkQueue(Protocol):
    """A queue that we receive from.

    Of a message that was received again, the newest receipt counts, whichever of them a call is given.
    """

    name: str

    async def receive(self, *, max_messages: int, wait_seconds: int, visibility_seconds: int) -> Sequence[Message]:
        """Long-poll once; at most 10."""

    async def change_visibility(self, message: Message, seconds: int) -> None:
        """Hide the message for so long from now; 0 gives it back. Raises QueueMessageLost."""

    async def delete(self, message: Message) -> None:
        """Acknowledge; deleting twice is no error."""


class EventSink(Protocol):
    """Where events go: the results queue."""

    async def publish(self, event: JobEvent) -> None:
        """Returns once the queue has confirmed it."""


class DeadLetters(Protocol):
    """Where what cannot be done goes, for an operator."""

    async def send(self, body: str) -> None:
        """Returns once the queue has confirmed it."""


# ---------------------------------------------------------------- language model


@dataclass(frozen=True, slots=True)
class ChatMessage:
    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True, slots=True)
class ModelReply:
    """``model`` is the name that the endpoint itself gave; tokens are None where it does not count them."""

    text: str
    model: str
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class LanguageModel(Protocol):
    async def complete(self, messages: Sequence[ChatMessage]) -> ModelReply:
        """One reply; raises Transient or Permanent with a model_* code."""


# ---------------------------------------------------------------- spreadsheets


class Spreadsheets(Protocol):
    """Google Sheets, API v4, as one account. Bodies are those of its REST reference.

    Raises, from every call:
        SheetRefused: Sheets said no; nothing was changed.
        Transient: nothing was changed, and it may work later (quota, no connection).
    """

    account: str
    """The e-mail address that users share their sheets with."""

    async def get(self, spreadsheet_id: str, *, fields: str, ranges: Sequence[str] = ()) -> JsonObject:
        """``spreadsheets.get``: only what the field mask names, cells only within the A1 ``ranges``."""

    async def search(self, spreadsheet_id: str, *, metadata_key: str) -> JsonObject:
        """``developerMetadata.search`` for one key."""

    async def update(
        self, spreadsheet_id: str, requests: Sequence[JsonObject], *, fields: str = "spreadsheetId"
    ) -> JsonObject:
        """``spreadsheets.batchUpdate``: all of the requests or none.

        ``fields`` masks the reply; where it names ``updatedSpreadsheet``, that is included without cells.

        Raises:
            SheetUnclear: no usable reply came; it may have been applied, or may still be.
        """


@dataclass(frozen=True, slots=True)
class TakenBack:
    """What was removed from a spreadsheet: rows of data, and a sentence."""

    rows: int
    message: str


class Sheets(Protocol):
    """What the end of a job needs of its deliveries to spreadsheets."""

    async def withdraw(self, job: JobRef, spreadsheet_id: str) -> TakenBack:
        """Leave nothing of a job that did not complete: no rows, and no way for a late change to add any.

        Raises:
            Permanent: they can no longer be told for certain, or we may not.
            Transient: it may work later; asking again is safe.
        """


# ---------------------------------------------------------------- sandbox


@dataclass(frozen=True, slots=True)
class Limits:
    """What one sandbox run may use. ``output_bytes`` counts what it prints, stdout and stderr together.

    ``memory_bytes`` is what it may write to; ``address_bytes`` what it may reserve, the same unless told (V8,
    which draws charts, reserves far more than it ever touches). ``file_bytes`` is for one file that it writes,
    ``scratch_bytes`` and ``scratch_files`` for all of them together. A run is one process with threads.
    """

    wall_seconds: float = 60
    cpu_seconds: int = 60
    memory_bytes: int = 2 * 1024**3
    address_bytes: int | None = None
    file_bytes: int = 2 * 1024**3
    scratch_bytes: int = 4 * 1024**3
    scratch_files: int = 1_000
    output_bytes: int = 256 * 1024
    threads: int = 64


@dataclass(frozen=True, slots=True)
class SandboxTask:
    """One run: a function of ours, called inside.

    ``call`` is ``"package.module:function"``; it is called as ``function(arguments, folders)``, with
    ``folders.inputs`` and ``folders.output`` as paths, and returns a JSON object. ``inputs`` maps a
    plain file name to the host file that appears under it, read-only. ``output`` is the host folder
    that ``folders.output`` is. ``stream`` becomes the function's standard input.
    """

    call: str
    arguments: JsonObject
    inputs: Mapping[str, Path]
    output: Path
    limits: Limits = Limits()
    stream: AsyncIterator[bytes] | None = None


@dataclass(frozen=True, slots=True)
class SandboxReport:
    """What came back: hostile until parsed. ``printed`` is cut at the limit and free of control characters."""

    value: JsonObject
    printed: str
    seconds: float


class SandboxError(Exception):
    """The run did not return; ``printed`` is what it printed until then."""

    def __init__(self, message: str, *, printed: str = "") -> None:
        super().__init__(message)
        self.printed = printed


class SandboxTimeout(SandboxError):
    """It used up its time (wall or CPU)."""


class SandboxMemory(SandboxError):
    """It used up its memory."""


class SandboxOutput(SandboxError):
    """It printed, or wrote, more than it may."""


class SandboxCrash(SandboxError):
    """It ended without a reply."""


class GuestError(SandboxError):
    """The function inside raised; ``traceback`` speaks of the guest's own frames only."""

    def __init__(self, message: str, *, traceback: str, printed: str = "") -> None:
        super().__init__(message, printed=printed)
        self.traceback = traceback


class GuestRefusal(SandboxError):
    """The function inside refused its input, with one of our failure codes."""

    def __init__(self, code: str, message: str, *, printed: str = "") -> None:
        super().__init__(message, printed=printed)
        self.code = code
        self.message = message


class Sandbox(Protocol):
    """``tier`` names its kind; ``walls`` are those that were found standing, in words. Recorded with each job."""

    tier: str
    walls: tuple[str, ...]

    async def run(self, task: SandboxTask) -> SandboxReport:
        """Run one task in a sandbox of its own; cancelling kills it.

        Raises:
            SandboxError: the task is at fault.
            Transient: this machine is (a full disk, walls that cannot be built).
        """


# ---------------------------------------------------------------- progress


class Report(Protocol):
    """How a flow tells where its job is."""

    async def __call__(self, stage: Stage, detail: str) -> None:
        """Tell the user: a stage, and one sentence."""

    async def appending_to(self, spreadsheet_id: str) -> None:
        """Put on record, before the first write, which spreadsheet this job may change."""
