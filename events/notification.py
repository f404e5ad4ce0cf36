"""S3 notifications in every dialect, read into one: the object that was created.

Understood: S3's own event (any 2.x, any number of records), the same wrapped by SNS (or raw),
EventBridge's ``Object Created``, and ``s3:TestEvent``. Fields that AWS adds later are ignored.
Structure: Amazon S3 User Guide, "Event message structure" and "EventBridge event schema".
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any
from urllib.parse import unquote_plus

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

# S3 form-encodes keys in its own notifications: "a b.csv" arrives as "a+b.csv". EventBridge does not.
EncodedKey = Annotated[str, AfterValidator(unquote_plus)]


class NotificationError(ValueError):
    """The body is no notification that we know; the text says what is wrong with it."""


@dataclass(frozen=True, slots=True)
class ObjectCreated:
    """One object that S3 says was created.

    ``size`` is in bytes; ``sequencer`` orders events of the same key only. Any of the optional
    facts may be missing: emulators and EventBridge leave some out.
    """

    bucket: str
    key: str
    size: int | None = None
    etag: str | None = None
    version_id: str | None = None
    sequencer: str | None = None
    event_time: datetime | None = None


class _Theirs(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class _Bucket(_Theirs):
    name: str = Field(min_length=1)


class _S3Object(_Theirs):
    key: EncodedKey
    size: int | None = None
    etag: str | None = Field(default=None, alias="eTag")
    version_id: str | None = Field(default=None, alias="versionId")
    sequencer: str | None = None


class _S3Entity(_Theirs):
    bucket: _Bucket
    object: _S3Object


class _S3Record(_Theirs):
    event_version: str = Field(alias="eventVersion", pattern=r"^2\.\d+$")
    event_source: str = Field(alias="eventSource")
    event_name: str = Field(alias="eventName")
    event_time: datetime | None = Field(default=None, alias="eventTime")
    s3: _S3Entity


class _EventBridgeObject(_Theirs):
    key: str
    size: int | None = None
    etag: str | None = None
    version_id: str | None = Field(default=None, alias="version-id")
    sequencer: str | None = None


class _EventBridgeDetail(_Theirs):
    bucket: _Bucket
    object: _EventBridgeObject


class _EventBridgeEvent(_Theirs):
    detail_type: str = Field(alias="detail-type")
    source: str
    time: datetime | None = None
    detail: _EventBridgeDetail


def parse_notification(body: str) -> list[ObjectCreated]:
    """Read the body of one SQS message.

    Returns the created objects in the order of the records; an empty list for a test event and for
    events of another kind (a removal, say), which ask for nothing.

    Raises:
        NotificationError: the body is not JSON, or no notification that we know.
    """
    return _from_payload(_load(body))


def _load(text: str) -> dict[str, Any]:
    try:
        payload = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise NotificationError(f"The message is not JSON: {error}") from error
    if not isinstance(payload, dict):
        raise NotificationError(f"The message is a JSON {type(payload).__name__}, not an object.")
    return payload


def _from_payload(payload: dict[str, Any]) -> list[ObjectCreated]:
    if payload.get("Type") == "Notification" and isinstance(payload.get("Message"), str):
        return _from_payload(_load(payload["Message"]))
    if payload.get("Event") == "s3:TestEvent":
        return []
    try:
        if isinstance(payload.get("Records"), list):
            return list(_from_records(payload["Records"]))
        if "detail-type" in payload:
            return _from_eventbridge(payload)
    except ValidationError as error:
        raise NotificationError(_in_words(error)) from error
    raise NotificationError("The message is neither an S3, an SNS nor an EventBridge notification.")


def _from_records(records: list[Any]) -> Iterable[ObjectCreated]:
    for raw in records:
        record = _S3Record.model_validate(raw)
        if not record.event_name.removeprefix("s3:").startswith("ObjectCreated:"):
            continue
        created = record.s3.object
        yield ObjectCreated(
            bucket=record.s3.bucket.name,
            key=created.key,
            size=created.size,
            etag=created.etag,
            version_id=created.version_id,
            sequencer=created.sequencer,
            event_time=record.event_time,
        )


def _from_eventbridge(payload: dict[str, Any]) -> list[ObjectCreated]:
    if payload["detail-type"] != "Object Created":
        return []
    event = _EventBridgeEvent.model_validate(payload)
    created = event.detail.object
    return [
        ObjectCreated(
            bucket=event.detail.bucket.name,
            key=created.key,
            size=created.size,
            etag=created.etag,
            version_id=created.version_id,
            sequencer=created.sequencer,
            event_time=event.time,
        )
    ]


def _in_words(error: ValidationError) -> str:
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    return f"The notification is malformed at {where}: {first['msg']}."
