"""The manifest: the commit record of a drop, written last and never changed.

``parse_manifest`` is the only way in. It checks the whole contract, the body against the key that
it was found under included, and every breach names its code, the entry and the rule.
"""

import base64
import re
import unicodedata
from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    AliasChoices,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from events.json_object import JsonError, in_words, load_object
from events.keys import Id, ManifestKey, belongs_to_session
from events.results import FailureCode, TraceParent
from events.s3_url import keys_named
from events.text import one_line

MANIFEST_VERSION = 1
MAX_MANIFEST_BYTES = 4 * 1024 * 1024
MAX_INLINE_BYTES = 102_400
MAX_QUERY_CHARS = 20_000
MAX_FILES = 100
MAX_NAME_CHARS = 255
MAX_KEY_BYTES = 1024
MAX_INTEGER = 2**53 - 1
"""What every JSON reader can hold: RFC 8259, section 6."""


class ManifestError(ValueError):
    """The manifest breaks the contract: ``code`` says how, the text says where."""

    def __init__(self, code: FailureCode, message: str) -> None:
        self.code = code
        self.message = one_line(message)
        super().__init__(self.message)


def _printable(text: str) -> str:
    if any(unicodedata.category(character) in ("Cc", "Zl", "Zp") for character in text):
        raise PydanticCustomError("control_character", "must not hold control characters or line breaks")
    return text


def _not_blank(text: str) -> str:
    if not text.strip():
        raise PydanticCustomError("blank", "must say what to do with the files")
    return text


def _fits_s3(key: str) -> str:
    if len(key.encode()) > MAX_KEY_BYTES:
        raise PydanticCustomError("key_too_long", "must have at most 1,024 bytes of UTF-8, as S3 wants it")
    return key


_RFC3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)", re.ASCII)


def _is_rfc3339(value: Any) -> Any:
    # pydantic also reads seconds since 1970, as numbers and as text.
    if isinstance(value, datetime) or (isinstance(value, str) and _RFC3339.fullmatch(value)):
        return value
    raise PydanticCustomError("rfc3339", "must be a time with its zone, like 2026-01-31T12:00:00Z")


def _is_near(moment: datetime) -> datetime:
    # Further out, adding a duration may overflow.
    if not 1970 <= moment.year < 3000:
        raise PydanticCustomError("far_time", "must lie between the years 1970 and 2999")
    return moment


Line = Annotated[str, AfterValidator(_printable)]
DisplayName = Annotated[Line, Field(min_length=1, max_length=MAX_NAME_CHARS)]
Query = Annotated[str, StringConstraints(min_length=1, max_length=MAX_QUERY_CHARS), AfterValidator(_not_blank)]
HttpsUrl = Annotated[Line, Field(pattern=r"^https://\S+$", max_length=2048)]
Moment = Annotated[AwareDatetime, BeforeValidator(_is_rfc3339), AfterValidator(_is_near)]
# Strict: a JSON true, "3" and 3.0 are no integers here.
Index = Annotated[int, Field(strict=True, ge=0, lt=1_000_000)]


class _Ours(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class FileUploadMetadata(_Ours):
    """One file of the drop: an object in S3, or the inline part with the same ``index``.

    ``size`` is in bytes. The pins ``versionId``, ``eTag`` and ``crc32`` (base64 of the big-endian
    checksum, as S3 writes it) are verified when given.
    """

    name: DisplayName
    type: Annotated[Line, Field(max_length=255)]
    extension: Annotated[Line, Field(max_length=32)]
    size: int = Field(strict=True, ge=0, le=MAX_INTEGER)
    index: Index
    file_id: Annotated[Line, Field(max_length=255)] | None = None
    page_count: Annotated[int, Field(strict=True, gt=0, le=MAX_INTEGER)] | None = None
    s3_key: Annotated[str, Field(min_length=1, max_length=MAX_KEY_BYTES), AfterValidator(_fits_s3)] | None = Field(
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
    version_id: Annotated[Line, Field(min_length=1, max_length=1024)] | None = Field(
        default=None,
        validation_alias=AliasChoices("versionId", "version_id"),
        serialization_alias="versionId",
        description="The version to read. Accepted as `version_id` too.",
    )
    etag: Annotated[Line, Field(min_length=1, max_length=128)] | None = Field(
        default=None,
        validation_alias=AliasChoices("eTag", "etag"),
        serialization_alias="eTag",
        description="With or without its quotes. Accepted as `etag` too.",
    )
    crc32: Annotated[str, Field(pattern=r"^[A-Za-z0-9+/]{5}[AQgw]==$")] | None = None


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
    range: Annotated[Line, Field(min_length=1, max_length=64)] | None = None


class DownloadDestination(_Ours):
    """The answer as a file."""

    type: Literal["download"] = "download"
    format: Literal["xlsx", "csv", "parquet", "json"] = "xlsx"


class GoogleSheetDestination(_Ours):
    """The answer as rows of the user's own sheet."""

    type: Literal["google_sheet"]
    url: HttpsUrl
    sheet: DisplayName | None = None
    mode: Literal["append", "new_tab"] = "append"


Destination = Annotated[DownloadDestination | GoogleSheetDestination, Field(discriminator="type")]


class Manifest(_Ours):
    """What the user hands in: files, one request, one destination.

    ``destination`` is a download as xlsx unless told otherwise; a visualization delivers a chart
    whatever it says.
    """

    version: Literal[1]
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
        where = ".".join(map(_shown, first["loc"]))
        at = f" at {where}" if where else ""
        code = FailureCode.INDEX_RULE if first["type"] == FailureCode.INDEX_RULE else FailureCode.MANIFEST_INVALID
        raise ManifestError(code, f"The manifest is wrong{at}: {first['msg']}.") from error


def _shown(part: int | str) -> str:
    # An unknown field's name is the sender's own text.
    return str(part) if isinstance(part, int) or re.fullmatch(r"\w{1,40}", part) else in_words(part)


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
