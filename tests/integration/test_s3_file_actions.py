"""Streams up and down, against a real server and a real proxy that breaks connections."""

import asyncio
import base64
import zlib
from contextlib import aclosing
from uuid import uuid4

import pytest
import pytest_asyncio
from botocore.exceptions import ClientError, FlexibleChecksumError, ResponseStreamingError
from endpoints import each_of
from faulty_proxy import AddHeaders, CutBody, DropReply, Hold, s3_error

from consumers.s3_file_actions import (
    OutOfRangeError,
    get_file_range,
    get_streaming_body,
    stream_download,
    stream_upload,
)
from consumers.s3_multipart import MIN_PART_BYTES, StreamTooLongError, in_parts

# One client for all: making one takes longer than most of the tests.
pytestmark = pytest.mark.asyncio(loop_scope="module")

endpoint_url = each_of("moto", "localstack", "ministack")

TEXT = "text/plain"
PATTERN = bytes(range(256)) * 4096  # 1 MiB
UNAVAILABLE = s3_error(503, "SlowDown")


@pytest_asyncio.fixture(loop_scope="module")
async def bucket(s3):
    name = f"streams-{uuid4().hex}"
    await s3.create_bucket(Bucket=name)
    return name


async def mebibytes(count):
    for _ in range(count):
        yield PATTERN


async def read(s3, bucket, key, **options):
    async with get_streaming_body(s3, bucket, key, **options) as body, aclosing(aiter(body)) as chunks:
        return b"".join([chunk async for chunk in chunks])


async def unfinished_uploads(s3, bucket):
    return (await s3.list_multipart_uploads(Bucket=bucket)).get("Uploads", [])


async def keys(s3, bucket):
    return [entry["Key"] for entry in (await s3.list_objects_v2(Bucket=bucket)).get("Contents", [])]


async def seen(event):
    """Wait for a thread's event without holding up the loop."""
    assert await asyncio.to_thread(event.wait, 20)


# ---------------------------------------------------------------- up


async def test_a_stream_that_fits_in_one_part_is_one_put(s3, bucket, proxy):
    uploaded = await stream_upload(s3, bucket, "k", mebibytes(5), media_type=TEXT, part_bytes=MIN_PART_BYTES)

    assert uploaded.size == MIN_PART_BYTES
    assert proxy.count("PUT", "/k") == 1
    assert proxy.count("POST") == 0
    assert await read(s3, bucket, "k") == PATTERN * 5
    assert (await s3.head_object(Bucket=bucket, Key="k"))["ContentType"] == TEXT


async def test_a_longer_stream_arrives_whole_in_parts(s3, bucket):
    uploaded = await stream_upload(s3, bucket, "k", mebibytes(11), media_type=TEXT, part_bytes=MIN_PART_BYTES)

    head = await s3.head_object(Bucket=bucket, Key="k")
    assert uploaded.size == head["ContentLength"] == 11 * len(PATTERN)
    assert uploaded.etag == head["ETag"]
    assert uploaded.etag.endswith('-3"')
    assert head["ContentType"] == TEXT
    assert await read(s3, bucket, "k") == PATTERN * 11


async def test_an_empty_stream_is_an_empty_object(s3, bucket):
    uploaded = await stream_upload(s3, bucket, "k", mebibytes(0), media_type=TEXT)

    assert uploaded.size == 0
    assert await read(s3, bucket, "k") == b""


async def test_a_producer_that_fails_leaves_no_upload_behind(s3, bucket):
    async def breaking():
        async for chunk in mebibytes(12):
            yield chunk
        raise LookupError("the source broke")

    with pytest.raises(LookupError, match="the source broke"):
        await stream_upload(s3, bucket, "k", breaking(), media_type=TEXT, part_bytes=MIN_PART_BYTES)

    assert await unfinished_uploads(s3, bucket) == []
    assert await keys(s3, bucket) == []


async def test_a_cancelled_upload_leaves_nothing_behind(s3, bucket):
    stuck = asyncio.Event()

    async def never_ending():
        async for chunk in mebibytes(12):
            yield chunk
        stuck.set()
        await asyncio.Event().wait()

    upload = asyncio.create_task(
        stream_upload(s3, bucket, "k", never_ending(), media_type=TEXT, part_bytes=MIN_PART_BYTES)
    )
    await stuck.wait()
    assert len(await unfinished_uploads(s3, bucket)) == 1
    upload.cancel()
    with pytest.raises(asyncio.CancelledError):
        await upload

    assert await unfinished_uploads(s3, bucket) == []


