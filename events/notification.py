"""S3 notifications in every dialect, read into one: the object that was created.

Understood: S3's own event (any 2.x, any number of records), the same wrapped by SNS (or raw),
EventBridge's ``Object Created``, and ``s3:TestEvent``. Fields that AWS adds later are ignored.
Structure: Amazon S3 User Guide, "Event message structure" and "EventBridge event message structure".
"""

import json
import re
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any
from urllib.parse import quote_plus, unquote_plus

from pydantic import AfterValidator, AliasChoices, BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import PydanticCustomError

from events.json_object import JsonError, in_words, load_object

OUR_SOURCE = "dropchute:s3"


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


def _is_known_version(version: str) -> str:
    if re.fullmatch(r"2\.[0-9]+", version) is None:
        raise PydanticCustomError("event_version", f"event version {in_words(version)} is not known, only 2.x")
    return version


Name = Annotated[str, Field(min_length=1)]
# S3 form-encodes keys in its own notifications: "a b.csv" arrives as "a+b.csv". EventBridge does not.
EncodedKey = Annotated[Name, AfterValidator(unquote_plus)]
EventVersion = Annotated[str, AfterValidator(_is_known_version)]


class _Theirs(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class _Bucket(_Theirs):
    name: Name


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
    event_version: EventVersion = Field(alias="eventVersion")
    # Other S3 stores have names of their own: minio:s3, ceph:s3.
    event_source: str = Field(alias="eventSource", pattern=r"^[a-z]+:s3$")
    event_name: str = Field(alias="eventName")
    event_time: datetime | None = Field(default=None, alias="eventTime")
    s3: _S3Entity

    @property
    def is_creation(self) -> bool:
        return self.event_name.removeprefix("s3:").startswith("ObjectCreated:")


class _S3Notification(_Theirs):
    records: tuple[_S3Record, ...] = Field(alias="Records")


class _EventBridgeObject(_Theirs):
    key: Name
    size: int | None = None
    # AWS writes etag, moto eTag.
    etag: str | None = Field(default=None, validation_alias=AliasChoices("etag", "eTag"))
    version_id: str | None = Field(default=None, alias="version-id")
    sequencer: str | None = None


class _EventBridgeDetail(_Theirs):
    bucket: _Bucket
    object: _EventBridgeObject


class _EventBridgeEvent(_Theirs):
    source: str = Field(pattern=r"^aws\.s3$")
    time: datetime | None = None
    detail: _EventBridgeDetail


def parse_notification(body: str) -> list[ObjectCreated]:
    """Read the body of one SQS message.

    Returns the created objects in the order of the records; an empty list for a test event and for
    events of another kind (a removal, say), which ask for nothing.

    Raises:
        NotificationError: the body is not JSON, or no notification that we know.
    """
    payload = _load(body)
    if _is_wrapped(payload):
        payload = _load(payload["Message"])
    return _read(payload)


def notification_of(bucket: str, key: str, *, at: datetime) -> str:
    """A notification like S3's for an object that was created: ours, for one whose own never came."""
    created = {"bucket": {"name": bucket}, "object": {"key": quote_plus(key, safe="/")}}
    record = {
        "eventVersion": "2.1",
        "eventSource": OUR_SOURCE,
        "eventTime": at.isoformat(),
        "eventName": "ObjectCreated:Put",
        "s3": created,
    }
    return json.dumps({"Records": [record]})


def _load(text: str) -> dict[str, Any]:
    try:
        return load_object(text)
    except JsonError as error:
        raise NotificationError(f"The message cannot be read: {error}.") from error


def _is_wrapped(payload: dict[str, Any]) -> bool:
    return payload.get("Type") == "Notification" and isinstance(payload.get("Message"), str)


def _read(payload: dict[str, Any]) -> list[ObjectCreated]:
    if payload.get("Event") == "s3:TestEvent":
        return []
    try:
        if "Records" in payload:
            records = _S3Notification.model_validate(payload).records
            return [_created(record.s3, record.event_time) for record in records if record.is_creation]
        if "detail-type" in payload:
            return _from_eventbridge(payload)
    except ValidationError as error:
        raise NotificationError(_in_words(error)) from error
    raise NotificationError(
        "The message is neither an S3 nor an EventBridge notification, nor one wrapped by SNS once."
    )


def _from_eventbridge(payload: dict[str, Any]) -> list[ObjectCreated]:
    if payload["detail-type"] != "Object Created":
        return []
    event = _EventBridgeEvent.model_validate(payload)
    return [_created(event.detail, event.time)]


def _created(entity: _S3Entity | _EventBridgeDetail, time: datetime | None) -> ObjectCreated:
    created = entity.object
    return ObjectCreated(
        bucket=entity.bucket.name,
        key=created.key,
        size=created.size,
        etag=created.etag,
        version_id=created.version_id,
        sequencer=created.sequencer,
        event_time=time,
    )


def _in_words(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    return f"The notification is malformed at {where}: {first['msg']}."
