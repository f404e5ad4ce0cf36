"""The shorter way of the frequent calls gives what the SDK's own way gives."""

from uuid import uuid4

import pytest
import pytest_asyncio
from aiobotocore.config import AioConfig
from aiobotocore.session import get_session
from botocore.exceptions import ClientError
from faulty_proxy import AddHeaders, Answer, s3_error

pytestmark = pytest.mark.asyncio(loop_scope="module")

KEY = "sessions/a b/ü+%~/x&y=1.csv"
NOT_COMPARED = {"ResponseMetadata", "NextToken", "RequestCharged"}


def connection(proxy):
    keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
    return {"endpoint_url": proxy.endpoint, "region_name": "us-east-1", **keys}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def sdk_s3(proxy_here):
    style = AioConfig(s3={"addressing_style": "path"})
    async with get_session().create_client("s3", config=style, **connection(proxy_here)) as client:
        yield client


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def sdk_sqs(proxy_here):
    async with get_session().create_client("sqs", **connection(proxy_here)) as client:
        yield client


@pytest_asyncio.fixture(loop_scope="module")
async def bucket(sdk_s3):
    name = f"short-{uuid4().hex}"
    await sdk_s3.create_bucket(Bucket=name)
    return name


@pytest_asyncio.fixture(loop_scope="module")
async def queue(sdk_sqs, proxy):
    url = (await sdk_sqs.create_queue(QueueName=f"short-{uuid4().hex}"))["QueueUrl"]
    return f"{proxy.endpoint}/{'/'.join(url.split('/')[-2:])}"


def told(reply):
    return {name: value for name, value in reply.items() if name not in NOT_COMPARED}


async def error_of(call):
    with pytest.raises(ClientError) as raised:
        await call
    error = raised.value
    return type(error).__name__, error.response["Error"], error.response["ResponseMetadata"]["HTTPStatusCode"]


async def test_an_object_is_written_read_listed_and_deleted_as_by_the_sdk(s3, sdk_s3, bucket):
    short = await s3.put_object(Bucket=bucket, Key=KEY, Body=b"body", ContentType="text/csv", IfNoneMatch="*")
    theirs = await sdk_s3.get_object(Bucket=bucket, Key=KEY, ChecksumMode="ENABLED")
    ours = await s3.get_object(Bucket=bucket, Key=KEY, ChecksumMode="ENABLED")
    bodies = [await ours.pop("Body").read(), await theirs.pop("Body").read()]
    listed = [told(await one.list_objects_v2(Bucket=bucket, Prefix="sessions/a b/ü")) for one in (s3, sdk_s3)]
    await s3.delete_object(Bucket=bucket, Key=KEY)

    assert bodies == [b"body", b"body"]
    assert told(ours) == told(theirs)
    assert ours["ETag"] == short["ETag"]
    assert ours["ContentType"] == "text/csv"
    assert listed[0] == listed[1]
    assert listed[0]["Contents"][0]["Key"] == KEY
    assert "Contents" not in await sdk_s3.list_objects_v2(Bucket=bucket)


async def test_errors_are_the_ones_of_the_sdk(s3, sdk_s3, bucket):
    request = {"Bucket": bucket, "Key": "k"}
    missing = [await error_of(one.get_object(**request)) for one in (s3, sdk_s3)]
    await s3.put_object(**request, Body=b"1")
    refused = [await error_of(one.put_object(**request, Body=b"2", IfNoneMatch="*")) for one in (s3, sdk_s3)]

    assert missing[0] == missing[1]
    assert missing[0][::2] == ("NoSuchKey", 404)
    assert refused[0] == refused[1]
    assert refused[0][2] == 412


async def test_messages_are_received_and_deleted_as_by_the_sdk(clients, sdk_sqs, queue):
    sent = [{"Id": "0", "MessageBody": "ünï"}, {"Id": "1", "MessageBody": "two"}]
    ours = await clients.control.send_message_batch(QueueUrl=queue, Entries=sent)
    received = await clients.polls.receive_message(
        QueueUrl=queue, MaxNumberOfMessages=10, WaitTimeSeconds=1, MessageSystemAttributeNames=["All"]
    )
    receipts = [{"Id": str(place), **m} for place, m in enumerate({"ReceiptHandle": r} for r in ("no", "such"))]
    failed = [
        told(await one.delete_message_batch(QueueUrl=queue, Entries=receipts)) for one in (clients.control, sdk_sqs)
    ]

    assert [done["Id"] for done in ours["Successful"]] == ["0", "1"]
    assert {message["Body"] for message in received["Messages"]} <= {"ünï", "two"}
    assert received["Messages"][0]["Attributes"]["ApproximateReceiveCount"] == "1"
    assert failed[0] == failed[1]


async def test_a_missing_queue_is_the_error_of_the_sdk(clients, sdk_sqs, queue):
    request = {"QueueUrl": f"{queue}-missing"}
    both = [await error_of(one.receive_message(**request)) for one in (clients.polls, sdk_sqs)]

    assert both[0] == both[1]
    assert both[0][2] == 400


@pytest.mark.parametrize(
    "answer", [s3_error(400, "AuthorizationHeaderMalformed"), s3_error(307, "TemporaryRedirect")], ids=["400", "307"]
)
async def test_a_bucket_that_is_elsewhere_is_found_by_the_sdk(s3, bucket, proxy, answer):
    await s3.put_object(Bucket=bucket, Key="elsewhere", Body=b"here")
    proxy.on("GET", "/elsewhere", answer)
    reply = await s3.get_object(Bucket=bucket, Key="elsewhere")

    assert await reply["Body"].read() == b"here"
    assert proxy.count("GET", "/elsewhere") == 2


async def test_an_error_with_status_200_is_an_error(s3, bucket, proxy):
    proxy.on("GET", "list-type=2", Answer(200, s3_error(200, "InternalError").body))
    with pytest.raises(ClientError) as raised:
        await s3.list_objects_v2(Bucket=bucket)

    assert raised.value.response["Error"]["Code"] == "InternalError"


async def test_a_body_that_does_not_have_its_checksum_is_refused(s3, bucket, proxy):
    await s3.put_object(Bucket=bucket, Key="k", Body=b"body")
    proxy.on("GET", "/k", AddHeaders({"x-amz-checksum-sha256": "AAAA"}))
    reply = await s3.get_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED")

    with pytest.raises(Exception, match="did not match"):
        await reply["Body"].read()


async def test_the_calls_of_every_job_do_take_the_shorter_way(clients, s3, bucket, queue):
    await s3.put_object(Bucket=bucket, Key=KEY, Body=b"body", ContentType="text/csv")
    await s3.get_object(Bucket=bucket, Key=KEY)
    await s3.list_objects_v2(Bucket=bucket, Prefix="")
    await s3.list_multipart_uploads(Bucket=bucket, Prefix="")
    await s3.delete_object(Bucket=bucket, Key=KEY)
    await clients.polls.receive_message(QueueUrl=queue)
    await clients.control.send_message_batch(QueueUrl=queue, Entries=[{"Id": "1", "MessageBody": "{}"}])

    for client, bucket_or_none, calls in (
        (s3, bucket, ("PutObject", "GetObject", "ListObjectsV2", "ListMultipartUploads", "DeleteObject")),
        (clients.polls, None, ("ReceiveMessage",)),
        (clients.control, None, ("SendMessageBatch",)),
    ):
        assert all(client._ways[call, bucket_or_none] is not None for call in calls)