async def test_an_upload_cancelled_while_it_begins_leaves_nothing_behind(s3, bucket, proxy):
    hold = Hold()
    proxy.on("POST", "?uploads", hold)
    upload = asyncio.create_task(
        stream_upload(s3, bucket, "k", mebibytes(12), media_type=TEXT, part_bytes=MIN_PART_BYTES)
    )
    await seen(hold.arrived)
    upload.cancel()
    await asyncio.sleep(0)
    hold.let_go.set()
    with pytest.raises(asyncio.CancelledError):
        await upload

    assert proxy.count("DELETE") == 1
    assert await unfinished_uploads(s3, bucket) == []


async def test_a_second_cancellation_does_not_stop_the_abort(s3, bucket, proxy):
    stuck, hold = asyncio.Event(), Hold(then=UNAVAILABLE)
    proxy.on("DELETE", "uploadId", hold)

    async def never_ending():
        async for chunk in mebibytes(12):
            yield chunk
        stuck.set()
        await asyncio.Event().wait()

    upload = asyncio.create_task(
        stream_upload(s3, bucket, "k", never_ending(), media_type=TEXT, part_bytes=MIN_PART_BYTES)
    )
    await stuck.wait()
    upload.cancel()
    await seen(hold.arrived)
    upload.cancel()
    await asyncio.sleep(0)
    hold.let_go.set()
    with pytest.raises(asyncio.CancelledError):
        await upload

    assert await unfinished_uploads(s3, bucket) == []


async def test_an_abort_that_is_refused_is_repeated(s3, bucket, proxy):
    proxy.on("PUT", "partNumber=2", s3_error(400, "InvalidRequest"))
    proxy.on("DELETE", "uploadId", UNAVAILABLE)
    with pytest.raises(ClientError, match="InvalidRequest"):
        await stream_upload(s3, bucket, "k", mebibytes(12), media_type=TEXT, part_bytes=MIN_PART_BYTES)

    assert proxy.count("DELETE") == 2
    assert await unfinished_uploads(s3, bucket) == []


async def test_a_lost_reply_to_the_beginning_leaves_no_second_upload(s3, bucket, proxy):
    proxy.on("POST", "?uploads", DropReply())
    await stream_upload(s3, bucket, "k", mebibytes(6), media_type=TEXT, part_bytes=MIN_PART_BYTES)

    assert proxy.count("POST", "?uploads") == 2
    assert await unfinished_uploads(s3, bucket) == []
    assert await read(s3, bucket, "k") == PATTERN * 6


async def test_a_second_upload_that_cannot_be_looked_for_is_no_success(s3, bucket, proxy):
    proxy.on("POST", "?uploads", DropReply())
    proxy.on("GET", "uploads", UNAVAILABLE, times=3)

    with pytest.raises(ClientError, match="SlowDown"):
        await stream_upload(s3, bucket, "k", mebibytes(6), media_type=TEXT, part_bytes=MIN_PART_BYTES)


@pytest.mark.parametrize("fault", [UNAVAILABLE, DropReply()], ids=["refused", "reply lost"])
async def test_a_part_that_fails_for_a_moment_is_sent_again(s3, bucket, proxy, fault):
    proxy.on("PUT", "partNumber=2", fault)
    await stream_upload(s3, bucket, "k", mebibytes(11), media_type=TEXT, part_bytes=MIN_PART_BYTES)

    assert proxy.count("PUT", "partNumber=2") == 2
    assert await read(s3, bucket, "k") == PATTERN * 11


async def test_a_part_that_keeps_failing_ends_the_upload_without_a_trace(s3, bucket, proxy):
    proxy.on("PUT", "partNumber=2", UNAVAILABLE, times=100)
    with pytest.raises(ClientError, match="SlowDown"):
        await stream_upload(s3, bucket, "k", mebibytes(12), media_type=TEXT, part_bytes=MIN_PART_BYTES)

    assert proxy.count("PUT", "partNumber=2") == 3
    assert await unfinished_uploads(s3, bucket) == []


async def test_a_lost_reply_to_the_completion_is_success(s3, bucket, proxy):
    proxy.on("POST", "uploadId", DropReply())
    proxy.on("POST", "uploadId", s3_error(404, "NoSuchUpload"))
    uploaded = await stream_upload(s3, bucket, "k", mebibytes(11), media_type=TEXT, part_bytes=MIN_PART_BYTES)

    assert uploaded.etag == (await s3.head_object(Bucket=bucket, Key="k"))["ETag"]
    assert await unfinished_uploads(s3, bucket) == []


