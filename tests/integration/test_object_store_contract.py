"""What every object store keeps to: the port's promises, conditional writes above all."""

import asyncio
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
import pytest_asyncio
from endpoints import each_of
from faulty_proxy import Answer, CutBody, DropReply, Hold, s3_error

from consumers.errors import ObjectMissing, Permanent, PreconditionFailed, Transient
from consumers.ports import OpenUpload
from events.results import FailureCode
from infra.s3_store import S3ObjectStore

# One client for all: making one takes longer than most of the tests.
pytestmark = pytest.mark.asyncio(loop_scope="module")

endpoint_url = each_of("moto", "localstack", "ministack")

JSON = "application/json"
PATTERN = bytes(range(256)) * 4096
UNAVAILABLE = s3_error(503, "SlowDown")
CONFLICT = s3_error(409, "ConditionalRequestConflict")


@pytest_asyncio.fixture(loop_scope="module")
async def store(s3):
    bucket = f"store-{uuid4().hex}"
    await s3.create_bucket(Bucket=bucket)
    return S3ObjectStore(s3, bucket)


async def body_of(store, key):
    return (await store.get(key, max_bytes=1000)).body


async def keys(store, prefix=""):
    return [summary.key async for summary in store.list(prefix)]


# ---------------------------------------------------------------- reading


async def test_what_was_put_can_be_read(store):
    etag = await store.put("k", b"body", media_type=JSON)
    stored = await store.get("k", max_bytes=4)

    assert stored.body == b"body"
    assert stored.etag == etag
    assert abs(datetime.now(UTC) - stored.last_modified) < timedelta(minutes=1)


async def test_a_body_that_is_too_long_is_cut_one_byte_later(store):
    await store.put("k", PATTERN, media_type=JSON)

    assert (await store.get("k", max_bytes=1000)).body == PATTERN[:1001]


async def test_a_missing_object_is_missing(store):
    with pytest.raises(ObjectMissing) as got:
        await store.get("k", max_bytes=1)
    with pytest.raises(ObjectMissing) as opened:
        async with store.open("k"):
            pass

    assert got.value.key == opened.value.key == "k"


async def test_an_object_is_streamed_with_its_facts(store):
    etag = await store.put("k", PATTERN, media_type=JSON)
    async with store.open("k") as stream:
        data = b"".join([chunk async for chunk in stream])

    assert (stream.size, stream.etag, stream.version_id, stream.crc32) == (len(PATTERN), etag, None, None)
    assert stream.last_modified == (await store.get("k", max_bytes=1)).last_modified
    assert data == PATTERN


async def test_a_version_can_be_opened_and_an_unknown_one_is_missing(store, s3):
    await s3.put_bucket_versioning(Bucket=store.bucket, VersioningConfiguration={"Status": "Enabled"})
    first = await s3.put_object(Bucket=store.bucket, Key="k", Body=b"first")
    second = await s3.put_object(Bucket=store.bucket, Key="k", Body=b"second")
    await s3.delete_object(Bucket=store.bucket, Key="k", VersionId=second["VersionId"])
    await store.put("k", b"third", media_type=JSON)
    async with store.open("k", version_id=first["VersionId"]) as stream:
        data = b"".join([chunk async for chunk in stream])

    assert data == b"first"
    with pytest.raises(ObjectMissing):
        async with store.open("k", version_id=second["VersionId"]):
            pass


async def test_a_version_id_that_is_none_is_missing(store, proxy):
    proxy.on("GET", "versionId=nonsense", s3_error(400, "InvalidArgument"))  # as AWS answers

    with pytest.raises(ObjectMissing):
        async with store.open("k", version_id="nonsense"):
            pass


async def test_a_file_replaced_while_it_is_read_has_changed(store, proxy):
    await store.put("k", PATTERN, media_type=JSON)
    proxy.on("GET", "/k", CutBody(1000, politely=True))
    async with store.open("k") as stream:
        await store.put("k", bytes(len(PATTERN)), media_type=JSON)
        with pytest.raises(Permanent) as error:
            async for _ in stream:
                pass

    assert error.value.code is FailureCode.FILE_CHANGED


