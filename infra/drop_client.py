"""The drop client: what a front end does. Files first, the manifest last, then the job, followed to its end."""

import asyncio
import base64
import mimetypes
import re
import secrets
import string
import time
import zlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import BinaryIO

from pydantic import ValidationError

from consumers.errors import JobError, ObjectMissing, Permanent
from consumers.ports import ObjectStore
from consumers.worker.ledger import utc_now
from events.fields import MAX_NAME_CHARS
from events.keys import ROOT, Flow, JobRef, ManifestKey, parse_job_key
from events.manifest import (
    MAX_INLINE_BYTES,
    MAX_LIFE,
    Destination,
    DownloadDestination,
    FileUploadMetadata,
    InlineFile,
    Manifest,
    parse_manifest,
)
from events.results import Completed, FailureCode, ResultFile
from events.status import JobStatus, Undo
from events.text import one_line
from infra.clients import Clients
from infra.s3_store import S3ObjectStore
from infra.settings import Settings

CHUNK_BYTES = 1024 * 1024
MAX_STATUS_BYTES = 1024 * 1024
ID_CHARS = 16
FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 1.0
# A platform's own list knows these under other names, or not at all.
MEDIA_TYPES = {
    ".csv": "text/csv",
    ".tsv": "text/tab-separated-values",
    ".xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
}
_PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,100}", re.ASCII)


class DropError(Exception):
    """What was handed back is not what it should be; the text says what."""


def new_id() -> str:
    """A session's or a job's id that nobody can guess: 95 random bits."""
    return "".join(secrets.choice(string.ascii_letters + string.digits) for _ in range(ID_CHARS))


@asynccontextmanager
async def drop_client(settings: Settings) -> "AsyncIterator[DropClient]":
    """A client of the bucket that the settings name."""
    async with Clients(settings) as clients:
        yield DropClient(S3ObjectStore(clients.s3, settings.bucket))


@dataclass(frozen=True, slots=True)
class Request:
    """What to do with the files."""

    query: str
    flow: Flow = Flow.QUERY
    destination: Destination = field(default_factory=DownloadDestination)


