"""Bytes to and from S3 in constant memory: streams up, streams down, and ranges.

Every function takes an aiobotocore S3 client and raises botocore's own errors. Calls that fail only
for the moment are tried again here, so the client needs no retries of its own.
"""

import asyncio
import base64
import zlib
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO
from uuid import uuid4

import aiohttp
from botocore.exceptions import ClientError, FlexibleChecksumError, IncompleteReadError, ResponseStreamingError

from consumers.aws_retry import error_code, retried, wait_seconds
from consumers.s3_multipart import MIB, MIN_PART_BYTES, in_parts, multipart_upload

if TYPE_CHECKING:
    from types_aiobotocore_s3 import S3Client
    from types_aiobotocore_s3.type_defs import GetObjectOutputTypeDef, GetObjectRequestTypeDef

PART_BYTES = 8 * MIB
CHUNK_BYTES = MIB
# How often one download may break and go on from where it was.
MAX_RESUMES = 4


class OutOfRangeError(ValueError):
    """A range that the object does not have."""


@dataclass(frozen=True, slots=True)
class UploadedObject:
    """What is in S3 now; ``size`` in bytes."""

    size: int
    etag: str


# ---------------------------------------------------------------- up


async def stream_upload(
    client: "S3Client",
    bucket: str,
    key: str,
    chunks: AsyncIterator[bytes],
    *,
    media_type: str,
    part_bytes: int = PART_BYTES,
) -> UploadedObject:
    """Write a stream of unknown length; holds about five parts in memory.

    One PutObject if it fits in one part of ``part_bytes`` (5 MiB at least), else a multipart upload, which
    is aborted on any failure and on cancellation. Raises StreamTooLongError past 10,000 (growing) parts.
    """
    if part_bytes < MIN_PART_BYTES:
        raise ValueError(f"part_bytes is {part_bytes:,}; S3 wants {MIN_PART_BYTES:,} at least")
    async with aclosing(in_parts(chunks, part_bytes)) as parts:
        first = await anext(parts, b"")
        second = await anext(parts, None)
        if second is None:
            return await _put(client, bucket, key, first, media_type)
        async with multipart_upload(client, bucket, key, media_type=media_type) as upload:
            size = await upload.send(_after(first, second, rest=parts))
            return UploadedObject(size, await upload.complete())


async def _put(client: "S3Client", bucket: str, key: str, body: bytes, media_type: str) -> UploadedObject:
    reply = await retried(lambda: client.put_object(Bucket=bucket, Key=key, Body=BytesIO(body), ContentType=media_type))
    return UploadedObject(len(body), reply["ETag"])