async def test_a_stream_that_cannot_go_on_is_transient(store, proxy):
    await store.put("k", PATTERN, media_type=JSON)
    proxy.on("GET", "/k", CutBody(1000, politely=True))
    proxy.on("GET", "/k", UNAVAILABLE, times=3)
    async with store.open("k") as stream:
        with pytest.raises(Transient) as error:
            async for _ in stream:
                pass

    assert error.value.code is FailureCode.STORAGE_UNAVAILABLE


async def test_an_upload_tells_its_size(store):
    async def chunks():
        for _ in range(3):
            yield PATTERN

    assert await store.upload("k", chunks(), media_type=JSON) == 3 * len(PATTERN)
    assert (await store.get("k", max_bytes=10)).body == PATTERN[:11]


# ---------------------------------------------------------------- uploads left behind


@pytest.fixture
def begin(store, s3):
    """Begins an upload and sends a part, as a worker does that is killed then; tells the upload's id."""

    async def begin(key):
        upload = await s3.create_multipart_upload(Bucket=store.bucket, Key=key)
        await s3.upload_part(Bucket=store.bucket, Key=key, UploadId=upload["UploadId"], PartNumber=1, Body=b"part")
        return upload["UploadId"]

    return begin


@pytest.fixture
def begun(store, s3):
    """Tells the keys of all uploads that were begun and not ended."""

    async def begun():
        reply = await s3.list_multipart_uploads(Bucket=store.bucket)
        return sorted(upload["Key"] for upload in reply.get("Uploads", []))

    return begun


async def test_an_upload_that_fails_leaves_nothing(store, begun):
    async def chunks():
        for _ in range(20):
            yield PATTERN
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await store.upload("k", chunks(), media_type=JSON)

    assert await begun() == []
    assert await keys(store) == []


async def test_uploads_under_the_prefix_are_aborted_and_no_others(store, begin, begun):
    for key in ("a b+c/ü日%25/1", "a b+c/ü日%25/1", "a b+c/ü日%25/2/x y&<z>", "a b+c/ü日%2", "z/a b+c/ü日%25/1"):
        await begin(key)
    aborted = await store.abort_uploads("a b+c/ü日%25/")

    assert aborted == 3
    assert await begun() == ["a b+c/ü日%2", "z/a b+c/ü日%25/1"]


async def test_aborting_uploads_where_there_are_none_finds_none(store, begin, begun):
    await begin("other/1")

    assert await store.abort_uploads("k/") == 0
    assert await begun() == ["other/1"]


async def test_uploads_are_aborted_only_once(store, begin):
    await begin("k/1")

    assert await store.abort_uploads("k/") == 1
    assert await store.abort_uploads("k/") == 0


async def test_aborting_uploads_leaves_objects_alone(store, begin):
    await store.put("k/1", b"whole", media_type=JSON)
    await begin("k/1")
    await store.abort_uploads("k/")

    assert await body_of(store, "k/1") == b"whole"


async def test_an_upload_that_ends_while_uploads_are_aborted_is_no_error(store, begin, begun, s3, proxy):
    upload_id = await begin("k/1")
    await begin("k/2")
    hold = Hold()
    proxy.on("DELETE", upload_id, hold)
    aborting = asyncio.create_task(store.abort_uploads("k/"))
    await asyncio.to_thread(hold.arrived.wait, 10)
    await s3.abort_multipart_upload(Bucket=store.bucket, Key="k/1", UploadId=upload_id)
    hold.let_go.set()

    assert await aborting == 1
    assert await begun() == []


async def test_uploads_of_a_listing_in_pages_are_all_aborted(store, begin, begun, proxy):
    first = await begin("k/1")
    await begin("k/2")
    page = f"""<ListMultipartUploadsResult><IsTruncated>true</IsTruncated>
        <NextKeyMarker>k/1</NextKeyMarker><NextUploadIdMarker>{first}</NextUploadIdMarker>
        <Upload><Key>k/1</Key><UploadId>{first}</UploadId></Upload></ListMultipartUploadsResult>"""
    proxy.on("GET", "?uploads", Answer(200, page.encode(), {"Content-Type": "application/xml"}))
    aborted = await store.abort_uploads("k/")

    assert aborted == 2
    assert proxy.count("GET", f"upload-id-marker={first}") == proxy.count("GET", "key-marker=k%2F1") == 1
    assert await begun() == []