class DropClient:
    """Hands drops in and takes answers out of one bucket. The store's own errors (JobError) are the caller's.

    What is older than a day is refused, although S3's lifecycle takes up to two to remove it: Permanent, ``expired``.
    """

    def __init__(self, store: ObjectStore, *, now: Callable[[], datetime] = utc_now) -> None:
        self._store = store
        self._now = now

    async def drop(
        self,
        paths: Sequence[Path],
        request: Request,
        *,
        session_id: str | None = None,
        inline_bytes: int = 0,
        on_bytes: Callable[[int], None] = lambda read: None,
    ) -> JobRef:
        """Upload the files, then commit them with the manifest, which starts the job.

        Files of up to ``inline_bytes`` (102,400 at the most) travel inside the manifest. ``on_bytes`` is told of
        every piece that was read. What was uploaded is removed again if this does not come to its end.

        Raises:
            ManifestError: before anything is sent, if the contract does not allow this drop.
            OSError: a file cannot be read.
        """
        job = JobRef(session_id or new_id(), new_id())
        travel = _Travel(self._store, job, request, min(inline_bytes, MAX_INLINE_BYTES), on_bytes)
        planned = [travel.planned(index, path) for index, path in enumerate(paths)]
        travel.check(planned)
        try:
            sent = [await travel.send(entry, path) for entry, path in zip(planned, paths, strict=True)]
            body = travel.manifest([entry for entry, _ in sent], [part for _, part in sent if part is not None])
            await self._store.put_new(job.manifest_key(request.flow), body, media_type="application/json")
        except BaseException:
            with suppress(JobError):
                await asyncio.shield(self._store.delete([entry.s3_key for entry in planned if entry.s3_key]))
            raise
        return job

    async def status(self, job: JobRef) -> JobStatus | None:
        """The job's status, or None if no worker has taken it yet (or there is no such job)."""
        status = await self._status(job)
        if status is None:
            self._refuse_after_a_day(await self._changed_at(job))
        return status

    async def _status(self, job: JobRef) -> JobStatus | None:
        try:
            stored = await self._store.get(job.status_key, max_bytes=MAX_STATUS_BYTES)
        except ObjectMissing:
            return None
        self._refuse_after_a_day(stored.last_modified)
        try:
            return JobStatus.model_validate_json(stored.body)
        except ValidationError as error:
            raise DropError(f"The status of {job} cannot be read: it is of another version.") from error

    async def follow(self, job: JobRef) -> AsyncIterator[JobStatus]:
        """Every version of the status that is seen, the terminal one last. Asks less and less often."""
        began, changed_at = time.monotonic(), await self._changed_at(job)
        seen: JobStatus | None = None
        while seen is None or not seen.is_terminal:
            status = await self._status(job)
            if status is None and seen is None:
                self._refuse_after_a_day(changed_at)
            if status is None and seen is not None:
                raise DropError(f"The job {job} is gone: its session was closed.")
            if status is not None and status != seen:
                seen = status
                yield status
                continue
            elapsed = time.monotonic() - began
            await asyncio.sleep(min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS + elapsed / 30))

    async def undo(self, job: JobRef) -> None:
        """Ask that the rows that a job added to a sheet are removed; ``follow_undo`` tells how that goes.

        Raises:
            DropError: no worker has taken the job yet.
        """
        if await self.status(job) is None:
            raise DropError(_not_ended(job))
        await self._store.put(job.undo_key, b"{}", media_type="application/json")

    async def follow_undo(self, job: JobRef) -> Undo:
        """How the undo went that was asked for last: waits until its control object was worked off.

        Raises:
            DropError: the job has not ended yet, or its session was closed.
        """
        pause = FIRST_PAUSE_SECONDS
        while await self._has(job.undo_key):
            await asyncio.sleep(pause)
            pause = min(LONGEST_PAUSE_SECONDS, pause * 1.3)
        status = await self._status(job)
        if status is None:
            raise DropError(f"The job {job} is gone: its session was closed.")
        if status.undo is None:
            raise DropError(_not_ended(job))
        return status.undo

    async def _has(self, key: str) -> bool:
        return any([listed.key == key async for listed in self._store.list(key)])

    async def save(self, completed: Completed, folder: Path) -> list[Path]:
        """Save the results into ``folder``, made if need be; a file that is there stays, ours gets a number.

        Without results, no folder is made.

        Raises:
            DropError: a result lies outside its job.
        """
        if completed.files:
            await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
        return [await self._save(file, completed.ref, number, folder) for number, file in enumerate(completed.files)]

    async def find(self, job_id: str) -> list[JobRef]:
        """The jobs of this id, in whatever session: all keys of the bucket are looked through."""
        found = set()
        async for listed in self._store.list(ROOT):
            parsed = parse_job_key(listed.key)
            if parsed is not None and parsed[0].job_id == job_id:
                found.add(parsed[0])
        return sorted(found)

    async def exists(self, job: JobRef) -> bool:
        async for _ in self._store.list(job.prefix):
            return True
        return False

    async def _changed_at(self, job: JobRef) -> datetime:
        """When anything of the job was last written; now, if there is nothing of it."""
        return max([found.last_modified async for found in self._store.list(job.prefix)], default=self._now())

    def _refuse_after_a_day(self, written_at: datetime) -> None:
        if self._now() - written_at >= MAX_LIFE:
            raise Permanent(FailureCode.EXPIRED, "This request has expired. Drop the files again to have it answered.")

    async def _save(self, file: ResultFile, job: JobRef, number: int, folder: Path) -> Path:
        if not file.key.startswith(job.results_prefix) or parse_job_key(file.key) is None:
            raise DropError(f"A result of {job} lies outside its job; it was not fetched.")
        name = file.name if _PLAIN_NAME.fullmatch(file.name) else f"result-{number + 1}"
        try:
            async with self._store.open(file.key) as stream:
                self._refuse_after_a_day(stream.last_modified)
                target, opened = _new_file(folder, name)
                try:
                    with opened:
                        async for chunk in stream:
                            await asyncio.to_thread(opened.write, chunk)
                except BaseException:
                    target.unlink(missing_ok=True)
                    raise
        except ObjectMissing as error:
            raise DropError(f"{name} is no longer there: results are kept for a day.") from error
        return target


