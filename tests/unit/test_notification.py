"""Every dialect of S3's notifications, from files, and what no dialect is."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from events.notification import NotificationError, ObjectCreated, parse_notification

FOLDER = Path(__file__).parents[1] / "data" / "notifications"
MANIFEST = "sessions/sess-0001/jobs/job-00000001/query.manifest.json"
AWKWARD = "sessions/sess-0001/Q1 & Q2/a+b €.csv"
NOON = datetime(2026, 3, 14, 9, 26, 53, 589000, UTC)
RECORDED = datetime(2026, 11, 22, 14, 50, tzinfo=UTC)


def aws(key: str = MANIFEST, **facts: Any) -> ObjectCreated:
    expected: dict[str, Any] = {
        "bucket": "dropchute-example",
        "key": key,
        "size": 1843,
        "etag": "5f3c6a1f0f4b5c0d9e8a7b6c5d4e3f21",
        "sequencer": "0065F2C1A9B3D4E5F6",
        "event_time": NOON,
    }
    return ObjectCreated(**expected | facts)


def recorded(seconds: float, key: str = MANIFEST, bucket: str = "", **facts: Any) -> ObjectCreated:
    is_manifest = key == MANIFEST
    expected: dict[str, Any] = {
        "bucket": f"dropchute-recorded{bucket}",
        "key": key,
        "size": 2 if is_manifest else 3,
        "etag": "99914b932bd37a50b983c5e7c90ae93b" if is_manifest else "efd63c6f409af55a5ff51bd940f3ec04",
        "event_time": RECORDED + timedelta(seconds=seconds),
    }
    return ObjectCreated(**expected | facts)


VERSIONED = {"version_id": "096fKKXTRTtl3on89fVO.nfljtsv6qko", "sequencer": "0065F2C1A9B3D4E5F7"}
LOCALSTACK = {"sequencer": "0055AED6DCD90281E5"}
EXPECTED: dict[str, list[ObjectCreated]] = {
    "aws-2.1-put": [aws()],
    "aws-2.1-put-versioned": [aws(**VERSIONED)],
    "aws-2.2-copy": [aws()],
    "aws-2.3-multipart": [aws()],
    "aws-2.17-unknown-fields": [aws()],
    "aws-several-records": [
        aws(),
        aws(
            "sessions/sess-0001/jobs/job-00000002/visualization.manifest.json",
            event_time=datetime(2026, 3, 14, 9, 26, 54, tzinfo=UTC),
        ),
    ],
    "aws-removed": [],
    "aws-encoded-key": [aws("sessions/sess-0001/Q1 & Q2/a+b/% € 📈.csv")],
    "aws-test-event": [],
    "aws-sns-put": [aws()],
    "aws-sns-raw-put": [aws()],
    "aws-sns-test-event": [],
    "aws-eventbridge-created": [aws(**VERSIONED, event_time=NOON.replace(microsecond=0))],
    "aws-eventbridge-created-by-sns": [aws(**VERSIONED, event_time=NOON.replace(microsecond=0))],
    "aws-eventbridge-deleted": [],
    "minio-put": [aws(sequencer="17B3E1F2A4C5D6E7")],
    "moto-test-event": [],
    "moto-put": [recorded(46.916)],
    "moto-put-awkward-key": [recorded(46.935, AWKWARD)],
    "moto-removed": [],
    "moto-put-versioned": [recorded(46.975)],
    "moto-sns-test-event": [],
    "moto-sns-put": [recorded(47.181, bucket="-sns")],
    "moto-eventbridge-put-awkward-key": [
        recorded(47, AWKWARD, "-eventbridge", version_id="null", sequencer="617f08299329d189")
    ],
    "localstack-test-event": [],
    "localstack-put": [recorded(51.774, **LOCALSTACK)],
    "localstack-put-awkward-key": [recorded(51.796, AWKWARD, **LOCALSTACK)],
    "localstack-removed": [],
    "localstack-put-versioned": [recorded(51.83, version_id="AaIDvRA2Q0L6kiFXHTU1RXdcWNBjpNIw", **LOCALSTACK)],
    "localstack-sns-test-event": [],
    "localstack-sns-put": [recorded(52.672, bucket="-sns", **LOCALSTACK)],
    # LocalStack encodes keys for EventBridge, AWS does not: they are taken as they are.
    "localstack-eventbridge-put-awkward-key": [
        recorded(
            53, "sessions/sess-0001/Q1%20%26%20Q2/a%2Bb%20%E2%82%AC.csv", "-eventbridge", sequencer="0062E99A88DC407460"
        )
    ],
}


@pytest.mark.parametrize("name", EXPECTED)
def test_every_dialect_says_which_objects_were_created(name: str):
    created = parse_notification((FOLDER / f"{name}.json").read_text())

    assert created == EXPECTED[name]


def test_every_file_has_an_expectation_and_a_source():
    files = {path.stem for path in FOLDER.glob("*.json")}
    sources = (FOLDER / "README.md").read_text()

    assert files == set(EXPECTED)
    assert all(f"`{name}.json`" in sources for name in files if name.startswith(("aws-", "minio-")))


def test_every_kind_of_creation_is_taken():
    record = json.loads((FOLDER / "aws-2.1-put.json").read_text())["Records"][0]
    kinds = ("Put", "Post", "Copy", "CompleteMultipartUpload")
    body = {"Records": [record | {"eventName": f"ObjectCreated:{kind}"} for kind in kinds]}

    created = parse_notification(json.dumps(body))

    assert len(created) == len(kinds)


def test_a_notification_without_records_asks_for_nothing():
    created = parse_notification('{"Records": []}')

    assert created == []


def changed(name: str, *path: str | int, to: Any) -> str:
    """The payload of a file with one value replaced, or removed where it is to be ``...``."""
    payload = json.loads((FOLDER / f"{name}.json").read_text())
    inner = payload
    for step in path[:-1]:
        inner = inner[step]
    if to is ...:
        del inner[path[-1]]
    else:
        inner[path[-1]] = to
    return json.dumps(payload)


def wrapped(body: str, times: int) -> str:
    for _ in range(times):
        body = json.dumps({"Type": "Notification", "Message": body})
    return body


S3_OBJECT = ("Records", 0, "s3", "object")
NEITHER = "neither an S3 nor an EventBridge notification"
HOSTILE = {
    "empty": ("", "cannot be read: Expecting value at line 1, column 1"),
    "not JSON": ("Hello!", "cannot be read: Expecting value"),
    "two objects": ("{} {}", "Extra data"),
    "array": ("[]", "it is an array, where an object is needed"),
    "string": ('"s3:TestEvent"', 'it is "s3:TestEvent", where an object is needed'),
    "number": ("3", "it is 3, where"),
    "null": ("null", "it is null, where"),
    "boolean": ("true", "it is true, where"),
    "NaN": ('{"Records": NaN}', "NaN is no JSON number"),
    "endless number": ('{"Records": ' + "9" * 10_000 + "}", "a number has 10,000 digits"),
    "name twice": ('{"Records": [], "Records": []}', 'the name "Records" occurs twice'),
    "megabyte of brackets": ("[" * 1024 * 1024, "it is nested too deeply"),
    "deep object": ('{"Records":' * 100_000, "it is nested too deeply"),
    "empty object": ("{}", NEITHER),
    "another event": ('{"Event": "s3:OtherEvent"}', NEITHER),
    "wrapped twice": (wrapped('{"Records": []}', 2), NEITHER),
    # Each wrapping doubles the backslashes: more would not fit into a message.
    "wrapped fifteen times": (wrapped('{"Event": "s3:TestEvent"}', 15), NEITHER),
    "wrapped text": (wrapped("Hello!", 1), "cannot be read"),
    "wrapped array": (wrapped("[]", 1), "it is an array"),
    "message that is no text": ('{"Type": "Notification", "Message": {"Records": []}}', NEITHER),
    "confirmation": ('{"Type": "SubscriptionConfirmation", "Message": "…"}', NEITHER),
    "records object": ('{"Records": {}}', "malformed at Records"),
    "records null": ('{"Records": null}', "malformed at Records"),
    "record number": ('{"Records": [3]}', "malformed at Records.0"),
    "record null": ('{"Records": [null]}', "malformed at Records.0"),
    "empty record": ('{"Records": [{}]}', "malformed at Records.0.eventVersion"),
    "next version": (
        changed("aws-2.1-put", "Records", 0, "eventVersion", to="3.0"),
        'malformed at Records.0.eventVersion: event version "3.0" is not known, only 2.x',
    ),
    "version with another script's digit": (
        changed("aws-2.1-put", "Records", 0, "eventVersion", to="2.١"),
        'event version "2.\\u0661" is not known',
    ),
    "version with a line break": (changed("aws-2.1-put", "Records", 0, "eventVersion", to="2.1\n"), "not known"),
    "version number": (changed("aws-2.1-put", "Records", 0, "eventVersion", to=2.1), "Records.0.eventVersion"),
    "no entity": (changed("aws-2.1-put", "Records", 0, "s3", to=...), "Records.0.s3"),
    "entity text": (changed("aws-2.1-put", "Records", 0, "s3", to="x"), "Records.0.s3"),
    "no bucket": (changed("aws-2.1-put", "Records", 0, "s3", "bucket", to=...), "Records.0.s3.bucket"),
    "nameless bucket": (changed("aws-2.1-put", "Records", 0, "s3", "bucket", "name", to=""), "s3.bucket.name"),
    "no key": (changed("aws-2.1-put", *S3_OBJECT, "key", to=...), "Records.0.s3.object.key"),
    "empty key": (changed("aws-2.1-put", *S3_OBJECT, "key", to=""), "s3.object.key"),
    "half a surrogate pair": (changed("aws-2.1-put", *S3_OBJECT, "key", to="\ud800"), "s3.object.key"),
    "size text": (changed("aws-2.1-put", *S3_OBJECT, "size", to="large"), "s3.object.size"),
    "time text": (changed("aws-2.1-put", "Records", 0, "eventTime", to="noon"), "eventTime"),
    "second record": (changed("aws-several-records", "Records", 2, "s3", "object", to=[]), "Records.2.s3.object"),
    "another service": (changed("aws-2.1-put", "Records", 0, "eventSource", to="aws:dynamodb"), "eventSource"),
    "another EventBridge source": (changed("aws-eventbridge-created", "source", to="my.app"), "malformed at source"),
    "EventBridge without bucket": (changed("aws-eventbridge-created", "detail", "bucket", to=...), "detail.bucket"),
    "EventBridge without detail": (changed("aws-eventbridge-created", "detail", to=...), "malformed at detail"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_no_notification_is_refused_in_a_sentence(name: str):
    body, sentence = HOSTILE[name]

    with pytest.raises(NotificationError) as refusal:
        parse_notification(body)

    assert sentence in str(refusal.value)
    assert is_a_sentence(str(refusal.value))


def is_a_sentence(text: str) -> bool:
    return text.startswith("The ") and text.endswith((".", "…")) and "\n" not in text and len(text) <= 1000


NAMES = st.sampled_from(["Records", "detail-type", "detail", "source", "Event", "Type", "Message", "s3", "bucket"])
TEXTS = st.text() | st.sampled_from(["Object Created", "aws.s3", "Notification", "2.1", "\ud800", "ObjectCreated:Put"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES | st.text(), inner, max_size=4),
    max_leaves=12,
)


def outcome(body: str) -> list[ObjectCreated] | str:
    """What was read, or the refusal in words; any other exception is raised."""
    try:
        return parse_notification(body)
    except NotificationError as error:
        return str(error)


def is_read_or_refused(body: str) -> bool:
    found = outcome(body)
    return isinstance(found, list) or (is_a_sentence(found) and bool(found.encode()))


@settings(deadline=None)
@given(st.text())
@example("\ud800")
@example("\ufeff{}")
def test_any_text_is_read_or_refused(body: str):
    settled = is_read_or_refused(body)

    assert settled


@settings(deadline=None)
@given(VALUES)
def test_any_json_is_read_or_refused(value: Any):
    settled = is_read_or_refused(json.dumps(value))

    assert settled


STEPS = st.sampled_from(
    [
        ("Records",),
        ("Records", 0),
        *(("Records", 0, field) for field in ("eventVersion", "eventSource", "eventName", "eventTime", "s3")),
        ("Records", 0, "s3", "bucket"),
        ("Records", 0, "s3", "bucket", "name"),
        S3_OBJECT,
        *((*S3_OBJECT, field) for field in ("key", "size", "eTag", "versionId", "sequencer")),
    ]
)


@settings(deadline=None)
@given(STEPS, VALUES)
def test_a_notification_with_any_value_in_any_place_is_read_or_refused(steps: tuple[str | int, ...], value: Any):
    settled = is_read_or_refused(changed("aws-2.1-put-versioned", *steps, to=value))

    assert settled
