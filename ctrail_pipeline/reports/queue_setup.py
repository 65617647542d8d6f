"""What to create so that a bucket says what is new: as AWS CLI commands, CloudFormation, Terraform.

For each bucket of the configured trails: a queue, its dead-letter queue, who may send to it, and
the bucket's notification or a rule of EventBridge. Text only: nothing is asked or changed.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit

from ctrail_pipeline.core.bucket.bucket_name import access_point
from ctrail_pipeline.core.exceptions import ConfigurationError
from ctrail_pipeline.core.keys.source_prefix import logs_root
from ctrail_pipeline.core.settings import Settings, Trail

WAYS: Final = ("s3", "eventbridge")
_RETENTION_SECONDS: Final = 14 * 86_400
"""As long as SQS allows: a deployment that stands still for days misses nothing."""
_RECEIPTS: Final = 10
"""After so many receipts a message that stays goes to the dead-letter queue."""
_LONGEST_NAME: Final = 80 - len("-2-2-dead")
_NO_NAME: Final = re.compile(r"[^A-Za-z0-9_-]")
_VARIABLE: Final = re.compile(r"@@([A-Z_]+)@@")
_REPLACES = (
    "A bucket has one notification configuration, and this replaces it: if the bucket notifies"
    " others already, add this to what it has."
)


@dataclass
class _Plan:
    """The queue of one bucket."""

    bucket: str
    name: str
    region: str | None
    trails: list[str] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    """Where the log files of its trails lie. None of them lies in another one."""

    @property
    def dead(self) -> str:
        """The name of the dead-letter queue."""
        return f"{self.name}-dead"

    @property
    def resource(self) -> str:
        """Its name as a part of the names of resources."""
        return re.sub(r"[^A-Za-z0-9]", "", self.name.title())

    @property
    def identifier(self) -> str:
        """Its name as Terraform takes one."""
        return self.name.replace("-", "_").lower()


def setup_text(settings: Settings, form: str, way: str) -> str:
    """Return what to create, in one of FORMS; the notifications come in one of WAYS.

    Raises ConfigurationError if no trail has a bucket that can send notifications.
    """
    plans = _plans(settings)
    return FORMS[form](plans, way)


def _plans(settings: Settings) -> list[_Plan]:
    plans: dict[str, _Plan] = {}
    for trail in settings.trails:
        if trail.bucket.startswith("file://"):
            continue
        bucket = _bucket_of(trail)
        name = urlsplit(trail.queue or "").path.rpartition("/")[2]
        name = name or _NO_NAME.sub("-", f"ctrail-{bucket}")[:_LONGEST_NAME]
        while any(plan.name == name and plan.bucket != bucket for plan in plans.values()):
            name += "-2"  # as of my.logs and my-logs
        plan = plans.setdefault(bucket, _Plan(bucket, name, trail.region or trail.home_region))
        plan.trails.append(trail.name)
        folders = [*plan.folders, *map(logs_root, _prefixes_delivered_to(trail))]
        # S3 refuses two rules of which one holds the other.
        plan.folders = [
            folder
            for folder in dict.fromkeys(folders)
            if not any(folder != other and folder.startswith(other) for other in folders)
        ]
    if not plans:
        raise ConfigurationError(
            "no trail has a bucket in S3, and a folder sends no notifications: name one in `trails`"
        )
    return list(plans.values())


def _bucket_of(trail: Trail) -> str:
    """Return the name of a trail's bucket, which notifications name."""
    bucket = (trail.delivered_to or trail.bucket).partition("/")[0]
    if access_point(trail.bucket) is not None and trail.delivered_to is None:
        raise ConfigurationError(
            f"{trail.title} reads through an access point, and its bucket sends the notifications:"
            " name the bucket in `delivered_to`"
        )
    return bucket


def _prefixes_delivered_to(trail: Trail) -> tuple[str, ...]:
    _, slash, prefix = (trail.delivered_to or "").partition("/")
    return (prefix,) if slash else trail.prefixes


def _policy(plan: _Plan, way: str, queue: Any, source: Any, account: Any) -> dict[str, Any]:
    """Return who may send to a queue: `source` is the ARN of the bucket or of the rule."""
    service = "s3.amazonaws.com" if way == "s3" else "events.amazonaws.com"
    return {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Sid": f"Notifications{plan.resource}",
                "Effect": "Allow",
                "Principal": {"Service": service},
                "Action": "sqs:SendMessage",
                "Resource": queue,
                "Condition": {
                    "ArnEquals": {"aws:SourceArn": source},
                    "StringEquals": {"aws:SourceAccount": account},
                },
            }
        ],
    }


