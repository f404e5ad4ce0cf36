"""Records what an S3 emulator really sends: each kind of notification, as it arrives in an SQS queue.

    python tests/data/notifications/record.py NAME ENDPOINT_URL

writes ``NAME-*.json`` beside this file. The emulator must serve S3, SQS, SNS and EventBridge.
"""

import json
import sys
from pathlib import Path
from typing import Any

import boto3

FOLDER = Path(__file__).parent
BUCKET = "dropchute-recorded"
MANIFEST = "sessions/sess-0001/jobs/job-00000001/query.manifest.json"
AWKWARD = "sessions/sess-0001/Q1 & Q2/a+b \u20ac.csv"


class Recorder:
    def __init__(self, name: str, endpoint_url: str) -> None:
        self._name = name
        self._session = boto3.Session("test", "test", region_name="us-east-1")
        self._endpoint_url = endpoint_url
        self.s3, self.sqs = self.client("s3"), self.client("sqs")
        self.sns, self.events = self.client("sns"), self.client("events")

    def client(self, service: str) -> Any:
        return self._session.client(service, endpoint_url=self._endpoint_url)  # type: ignore[call-overload]

    def queue(self, name: str) -> tuple[str, str]:
        url = self.sqs.create_queue(QueueName=name)["QueueUrl"]
        arn = self.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        return url, arn

    def keep(self, url: str, *names: str) -> None:
        """Write the next messages of the queue, in order, under these names."""
        for name in names:
            message = self.sqs.receive_message(QueueUrl=url, WaitTimeSeconds=10)["Messages"][0]
            self.sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
            body = json.dumps(json.loads(message["Body"]), indent=2)
            (FOLDER / f"{self._name}-{name}.json").write_text(body + "\n")

    def bucket(self, name: str, configuration: dict[str, Any]) -> None:
        self.s3.create_bucket(Bucket=name)
        self.s3.put_bucket_notification_configuration(Bucket=name, NotificationConfiguration=configuration)

    def direct(self) -> None:
        url, arn = self.queue("recorded-direct")
        events = ["s3:ObjectCreated:*", "s3:ObjectRemoved:*"]
        self.bucket(BUCKET, {"QueueConfigurations": [{"QueueArn": arn, "Events": events}]})
        self.keep(url, "test-event")
        self.s3.put_object(Bucket=BUCKET, Key=MANIFEST, Body=b"{}")
        self.keep(url, "put")
        self.s3.put_object(Bucket=BUCKET, Key=AWKWARD, Body=b"1;2")
        self.keep(url, "put-awkward-key")
        self.s3.delete_object(Bucket=BUCKET, Key=AWKWARD)
        self.keep(url, "removed")
        self.s3.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
        self.s3.put_object(Bucket=BUCKET, Key=MANIFEST, Body=b"{}")
        self.keep(url, "put-versioned")

    def by_topic(self) -> None:
        url, arn = self.queue("recorded-sns")
        topic = self.sns.create_topic(Name="recorded")["TopicArn"]
        self.sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn)
        configuration = {"TopicArn": topic, "Events": ["s3:ObjectCreated:*"]}
        self.bucket(f"{BUCKET}-sns", {"TopicConfigurations": [configuration]})
        self.keep(url, "sns-test-event")
        self.s3.put_object(Bucket=f"{BUCKET}-sns", Key=MANIFEST, Body=b"{}")
        self.keep(url, "sns-put")

    def by_eventbridge(self) -> None:
        url, arn = self.queue("recorded-eventbridge")
        self.events.put_rule(Name="recorded", EventPattern=json.dumps({"source": ["aws.s3"]}))
        self.events.put_targets(Rule="recorded", Targets=[{"Id": "queue", "Arn": arn}])
        self.bucket(f"{BUCKET}-eventbridge", {"EventBridgeConfiguration": {}})
        self.s3.put_object(Bucket=f"{BUCKET}-eventbridge", Key=AWKWARD, Body=b"1;2")
        self.keep(url, "eventbridge-put-awkward-key")


if __name__ == "__main__":
    recorder = Recorder(*sys.argv[1:])
    recorder.direct()
    recorder.by_topic()
    recorder.by_eventbridge()
