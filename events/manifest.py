"""The manifest: the commit record of a drop, written last and never changed.

``parse_manifest`` is the only way in. It checks the whole contract, the body against the key that
it was found under included, and every breach names its code, the entry and the rule.
"""

import base64
import binascii
import json
import re
import unicodedata
from typing import Annotated, Any, Literal, Self
from urllib.parse import unquote, urlsplit

from pydantic import (
    AfterValidator,
    AliasChoices,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    PositiveInt,
    StringConstraints,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from events.keys import Id, ManifestKey, belongs_to_session
from events.results import FailureCode

MANIFEST_VERSION = 1
MAX_MANIFEST_BYTES = 4 * 1024 * 1024
MAX_INLINE_BYTES = 102_400
MAX_QUERY_CHARS = 20_000
MAX_FILES = 100
MAX_NAME_CHARS = 255


class ManifestError(ValueError):
    """The manifest breaks the contract: ``code`` says how, the text says where."""

    def __init__(self, code: FailureCode, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def _no_control_characters(text: str) -> str:
    if any(unicodedata.category(character) == "Cc" for character in text):
        raise PydanticCustomError("control_character", "must not hold control characters")
    return text


def _not_blank(text: str) -> str:
    if not text.strip():
        raise PydanticCustomError("blank", "must say what to do with the files")
    return text


DisplayName = Annotated[
    str, StringConstraints(min_length=1, max_length=MAX_NAME_CHARS), AfterValidator(_no_control_characters)
]
Query = Annotated[
    str, StringConstraints(min_length=1, max_length=MAX_QUERY_CHARS), AfterValidator(_not_blank)
]
HttpsUrl = Annotated[str, StringConstraints(pattern=r"^https://\S+$", max_length=2048)]
TraceParent = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$")]


class _Ours(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class FileUploadMetadata(_Ours):
    """One file of the drop: an object in S3, or the inline part with the same ``index``.

    ``size`` is in bytes. The pins ``versionId``, ``eTag`` and ``crc32`` (base64 of the big-endian
    checksum, as S3 writes it) are verified when given.
    """

    name: DisplayName
    type: Annotated[str, StringConstraints(max_length=255)]
    extension: Annotated[str, StringConstraints(max_length=32)]
    size: int = Field(ge=0)
    index: int = Field(ge=0, lt=1_000_000)
    file_id: Annotated[str, StringConstraints(max_length=255)] | None = None
    page_count: PositiveInt | None = None
    s3_key: Annotated[str, StringConstraints(min_length=1, max_length=1024)] | None = Field(
        default=None, validation_alias=AliasChoices("s3Key", "s3_key"), serialization_alias="s3Key"
    )
    s3_url: Annotated[str, StringConstraints(min_length=1, max_length=4096)] | None = Field(
        default=None, validation_alias=AliasChoices("s3Url", "s3_url"), serialization_alias="s3Url"
    )
    version_id: Annotated[str, StringConstraints(max_length=1024)] | None = Field(
        default=None, validation_alias=AliasChoices("versionId", "version_id"), serialization_alias="versionId"
    )
    etag: Annotated[str, StringConstraints(max_length=128)] | None = Field(
        default=None, validation_alias=AliasChoices("eTag", "etag"), serialization_alias="eTag"
    )
    crc32: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9+/]{6}==$")] | None = None


class InlineFile(_Ours):
    """The content (base64) of a file of at most 102,400 bytes, carried by the manifest itself."""

    index: int = Field(ge=0, lt=1_000_000)
    content: Annotated[str, StringConstraints(max_length=4 * ((MAX_INLINE_BYTES + 2) // 3))]

    @field_validator("content")
    @classmethod
    def _is_base64(cls, content: str) -> str:
        try:
            base64.b64decode(content, validate=True)
        except (binascii.Error, ValueError) as error:
            raise PydanticCustomError("base64", "must be base64") from error
        return content

    @property
    def data(self) -> bytes:
        return base64.b64decode(self.content)


class Spreadsheet(_Ours):
    """An online sheet to read."""

    url: HttpsUrl
    sheet: DisplayName | None = None
    range: Annotated[str, StringConstraints(min_length=1, max_length=64)] | None = None


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
    created_at: AwareDatetime
    expires_at: AwareDatetime | None = None
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
        payload = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise ManifestError(FailureCode.MANIFEST_NOT_JSON, f"The manifest is not JSON: {error}.") from error
    if not isinstance(payload, dict):
        raise ManifestError(
            FailureCode.MANIFEST_NOT_JSON, f"The manifest is a JSON {type(payload).__name__}, not an object."
        )
    version = payload.get("version")
    if isinstance(version, bool) or version != MANIFEST_VERSION:
        raise ManifestError(
            FailureCode.MANIFEST_VERSION,
            f"The manifest has version {json.dumps(version)[:40]}; this service reads version {MANIFEST_VERSION}.",
        )
    return payload


def _validate(payload: dict[str, Any]) -> Manifest:
    try:
        return Manifest.model_validate(payload)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the manifest"
        code = (
            FailureCode.INDEX_RULE if first["type"] == FailureCode.INDEX_RULE else FailureCode.MANIFEST_INVALID
        )
        raise ManifestError(code, f"The manifest is wrong at {where}: {first['msg']}.") from error


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
            raise PydanticCustomError(
                FailureCode.INDEX_RULE.value, f"two inline parts have index {part.index}"
            )
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
    # PydanticCustomError formats its template: a display name with braces must not be read as one.
    return PydanticCustomError(
        FailureCode.INDEX_RULE.value,
        "file {index} ({name}): {rule}",
        {"index": entry.index, "name": entry.name, "rule": rule},
    )


def _check_location(entry: FileUploadMetadata, session_id: str, bucket: str) -> None:
    if entry.s3_key is not None and not _is_own_key(entry.s3_key, session_id):
        raise ManifestError(
            FailureCode.FOREIGN_FILE,
            f"File {entry.index} ({entry.name}) is not in this session's own space.",
        )
    if entry.s3_url is None:
        return
    url_bucket, url_key = _split_s3_url(entry.s3_url, bucket)
    if url_bucket != bucket:
        raise ManifestError(
            FailureCode.FOREIGN_FILE, f"The s3Url of file {entry.index} ({entry.name}) names another bucket."
        )
    if url_key != entry.s3_key:
        raise ManifestError(
            FailureCode.S3_URL_MISMATCH,
            f"The s3Url of file {entry.index} ({entry.name}) does not name the object of its s3Key.",
        )


_DOT_SEGMENT = re.compile(r"(^|/)\.{0,2}(/|$)")


def _is_own_key(key: str, session_id: str) -> bool:
    # Some endpoints and proxies fold "..", "." and "//" in paths; such a key could leave the session there.
    plain = _DOT_SEGMENT.search(key) is None and not any(unicodedata.category(c) == "Cc" for c in key)
    return plain and belongs_to_session(key, session_id)


def _split_s3_url(url: str, bucket: str) -> tuple[str, str]:
    """Bucket and key of ``s3://``, virtual-hosted and path-style URLs; the query (a signature) is ignored."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError:
        return "", ""
    path = unquote(parts.path).removeprefix("/")
    if parts.scheme == "s3":
        return parts.netloc, path
    if parts.scheme not in ("http", "https"):
        return "", ""
    if host.startswith(f"{bucket}."):
        return bucket, path
    if host.endswith(".amazonaws.com") and not host.startswith(("s3.", "s3-")):
        return host.split(".s3", 1)[0], path
    url_bucket, _, key = path.partition("/")
    return url_bucket, key
