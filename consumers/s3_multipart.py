"""The multipart upload: parts in flight, each tried again, completed once or aborted without a trace.

Its limits are S3's: 10,000 parts, each but the last of at least 5 MiB.
Source: S3 user guide, "Amazon S3 multipart upload limits".
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from datetime import datetime
from io import BytesIO
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from consumers.aws_retry import error_code, retried, retrying, wait_seconds
from consumers.ports import OpenUpload

if TYPE_CHECKING:
    from types_aiobotocore_s3 import S3Client
    from types_aiobotocore_s3.type_defs import (
        CompletedPartTypeDef,
        ListMultipartUploadsRequestTypeDef,
        ListPartsRequestTypeDef,
        MultipartUploadTypeDef,
    )

MIB = 1024**2
MIN_PART_BYTES = 5 * MIB
MAX_PARTS = 10_000
PARTS_IN_FLIGHT = 3
ABORT_ROUNDS = 5


class StreamTooLongError(Exception):
    """The stream does not fit into 10,000 parts."""


def part_size(number: int, part_bytes: int) -> int:
    """Bytes of the part with this number (from 1): one ``part_bytes`` more after every thousand parts.

    So 8 MiB reach 430 GiB in 10,000 parts, and the first 7.8 GiB never hold more than 8 MiB per part.
    """
    return part_bytes * (1 + (number - 1) // 1000)


async def in_parts(chunks: AsyncIterator[bytes], part_bytes: int) -> AsyncGenerator[bytes, None]:
    """The same bytes, cut into parts; raises StreamTooLongError."""
    number, room = 1, part_bytes
    pending: list[memoryview] = []
    async for chunk in chunks:
        rest = memoryview(chunk)
        while rest:
            if number > MAX_PARTS:
                raise StreamTooLongError(f"more than {MAX_PARTS:,} parts from {part_bytes:,} bytes up")
            pending.append(rest[:room])
            room -= len(pending[-1])
            rest = rest[len(pending[-1]) :]
            if room == 0:
                yield b"".join(pending)
                pending.clear()
                number += 1
                room = part_size(number, part_bytes)
    if pending:
        yield b"".join(pending)


class MultipartUpload:
    """One upload that has begun."""

    def __init__(self, client: "S3Client", bucket: str, key: str, upload_id: str) -> None:
        self._client = client
        self._bucket = bucket
        self._key = key
        self._upload_id = upload_id
        self._etags: dict[int, str] = {}
        self._size = 0

    async def send(self, parts: AsyncIterator[bytes]) -> int:
        """Upload parts, a few at once; raises the first error. Returns the bytes sent."""
        slots = asyncio.Semaphore(PARTS_IN_FLIGHT)
        number = 0
        try:
            async with asyncio.TaskGroup() as group:
                async for part in parts:
                    number += 1
                    await slots.acquire()
                    task = group.create_task(self._send_part(number, part), name=f"part-{number}")
                    task.add_done_callback(lambda _: slots.release())
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from errors
        return self._size

    async def complete(self) -> str:
        """Turn the parts into the object; returns its ETag."""
        parts: list[CompletedPartTypeDef] = [
            {"PartNumber": number, "ETag": etag} for number, etag in sorted(self._etags.items())
        ]
        async for attempt in retrying():
            with attempt:
                try:
                    reply = await self._client.complete_multipart_upload(
                        Bucket=self._bucket, Key=self._key, UploadId=self._upload_id, MultipartUpload={"Parts": parts}
                    )
                except ClientError as error:
                    # An earlier try, whose reply got lost, has completed it.
                    if attempt.retry_state.attempt_number > 1 and error_code(error) == "NoSuchUpload":
                        return await self._completed_etag(error)
                    raise
                return reply["ETag"]
        raise AssertionError  # the loop above returns or raises

    async def _send_part(self, number: int, part: bytes) -> None:
        reply = await retried(
            lambda: self._client.upload_part(
                Bucket=self._bucket, Key=self._key, UploadId=self._upload_id, PartNumber=number, Body=BytesIO(part)
            )
        )
        self._etags[number] = reply["ETag"]
        self._size += len(part)

    async def _completed_etag(self, error: ClientError) -> str:
        head = await retried(lambda: self._client.head_object(Bucket=self._bucket, Key=self._key))
        # S3 ends a multipart ETag with the number of its parts.
        if head["ContentLength"] != self._size or not head["ETag"].strip('"').endswith(f"-{len(self._etags)}"):
            raise error
        return head["ETag"]


@asynccontextmanager
async def multipart_upload(
    client: "S3Client", bucket: str, key: str, *, media_type: str
) -> AsyncIterator[MultipartUpload]:
    """Begin an upload. Any failure inside, cancellation included, aborts it before it goes on.

    A key has one writer at a time: where it is unknown whether the upload has begun, every upload of
    this very key is aborted.
    """
    # A task of its own: an upload whose beginning is cancelled half-way would stay for ever.
    beginning = asyncio.create_task(_begin(client, bucket, key, media_type), name="begin-upload")
    try:
        upload_id = await asyncio.shield(beginning)
        yield MultipartUpload(client, bucket, key, upload_id)
    except BaseException as error:
        try:
            await _despite_cancellation(_abort_begun(client, bucket, key, beginning))
        except (ClientError, BotoCoreError, TimeoutError) as problem:
            error.add_note(f"The upload could not be aborted and waits for the bucket's lifecycle: {problem}")
        raise


async def abort_uploads(client: "S3Client", bucket: str, prefix: str) -> int:
    """Abort every upload begun under a prefix, whoever began it; returns how many.

    An upload that ends meanwhile is no error and does not count. Raises TimeoutError where one outlasts its aborts.
    """
    begun = await _uploads_under(client, bucket, prefix)
    return sum([await abort_upload(client, bucket, upload["Key"], upload["UploadId"]) for upload in begun])


async def open_uploads(client: "S3Client", bucket: str, prefix: str) -> AsyncGenerator[OpenUpload, None]:
    """Every upload that is open under a prefix; one that ends meanwhile is left out."""
    for begun in await _uploads_under(client, bucket, prefix):
        last_active = await _last_active(client, bucket, begun)
        if last_active is not None:
            yield OpenUpload(begun["Key"], begun["UploadId"], last_active)


async def _last_active(client: "S3Client", bucket: str, begun: "MultipartUploadTypeDef") -> datetime | None:
    request: ListPartsRequestTypeDef = {"Bucket": bucket, "Key": begun["Key"], "UploadId": begun["UploadId"]}
    latest = begun["Initiated"]
    while True:
        try:
            page = await retried(lambda: client.list_parts(**request))
        except ClientError as error:
            if error_code(error) == "NoSuchUpload":
                return None
            raise
        latest = max([latest, *(part["LastModified"] for part in page.get("Parts", []))])
        if not page["IsTruncated"]:
            return latest
        request["PartNumberMarker"] = page["NextPartNumberMarker"]


async def _begin(client: "S3Client", bucket: str, key: str, media_type: str) -> str:
    upload_id, attempts = "", 0
    try:
        async for attempt in retrying():
            with attempt:
                attempts += 1
                reply = await client.create_multipart_upload(Bucket=bucket, Key=key, ContentType=media_type)
                upload_id = reply["UploadId"]
    finally:
        if attempts > 1:
            # The tries whose replies got lost may have begun uploads too.
            await _abort_others(client, bucket, key, upload_id)
    return upload_id


async def _abort_others(client: "S3Client", bucket: str, key: str, upload_id: str) -> None:
    for begun in await _uploads_under(client, bucket, key):
        if begun["Key"] == key and begun["UploadId"] != upload_id:
            await abort_upload(client, bucket, key, begun["UploadId"])


async def _uploads_under(client: "S3Client", bucket: str, prefix: str) -> "list[MultipartUploadTypeDef]":
    # All of them before the first is aborted: LocalStack refuses a marker whose upload is gone. And keys as
    # they are: asked for EncodingType=url, neither moto nor LocalStack encodes them, and botocore decodes none.
    request: ListMultipartUploadsRequestTypeDef = {"Bucket": bucket, "Prefix": prefix}
    uploads: list[MultipartUploadTypeDef] = []
    while True:
        page = await retried(lambda: client.list_multipart_uploads(**request))
        uploads += page.get("Uploads", [])
        if not page["IsTruncated"]:
            return uploads
        request["KeyMarker"] = page["NextKeyMarker"]
        request["UploadIdMarker"] = page["NextUploadIdMarker"]


async def _abort_begun(client: "S3Client", bucket: str, key: str, beginning: asyncio.Task[str]) -> None:
    await asyncio.wait((beginning,))
    if beginning.exception() is None:
        await abort_upload(client, bucket, key, beginning.result())


async def abort_upload(client: "S3Client", bucket: str, key: str, upload_id: str) -> bool:
    """Abort until it is gone: a part that was still arriving survives the first abort (S3's AbortMultipartUpload).

    Returns whether there was anything to abort.
    """
    aborted = False
    for round_ in range(ABORT_ROUNDS):
        if round_:
            await asyncio.sleep(wait_seconds(round_ - 1))
        try:
            await retried(lambda: client.abort_multipart_upload(Bucket=bucket, Key=key, UploadId=upload_id))
            aborted = True
            await retried(lambda: client.list_parts(Bucket=bucket, Key=key, UploadId=upload_id, MaxParts=1))
        except ClientError as error:
            if error_code(error) == "NoSuchUpload":
                return aborted
            raise
    raise TimeoutError(f"S3 still lists it after {ABORT_ROUNDS} aborts")


async def _despite_cancellation(work: Coroutine[Any, Any, None]) -> None:
    """Run to the end; a cancellation that comes meanwhile is delivered afterwards."""
    task = asyncio.create_task(work, name="abort-upload")
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait((task,))
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        task.exception()
        raise cancelled
    task.result()