async def test_aborting_uploads_is_tried_again(store, begin, begun, proxy):
    await begin("k/1")
    proxy.on("GET", "?uploads", UNAVAILABLE, times=2)
    proxy.on("DELETE", "/k/1", UNAVAILABLE, times=2)

    assert await store.abort_uploads("k/") == 1
    assert await begun() == []


@pytest.mark.parametrize(("method", "part_of_path"), [("GET", "?uploads"), ("DELETE", "/k/1")])
async def test_uploads_that_may_not_be_aborted_are_transient(store, begin, proxy, method, part_of_path):
    await begin("k/1")
    proxy.on(method, part_of_path, s3_error(403, "AccessDenied"))
    with pytest.raises(Transient) as error:
        await store.abort_uploads("k/")

    assert error.value.code is FailureCode.STORAGE_UNAVAILABLE


async def test_an_upload_that_outlasts_its_aborts_is_transient(store, begin, proxy):
    await begin("k/1")
    parts = b"<ListPartsResult><IsTruncated>false</IsTruncated></ListPartsResult>"
    proxy.on("GET", "/k/1", Answer(200, parts, {"Content-Type": "application/xml"}), times=100)
    proxy.on("DELETE", "/k/1", Answer(204, b"", {}), times=100)
    with pytest.raises(Transient) as error:
        await store.abort_uploads("k/")

    assert error.value.code is FailureCode.STORAGE_UNAVAILABLE


async def test_open_uploads_are_listed_with_when_their_latest_part_came(store, begin):
    ids = [await begin(key) for key in ("k/1", "k/2", "other/1")]
    await store.put("k/3", b"whole", media_type=JSON)
    uploads = [upload async for upload in store.uploads("k/")]

    assert {(upload.key, upload.upload_id) for upload in uploads} == {("k/1", ids[0]), ("k/2", ids[1])}
    # moto says of every upload that it began in 2010: only a part tells more.
    assert all(abs(datetime.now(UTC) - upload.last_active) < timedelta(minutes=1) for upload in uploads)


async def test_the_latest_part_is_found_on_whichever_page_it_is(store, begin, proxy):
    upload_id = await begin("k/1")
    page = b"""<ListPartsResult><IsTruncated>%s</IsTruncated><NextPartNumberMarker>2</NextPartNumberMarker>
        <Part><PartNumber>2</PartNumber><LastModified>%s</LastModified></Part></ListPartsResult>"""
    for truncated, moment in ((b"true", b"2100-01-01T00:00:00.000Z"), (b"false", b"2099-01-01T00:00:00.000Z")):
        proxy.on("GET", upload_id, Answer(200, page % (truncated, moment), {"Content-Type": "application/xml"}))
    (upload,) = [upload async for upload in store.uploads("k/")]

    assert upload.last_active == datetime(2100, 1, 1, tzinfo=UTC)
    assert proxy.count("GET", "part-number-marker=2") == 1


async def test_an_upload_without_parts_is_as_old_as_its_beginning(store, proxy):
    listed = b"""<ListMultipartUploadsResult><IsTruncated>false</IsTruncated><Upload><Key>k/1</Key>
        <UploadId>u</UploadId><Initiated>2020-01-01T00:00:00.000Z</Initiated></Upload></ListMultipartUploadsResult>"""
    parts = b"<ListPartsResult><IsTruncated>false</IsTruncated></ListPartsResult>"
    for query, body in (("?uploads", listed), ("uploadId=u", parts)):
        proxy.on("GET", query, Answer(200, body, {"Content-Type": "application/xml"}))

    assert [upload async for upload in store.uploads("k/")] == [
        OpenUpload("k/1", "u", datetime(2020, 1, 1, tzinfo=UTC))
    ]


async def test_an_upload_that_ends_while_uploads_are_listed_is_left_out(store, begin, proxy):
    await begin("k/1")
    upload_id = await begin("k/2")
    proxy.on("GET", upload_id, s3_error(404, "NoSuchUpload"))

    assert [upload.key async for upload in store.uploads("k/")] == ["k/1"]


