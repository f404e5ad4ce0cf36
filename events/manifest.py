"""The manifest: the commit record of a drop, written last and never changed.

``parse_manifest`` is the only way in. It checks the whole contract, the body against the key that
it was found under included, and every breach names its code, the entry and the rule.
"""

import base64
import re
from datetime import timedelta
from typing import Annotated, Any, Literal, Self

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic_core import ErrorDetails, PydanticCustomError

from events.fields import (
    ON_ONE_LINE,
    Crc32,
    DisplayName,
    FileSize,
    HttpsUrl,
    Index,
    Moment,
    PageCount,
    Query,
    S3Key,
    TraceParent,
    VersionOne,
)
from events.json_object import JsonError, in_words, load_object
from events.keys import Id, ManifestKey, belongs_to_session
from events.results import FailureCode
from events.s3_url import keys_named
from events.sheet_url import SheetUrl, parse_sheet_url
from events.text import one_line

MANIFEST_VERSION = 1
MAX_MANIFEST_BYTES = 4 * 1024 * 1024
MAX_INLINE_BYTES = 102_400
MAX_FILES = 100
MAX_LIFE = timedelta(hours=24)
"""A drop and all that comes of it."""
MAX_TAB_CHARS = 100


class ManifestError(ValueError):
    """The manifest breaks the contract: ``code`` says how, the text says where."""

    def __init__(self, code: FailureCode, message: str) -> None:
        self.code = code
        self.message = one_line(message)
        super().__init__(self.message)


