"""Provisioning: the template applied to AWS, LocalStack or moto through API calls, and read back.

Emulators drop properties of CloudFormation templates in silence; here every property is compared with
what the endpoint then says. The same comparison against AWS is the drift check.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError
from tenacity import Retrying, retry_if_exception, stop_after_attempt, stop_after_delay, wait_fixed

from infra.settings import Settings
from infra.stack.cloud import Cloud, ProvisionError, ResourceMissing
from infra.stack.resources import attribute_of, kind_of, own_name
from infra.stack.template import Resource, Scope, Template, TemplateError, resolve

__all__ = [
    "Drift",
    "ProvisionError",
    "Stack",
    "StackDrift",
    "StackMissing",
    "TemplateError",
    "check",
    "locate",
    "provision",
    "queue_names",
]

# Changed attributes take up to 60 seconds to spread: SQS API reference, SetQueueAttributes.
SETTLE_SECONDS = 75
SETTLE_PAUSE_SECONDS = 5

# What is neither applied nor compared where it cannot be: (resource type, property), by how the endpoint names us.
KNOWN_GAPS = {
    # moto 5.2 never reports RedriveAllowPolicy. In bucket policies it takes a denial under an unmet condition
    # for a denial of everything, so that "only over TLS" would refuse every write.
    re.compile(r"arn:aws:sts::\d{12}:user/moto"): {
        ("AWS::SQS::Queue", "RedriveAllowPolicy"),
        ("AWS::S3::BucketPolicy", "PolicyDocument"),
    },
}


@dataclass(frozen=True, slots=True)
class Stack:
    """Where everything is. ``queue_urls`` has the keys of :func:`queue_names`."""

    bucket: str
    queue_urls: dict[str, str]


@dataclass(frozen=True, slots=True)
class Drift:
    """One property that is not as the template says."""

    resource: str
    property: str
    wanted: Any
    found: Any

    def __str__(self) -> str:
        return f"{self.resource}.{self.property}: wanted {self.wanted!r}, found {self.found!r}"


class StackMissing(Exception):
    """There is no such stack, or only a part of it."""


class StackDrift(ProvisionError):
    """Something did not stick."""

    def __init__(self, drifts: Sequence[Drift]) -> None:
        super().__init__("The endpoint did not keep all of it:\n" + "\n".join(str(drift) for drift in drifts))
        self.drifts = tuple(drifts)


def provision(
    settings: Settings,
    *,
    allowed_origins: Sequence[str] | None = None,
    on_step: Callable[[str], None] = lambda step: None,
) -> Stack:
    """Apply the template and read it back; doing it again changes nothing.

    ``allowed_origins`` are the web pages that may upload; without them the template's default holds.
    Raises StackDrift if a property did not stick, ProvisionError if the bucket is somebody else's.
    """
    cloud = Cloud(settings)
    deployment = _Deployment(cloud, settings, allowed_origins)
    for attempt in _until_settled(settings):
        with attempt:
            deployment.apply(on_step)
            if drifts := list(deployment.drifts()):
                raise StackDrift(drifts)
    on_step("everything read back")
    return _locate(cloud, settings)


def check(settings: Settings, *, allowed_origins: Sequence[str] | None = None) -> list[Drift]:
    """Compare without changing anything. Properties that the template does not set are not looked at."""
    return list(_Deployment(Cloud(settings), settings, allowed_origins).drifts())


def locate(settings: Settings) -> Stack:
    """The stack that these settings name; raises StackMissing if any part of it is not there."""
    return _locate(Cloud(settings), settings)


def queue_names(stack: str) -> dict[str, str]:
    """Every queue's name under its key: queries, visualizations, controls, results, dead_letters."""
    template = Template.shipped()
    parameters = template.parameters({"Stack": stack})
    return {_snake_case(queue.logical_id): own_name(queue, parameters) for queue in template.of_type("AWS::SQS::Queue")}


def _locate(cloud: Cloud, settings: Settings) -> Stack:
    try:
        queue_urls = {key: cloud.queue_url(name) for key, name in queue_names(settings.stack).items()}
        cloud.need_bucket(settings.bucket)
    except ResourceMissing as missing:
        raise StackMissing(f"There is no {missing.name} here yet: run `dropchute provision` first.") from missing
    return Stack(bucket=settings.bucket, queue_urls=queue_urls)


class _Deployment:
    """The shipped template with one endpoint and one set of parameters."""

    def __init__(self, cloud: Cloud, settings: Settings, allowed_origins: Sequence[str] | None) -> None:
        self._cloud = cloud
        self._template = Template.shipped()
        given: dict[str, str | Sequence[str]] = {"Stack": settings.stack, "BucketName": settings.bucket}
        if allowed_origins is not None:
            given["AllowedOrigins"] = allowed_origins
        self._parameters = self._template.parameters(given)

    def apply(self, on_step: Callable[[str], None]) -> None:
        scope = self._scope()
        for resource in self._template.in_order():
            properties = resolve(resource.properties, scope)
            wanted = self._wanted(resource, properties)
            on_step(f"{resource.logical_id} ({resource.type}){'' if wanted else ': left out on this endpoint'}")
            if wanted:
                kind_of(resource).apply(self._cloud, properties, wanted)

    def drifts(self) -> Iterator[Drift]:
        scope = self._scope()
        for resource in self._template.in_order():
            try:
                yield from self._compare(resource, resolve(resource.properties, scope))
            except ResourceMissing as missing:
                yield Drift(resource.logical_id, "existence", missing.name, None)

    def _compare(self, resource: Resource, properties: Mapping[str, Any]) -> list[Drift]:
        kind = kind_of(resource)
        found = kind.found(self._cloud, properties)
        return [
            Drift(resource.logical_id, name, wanted, found.get(name))
            for name, wanted in self._wanted(resource, properties).items()
            if not kind.agrees(wanted, found.get(name))
        ]

    def _wanted(self, resource: Resource, properties: Mapping[str, Any]) -> dict[str, Any]:
        gaps = next((gaps for who, gaps in KNOWN_GAPS.items() if who.fullmatch(self._cloud.identity)), set())
        wanted = kind_of(resource).wanted(resource, properties)
        return {name: value for name, value in wanted.items() if (resource.type, name) not in gaps}

    def _scope(self) -> Scope:
        return Scope({**self._parameters, **self._cloud.pseudo_parameters}, self._attribute)

    def _attribute(self, logical_id: str, name: str) -> str:
        if logical_id not in self._template.resources:
            raise TemplateError(f"{logical_id} is not in the template.")
        resource = self._template.resources[logical_id]
        return attribute_of(self._cloud, resource, name, own_name(resource, self._parameters))


def _until_settled(settings: Settings) -> Retrying:
    """AWS takes its time; an emulator answers at once, so that what it drops is told at once."""
    return Retrying(
        retry=retry_if_exception(_may_settle),
        stop=stop_after_attempt(1) if settings.aws_endpoint_url else stop_after_delay(SETTLE_SECONDS),
        wait=wait_fixed(SETTLE_PAUSE_SECONDS),
        reraise=True,
    )


def _may_settle(error: BaseException) -> bool:
    # S3 refuses a notification with InvalidArgument until SQS has spread the policy that allows it.
    refused = isinstance(error, ClientError) and error.response["Error"]["Code"] == "InvalidArgument"
    return refused or isinstance(error, StackDrift)


def _snake_case(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()