async def test_an_upload_that_somebody_else_ended_is_no_success(s3, bucket, proxy):
    await s3.put_object(Bucket=bucket, Key="k", Body=b"older")
    proxy.on("POST", "uploadId", UNAVAILABLE)
    proxy.on("POST", "uploadId", s3_error(404, "NoSuchUpload"))
    with pytest.raises(ClientError, match="NoSuchUpload"):
        await stream_upload(s3, bucket, "k", mebibytes(6), media_type=TEXT, part_bytes=MIN_PART_BYTES)

    assert await unfinished_uploads(s3, bucket) == []
    assert await read(s3, bucket, "k") == b"older"


async def test_parts_below_the_minimum_are_refused_at_once(s3, bucket, proxy):
    with pytest.raises(ValueError, match="5,242,880 at least"):
        await stream_upload(s3, bucket, "k", mebibytes(1), media_type=TEXT, part_bytes=MIN_PART_BYTES - 1)

    assert proxy.count("PUT", "/k") == 0


async def bytes_of(count):
    yield bytes(count)


async def test_growing_parts_never_number_more_than_ten_thousand():
    sizes = [len(part) async for part in in_parts(bytes_of(55_000), 1)]

    assert len(sizes) == 10_000
    assert sizes[0] == sizes[999] == 1
    assert sizes[1000] == 2
    assert sizes[-1] == 10


async def test_a_stream_beyond_ten_thousand_parts_is_refused():
    with pytest.raises(StreamTooLongError, match="10,000 parts"):
        [part async for part in in_parts(bytes_of(55_001), 1)]


# ---------------------------------------------------------------- down


async def test_the_facts_come_before_the_bytes(s3, bucket):
    put = await s3.put_object(Bucket=bucket, Key="k", Body=b"abc")
    async with get_streaming_body(s3, bucket, "k") as body:
        assert (body.size, body.etag, body.version_id, body.crc32) == (3, put["ETag"], None, None)


async def test_chunks_have_the_asked_size_at_most(s3, bucket):
    await s3.put_object(Bucket=bucket, Key="k", Body=PATTERN)
    async with get_streaming_body(s3, bucket, "k", chunk_bytes=1000) as body, aclosing(aiter(body)) as chunks:
        sizes = [len(chunk) async for chunk in chunks]

    assert sum(sizes) == len(PATTERN)
    assert max(sizes) == 1000


@pytest.mark.parametrize("key", ["with space", "with+plus", "ünï/日本", "100%25 & ?=#'()"])
async def test_any_key_goes_there_and_back(s3, bucket, key):
    await stream_upload(s3, bucket, key, bytes_of(3), media_type=TEXT)

    assert await keys(s3, bucket) == [key]
    assert await read(s3, bucket, key) == bytes(3)


@pytest.mark.parametrize(
    "cut", [CutBody(300_000), CutBody(0), CutBody(300_000, politely=True)], ids=["reset", "nothing came", "ended early"]
)
async def test_a_body_that_breaks_is_read_on_from_where_it_broke(s3, bucket, proxy, cut):
    data = PATTERN * 3
    await s3.put_object(Bucket=bucket, Key="k", Body=data)
    proxy.on("GET", "/k", cut, times=2)

    assert await read(s3, bucket, "k") == data
    assert proxy.count("GET", "/k") == 3


async def test_a_body_that_breaks_again_and_again_raises(s3, bucket, proxy):
    await s3.put_object(Bucket=bucket, Key="k", Body=PATTERN)
    proxy.on("GET", "/k", CutBody(10, politely=True), times=1000)
    with pytest.raises(ResponseStreamingError):
        await read(s3, bucket, "k")

    assert proxy.count("GET", "/k") == 5


async def test_an_object_replaced_while_its_body_is_broken_is_not_mixed(s3, bucket, proxy):
    await s3.put_object(Bucket=bucket, Key="k", Body=PATTERN)
    proxy.on("GET", "/k", CutBody(1000, politely=True))
    async with get_streaming_body(s3, bucket, "k") as body:
        await s3.put_object(Bucket=bucket, Key="k", Body=bytes(len(PATTERN)))
        with pytest.raises(ClientError, match="PreconditionFailed"):
            async for _ in body:
                pass


async def test_a_version_is_read_on_although_it_was_replaced(s3, bucket, proxy):
    await s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    await s3.put_object(Bucket=bucket, Key="k", Body=PATTERN)
    proxy.on("GET", "/k", CutBody(1000, politely=True))
    async with get_streaming_body(s3, bucket, "k") as body, aclosing(aiter(body)) as chunks:
        await s3.put_object(Bucket=bucket, Key="k", Body=bytes(len(PATTERN)))
        data = b"".join([chunk async for chunk in chunks])

    assert data == PATTERN


