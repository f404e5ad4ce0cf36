"""Which queue a key goes to, and the notification that asks for it again."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.keys import Flow, JobRef, close_key
from events.notification import ObjectCreated, notification_of, parse_notification
from infra.stack.template import Template
from infra.work_queues import WORK_QUEUES, work_queue_of

JOB = JobRef("sess-0001", "job-00000001")
KEYS = [*(JOB.manifest_key(flow) for flow in Flow), JOB.cancel_key, JOB.undo_key, close_key("sess-0001")]
NOW = datetime(2026, 3, 14, 9, 26, 53, 589123, UTC)


@pytest.mark.parametrize("key", KEYS)
def test_a_key_goes_to_the_queue_that_the_template_tells_s3(key: str):
    notified = Template.shipped().resources["Bucket"].properties["NotificationConfiguration"]["QueueConfigurations"]
    queues = [
        each["Queue"]["Fn::GetAtt"][0].lower()
        for each in notified
        if all(
            key.startswith(rule["Value"]) if rule["Name"] == "prefix" else key.endswith(rule["Value"])
            for rule in each["Filter"]["S3Key"]["Rules"]
        )
    ]

    assert queues == [work_queue_of(key)]
    assert set(queues) <= WORK_QUEUES


@pytest.mark.parametrize("key", [JOB.status_key, JOB.file_key(0), "sessions/x", "shared/a.json", "other"])
def test_a_key_that_asks_for_nothing_goes_to_no_queue(key: str):
    assert work_queue_of(key) is None


@given(st.text(min_size=1), st.text(min_size=1).filter(lambda key: key.encode("utf-8", "ignore").decode() == key))
def test_what_we_send_reads_as_the_object_that_it_speaks_of(bucket: str, key: str):
    (created,) = parse_notification(notification_of(bucket, key, at=NOW))

    assert created == ObjectCreated(bucket, key, event_time=NOW)
