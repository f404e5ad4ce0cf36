"""Provisioning against real endpoints: what is applied is there, what is changed is seen, and events arrive."""

import itertools
import json
import socket
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import pytest
from botocore.exceptions import ClientError
from localstack_server import localstack

from events.keys import Flow, JobRef, close_key
from events.notification import parse_notification
from infra.clients import sync_client
from infra.provision import KNOWN_GAPS, StackMissing, check, locate, provision, queue_names
from infra.settings import Settings
from infra.stack.cloud import Cloud

JOB = JobRef("abcdefgh", "ijklmnop")
DENY_UNDER_A_CONDITION = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Effect": "Deny",
            "Principal": "*",
            "Action": "s3:*",
            "Resource": "*",
            "Condition": {"StringEquals": {"aws:PrincipalOrgID": "o-nobody"}},
        }
    ],
}


@pytest.fixture
def settings(endpoint_url):
    return _settings(endpoint_url)


def _settings(endpoint_url):
    name = f"t-{uuid4().hex[:12]}"
    return Settings(
        aws_endpoint_url=endpoint_url,
        aws_access_key_id="test",
        aws_secret_access_key="test",
        aws_session_token=None,
        region="us-east-1",
        bucket=name,
        stack=name,
    )


def _changed(settings, **options):
    return {(drift.resource, drift.property) for drift in check(settings, **options)}


def _gaps(settings):
    identity = Cloud(settings).identity
    return {gap for who, gaps in KNOWN_GAPS.items() if who.fullmatch(identity) for gap in gaps}


# ---------------------------------------------------------------- applied and read back


def test_everything_that_the_template_says_is_there_afterwards(settings):
    stack = provision(settings)

    assert check(settings) == []
    assert stack == locate(settings)
    assert stack.bucket == settings.bucket
    assert {key: url.rsplit("/", 1)[-1] for key, url in stack.queue_urls.items()} == queue_names(settings.stack)


def test_provisioning_again_changes_nothing(settings):
    first = provision(settings)
    sync_client(settings, "s3").put_object(Bucket=settings.bucket, Key="kept", Body=b"x")

    second = provision(settings)

    assert second == first
    assert check(settings) == []
    assert sync_client(settings, "s3").get_object(Bucket=settings.bucket, Key="kept")["Body"].read() == b"x"


def test_steps_are_told_in_order(settings):
    steps = []

    provision(settings, on_step=steps.append)

    assert steps[0] == "DeadLetters (AWS::SQS::Queue)"
    assert steps[-1] == "everything read back"
    assert len(steps) == 10


def test_the_pages_that_may_upload_are_part_of_the_comparison(settings):
    origins = ["https://drop.example.com", "http://localhost:8080"]

    provision(settings, allowed_origins=origins)

    assert check(settings, allowed_origins=origins) == []
    assert _changed(settings) == {("Bucket", "CorsConfiguration")}


def test_what_is_applied_reads_as_the_services_spell_it(settings):
    """The comparison could be blind in both directions at once; these are looked at with other eyes."""
    stack = provision(settings)
    s3, sqs = sync_client(settings, "s3"), sync_client(settings, "sqs")
    lifecycle = s3.get_bucket_lifecycle_configuration(Bucket=stack.bucket)["Rules"]
    (cors,) = s3.get_bucket_cors(Bucket=stack.bucket)["CORSRules"]
    (encryption,) = s3.get_bucket_encryption(Bucket=stack.bucket)["ServerSideEncryptionConfiguration"]["Rules"]
    queue = sqs.get_queue_attributes(QueueUrl=stack.queue_urls["queries"], AttributeNames=["All"])["Attributes"]
    results = sqs.get_queue_attributes(QueueUrl=stack.queue_urls["results"], AttributeNames=["All"])["Attributes"]

    assert {rule["Filter"]["Prefix"] for rule in lifecycle} == {"sessions/", "shared/"}
    assert [(rule["Expiration"]["Days"], rule["Status"]) for rule in lifecycle] == [(1, "Enabled")] * 2
    assert [rule["AbortIncompleteMultipartUpload"]["DaysAfterInitiation"] for rule in lifecycle] == [1, 1]
    assert cors["ExposeHeaders"] == ["ETag", "x-amz-version-id", "x-amz-checksum-crc32"]
    assert encryption["ApplyServerSideEncryptionByDefault"]["SSEAlgorithm"] == "AES256"
    assert set(s3.get_public_access_block(Bucket=stack.bucket)["PublicAccessBlockConfiguration"].values()) == {True}
    assert (queue["VisibilityTimeout"], queue["MessageRetentionPeriod"]) == ("60", "172800")
    assert (queue["ReceiveMessageWaitTimeSeconds"], queue["SqsManagedSseEnabled"]) == ("20", "true")
    assert int(json.loads(queue["RedrivePolicy"])["maxReceiveCount"]) == 100
    assert (results["FifoQueue"], results["ContentBasedDeduplication"]) == ("true", "false")