async def _after(*parts: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    for part in parts:
        yield part
    async for part in rest:
        yield part


# ---------------------------------------------------------------- down


def _date_of(reply: "GetObjectOutputTypeDef") -> datetime:
    """What time it is on the server: RFC 9110, section 6.6.1. A server without a clock need not say."""
    date = reply["ResponseMetadata"]["HTTPHeaders"].get("date")
    return parsedate_to_datetime(date) if date else datetime.now(UTC)


class S3Body:
    """An open object: facts first, then the bytes, once, in order. ETags as S3 writes them, in quotes.

    A connection that breaks is taken up again at the same byte of the same version. What cannot be
    (the object was replaced: 412; deleted: 404; too many breaks) raises; so do bytes that do not have
    the CRC32 that S3 keeps for the whole object.
    """

    size: int
    etag: str
    last_modified: datetime
    age: timedelta
    """From when it was written to when it was asked for, on S3's clock; to the second."""
    version_id: str | None
    crc32: str | None

    def __init__(
        self,
        client: "S3Client",
        request: "GetObjectRequestTypeDef",
        reply: "GetObjectOutputTypeDef",
        chunk_bytes: int,
    ) -> None:
        self._client = client
        self._request = request
        self._body: Any = reply["Body"]
        self._chunk_bytes = chunk_bytes
        self.size = reply["ContentLength"]
        self.etag = reply["ETag"]
        self.last_modified = reply["LastModified"]
        self.age = _date_of(reply) - self.last_modified
        self.version_id = reply.get("VersionId")
        # A composite checksum is one of the parts' checksums, not of the bytes.
        self.crc32 = reply.get("ChecksumCRC32") if reply.get("ChecksumType") == "FULL_OBJECT" else None

    async def __aiter__(self) -> AsyncGenerator[bytes, None]:
        position, crc, resumes = 0, 0, 0
        while position < self.size:
            try:
                chunk = await self._read()
            except ResponseStreamingError:
                if resumes == MAX_RESUMES:
                    raise
                await asyncio.sleep(wait_seconds(resumes))
                resumes += 1
                await self._resume(position)
                continue
            position += len(chunk)
            if self.crc32 is not None:
                crc = zlib.crc32(chunk, crc)
            yield chunk
        if self.crc32 is not None and base64.b64decode(self.crc32) != crc.to_bytes(4):
            raise FlexibleChecksumError(error_msg=f"the bytes of {self._request['Key']} do not have CRC32 {self.crc32}")

    def close(self) -> None:
        """Give up what has not been read."""
        self._body.close()

    async def _read(self) -> bytes:
        try:
            chunk: bytes = await self._body.read(self._chunk_bytes)
        except (aiohttp.ClientError, OSError, IncompleteReadError) as error:
            # The SDK lets the transport's errors through as they are.
            raise ResponseStreamingError(error=error) from error
        if not chunk:
            raise ResponseStreamingError(error="the body ended early")
        return chunk

    async def _resume(self, position: int) -> None:
        self.close()
        request: GetObjectRequestTypeDef = {**self._request, "Range": f"bytes={position}-", "IfMatch": self.etag}
        if self.version_id is not None:
            request["VersionId"] = self.version_id
        reply = await retried(lambda: self._client.get_object(**request))
        self._body = reply["Body"]
        if reply["ETag"] != self.etag or reply["ContentLength"] != self.size - position:
            raise ResponseStreamingError(error="the server does not continue where the body broke")


@asynccontextmanager
async def get_streaming_body(
    client: "S3Client", bucket: str, key: str, *, version_id: str | None = None, chunk_bytes: int = CHUNK_BYTES
) -> AsyncIterator[S3Body]:
    """Open an object (or exactly one version of it) for streaming; chunks have ``chunk_bytes`` at most."""
    request: GetObjectRequestTypeDef = {"Bucket": bucket, "Key": key}
    if version_id is not None:
        request["VersionId"] = version_id
    first: GetObjectRequestTypeDef = {**request, "ChecksumMode": "ENABLED"}
    reply = await retried(lambda: client.get_object(**first))
    body = S3Body(client, request, reply, chunk_bytes)
    try:
        yield body
    finally:
        body.close()


async def stream_download(
    client: "S3Client", bucket: str, key: str, path: Path, *, version_id: str | None = None
) -> int:
    """Save an object under ``path``, which appears whole or not at all. Returns its size in bytes."""
    async with get_streaming_body(client, bucket, key, version_id=version_id) as body:
        with _appearing_whole(path) as file:
            async with aclosing(aiter(body)) as chunks:
                async for chunk in chunks:
                    await asyncio.to_thread(file.write, chunk)
    return body.size


@contextmanager
def _appearing_whole(path: Path) -> Iterator[BinaryIO]:
    unfinished = path.with_name(f".{uuid4().hex}.part")
    try:
        with unfinished.open("xb") as file:
            yield file
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


async def get_file_range(client: "S3Client", bucket: str, key: str, start: int, end: int) -> bytes:
    """The bytes from ``start`` up to, but without, ``end`` (as in ``data[start:end]``).

    Raises OutOfRangeError if the object has fewer than ``end`` bytes, ValueError for an empty range.
    """
    if not 0 <= start < end:
        raise ValueError(f"no range of at least one byte: {start} to {end}")
    return await retried(lambda: _read_range(client, bucket, key, start, end))


async def _read_range(client: "S3Client", bucket: str, key: str, start: int, end: int) -> bytes:
    too_far = f"{key} has no bytes {start} to {end}"
    try:
        reply = await client.get_object(Bucket=bucket, Key=key, Range=f"bytes={start}-{end - 1}")
    except ClientError as error:
        if error_code(error) == "InvalidRange":
            raise OutOfRangeError(too_far) from error
        raise
    async with reply["Body"] as body:
        if reply["ContentLength"] != end - start:
            raise OutOfRangeError(too_far)
        try:
            return await body.read()
        except (aiohttp.ClientError, OSError) as error:
            raise ResponseStreamingError(error=error) from error
