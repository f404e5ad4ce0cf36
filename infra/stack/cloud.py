"""The endpoint that a stack lives on: its clients, who we are there, and what is there already."""

from functools import cached_property

from botocore.exceptions import ClientError

from infra.clients import sync_client
from infra.settings import Settings


class ProvisionError(Exception):
    """The stack is not as the template says; the text says what stands in the way."""


class ResourceMissing(Exception):
    """A resource of the stack is not there; ``name`` is what the service calls it."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


class Cloud:
    """One endpoint: its clients, who we are there, and where its queues are.

    For one run of provisioning: what it has found, it does not ask for again.
    """

    def __init__(self, settings: Settings) -> None:
        self._region = settings.region
        self.s3 = sync_client(settings, "s3")
        self.sqs = sync_client(settings, "sqs")
        self._sts = sync_client(settings, "sts")
        self._urls: dict[str, str] = {}
        self._arns: dict[str, str] = {}

    @cached_property
    def identity(self) -> str:
        """Our own ARN: ``arn:{partition}:{service}::{account}:{who}``."""
        return str(self._sts.get_caller_identity()["Arn"])

    @property
    def pseudo_parameters(self) -> dict[str, str]:
        """CloudFormation's own names for where we are."""
        _, partition, _, _, account, _ = self.identity.split(":", 5)
        return {"AWS::Partition": partition, "AWS::Region": self._region, "AWS::AccountId": account}

    def queue_url(self, name: str) -> str:
        """Raises ResourceMissing."""
        if name not in self._urls:
            try:
                self._urls[name] = self.sqs.get_queue_url(QueueName=name)["QueueUrl"]
            except self.sqs.exceptions.QueueDoesNotExist as error:
                raise ResourceMissing(name) from error
        return self._urls[name]

    def queue_arn(self, name: str) -> str:
        """Raises ResourceMissing."""
        if name not in self._arns:
            self._arns[name] = self.queue_attributes(self.queue_url(name), "QueueArn")["QueueArn"]
        return self._arns[name]

    def queue_attributes(self, url: str, *names: str) -> dict[str, str]:
        answer = self.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=list(names))
        return dict(answer.get("Attributes", {}))

    def has_bucket(self, name: str) -> bool:
        """Raises ProvisionError if it is not ours to see."""
        try:
            self.s3.head_bucket(Bucket=name)
        except ClientError as error:
            # HEAD has no body: the status is all there is.
            status = error.response["ResponseMetadata"]["HTTPStatusCode"]
            if status == 403:
                raise ProvisionError(
                    f"The bucket {name} belongs to somebody else, or these keys may not see it. "
                    "Choose another AWS_TEMP_BUCKET, or other keys."
                ) from error
            if status == 404:
                return False
            raise
        return True

    def need_bucket(self, name: str) -> None:
        """Raises ResourceMissing if there is no such bucket."""
        if not self.has_bucket(name):
            raise ResourceMissing(name)

    def create_bucket(self, name: str) -> None:
        # us-east-1 is where buckets go by themselves, and may not be named: S3 API reference, CreateBucket.
        place = {} if self._region == "us-east-1" else {"LocationConstraint": self._region}
        self.s3.create_bucket(Bucket=name, **({"CreateBucketConfiguration": place} if place else {}))