async def test_one_upload_is_aborted_once(store, begin):
    await begin("k/1")
    await begin("k/1")
    first, second = [upload async for upload in store.uploads("k/")]
    aborted = [await store.abort_upload(first) for _ in range(2)]

    assert aborted == [True, False]
    assert [upload async for upload in store.uploads("k/")] == [second]


# ---------------------------------------------------------------- conditional writes


async def test_only_the_first_of_two_new_objects_is_written(store):
    await store.put_new("k", b"first", media_type=JSON)
    with pytest.raises(PreconditionFailed):
        await store.put_new("k", b"second", media_type=JSON)

    assert await body_of(store, "k") == b"first"


async def test_even_the_same_body_is_new_only_once(store):
    await store.put_new("k", b"same", media_type=JSON)

    with pytest.raises(PreconditionFailed):
        await store.put_new("k", b"same", media_type=JSON)


async def test_of_many_at_once_exactly_one_wins(store):
    async def claim(number):
        try:
            await store.put_new("k", b"%d" % number, media_type=JSON)
        except PreconditionFailed:
            return None
        return b"%d" % number

    claims = await asyncio.gather(*(claim(number) for number in range(8)))
    winners = [claim for claim in claims if claim is not None]

    assert winners == [await body_of(store, "k")]


async def test_the_expected_version_is_replaced(store):
    etag = await store.put_new("k", b"first", media_type=JSON)
    following = await store.put_over("k", b"second", etag=etag, media_type=JSON)

    stored = await store.get("k", max_bytes=100)
    assert stored.body == b"second"
    assert stored.etag == following != etag


async def test_another_version_is_not_replaced(store):
    etag = await store.put("k", b"first", media_type=JSON)
    await store.put("k", b"second", media_type=JSON)
    with pytest.raises(PreconditionFailed):
        await store.put_over("k", b"third", etag=etag, media_type=JSON)

    assert await body_of(store, "k") == b"second"


async def test_an_object_that_is_gone_is_not_replaced(store):
    etag = await store.put("k", b"first", media_type=JSON)
    await store.delete(["k"])
    with pytest.raises(PreconditionFailed):
        await store.put_over("k", b"second", etag=etag, media_type=JSON)

    assert await keys(store) == []


async def test_a_new_object_whose_reply_is_lost_is_ours(store, proxy):
    proxy.on("PUT", "/k", DropReply())
    etag = await store.put_new("k", b"ours", media_type=JSON)

    assert proxy.count("PUT", "/k") == 2
    assert (await store.get("k", max_bytes=100)).etag == etag


async def test_a_replacement_whose_reply_is_lost_is_ours(store, proxy):
    etag = await store.put("k", b"first", media_type=JSON)
    proxy.on("PUT", "/k", DropReply())
    following = await store.put_over("k", b"second", etag=etag, media_type=JSON)

    stored = await store.get("k", max_bytes=100)
    assert (stored.body, stored.etag) == (b"second", following)


@pytest.mark.parametrize("theirs", [b"theirs", b"ours and more", b"our"])
async def test_somebody_elses_object_is_not_taken_for_ours_in_doubt(store, proxy, theirs):
    await store.put("k", theirs, media_type=JSON)
    proxy.on("PUT", "/k", UNAVAILABLE)
    with pytest.raises(PreconditionFailed):
        await store.put_new("k", b"ours", media_type=JSON)

    assert await body_of(store, "k") == theirs


async def test_an_object_that_is_gone_in_doubt_is_a_failed_precondition(store, proxy):
    etag = await store.put("k", b"first", media_type=JSON)
    await store.delete(["k"])
    proxy.on("PUT", "/k", UNAVAILABLE)

    with pytest.raises(PreconditionFailed):
        await store.put_over("k", b"second", etag=etag, media_type=JSON)


async def test_a_conflict_with_another_conditional_write_is_tried_again(store, proxy):
    proxy.on("PUT", "/k", CONFLICT, times=2)
    await store.put_new("k", b"body", media_type=JSON)

    assert proxy.count("PUT", "/k") == 3
    assert await body_of(store, "k") == b"body"


