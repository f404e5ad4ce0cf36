"""The spelling: a property as CloudFormation writes it, turned into what the service's own API takes.

Each shape lists every name that is known at its level; a name that is missing raises, at any depth.
Sources: the CloudFormation template reference for AWS::S3::Bucket and AWS::SQS::Queue, and the S3 and SQS
API references.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from infra.stack.template import TemplateError


@dataclass(frozen=True, slots=True)
class Spelled:
    """The API's name for one name of CloudFormation.

    A dot nests (``Expiration.Days``); ``listed`` means that the API wants a list where CloudFormation
    has a single value. Without an inner shape the value must be a scalar or a list of scalars.
    """

    path: str
    shape: Mapping[str, "Spelled"] = field(default_factory=dict)
    listed: bool = False


Shape = Mapping[str, Spelled]


def same(*names: str) -> dict[str, Spelled]:
    """Names that are written alike on both sides."""
    return {name: Spelled(name) for name in names}


ENCRYPTION: Shape = {
    "ServerSideEncryptionConfiguration": Spelled(
        "Rules",
        {"ServerSideEncryptionByDefault": Spelled("ApplyServerSideEncryptionByDefault", same("SSEAlgorithm"))},
    )
}
PUBLIC_ACCESS: Shape = same("BlockPublicAcls", "BlockPublicPolicy", "IgnorePublicAcls", "RestrictPublicBuckets")
OWNERSHIP: Shape = {"Rules": Spelled("Rules", same("ObjectOwnership"))}
CORS: Shape = {
    "CorsRules": Spelled(
        "CORSRules",
        {
            **same("AllowedHeaders", "AllowedMethods", "AllowedOrigins"),
            "ExposedHeaders": Spelled("ExposeHeaders"),
            "MaxAge": Spelled("MaxAgeSeconds"),
        },
    )
}
LIFECYCLE: Shape = {
    "Rules": Spelled(
        "Rules",
        {
            "Id": Spelled("ID"),
            "Status": Spelled("Status"),
            "Prefix": Spelled("Filter.Prefix"),
            "ExpirationInDays": Spelled("Expiration.Days"),
            "AbortIncompleteMultipartUpload": Spelled("AbortIncompleteMultipartUpload", same("DaysAfterInitiation")),
        },
    )
}
NOTIFICATION: Shape = {
    "QueueConfigurations": Spelled(
        "QueueConfigurations",
        {
            "Event": Spelled("Events", listed=True),
            "Queue": Spelled("QueueArn"),
            "Filter": Spelled(
                "Filter", {"S3Key": Spelled("Key", {"Rules": Spelled("FilterRules", same("Name", "Value"))})}
            ),
        },
    )
}
QUEUE: Shape = {
    **same(
        "FifoQueue",
        "ContentBasedDeduplication",
        "VisibilityTimeout",
        "MessageRetentionPeriod",
        "ReceiveMessageWaitTimeSeconds",
        "SqsManagedSseEnabled",
    ),
    "RedrivePolicy": Spelled("RedrivePolicy", same("deadLetterTargetArn", "maxReceiveCount")),
    "RedriveAllowPolicy": Spelled("RedriveAllowPolicy", same("redrivePermission", "sourceQueueArns")),
}


def spell(value: Any, shape: Shape, where: str) -> Any:
    """The API's form of a resolved property; ``where`` names it in the TemplateError for an unknown name."""
    if isinstance(value, list):
        return [spell(inner, shape, where) for inner in value]
    if not isinstance(value, dict):
        if shape:
            raise TemplateError(f"{where} should be a mapping, not {value!r}.")
        return value
    spelled: dict[str, Any] = {}
    for name, inner in value.items():
        if name not in shape:
            raise TemplateError(f"{where}.{name} is not known to provisioning.")
        target = shape[name]
        _place(spelled, target, spell(inner, target.shape, f"{where}.{name}"))
    return spelled


def _place(spelled: dict[str, Any], target: Spelled, value: Any) -> None:
    *outer, last = target.path.split(".")
    for name in outer:
        spelled = spelled.setdefault(name, {})
    spelled[last] = [value] if target.listed else value


def agrees(wanted: Any, found: Any) -> bool:
    """Whether ``found`` says what ``wanted`` says.

    Services add fields of their own (an Id, a BucketKeyEnabled) and keep no order in lists; neither
    counts. A list that is longer or shorter does.
    """
    if isinstance(wanted, dict):
        return isinstance(found, dict) and all(
            name in found and agrees(inner, found[name]) for name, inner in wanted.items()
        )
    if isinstance(wanted, list):
        return isinstance(found, list) and len(wanted) == len(found) and _all_met(wanted, found)
    return bool(wanted == found)


def _all_met(wanted: list[Any], found: list[Any]) -> bool:
    rest = list(found)
    for one in wanted:
        met = next((index for index, other in enumerate(rest) if agrees(one, other)), None)
        if met is None:
            return False
        del rest[met]
    return True
