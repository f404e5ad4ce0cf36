"""The object store on S3: one bucket, its errors in our words, its conditional writes without doubt."""

from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, contextmanager
from datetime import datetime
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from consumers.aws_retry import PASSING_CODES, error_code, error_status, may_pass, retried
from consumers.errors import ObjectMissing, Permanent, PreconditionFailed, Transient
from consumers.ports import ObjectStream, ObjectSummary, OpenUpload, StoredObject
from consumers.s3_file_actions import S3Body, get_streaming_body, stream_upload
from consumers.s3_multipart import StreamTooLongError, abort_upload, abort_uploads, open_uploads
from events.results import FailureCode
from infra.aws_errors import UNAVAILABLE, UNREADY, in_our_words
from infra.content_disposition import attachment

if TYPE_CHECKING:
    from types_aiobotocore_s3 import S3Client
    from types_aiobotocore_s3.type_defs import ListObjectsV2RequestTypeDef, PutObjectRequestTypeDef

# DeleteObjects takes no more. Source: S3 API reference.
DELETE_BATCH = 1000
MISSING_CODES = frozenset({"NoSuchKey", "NoSuchVersion"})
CONFLICT_CODES = frozenset({"ConditionalRequestConflict", "OperationAborted"})


class S3ObjectStore:
    """``consumers.ports.ObjectStore`` on an aiobotocore client, which must not retry by itself.

    ETags are S3's own, in quotes; ``put_over`` takes them as they came. ``links`` signs links: a client of
    the endpoint that their users reach, where that is another one.
    """

    def __init__(self, client: "S3Client", bucket: str, *, links: "S3Client | None" = None) -> None:
        self._client = client
        self._links = links or client
        self.bucket = bucket

    async def get(self, key: str, *, max_bytes: int) -> StoredObject:
        with _about(key):
            return await self._read(key, max_bytes)

    @asynccontextmanager
    async def open(self, key: str, *, version_id: str | None = None) -> AsyncIterator[ObjectStream]:
        async with AsyncExitStack() as stack:
            with _about(key, version_id=version_id):
                body = await stack.enter_async_context(
                    get_streaming_body(self._client, self.bucket, key, version_id=version_id)
                )
            yield _Stream(key, body)

    async def put(self, key: str, body: bytes, *, media_type: str) -> str:
        with in_our_words():
            return await retried(lambda: self._put(self._write(key, media_type), body))

    async def put_new(self, key: str, body: bytes, *, media_type: str) -> str:
        return await self._put_if({**self._write(key, media_type), "IfNoneMatch": "*"}, body)

    async def put_over(self, key: str, body: bytes, *, etag: str, media_type: str) -> str:
        return await self._put_if({**self._write(key, media_type), "IfMatch": etag}, body)

    async def upload(self, key: str, chunks: AsyncIterator[bytes], *, media_type: str) -> int:
        with in_our_words():
            try:
                uploaded = await stream_upload(self._client, self.bucket, key, chunks, media_type=media_type)
            except StreamTooLongError as error:
                raise Permanent(
                    FailureCode.RESULT_TOO_LARGE, "The result is too large to be stored; please ask for less of it."
                ) from error
        return uploaded.size

    async def abort_uploads(self, prefix: str) -> int:
        with _aborting():
            return await abort_uploads(self._client, self.bucket, prefix)

    async def uploads(self, prefix: str) -> AsyncGenerator[OpenUpload, None]:
        with in_our_words():
            async with aclosing(open_uploads(self._client, self.bucket, prefix)) as found:
                async for upload in found:
                    yield upload

    async def abort_upload(self, upload: OpenUpload) -> bool:
        with _aborting():
            return await abort_upload(self._client, self.bucket, upload.key, upload.upload_id)

    async def link(self, key: str, *, name: str, media_type: str, seconds: int) -> str:
        shown = {"ResponseContentDisposition": attachment(name), "ResponseContentType": media_type}
        with in_our_words():
            return await self._links.generate_presigned_url(
                "get_object", Params={"Bucket": self.bucket, "Key": key, **shown}, ExpiresIn=seconds
            )

    async def delete(self, keys: Sequence[str]) -> None:
        if len(keys) == 1:
            # Most jobs have one upload. Neither side then writes or reads XML.
            with in_our_words():
                await retried(lambda: self._client.delete_object(Bucket=self.bucket, Key=keys[0]))
            return
        for start in range(0, len(keys), DELETE_BATCH):
            with in_our_words():
                await self._delete_batch(keys[start : start + DELETE_BATCH])

    async def list(self, prefix: str) -> AsyncGenerator[ObjectSummary, None]:
        request: ListObjectsV2RequestTypeDef = {"Bucket": self.bucket, "Prefix": prefix}
        more = True
        while more:
            with in_our_words():
                page = await retried(lambda: self._client.list_objects_v2(**request))
            for entry in page.get("Contents", []):
                yield ObjectSummary(entry["Key"], entry["Size"], entry["ETag"], entry["LastModified"])
            more = page["IsTruncated"]
            if more:
                request["ContinuationToken"] = page["NextContinuationToken"]

    def _write(self, key: str, media_type: str) -> "PutObjectRequestTypeDef":
        return {"Bucket": self.bucket, "Key": key, "ContentType": media_type}

    async def _put(self, request: "PutObjectRequestTypeDef", body: bytes) -> str:
        whole: PutObjectRequestTypeDef = {**request, "Body": body}
        reply = await self._client.put_object(**whole)
        return reply["ETag"]

    async def _put_if(self, request: "PutObjectRequestTypeDef", body: bytes) -> str:
        tries = 0

        async def write() -> str:
            nonlocal tries
            tries += 1
            try:
                return await self._put(request, body)
            except ClientError as error:
                if not _precondition_failed(error):
                    raise
                # The first try cannot have met itself.
                etag = None if tries == 1 else await self._ours(request["Key"], body)
                if etag is None:
                    raise PreconditionFailed(request["Key"]) from error
                return etag

        with in_our_words():
            return await retried(write, _write_may_pass)

    async def _ours(self, key: str, body: bytes) -> str | None:
        """The ETag of what is there, if an earlier try of this very write, whose reply got lost, put it there."""
        try:
            stored = await self._read(key, len(body))
        except ClientError as error:
            if error_code(error) in MISSING_CODES:
                return None
            raise
        return stored.etag if stored.body == body else None

    async def _read(self, key: str, max_bytes: int) -> StoredObject:
        read = bytearray()
        async with get_streaming_body(self._client, self.bucket, key) as body, aclosing(aiter(body)) as chunks:
            async for chunk in chunks:
                read += chunk
                if len(read) > max_bytes:
                    break
        return StoredObject(bytes(read[: max_bytes + 1]), body.etag, body.last_modified, body.age)

    async def _delete_batch(self, keys: Sequence[str]) -> None:
        reply = await retried(
            lambda: self._client.delete_objects(
                Bucket=self.bucket, Delete={"Objects": [{"Key": key} for key in keys], "Quiet": True}
            )
        )
        refused = {error.get("Key", ""): error.get("Code", "") for error in reply.get("Errors", [])}
        if refused:
            sentence = UNAVAILABLE if PASSING_CODES.issuperset(refused.values()) else UNREADY
            raise Transient(FailureCode.STORAGE_UNAVAILABLE, sentence) from NotDeletedError(refused)