class _Ours(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class FileUploadMetadata(_Ours):
    """One file of the drop: an object in S3, or the inline part with the same ``index``.

    ``size`` is in bytes. The pins ``versionId``, ``eTag`` and ``crc32`` (base64 of the big-endian
    checksum, as S3 writes it) are verified when given.
    """

    name: DisplayName
    type: Annotated[str, Field(max_length=255), ON_ONE_LINE]
    extension: Annotated[str, Field(max_length=32), ON_ONE_LINE]
    size: FileSize
    index: Index
    file_id: Annotated[str, Field(max_length=255), ON_ONE_LINE] | None = None
    page_count: PageCount | None = None
    s3_key: S3Key | None = Field(
        default=None,
        validation_alias=AliasChoices("s3Key", "s3_key"),
        serialization_alias="s3Key",
        description="The object's whole key, in the manifest's bucket and session. Accepted as `s3_key` too.",
    )
    s3_url: Annotated[str, Field(min_length=1, max_length=4096)] | None = Field(
        default=None,
        validation_alias=AliasChoices("s3Url", "s3_url"),
        serialization_alias="s3Url",
        description="Compared with bucket and s3Key, never fetched. Accepted as `s3_url` too.",
    )
    version_id: Annotated[str, Field(min_length=1, max_length=1024), ON_ONE_LINE] | None = Field(
        default=None,
        validation_alias=AliasChoices("versionId", "version_id"),
        serialization_alias="versionId",
        description="The version to read. Accepted as `version_id` too.",
    )
    etag: Annotated[str, Field(min_length=1, max_length=128), ON_ONE_LINE] | None = Field(
        default=None,
        validation_alias=AliasChoices("eTag", "etag"),
        serialization_alias="eTag",
        description="With or without its quotes. Accepted as `etag` too.",
    )
    crc32: Crc32 | None = None


class InlineFile(_Ours):
    """The content (base64) of a file of at most 102,400 bytes, carried by the manifest itself."""

    index: Index
    # Too long a content breaks the index rule, which says so better than a limit of characters.
    content: str = Field(
        json_schema_extra={"contentEncoding": "base64", "maxLength": 4 * ((MAX_INLINE_BYTES + 2) // 3)}
    )

    @field_validator("content")
    @classmethod
    def _is_base64(cls, content: str) -> str:
        try:
            base64.b64decode(content, validate=True)
        except ValueError as error:
            raise PydanticCustomError("base64", "must be base64") from error
        return content

    @property
    def data(self) -> bytes:
        return base64.b64decode(self.content)


class Spreadsheet(_Ours):
    """An online sheet to read."""

    url: HttpsUrl
    sheet: DisplayName | None = None
    range: Annotated[str, Field(min_length=1, max_length=64), ON_ONE_LINE] | None = None


class DownloadDestination(_Ours):
    """The answer as a file."""

    type: Literal["download"] = "download"
    format: Literal["xlsx", "csv", "parquet", "json", "jsonl"] = "xlsx"
    bom: bool = Field(default=False, description="csv only: begin with a UTF-8 byte order mark, as Excel wants it.")
    formula_safe: bool = Field(
        default=True,
        description="csv only: an apostrophe before every text that a spreadsheet would take for a formula.",
    )

    @model_validator(mode="after")
    def _keeps_to_its_format(self) -> Self:
        if self.format != "csv" and (self.bom or not self.formula_safe):
            raise PydanticCustomError("csv_only", "bom and formula_safe are choices of csv only")
        return self


class GoogleSheetDestination(_Ours):
    """The answer as rows of the user's own sheet.

    ``append`` adds them below the tab named ``sheet``, or else the one that the link's ``gid`` names, or else
    the first; ``new_tab`` puts them on a tab of their own, titled ``sheet`` if that is given.
    """

    type: Literal["google_sheet"]
    url: HttpsUrl
    sheet: Annotated[DisplayName, Field(max_length=MAX_TAB_CHARS)] | None = None
    mode: Literal["append", "new_tab"] = "append"

    @property
    def spreadsheet(self) -> SheetUrl:
        """What the link names; only of a manifest that ``parse_manifest`` let pass."""
        named = parse_sheet_url(self.url)
        assert named is not None
        return named


Destination = Annotated[DownloadDestination | GoogleSheetDestination, Field(discriminator="type")]


class Manifest(_Ours):
    """What the user hands in: files, one request, one destination.

    The index rule: an entry of ``files`` without ``s3Key`` has exactly one part in ``inline``, with the
    same ``index`` and at most 102,400 bytes; an entry with ``s3Key`` has none; no index occurs twice. At
    least one file or spreadsheet is named. ``destination`` is a download as xlsx unless told otherwise; a
    visualization delivers a chart whatever it says.
    """

    version: VersionOne
    session_id: Id
    job_id: Id
    created_at: Moment
    expires_at: Moment | None = None
    query: Query
    files: tuple[FileUploadMetadata, ...] = Field(default=(), max_length=MAX_FILES)
    inline: tuple[InlineFile, ...] = Field(default=(), max_length=MAX_FILES)
    spreadsheets: tuple[Spreadsheet, ...] = Field(default=(), max_length=MAX_FILES)
    destination: Destination = DownloadDestination()
    traceparent: TraceParent | None = None

    @model_validator(mode="after")
    def _keeps_the_index_rule(self) -> Self:
        _check_index_rule(self.files, self.inline)
        return self

    @model_validator(mode="after")
    def _has_something_to_read(self) -> Self:
        if not self.files and not self.spreadsheets:
            raise PydanticCustomError("nothing_to_read", "must name at least one file or spreadsheet")
        return self

    def inline_part(self, index: int) -> InlineFile:
        """The inline part of an entry that has no ``s3Key``."""
        return next(part for part in self.inline if part.index == index)


def parse_manifest(body: bytes, key: ManifestKey, *, bucket: str) -> Manifest:
    """Parse and check one manifest, found in ``bucket`` under ``key``.

    Raises:
        ManifestError: with the code of the first breach.
    """
    if len(body) > MAX_MANIFEST_BYTES:
        raise ManifestError(
            FailureCode.MANIFEST_TOO_LARGE,
            f"The manifest has {len(body):,} bytes; {MAX_MANIFEST_BYTES:,} are allowed. "
            "Upload the files to S3 instead of sending them inline.",
        )
    manifest = _validate(_load(body))
    if (manifest.session_id, manifest.job_id) != (key.job.session_id, key.job.job_id):
        raise ManifestError(
            FailureCode.MANIFEST_MISMATCH,
            f"The manifest says session {manifest.session_id}, job {manifest.job_id}, "
            f"but its key says session {key.job.session_id}, job {key.job.job_id}.",
        )
    for entry in manifest.files:
        _check_location(entry, manifest.session_id, bucket)
    if isinstance(manifest.destination, GoogleSheetDestination):
        _check_sheet_url(manifest.destination.url)
    return manifest


def _load(body: bytes) -> dict[str, Any]:
    try:
        payload = load_object(body)
    except JsonError as error:
        raise ManifestError(FailureCode.MANIFEST_NOT_JSON, f"The manifest cannot be read: {error}.") from error
    if "version" not in payload:
        raise ManifestError(
            FailureCode.MANIFEST_VERSION, f"The manifest has no version; this service reads version {MANIFEST_VERSION}."
        )
    version = payload["version"]
    if type(version) is not int or version != MANIFEST_VERSION:
        raise ManifestError(
            FailureCode.MANIFEST_VERSION,
            f"The manifest's version is {in_words(version)}; this service reads version {MANIFEST_VERSION}.",
        )
    return payload


def _validate(payload: dict[str, Any]) -> Manifest:
    try:
        return Manifest.model_validate(payload)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        code = FailureCode.INDEX_RULE if first["type"] == FailureCode.INDEX_RULE else FailureCode.MANIFEST_INVALID
        raise ManifestError(code, f"The manifest is wrong{_place(first)}: {_rule(first)}.") from error


def _place(error: ErrorDetails) -> str:
    # An unknown field's name is the sender's own text.
    parts = [part if re.fullmatch(r"[A-Za-z0-9_]{1,40}", part) else in_words(part) for part in map(str, error["loc"])]
    return f" at {'.'.join(parts)}" if parts else ""


# pydantic speaks of Python.
_RULES = {
    "missing": "it is missing",
    "extra_forbidden": f"there is no such field in version {MANIFEST_VERSION}",
    "tuple_type": "it must be an array",
    "model_type": "it must be an object",
    "model_attributes_type": "it must be an object",
    "string_unicode": "it must not hold half of a surrogate pair",
    "invalid_key": "a field's name must not hold half of a surrogate pair",
}


def _rule(error: ErrorDetails) -> str:
    return _RULES.get(error["type"], error["msg"])


def _check_index_rule(files: tuple[FileUploadMetadata, ...], inline: tuple[InlineFile, ...]) -> None:
    """An entry without ``s3Key`` is the inline part of the same index; with one, it has none."""
    entries: dict[int, FileUploadMetadata] = {}
    for entry in files:
        if entry.index in entries:
            raise _index_breach(entry, f"index {entry.index} is used twice")
        entries[entry.index] = entry
    parts: dict[int, InlineFile] = {}
    for part in inline:
        if part.index in parts:
            raise PydanticCustomError(FailureCode.INDEX_RULE.value, f"two inline parts have index {part.index}")
        if part.index not in entries:
            raise PydanticCustomError(
                FailureCode.INDEX_RULE.value, f"the inline part with index {part.index} has no entry in files"
            )
        parts[part.index] = part
    for entry in files:
        _check_entry(entry, parts.get(entry.index))


def _check_entry(entry: FileUploadMetadata, part: InlineFile | None) -> None:
    if entry.s3_key is not None:
        if part is not None:
            raise _index_breach(entry, "it has an s3Key and an inline part; only one is allowed")
        return
    if part is None:
        if entry.size > MAX_INLINE_BYTES:
            raise _index_breach(
                entry,
                f"it has {entry.size:,} bytes and no s3Key; over {MAX_INLINE_BYTES:,} a file must be in S3",
            )
        raise _index_breach(entry, "it has neither an s3Key nor an inline part with the same index")
    size = len(part.data)
    if size > MAX_INLINE_BYTES:
        raise _index_breach(entry, f"its inline part has {size:,} bytes; {MAX_INLINE_BYTES:,} are allowed")
    if size != entry.size:
        raise _index_breach(entry, f"it says {entry.size:,} bytes, but its inline part has {size:,}")


def _index_breach(entry: FileUploadMetadata, rule: str) -> PydanticCustomError:
    # No context is passed: with one, pydantic would look for its names in the display name's own braces.
    return PydanticCustomError(FailureCode.INDEX_RULE.value, f"file {entry.index} ({entry.name}): {rule}")


def _check_sheet_url(url: str) -> None:
    if parse_sheet_url(url) is None:
        raise ManifestError(
            FailureCode.SHEET_URL,
            "The link does not lead to a Google Sheet. Open the sheet in a browser and copy its address, "
            "which begins with https://docs.google.com/spreadsheets/d/.",
        )


def _check_location(entry: FileUploadMetadata, session_id: str, bucket: str) -> None:
    if entry.s3_key is not None and not belongs_to_session(entry.s3_key, session_id):
        raise ManifestError(
            FailureCode.FOREIGN_FILE,
            f"File {entry.index} ({entry.name}) is not in this session's own space.",
        )
    if entry.s3_url is None:
        return
    keys = keys_named(entry.s3_url, bucket)
    if not keys:
        raise ManifestError(
            FailureCode.FOREIGN_FILE, f"The s3Url of file {entry.index} ({entry.name}) names another bucket."
        )
    if entry.s3_key not in keys:
        raise ManifestError(
            FailureCode.S3_URL_MISMATCH,
            f"The s3Url of file {entry.index} ({entry.name}) does not name the object of its s3Key.",
        )