# ---------------------------------------------------------------- drift


def _tamper(settings, stack):
    """Change one thing of every kind; returns what a check must see."""
    s3, sqs = sync_client(settings, "s3"), sync_client(settings, "sqs")
    bucket = stack.bucket
    s3.delete_bucket_lifecycle(Bucket=bucket)
    s3.delete_bucket_policy(Bucket=bucket)
    s3.put_bucket_notification_configuration(Bucket=bucket, NotificationConfiguration={})
    s3.put_bucket_ownership_controls(
        Bucket=bucket, OwnershipControls={"Rules": [{"ObjectOwnership": "BucketOwnerPreferred"}]}
    )
    s3.put_public_access_block(
        Bucket=bucket,
        PublicAccessBlockConfiguration={
            "BlockPublicAcls": True,
            "BlockPublicPolicy": False,
            "IgnorePublicAcls": True,
            "RestrictPublicBuckets": True,
        },
    )
    cors = {"AllowedMethods": ["GET"], "AllowedOrigins": ["*"]}
    s3.put_bucket_cors(Bucket=bucket, CORSConfiguration={"CORSRules": [cors]})
    attributes = {"MessageRetentionPeriod": "60", "SqsManagedSseEnabled": "false"}
    sqs.set_queue_attributes(QueueUrl=stack.queue_urls["results"], Attributes=attributes)
    policy = {"Version": "2012-10-17", "Statement": []}
    sqs.set_queue_attributes(QueueUrl=stack.queue_urls["results"], Attributes={"Policy": json.dumps(policy)})
    return {
        ("Bucket", "LifecycleConfiguration"),
        ("Bucket", "NotificationConfiguration"),
        ("Bucket", "OwnershipControls"),
        ("Bucket", "PublicAccessBlockConfiguration"),
        ("Bucket", "CorsConfiguration"),
        *({("BucketPolicy", "PolicyDocument")} if not _gaps(settings) else ()),
        ("Results", "MessageRetentionPeriod"),
        ("Results", "SqsManagedSseEnabled"),
        ("OtherQueuesPolicy", f"PolicyDocument of {queue_names(settings.stack)['results']}"),
    }


def test_what_was_changed_behind_its_back_is_seen_and_mended(settings):
    stack = provision(settings)
    tampered = _tamper(settings, stack)

    seen = _changed(settings)
    provision(settings)

    assert seen == tampered
    assert check(settings) == []


def test_one_changed_number_is_one_drift(settings):
    stack = provision(settings)
    sync_client(settings, "sqs").set_queue_attributes(
        QueueUrl=stack.queue_urls["dead_letters"], Attributes={"MessageRetentionPeriod": "3600"}
    )

    drifts = [drift for drift in check(settings) if drift.resource == "DeadLetters"]

    assert [str(drift) for drift in drifts] == ["DeadLetters.MessageRetentionPeriod: wanted 1209600, found 3600"]


def test_a_missing_queue_is_seen_with_all_that_needs_it(settings):
    stack = provision(settings)
    sync_client(settings, "sqs").delete_queue(QueueUrl=stack.queue_urls["queries"])

    seen = _changed(settings)

    assert {("Queries", "existence"), ("WorkQueuesPolicy", "existence"), ("Bucket", "existence")} <= seen
    with pytest.raises(StackMissing, match=f"{settings.stack}-queries.*dropchute provision"):
        locate(settings)


def test_a_missing_bucket_is_seen(settings):
    provision(settings)
    sync_client(settings, "s3").delete_bucket(Bucket=settings.bucket)

    seen = _changed(settings)

    assert seen == {("Bucket", "existence"), ("BucketPolicy", "existence")}
    with pytest.raises(StackMissing, match=settings.bucket):
        locate(settings)


def test_where_nothing_was_provisioned_everything_is_missing(settings):
    missing = check(settings)

    assert {drift.property for drift in missing} == {"existence"}
    assert len(missing) == 9
    with pytest.raises(StackMissing, match="run `dropchute provision` first"):
        locate(settings)


def test_no_gap_is_known_for_localstack(localstack_endpoint):
    assert _gaps(_settings(localstack_endpoint)) == set()