def _notification(plan: _Plan, way: str, queue: str) -> dict[str, Any]:
    """Return the bucket's notification configuration."""
    if way == "eventbridge":
        return {"EventBridgeConfiguration": {}}
    return {
        "QueueConfigurations": [
            {
                "Id": f"{plan.name}-{number}",
                "QueueArn": queue,
                "Events": ["s3:ObjectCreated:*"],
                "Filter": {"Key": {"FilterRules": [{"Name": "prefix", "Value": folder}]}},
            }
            for number, folder in enumerate(plan.folders, 1)
        ]
    }


def _pattern(plan: _Plan) -> dict[str, Any]:
    """Return the events that a rule of EventBridge takes."""
    return {
        "source": ["aws.s3"],
        "detail-type": ["Object Created"],
        "detail": {
            "bucket": {"name": [plan.bucket]},
            "object": {"key": [{"prefix": folder} for folder in plan.folders]},
        },
    }


def _as_commands(plans: list[_Plan], way: str) -> str:
    """Return a script for a shell with the AWS CLI."""
    lines = [
        "# Nothing has been changed yet. Run this as whoever may make queues and change the",
        "# bucket, in the bucket's account. Then name the queues in the configuration.",
        "set -eu",
        "ACCOUNT=$(aws sts get-caller-identity --query Account --output text)",
    ]
    for plan in plans:
        lines += ["", f"# The bucket {plan.bucket}: {', '.join(plan.trails)}".replace("\n", " ")]
        if plan.region:
            lines.append(f"export AWS_REGION={plan.region} AWS_DEFAULT_REGION={plan.region}")
        else:
            lines.append("# Set AWS_REGION to the bucket's region before: the queue must be there.")
        retention = {"MessageRetentionPeriod": str(_RETENTION_SECONDS)}
        for variable, name in (("DEAD", plan.dead), ("QUEUE", plan.name)):
            lines += [
                f"{variable}=$(aws sqs create-queue --queue-name {name} --query QueueUrl"
                f" --output text --attributes {_quoted(retention)})",
                f'{variable}_ARN=$(aws sqs get-queue-attributes --queue-url "${variable}"'
                " --attribute-names QueueArn --query Attributes.QueueArn --output text)",
            ]
        lines.append('PARTITION=$(echo "$QUEUE_ARN" | cut -d: -f2)')
        source = f"arn:@@PARTITION@@:s3:::{plan.bucket}"
        if way == "eventbridge":
            lines.append(
                f"RULE_ARN=$(aws events put-rule --name {plan.name} --query RuleArn --output text"
                f" --event-pattern {_quoted(_pattern(plan))})"
            )
            source = "@@RULE_ARN@@"
        redrive = {"deadLetterTargetArn": "@@DEAD_ARN@@", "maxReceiveCount": str(_RECEIPTS)}
        policy = _policy(plan, way, "@@QUEUE_ARN@@", source, "@@ACCOUNT@@")
        attributes = {"RedrivePolicy": json.dumps(redrive), "Policy": json.dumps(policy)}
        lines.append(
            f'aws sqs set-queue-attributes --queue-url "$QUEUE" --attributes {_quoted(attributes)}'
        )
        if way == "eventbridge":
            targets = [{"Id": "queue", "Arn": "@@QUEUE_ARN@@"}]
            lines.append(f"aws events put-targets --rule {plan.name} --targets {_quoted(targets)}")
        configuration = _quoted(_notification(plan, way, "@@QUEUE_ARN@@"))
        lines += [
            f"# {_REPLACES}",
            f"aws s3api put-bucket-notification-configuration --bucket {plan.bucket}"
            f" --notification-configuration {configuration}",
            f'echo "the queue of {plan.bucket}: $QUEUE"',
        ]
    return "\n".join(lines)


def _quoted(value: object) -> str:
    """Return JSON as one argument for a shell, in which `@@NAME@@` is a variable."""
    text = json.dumps(value).replace("'", "'\\''")
    return f"'{_VARIABLE.sub(_as_variable, text)}'"


def _as_variable(match: re.Match[str]) -> str:
    return f"'\"${match[1]}\"'"