async def test_a_conflict_that_stays_is_transient(store, proxy):
    proxy.on("PUT", "/k", CONFLICT, times=100)

    with pytest.raises(Transient):
        await store.put_new("k", b"body", media_type=JSON)


# ---------------------------------------------------------------- errors


async def test_what_passes_is_tried_three_times(store, proxy):
    proxy.on("PUT", "/k", UNAVAILABLE, times=2)
    await store.put("k", b"body", media_type=JSON)

    assert proxy.count("PUT", "/k") == 3


async def test_what_does_not_pass_is_transient_and_has_a_sentence(store, proxy):
    proxy.on("PUT", "/k", UNAVAILABLE, times=100)
    with pytest.raises(Transient) as error:
        await store.put("k", b"body", media_type=JSON)

    assert proxy.count("PUT", "/k") == 3
    assert error.value.code is FailureCode.STORAGE_UNAVAILABLE
    assert "try again" in error.value.message


@pytest.mark.parametrize(
    "refusal", [s3_error(403, "AccessDenied"), s3_error(400, "ExpiredToken"), s3_error(404, "NoSuchBucket")]
)
async def test_what_an_operator_can_mend_is_transient_and_not_tried_again_at_once(store, proxy, refusal):
    proxy.on("GET", "/k", refusal, times=100)
    with pytest.raises(Transient) as error:
        await store.get("k", max_bytes=10)

    assert proxy.count("GET", "/k") == 1
    assert error.value.code is FailureCode.STORAGE_UNAVAILABLE


async def test_any_other_refusal_is_permanent(store, proxy):
    proxy.on("PUT", "/k", s3_error(400, "InvalidRequest"))
    with pytest.raises(Permanent) as error:
        await store.put("k", b"body", media_type=JSON)

    assert error.value.code is FailureCode.INTERNAL


# ---------------------------------------------------------------- listing and deleting


async def test_a_listing_tells_every_object_under_the_prefix(store):
    for key in ("a/1", "a/b/2", "a b+c/ü日%25", "b/3"):
        await store.put(key, b"abc", media_type=JSON)

    assert await keys(store, "a/") == ["a/1", "a/b/2"]
    assert await keys(store, "a b+") == ["a b+c/ü日%25"]
    (summary,) = [summary async for summary in store.list("b/")]
    assert (summary.key, summary.size, summary.etag) == ("b/3", 3, (await store.get("b/3", max_bytes=3)).etag)
    assert summary.last_modified.tzinfo is not None


async def test_deleting_takes_what_is_there_and_minds_nothing_else(store):
    for key in ("one", "a b+c/ü日%25&<x>", "kept"):
        await store.put(key, b"", media_type=JSON)
    await store.delete(["one", "a b+c/ü日%25&<x>", "never there"])
    await store.delete([])

    assert await keys(store) == ["kept"]


async def test_more_than_a_thousand_objects_are_listed_and_deleted(store, proxy):
    names = [f"k/{number:04}" for number in range(1001)]
    slots = asyncio.Semaphore(16)

    async def put(name):
        async with slots:
            await store.put(name, b"", media_type=JSON)

    await asyncio.gather(*map(put, names))
    listed = await keys(store, "k/")
    await store.delete(listed)

    assert listed == names
    assert await keys(store) == []
    assert proxy.count("POST", "?delete") == 2


async def test_a_key_that_is_not_deleted_is_an_error(store, proxy):
    refused = b"<DeleteResult><Error><Key>k</Key><Code>AccessDenied</Code></Error></DeleteResult>"
    proxy.on("POST", "?delete", Answer(200, refused, {"Content-Type": "application/xml"}))
    with pytest.raises(Transient) as error:
        await store.delete(["k", "other"])

    assert "AccessDenied" in str(error.value.__cause__)


async def test_a_listing_may_be_left_early(store):
    for key in ("a", "b"):
        await store.put(key, b"", media_type=JSON)
    async with aclosing(store.list("")) as listing:
        first = await anext(listing)

    assert first.key == "a"