async def test_an_older_version_can_be_asked_for(s3, bucket):
    await s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    first = await s3.put_object(Bucket=bucket, Key="k", Body=b"first")
    await s3.put_object(Bucket=bucket, Key="k", Body=b"second")
    async with get_streaming_body(s3, bucket, "k", version_id=first["VersionId"]) as body:
        assert body.version_id == first["VersionId"]

    assert await read(s3, bucket, "k", version_id=first["VersionId"]) == b"first"
    assert await read(s3, bucket, "k") == b"second"


def checksum(data, kind):
    crc32 = base64.b64encode(zlib.crc32(data).to_bytes(4)).decode()
    return AddHeaders({"x-amz-checksum-crc32": crc32, "x-amz-checksum-type": kind})


async def test_bytes_that_have_the_checksum_of_the_whole_object_pass(s3, bucket, proxy):
    await s3.put_object(Bucket=bucket, Key="k", Body=PATTERN)
    proxy.on("GET", "/k", checksum(PATTERN, "FULL_OBJECT"))
    async with get_streaming_body(s3, bucket, "k") as body, aclosing(aiter(body)) as chunks:
        data = b"".join([chunk async for chunk in chunks])

    assert body.crc32 == base64.b64encode(zlib.crc32(PATTERN).to_bytes(4)).decode()
    assert data == PATTERN


async def test_bytes_that_do_not_have_the_checksum_of_the_whole_object_raise(s3, bucket, proxy):
    await s3.put_object(Bucket=bucket, Key="k", Body=PATTERN)
    proxy.on("GET", "/k", checksum(b"other bytes", "FULL_OBJECT"))
    with pytest.raises(FlexibleChecksumError):
        await read(s3, bucket, "k")


async def test_a_checksum_of_the_parts_is_no_checksum_of_the_bytes(s3, bucket, proxy):
    await s3.put_object(Bucket=bucket, Key="k", Body=b"abc")
    proxy.on("GET", "/k", checksum(b"other bytes", "COMPOSITE"))
    async with get_streaming_body(s3, bucket, "k") as body, aclosing(aiter(body)) as chunks:
        data = b"".join([chunk async for chunk in chunks])

    assert body.crc32 is None
    assert data == b"abc"


async def test_a_download_appears_whole(s3, bucket, proxy, tmp_path):
    data = PATTERN * 3
    await s3.put_object(Bucket=bucket, Key="k", Body=data)
    proxy.on("GET", "/k", CutBody(1_000_000))
    size = await stream_download(s3, bucket, "k", tmp_path / "file")

    assert size == len(data)
    assert (tmp_path / "file").read_bytes() == data
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


async def test_a_download_that_fails_leaves_no_file(s3, bucket, proxy, tmp_path):
    await s3.put_object(Bucket=bucket, Key="k", Body=PATTERN)
    proxy.on("GET", "/k", CutBody(1000, politely=True))
    proxy.on("GET", "/k", s3_error(404, "NoSuchKey"))
    with pytest.raises(ClientError, match="NoSuchKey"):
        await stream_download(s3, bucket, "k", tmp_path / "file")

    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------- ranges


async def test_a_range_ends_before_its_end(s3, bucket):
    await s3.put_object(Bucket=bucket, Key="k", Body=b"0123456789")

    assert await get_file_range(s3, bucket, "k", 2, 5) == b"234"
    assert await get_file_range(s3, bucket, "k", 0, 10) == b"0123456789"
    assert await get_file_range(s3, bucket, "k", 9, 10) == b"9"


@pytest.mark.parametrize(("start", "end"), [(5, 11), (10, 11), (50, 60)])
async def test_a_range_beyond_the_end_is_an_error(s3, bucket, start, end):
    await s3.put_object(Bucket=bucket, Key="k", Body=b"0123456789")

    with pytest.raises(OutOfRangeError, match=f"k has no bytes {start} to {end}"):
        await get_file_range(s3, bucket, "k", start, end)


@pytest.mark.parametrize(("start", "end"), [(3, 3), (5, 3), (-1, 3)])
async def test_a_range_without_bytes_is_an_error(s3, bucket, start, end):
    with pytest.raises(ValueError, match="at least one byte"):
        await get_file_range(s3, bucket, "k", start, end)


async def test_a_range_that_breaks_is_read_again(s3, bucket, proxy):
    await s3.put_object(Bucket=bucket, Key="k", Body=PATTERN)
    proxy.on("GET", "/k", CutBody(1000), times=2)

    assert await get_file_range(s3, bucket, "k", 10, 500_000) == PATTERN[10:500_000]