class NotDeletedError(Exception):
    """Keys that S3 would not delete, with its reasons; the cause of a Transient, for the operator."""


class _Stream:
    """``consumers.ports.ObjectStream``: a body whose errors speak our words."""

    size: int
    etag: str
    last_modified: datetime
    version_id: str | None
    crc32: str | None

    def __init__(self, key: str, body: S3Body) -> None:
        self._key = key
        self._body = body
        self.size = body.size
        self.etag = body.etag
        self.last_modified = body.last_modified
        self.version_id = body.version_id
        self.crc32 = body.crc32

    async def __aiter__(self) -> AsyncGenerator[bytes, None]:
        with _about(self._key):
            async with aclosing(aiter(self._body)) as chunks:
                async for chunk in chunks:
                    yield chunk


@contextmanager
def _aborting() -> Iterator[None]:
    with in_our_words():
        try:
            yield
        except TimeoutError as error:
            raise Transient(FailureCode.STORAGE_UNAVAILABLE, UNAVAILABLE) from error


@contextmanager
def _about(key: str, *, version_id: str | None = None) -> Iterator[None]:
    """Turn the errors of reading an object into our words."""
    with in_our_words():
        try:
            yield
        except ClientError as error:
            if _is_missing(error, version_id):
                raise ObjectMissing(key) from error
            if error_status(error) == 412:
                raise Permanent(
                    FailureCode.FILE_CHANGED, "A file was replaced while it was read; please send the request again."
                ) from error
            raise


def _is_missing(error: ClientError, version_id: str | None) -> bool:
    if error_code(error) in MISSING_CODES:
        return True
    # A version id that is none, or one of a delete marker. Source: S3 API reference, GetObject.
    return version_id is not None and error_code(error) in {"InvalidArgument", "MethodNotAllowed"}


def _precondition_failed(error: ClientError) -> bool:
    """412; also 404, with which S3 answers If-Match where there is no object."""
    return error_status(error) == 412 or error_code(error) in MISSING_CODES


def _write_may_pass(error: BaseException) -> bool:
    """Also 409: another conditional write was under way. Source: S3 user guide, "Conditional writes"."""
    if isinstance(error, ClientError) and error_code(error) in CONFLICT_CODES:
        return True
    return may_pass(error)
