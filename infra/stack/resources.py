"""The resource types: how each is applied through its own API, and read back property by property."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from botocore.exceptions import ClientError

from infra.stack.cloud import Cloud, ResourceMissing
from infra.stack.spelling import (
    CORS,
    ENCRYPTION,
    LIFECYCLE,
    NOTIFICATION,
    OWNERSHIP,
    PUBLIC_ACCESS,
    QUEUE,
    Shape,
    agrees,
    spell,
)
from infra.stack.template import Resource, Scope, TemplateError, resolve

Properties = Mapping[str, Any]


class Kind(Protocol):
    """What provisioning knows of one resource type. Properties come resolved."""

    def wanted(self, resource: Resource, properties: Properties) -> dict[str, Any]:
        """What each property should read as; raises TemplateError for a property that is not known."""

    def apply(self, cloud: Cloud, properties: Properties, wanted: Properties) -> None:
        """Make it so, whatever was there."""

    def found(self, cloud: Cloud, properties: Properties) -> dict[str, Any]:
        """What each property reads as, None where there is nothing; raises ResourceMissing."""

    def agrees(self, wanted: Any, found: Any) -> bool: ...


class QueueKind:
    """Attribute values are JSON: numbers, booleans and objects alike."""

    def wanted(self, resource: Resource, properties: Properties) -> dict[str, Any]:
        known = {"QueueName": properties["QueueName"]}
        rest = {name: value for name, value in properties.items() if name not in known}
        spelled: dict[str, Any] = spell(rest, QUEUE, resource.logical_id)
        return spelled

    def apply(self, cloud: Cloud, properties: Properties, wanted: Properties) -> None:
        attributes = {name: json.dumps(value) for name, value in wanted.items()}
        try:
            url = cloud.queue_url(properties["QueueName"])
        except ResourceMissing:
            cloud.sqs.create_queue(QueueName=properties["QueueName"], Attributes=attributes)
        else:
            # A queue is born FIFO or not; the read-back tells if it was born wrong.
            attributes.pop("FifoQueue", None)
            cloud.sqs.set_queue_attributes(QueueUrl=url, Attributes=attributes)

    def found(self, cloud: Cloud, properties: Properties) -> dict[str, Any]:
        attributes = cloud.queue_attributes(cloud.queue_url(properties["QueueName"]), "All")
        return {name: json.loads(attributes[name]) for name in QUEUE if name in attributes}

    def agrees(self, wanted: Any, found: Any) -> bool:
        return agrees(wanted, found)


class QueuePolicyKind:
    """One policy, put on several queues."""

    def wanted(self, resource: Resource, properties: Properties) -> dict[str, Any]:
        _only(properties, {"Queues", "PolicyDocument"}, resource)
        return {_policy_of(url): properties["PolicyDocument"] for url in properties["Queues"]}

    def apply(self, cloud: Cloud, properties: Properties, wanted: Properties) -> None:
        policy = json.dumps(properties["PolicyDocument"])
        for url in properties["Queues"]:
            cloud.sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": policy})

    def found(self, cloud: Cloud, properties: Properties) -> dict[str, Any]:
        policies = {url: cloud.queue_attributes(url, "Policy").get("Policy") for url in properties["Queues"]}
        return {_policy_of(url): json.loads(policy) if policy else None for url, policy in policies.items()}

    def agrees(self, wanted: Any, found: Any) -> bool:
        # Exactly: one condition more, or less, is another policy.
        return bool(wanted == found)


@dataclass(frozen=True, slots=True)
class BucketPart:
    """One property of a bucket, which has calls of its own: ``put_…`` and ``get_…``."""

    shape: Shape
    calls: str
    argument: str
    nothing: str = ""
    """The error code that means there is none."""

    def put(self, s3: Any, bucket: str, value: Any) -> None:
        getattr(s3, f"put_{self.calls}")(Bucket=bucket, **{self.argument: value})

    def get(self, s3: Any, bucket: str) -> Any:
        try:
            answer = getattr(s3, f"get_{self.calls}")(Bucket=bucket)
        except ClientError as error:
            if error.response["Error"]["Code"] == self.nothing:
                return None
            raise
        # Some calls answer with the whole argument, others with what is in it.
        return answer.get(self.argument, answer)


BUCKET_PARTS = {
    "BucketEncryption": BucketPart(
        ENCRYPTION,
        "bucket_encryption",
        "ServerSideEncryptionConfiguration",
        "ServerSideEncryptionConfigurationNotFoundError",
    ),
    "PublicAccessBlockConfiguration": BucketPart(
        PUBLIC_ACCESS,
        "public_access_block",
        "PublicAccessBlockConfiguration",
        "NoSuchPublicAccessBlockConfiguration",
    ),
    "OwnershipControls": BucketPart(
        OWNERSHIP, "bucket_ownership_controls", "OwnershipControls", "OwnershipControlsNotFoundError"
    ),
    "CorsConfiguration": BucketPart(CORS, "bucket_cors", "CORSConfiguration", "NoSuchCORSConfiguration"),
    "LifecycleConfiguration": BucketPart(
        LIFECYCLE, "bucket_lifecycle_configuration", "LifecycleConfiguration", "NoSuchLifecycleConfiguration"
    ),
    "NotificationConfiguration": BucketPart(
        NOTIFICATION, "bucket_notification_configuration", "NotificationConfiguration"
    ),
}


class BucketKind:
    def wanted(self, resource: Resource, properties: Properties) -> dict[str, Any]:
        _only(properties, {"BucketName", *BUCKET_PARTS}, resource)
        return {
            name: spell(properties[name], part.shape, f"{resource.logical_id}.{name}")
            for name, part in BUCKET_PARTS.items()
            if name in properties
        }

    def apply(self, cloud: Cloud, properties: Properties, wanted: Properties) -> None:
        bucket = properties["BucketName"]
        if not cloud.has_bucket(bucket):
            cloud.create_bucket(bucket)
        for name, value in wanted.items():
            BUCKET_PARTS[name].put(cloud.s3, bucket, value)

    def found(self, cloud: Cloud, properties: Properties) -> dict[str, Any]:
        bucket = properties["BucketName"]
        cloud.need_bucket(bucket)
        return {name: _lower_rule_names(part.get(cloud.s3, bucket)) for name, part in BUCKET_PARTS.items()}

    def agrees(self, wanted: Any, found: Any) -> bool:
        return agrees(wanted, found)


class BucketPolicyKind:
    def wanted(self, resource: Resource, properties: Properties) -> dict[str, Any]:
        _only(properties, {"Bucket", "PolicyDocument"}, resource)
        return {"PolicyDocument": properties["PolicyDocument"]}

    def apply(self, cloud: Cloud, properties: Properties, wanted: Properties) -> None:
        cloud.s3.put_bucket_policy(Bucket=properties["Bucket"], Policy=json.dumps(wanted["PolicyDocument"]))

    def found(self, cloud: Cloud, properties: Properties) -> dict[str, Any]:
        bucket = properties["Bucket"]
        cloud.need_bucket(bucket)
        policy = BucketPart({}, "bucket_policy", "Policy", "NoSuchBucketPolicy").get(cloud.s3, bucket)
        return {"PolicyDocument": None if policy is None else json.loads(policy)}

    def agrees(self, wanted: Any, found: Any) -> bool:
        return bool(wanted == found)


_KINDS: dict[str, Kind] = {
    "AWS::SQS::Queue": QueueKind(),
    "AWS::SQS::QueuePolicy": QueuePolicyKind(),
    "AWS::S3::Bucket": BucketKind(),
    "AWS::S3::BucketPolicy": BucketPolicyKind(),
}


_NAMES = {"AWS::SQS::Queue": "QueueName", "AWS::S3::Bucket": "BucketName"}


def kind_of(resource: Resource) -> Kind:
    """Raises TemplateError for a type that is not known."""
    if resource.type not in _KINDS:
        raise TemplateError(f"{resource.logical_id} is of the unknown type {resource.type}.")
    return _KINDS[resource.type]


def own_name(resource: Resource, parameters: Mapping[str, Any]) -> str:
    """What the service calls a resource: a matter of parameters alone. Raises TemplateError if it has no name."""
    if resource.type not in _NAMES:
        raise TemplateError(f"{resource.logical_id} has no name to refer to it by.")
    return str(resolve(resource.properties[_NAMES[resource.type]], Scope(parameters, _no_attribute)))


def attribute_of(cloud: Cloud, resource: Resource, name: str, physical_name: str) -> str:
    """What ``Ref`` and ``Fn::GetAtt`` say of a resource; raises ResourceMissing, or TemplateError if not known."""
    match resource.type, name:
        case "AWS::SQS::Queue", "Ref":
            return cloud.queue_url(physical_name)
        case "AWS::SQS::Queue", "Arn":
            return cloud.queue_arn(physical_name)
        case "AWS::S3::Bucket", "Ref":
            return physical_name
        case _:
            raise TemplateError(f"{resource.logical_id}.{name} is not known to provisioning.")


def _no_attribute(logical_id: str, name: str) -> str:
    raise TemplateError(f"{logical_id}.{name} cannot be part of a resource's name.")


def _lower_rule_names(value: Any) -> Any:
    """S3 answers ``Prefix`` and ``Suffix`` where it was told ``prefix`` and ``suffix``."""
    if isinstance(value, dict):
        if value.keys() == {"Name", "Value"}:
            return {"Name": value["Name"].lower(), "Value": value["Value"]}
        return {name: _lower_rule_names(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_lower_rule_names(inner) for inner in value]
    return value


def _only(properties: Properties, known: set[str], resource: Resource) -> None:
    for name in properties:
        if name not in known:
            raise TemplateError(f"{resource.logical_id}.{name} is not known to provisioning.")


def _policy_of(url: str) -> str:
    return f"PolicyDocument of {url.rsplit('/', 1)[-1]}"