def test_the_gaps_known_for_moto_are_still_there(moto_endpoint):
    """Fails once moto keeps one of them: then its entry in KNOWN_GAPS can go."""
    settings = _settings(moto_endpoint)
    stack = provision(settings)
    s3, sqs = sync_client(settings, "s3"), sync_client(settings, "sqs")
    dead_letters = stack.queue_urls["dead_letters"]
    sqs.set_queue_attributes(
        QueueUrl=dead_letters, Attributes={"RedriveAllowPolicy": '{"redrivePermission":"denyAll"}'}
    )
    s3.put_bucket_policy(Bucket=stack.bucket, Policy=json.dumps(DENY_UNDER_A_CONDITION))

    assert _gaps(settings) == {("AWS::SQS::Queue", "RedriveAllowPolicy"), ("AWS::S3::BucketPolicy", "PolicyDocument")}
    kept = sqs.get_queue_attributes(QueueUrl=dead_letters, AttributeNames=["All"])["Attributes"]
    assert "RedriveAllowPolicy" not in kept
    with pytest.raises(ClientError, match="403"):
        s3.put_object(Bucket=stack.bucket, Key="k", Body=b"x")


# ---------------------------------------------------------------- events


def _put(settings, *keys):
    s3 = sync_client(settings, "s3")
    for key in keys:
        s3.put_object(Bucket=settings.bucket, Key=key, Body=b"{}")


def _arrivals(settings, stack, queue, *, expected):
    """The keys that one queue brings: until the expected number is there, and then until it is empty."""
    sqs, keys = sync_client(settings, "sqs"), []
    while messages := sqs.receive_message(
        QueueUrl=stack.queue_urls[queue], MaxNumberOfMessages=10, WaitTimeSeconds=10 if len(keys) < expected else 0
    ).get("Messages"):
        for message in messages:
            sqs.delete_message(QueueUrl=stack.queue_urls[queue], ReceiptHandle=message["ReceiptHandle"])
            keys += [created.key for created in parse_notification(message["Body"])]
    return keys


def test_each_manifest_and_control_arrives_once_in_its_own_queue_and_nothing_else_arrives(settings):
    stack = provision(settings)
    expected = {
        "queries": [JOB.manifest_key(Flow.QUERY)],
        "visualizations": [JOB.manifest_key(Flow.VISUALIZATION)],
        "controls": [JOB.cancel_key, close_key(JOB.session_id)],
    }

    _put(settings, JOB.file_key(0), JOB.status_key, JOB.result_key(1, "answer.csv"), "elsewhere/query.manifest.json")
    _put(settings, *itertools.chain.from_iterable(expected.values()))

    for queue, keys in expected.items():
        assert sorted(_arrivals(settings, stack, queue, expected=len(keys))) == sorted(keys)
    for queue in ("results", "dead_letters"):
        assert _arrivals(settings, stack, queue, expected=0) == []


# ---------------------------------------------------------------- the servers themselves


def test_the_embedded_cloud_starts_empty_and_leaves_nothing_open():
    # In a process of its own: two in one process share their buckets.
    story = """
import gc, socket
from infra.clients import sync_client
from infra.embedded.cloud import EmbeddedCloud
from infra.settings import Settings
for _ in range(2):
    with EmbeddedCloud() as cloud:
        s3 = sync_client(cloud.settings(Settings()), "s3")
        assert s3.list_buckets()["Buckets"] == []
        s3.create_bucket(Bucket="one")
        s3.put_object(Bucket="one", Key="k", Body=b"x" * 20_000_000)
        s3.close()
    gc.collect()
    with socket.socket() as knock:
        assert knock.connect_ex(("127.0.0.1", int(cloud.endpoint_url.rsplit(":", 1)[1]))) != 0
"""
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", story],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[2],
    )

    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")


def test_localstack_is_gone_after_its_block():
    with localstack() as endpoint_url:
        address = urlsplit(endpoint_url)
        with socket.create_connection((address.hostname, address.port)):
            pass

    with pytest.raises(ConnectionRefusedError), socket.create_connection((address.hostname, address.port)):
        pass


def test_localstack_refuses_to_let_the_environment_lead_the_tests_elsewhere():
    run = subprocess.run(
        [sys.executable, "-c", "import localstack_server; localstack_server._endpoint('127.0.0.1:1')"],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[1],
        env={"AWS_ENDPOINT_URL": "http://elsewhere.example.com"},
    )

    assert "leads the tests to http://elsewhere.example.com" in run.stderr