def _as_cloudformation(plans: list[_Plan], way: str) -> str:
    """Return a template for CloudFormation, in JSON."""
    resources: dict[str, Any] = {}
    for plan in plans:
        queue, dead, rule = (f"{kind}{plan.resource}" for kind in ("Queue", "Dead", "Rule"))
        arn = {"Fn::GetAtt": [queue, "Arn"]}
        source: Any = {"Fn::Sub": f"arn:${{AWS::Partition}}:s3:::{plan.bucket}"}
        resources[dead] = _queue_resource({"QueueName": plan.dead})
        resources[queue] = _queue_resource(
            {
                "QueueName": plan.name,
                "RedrivePolicy": {
                    "deadLetterTargetArn": {"Fn::GetAtt": [dead, "Arn"]},
                    "maxReceiveCount": _RECEIPTS,
                },
            }
        )
        if way == "eventbridge":
            source = {"Fn::GetAtt": [rule, "Arn"]}
            resources[rule] = {
                "Type": "AWS::Events::Rule",
                "Properties": {
                    "EventPattern": _pattern(plan),
                    "Targets": [{"Id": "queue", "Arn": arn}],
                },
            }
        policy = _policy(plan, way, arn, source, {"Ref": "AWS::AccountId"})
        resources[f"Policy{plan.resource}"] = {
            "Type": "AWS::SQS::QueuePolicy",
            "Properties": {"Queues": [{"Ref": queue}], "PolicyDocument": policy},
        }
    description = (
        "CloudFormation changes no bucket that it did not make: once this is there, set the"
        " notification of each bucket by the last command of `ctrail queue setup --print cli`."
    )
    template = {
        "AWSTemplateFormatVersion": "2010-09-09",
        "Description": description,
        "Resources": resources,
        "Outputs": {
            f"Queue{plan.resource}Url": {"Value": {"Ref": f"Queue{plan.resource}"}}
            for plan in plans
        },
    }
    return json.dumps(template, indent=2)


def _queue_resource(properties: Mapping[str, Any]) -> dict[str, Any]:
    retention = {"MessageRetentionPeriod": _RETENTION_SECONDS}
    return {"Type": "AWS::SQS::Queue", "Properties": {**properties, **retention}}


def _as_terraform(plans: list[_Plan], way: str) -> str:
    """Return a configuration for Terraform in its JSON form, for a file `ctrail.tf.json`."""
    resources: dict[str, dict[str, Any]] = {}

    def add(kind: str, name: str, values: Mapping[str, Any]) -> None:
        resources.setdefault(kind, {})[name] = values

    for plan in plans:
        name = plan.identifier
        arn = f"${{aws_sqs_queue.{name}.arn}}"
        source = f"arn:${{data.aws_partition.current.partition}}:s3:::{plan.bucket}"
        retention = {"message_retention_seconds": _RETENTION_SECONDS}
        add("aws_sqs_queue", f"{name}_dead", {"name": plan.dead, **retention})
        dead = f"${{aws_sqs_queue.{name}_dead.arn}}"
        redrive = {"deadLetterTargetArn": dead, "maxReceiveCount": _RECEIPTS}
        redriving = {"redrive_policy": json.dumps(redrive)}
        add("aws_sqs_queue", name, {"name": plan.name, **retention, **redriving})
        if way == "eventbridge":
            source = f"${{aws_cloudwatch_event_rule.{name}.arn}}"
            pattern = _in_terraform(json.dumps(_pattern(plan)))
            add("aws_cloudwatch_event_rule", name, {"name": plan.name, "event_pattern": pattern})
            rule = f"${{aws_cloudwatch_event_rule.{name}.name}}"
            add("aws_cloudwatch_event_target", name, {"rule": rule, "arn": arn})
        account = "${data.aws_caller_identity.current.account_id}"
        policy = json.dumps(_policy(plan, way, arn, source, account))
        url = f"${{aws_sqs_queue.{name}.url}}"
        add("aws_sqs_queue_policy", name, {"queue_url": url, "policy": policy})
        notification: dict[str, Any] = {
            "//": _REPLACES,
            "bucket": plan.bucket,
            "depends_on": [f"aws_sqs_queue_policy.{name}"],
        }
        if way == "eventbridge":
            notification["eventbridge"] = True
        else:
            notification["queue"] = [
                {
                    "queue_arn": arn,
                    "events": ["s3:ObjectCreated:*"],
                    "filter_prefix": _in_terraform(folder),
                }
                for folder in plan.folders
            ]
        add("aws_s3_bucket_notification", name, notification)
    outputs = {
        f"queue_{plan.identifier}": {"value": f"${{aws_sqs_queue.{plan.identifier}.url}}"}
        for plan in plans
    }
    data: dict[str, Any] = {
        "aws_caller_identity": {"current": {}},
        "aws_partition": {"current": {}},
    }
    return json.dumps({"data": data, "resource": resources, "output": outputs}, indent=2)


def _in_terraform(text: str) -> str:
    """Return a text in which Terraform sees no expression."""
    return text.replace("${", "$${").replace("%{", "%%{")


FORMS: Final[Mapping[str, Callable[[list[_Plan], str], str]]] = {
    "cli": _as_commands,
    "cloudformation": _as_cloudformation,
    "terraform": _as_terraform,
}
