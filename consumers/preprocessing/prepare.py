"""Any file of a drop into tables: streamed from S3, verified on the way, read inside the sandbox."""

import asyncio
import base64
import zlib
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing
from dataclasses import dataclass, replace
from pathlib import Path

import structlog
from pydantic import ValidationError

from consumers.errors import ObjectMissing, Permanent
from consumers.ports import (
    GuestRefusal,
    Limits,
    ObjectStore,
    Sandbox,
    SandboxError,
    SandboxMemory,
    SandboxReport,
    SandboxTask,
    SandboxTimeout,
)
from consumers.preprocessing.guest.kinds import needs_staging
from consumers.preprocessing.profile import FileReport, TableProfile
from consumers.sandbox.outputs import UnsafeOutput, output_path
from events.manifest import FileUploadMetadata, Manifest
from events.results import FailureCode

READER = "consumers.preprocessing.guest.read:read_upload"
STAGED_NAME = "upload"
MAX_TABLES = 200
# A whole file at 1 MB/s, on top of what the smallest one takes.
_SECONDS_PER_BYTE = 1e-6
_FILES_AT_ONCE = 2
_READER_CODES = frozenset(
    {
        FailureCode.FILE_EMPTY,
        FailureCode.FILE_TYPE,
        FailureCode.FILE_PROTECTED,
        FailureCode.FILE_UNREADABLE,
        FailureCode.FILE_TOO_LARGE,
    }
)

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class FileLimits:
    """In bytes, of one file and of all files of a drop."""

    file_bytes: int
    drop_bytes: int


@dataclass(frozen=True, slots=True)
class PreparedTable:
    """One table: the name that the user and the model know it by, its Parquet file, and its profile."""

    name: str
    path: Path
    profile: TableProfile


@dataclass(frozen=True, slots=True)
class Prepared:
    """All tables of a drop, in the order of its files, and what the readers had to decide."""

    tables: tuple[PreparedTable, ...]
    notes: tuple[str, ...]


class Preprocessor:
    """Reads drops into tables."""

    def __init__(self, store: ObjectStore, sandbox: Sandbox, *, limits: FileLimits, run_limits: Limits) -> None:
        self._store = store
        self._sandbox = sandbox
        self._limits = limits
        self._run_limits = run_limits

    async def prepare(self, manifest: Manifest, *, scratch: Path) -> Prepared:
        """Read every file of the manifest; the tables are written below ``scratch``.

        Raises:
            Permanent: with a ``file_*`` code and a sentence that names the file.
        """
        _check_sizes(manifest, self._limits)
        reading = _Reading(manifest, self._store, self._sandbox, scratch, self._run_limits)
        some = asyncio.Semaphore(_FILES_AT_ONCE)

        async def read(entry: FileUploadMetadata) -> tuple[FileReport, Path]:
            async with some:
                return await reading.read(entry)

        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(read(entry), name=f"read {entry.index}") for entry in manifest.files]
        except BaseExceptionGroup as errors:
            # One file's reason is reason enough; the others were cancelled for it.
            raise errors.exceptions[0] from None
        return _named(manifest.files, [task.result() for task in tasks])


def _check_sizes(manifest: Manifest, limits: FileLimits) -> None:
    for entry in manifest.files:
        if entry.size == 0:
            raise Permanent(FailureCode.FILE_EMPTY, f"{entry.name} is empty. Choose the right file and try again.")
        if entry.size > limits.file_bytes:
            raise Permanent(
                FailureCode.FILE_TOO_LARGE,
                f"{entry.name} has {entry.size:,} bytes; {limits.file_bytes:,} are allowed. Split it, or send less.",
            )
    total = sum(entry.size for entry in manifest.files)
    if total > limits.drop_bytes:
        raise Permanent(
            FailureCode.FILE_TOO_LARGE,
            f"The files have {total:,} bytes together; {limits.drop_bytes:,} are allowed. Send fewer at once.",
        )