@dataclass(frozen=True, slots=True)
class _Travel:
    """One drop on its way."""

    store: ObjectStore
    job: JobRef
    request: Request
    inline_bytes: int
    on_bytes: Callable[[int], None]

    def planned(self, index: int, path: Path) -> FileUploadMetadata:
        size = path.stat().st_size
        extension = path.suffix.lower()
        media_type = MEDIA_TYPES.get(extension) or mimetypes.guess_type(path.name)[0] or "application/octet-stream"
        return FileUploadMetadata(
            name=one_line(path.name)[:MAX_NAME_CHARS],
            type=media_type,
            extension=one_line(extension.removeprefix("."))[:32],
            size=size,
            index=index,
            s3_key=None if size <= self.inline_bytes else self.job.file_key(index),
        )

    def check(self, planned: Sequence[FileUploadMetadata]) -> None:
        """Raises ManifestError for what could be refused once everything is uploaded."""
        self.manifest([entry.model_copy(update={"s3_key": self.job.file_key(entry.index)}) for entry in planned], [])

    async def send(self, entry: FileUploadMetadata, path: Path) -> tuple[FileUploadMetadata, InlineFile | None]:
        """The entry as it was really sent, with its checksum; and its inline part, if it is one."""
        with path.open("rb") as file:
            source = _Source(file, self.on_bytes)
            if entry.s3_key is None:
                content = b"".join([chunk async for chunk in source.chunks()])
                part = InlineFile(index=entry.index, content=base64.b64encode(content).decode())
            else:
                part = None
                async with aclosing(source.chunks()) as chunks:
                    await self.store.upload(entry.s3_key, chunks, media_type=entry.type)
        crc32 = base64.b64encode(source.crc32.to_bytes(4, "big")).decode()
        return entry.model_copy(update={"size": source.size, "crc32": crc32}), part

    def manifest(self, entries: Sequence[FileUploadMetadata], parts: Sequence[InlineFile]) -> bytes:
        """The manifest's bytes, read back by the rules that the worker will read them by; raises ManifestError."""
        manifest = Manifest.model_construct(
            version=1,
            session_id=self.job.session_id,
            job_id=self.job.job_id,
            created_at=datetime.now(UTC),
            query=self.request.query,
            files=tuple(entries),
            inline=tuple(parts),
            destination=self.request.destination,
        )
        body = manifest.model_dump_json(by_alias=True, exclude_none=True).encode()
        parse_manifest(body, ManifestKey(self.job, self.request.flow), bucket=self.store.bucket)
        return body


class _Source:
    """A file's bytes, and what is known of them once they were read."""

    def __init__(self, file: BinaryIO, on_bytes: Callable[[int], None]) -> None:
        self._file = file
        self._on_bytes = on_bytes
        self.size = 0
        self.crc32 = 0

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        while chunk := await asyncio.to_thread(self._file.read, CHUNK_BYTES):
            self.size += len(chunk)
            self.crc32 = zlib.crc32(chunk, self.crc32)
            self._on_bytes(len(chunk))
            yield chunk


def _not_ended(job: JobRef) -> str:
    return f"The job {job} has not ended yet: there is nothing to undo so far."


def _new_file(folder: Path, name: str) -> tuple[Path, BinaryIO]:
    plain = Path(name)
    for number in count(2):
        path = folder / name
        try:
            return path, path.open("xb")
        except FileExistsError:
            name = f"{plain.stem}-{number}{plain.suffix}"
    raise AssertionError  # count() has no end
