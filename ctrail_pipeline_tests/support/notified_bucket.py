"""A bucket of moto's server that sends notifications to a queue, in each way that AWS has.

Each object lies in a local folder, too, for the oracle, which reads folders.
"""

import json
import os
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any, Final
from urllib.request import Request, urlopen

import boto3
import pytest

from ctrail_pipeline.core.settings import Settings, Trail

from .new_log_files import put
from .sync_process import settings_in

BUCKET: Final = "logs"
WAYS: Final = ("s3", "sns", "raw sns", "eventbridge")
ACCOUNT: Final = "123456789012"


def set_nobodys_credentials(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Set credentials of nobody: no test reaches beyond this machine."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": str(folder / "none"),
        "AWS_SHARED_CREDENTIALS_FILE": str(folder / "none"),
    }.items():
        monkeypatch.setenv(name, value)


class NotifiedBucket:
    """A bucket, its queue, and a trail that reads both."""

    def __init__(self, endpoint: str, folder: Path) -> None:
        """`endpoint`: of moto's server, which forgets what earlier tests put there."""
        self.endpoint = endpoint
        self.folder = folder / BUCKET
        self.folder.mkdir()
        self._home = folder
        # All of moto's servers in a process share what they hold.
        urlopen(Request(f"{endpoint}/moto-api/reset", method="POST"), timeout=60).close()
        self.s3, self.sqs = self.client("s3"), self.client("sqs")
        self.s3.create_bucket(Bucket=BUCKET)
        self.queue = self.make_queue("trail-events")

    def client(self, service: str) -> Any:
        """Return a client of moto's server."""
        return _client(service, self.endpoint)

    def make_queue(self, name: str, **attributes: str) -> str:
        """Make a queue that hides messages for a second, and return its URL."""
        reply = self.sqs.create_queue(
            QueueName=name, Attributes={"VisibilityTimeout": "1", **attributes}
        )
        return str(reply["QueueUrl"])

    def arn(self, queue: str) -> str:
        """Return the ARN of a queue."""
        reply = self.sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])
        return str(reply["Attributes"]["QueueArn"])

    def notify(self, way: str) -> None:
        """Have the bucket send its notifications to the queue, in one of WAYS."""
        created = ["s3:ObjectCreated:*"]
        arn = self.arn(self.queue)
        if way == "s3":
            rules: dict[str, Any] = {"QueueConfigurations": [{"QueueArn": arn, "Events": created}]}
        elif way == "eventbridge":
            rules = {"EventBridgeConfiguration": {}}
            events = self.client("events")
            events.put_rule(Name="new", EventPattern=json.dumps({"source": ["aws.s3"]}))
            events.put_targets(Rule="new", Targets=[{"Id": "queue", "Arn": arn}])
        else:
            rules = {
                "TopicConfigurations": [
                    {"TopicArn": self.topic(raw=way != "sns"), "Events": created}
                ]
            }
        self.s3.put_bucket_notification_configuration(
            Bucket=BUCKET, NotificationConfiguration=rules
        )

    def topic(self, *, raw: bool) -> str:
        """Return the ARN of a topic that sends to the queue."""
        sns = self.client("sns")
        topic = str(sns.create_topic(Name="trail-events")["TopicArn"])
        attributes = {"RawMessageDelivery": "true"} if raw else {}
        sns.subscribe(
            TopicArn=topic,
            Protocol="sqs",
            Endpoint=self.arn(self.queue),
            Attributes=attributes,
        )
        return topic

    def put(self, account: str, region: str, moment: datetime, suffix: str) -> str:
        """Put a log file with one event, as `new_log_files.put` does; return its key."""
        key = put(self.folder, account, region, moment, suffix)
        self.s3.put_object(Bucket=BUCKET, Key=key, Body=(self.folder / key).read_bytes())
        return key

    def send(self, *bodies: str) -> None:
        """Send messages to the queue."""
        for first in range(0, len(bodies), 10):
            entries = [
                {"Id": str(number), "MessageBody": body}
                for number, body in enumerate(bodies[first : first + 10])
            ]
            self.sqs.send_message_batch(QueueUrl=self.queue, Entries=entries)

    @property
    def messages(self) -> int:
        """How many messages are in the queue, hidden ones too."""
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        reply = self.sqs.get_queue_attributes(QueueUrl=self.queue, AttributeNames=names)
        return sum(int(reply["Attributes"][name]) for name in names)

    def trail(self, **changes: Any) -> Trail:
        """Return a trail that reads the bucket."""
        changes = {"name": "main", "bucket": BUCKET, "queue": self.queue} | changes
        return Trail(endpoint_url=self.endpoint, **changes)

    def settings(self, *trails: Trail) -> Settings:
        """Return settings for trails; by default for the one that reads the bucket."""
        return settings_in(self._home, trails or [self.trail()])


@cache
def _client(service: str, endpoint: str) -> Any:
    """Make a client, which all tests of a process share: it takes longer to make than to use."""
    return boto3.session.Session().client(service, endpoint_url=endpoint)


def s3_message(*keys: str, bucket: str = BUCKET, **about: object) -> str:
    """Return a message of S3 about objects, whose keys are written as they are given."""
    return json.dumps(
        {
            "Records": [
                {
                    "eventSource": "aws:s3",
                    "eventName": "ObjectCreated:Put",
                    "s3": {"bucket": {"name": bucket}, "object": {"key": key, **about}},
                }
                for key in keys
            ]
        }
    )