@dataclass(frozen=True, slots=True)
class _Reading:
    manifest: Manifest
    store: ObjectStore
    sandbox: Sandbox
    scratch: Path
    limits: Limits

    async def read(self, entry: FileUploadMetadata) -> tuple[FileReport, Path]:
        output = self.scratch / f"read-{entry.index}"
        output.mkdir()
        # Whoever reads it may stop half-way; its connection must not stay open until somebody tidies up.
        async with aclosing(self._verified(entry)) as content:
            if not needs_staging(entry.extension, entry.type):
                report = await self._run(entry, output, stream=content)
            else:
                report = await self._run_staged(entry, output, content)
        try:
            return FileReport.model_validate(report.value), output
        except ValidationError as error:
            log.warning("prepare.bad_report", file=entry.index, reason=str(error)[:500])
            raise _unreadable(entry) from error

    async def _run_staged(
        self, entry: FileUploadMetadata, output: Path, content: AsyncIterator[bytes]
    ) -> SandboxReport:
        staged = self.scratch / f"upload-{entry.index}"
        try:
            await _write(content, staged)
            return await self._run(entry, output, staged=staged)
        finally:
            staged.unlink(missing_ok=True)

    async def _run(
        self,
        entry: FileUploadMetadata,
        output: Path,
        *,
        stream: AsyncIterator[bytes] | None = None,
        staged: Path | None = None,
    ) -> SandboxReport:
        task = SandboxTask(
            call=READER,
            arguments={
                "name": entry.name,
                "extension": entry.extension,
                "media_type": entry.type,
                "staged": None if staged is None else STAGED_NAME,
            },
            inputs={} if staged is None else {STAGED_NAME: staged},
            output=output,
            limits=_for_size(self.limits, entry.size),
            stream=stream,
        )
        try:
            return await self.sandbox.run(task)
        except GuestRefusal as refusal:
            if refusal.code not in _READER_CODES:
                raise _unreadable(entry) from refusal
            raise Permanent(FailureCode(refusal.code), refusal.message[:500]) from refusal
        except SandboxTimeout as error:
            raise Permanent(
                FailureCode.FILE_TOO_LARGE, f"{entry.name} takes too long to read. Split it, or save it as CSV."
            ) from error
        except SandboxMemory as error:
            raise Permanent(
                FailureCode.FILE_TOO_LARGE, f"{entry.name} needs too much memory. Split it, or save it as CSV."
            ) from error
        except SandboxError as error:
            log.warning("prepare.reader_failed", file=entry.index, reason=str(error), printed=error.printed[-2000:])
            raise _unreadable(entry) from error

    async def _verified(self, entry: FileUploadMetadata) -> AsyncGenerator[bytes, None]:
        """The file's bytes; raises file_changed where they are not the ones that the manifest speaks of."""
        size, crc = 0, 0
        async with aclosing(self._content(entry)) as chunks:
            async for chunk in chunks:
                size += len(chunk)
                crc = zlib.crc32(chunk, crc)
                yield chunk
        if size != entry.size:
            raise _changed(entry, f"it has {size:,} bytes, not {entry.size:,}")
        if entry.crc32 is not None and base64.b64decode(entry.crc32) != crc.to_bytes(4, "big"):
            raise _changed(entry, "its CRC32 differs")

    async def _content(self, entry: FileUploadMetadata) -> AsyncGenerator[bytes, None]:
        if entry.s3_key is None:
            yield self.manifest.inline_part(entry.index).data
            return
        try:
            async with self.store.open(entry.s3_key, version_id=entry.version_id) as opened:
                if opened.size != entry.size:
                    raise _changed(entry, f"it has {opened.size:,} bytes, not {entry.size:,}")
                if entry.etag is not None and opened.etag.strip('"') != entry.etag.strip('"'):
                    raise _changed(entry, "its ETag differs")
                async for chunk in opened:
                    yield chunk
        except ObjectMissing as error:
            raise Permanent(
                FailureCode.FILE_MISSING, f"{entry.name} has not arrived, or is gone already. Upload it again."
            ) from error


async def _write(chunks: AsyncIterator[bytes], path: Path) -> None:
    with path.open("xb") as file:
        async for chunk in chunks:
            await asyncio.to_thread(file.write, chunk)


def _for_size(limits: Limits, size: int) -> Limits:
    more = size * _SECONDS_PER_BYTE
    return replace(limits, wall_seconds=limits.wall_seconds + more, cpu_seconds=round(limits.cpu_seconds + more))


def _named(files: tuple[FileUploadMetadata, ...], read: list[tuple[FileReport, Path]]) -> Prepared:
    tables: dict[str, PreparedTable] = {}
    notes: list[str] = []
    for entry, (report, folder) in zip(files, read, strict=True):
        notes += (f"{entry.name}: {note}" for note in report.notes)
        for profile in report.tables:
            name = entry.name if profile.sheet is None else f"{entry.name}/{profile.sheet}"
            name = next(free for free in _names(name) if free not in tables)
            if len(tables) == MAX_TABLES:
                raise Permanent(
                    FailureCode.FILE_TOO_LARGE,
                    f"The files hold more than {MAX_TABLES} tables (sheets count). Send fewer at once.",
                )
            try:
                tables[name] = PreparedTable(name, output_path(folder, profile.file), profile)
            except UnsafeOutput as error:
                raise _unreadable(entry) from error
            notes += (f"{name}: {note}" for note in profile.notes)
    return Prepared(tuple(tables.values()), tuple(notes))


def _names(name: str) -> Iterator[str]:
    yield name
    number = 2
    while True:
        yield f"{name} ({number})"
        number += 1


def _changed(entry: FileUploadMetadata, how: str) -> Permanent:
    return Permanent(FailureCode.FILE_CHANGED, f"{entry.name} is not what was handed in: {how}. Upload it again.")


def _unreadable(entry: FileUploadMetadata) -> Permanent:
    return Permanent(
        FailureCode.FILE_UNREADABLE, f"{entry.name} could not be read. Save it again, or save it as CSV, and retry."
    )
