"""`ctrail queue setup --print`: what it prints can be created, and then notifications arrive."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ctrail_pipeline.core.exceptions import ConfigurationError
from ctrail_pipeline.core.ledger.ledger import Ledger
from ctrail_pipeline.core.ledger.queues import Notified
from ctrail_pipeline.core.listing.notification_intake import queues_of, take_notifications
from ctrail_pipeline.core.settings import Trail
from ctrail_pipeline.reports.queue_setup import FORMS, WAYS, setup_text
from ctrail_pipeline_tests.support.command import ctrail
from ctrail_pipeline_tests.support.moto_server import moto_server
from ctrail_pipeline_tests.support.new_log_files import NOW
from ctrail_pipeline_tests.support.notified_bucket import (
    BUCKET,
    NotifiedBucket,
    set_nobodys_credentials,
)
from ctrail_pipeline_tests.support.sync_process import settings_in

_AT_MOTO = 'aws() { command aws --endpoint-url "$ENDPOINT" "$@"; }'
HOSTILE_PREFIX = "o'brien/$(touch pwned)`id`/${x}%{y}"


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with moto_server() as address:
        yield address


@pytest.fixture
def bucket(endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> NotifiedBucket:
    set_nobodys_credentials(monkeypatch, tmp_path)
    return NotifiedBucket(endpoint, tmp_path)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.thorough
def test_the_printed_commands_make_a_queue_that_gets_notifications(
    bucket: NotifiedBucket, way: str, tmp_path: Path
) -> None:
    hostile = bucket.trail(name="hostile", queue=None, prefix=HOSTILE_PREFIX)
    settings = bucket.settings(bucket.trail(queue=None, region="us-east-1"), hostile)
    script = setup_text(settings, "cli", way)
    done = subprocess.run(
        ["sh", "-c", f"{_AT_MOTO}\n{script}"],
        cwd=tmp_path,
        env={
            **os.environ,
            "ENDPOINT": bucket.endpoint,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": "",
        },
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "pwned").exists()
    queue = done.stdout.strip().rpartition(" ")[2]
    key = bucket.put("123456789012", "eu-west-1", NOW, "A")
    bucket.s3.copy_object(
        Bucket=BUCKET, Key=f"{HOSTILE_PREFIX}/{key}", CopySource=f"{BUCKET}/{key}"
    )
    queued = bucket.settings(bucket.trail(queue=queue), hostile)
    Ledger(queued.ledger).close()
    [taken] = take_notifications(queued, queues_of(queued.trails), 20)
    assert (taken.counts[Notified.NEW], taken.trouble) == (2, "")
    reply = bucket.sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["All"])
    attributes = reply["Attributes"]
    assert json.loads(attributes["RedrivePolicy"])["deadLetterTargetArn"].endswith("-dead")
    [statement] = json.loads(attributes["Policy"])["Statement"]
    assert statement["Resource"] == attributes["QueueArn"]
    assert "@@" not in attributes["Policy"] + attributes["RedrivePolicy"]


@pytest.mark.parametrize("way", WAYS)
def test_the_template_can_be_created(bucket: NotifiedBucket, way: str) -> None:
    text = setup_text(bucket.settings(bucket.trail(queue=None)), "cloudformation", way)
    template = json.loads(text)
    policy = template["Resources"].pop("PolicyCtrailLogs")  # moto knows no policies of queues
    assert policy["Properties"]["Queues"] == [{"Ref": "QueueCtrailLogs"}]
    [statement] = policy["Properties"]["PolicyDocument"]["Statement"]
    assert statement["Resource"] == {"Fn::GetAtt": ["QueueCtrailLogs", "Arn"]}
    stacks = bucket.client("cloudformation")
    stacks.create_stack(StackName="ctrail", TemplateBody=json.dumps(template))
    [stack] = stacks.describe_stacks(StackName="ctrail")["Stacks"]
    assert stack["StackStatus"] == "CREATE_COMPLETE"
    [output] = stack["Outputs"]
    assert output["OutputValue"].endswith("/ctrail-logs")


@pytest.mark.parametrize("way", WAYS)
def test_terraform_gets_all_parts_and_sees_no_expression_in_a_prefix(
    tmp_path: Path, way: str
) -> None:
    settings = settings_in(tmp_path, [Trail("main", BUCKET), Trail("odd", BUCKET, HOSTILE_PREFIX)])
    made = json.loads(setup_text(settings, "terraform", way))["resource"]
    assert set(made["aws_sqs_queue"]) == {"ctrail_logs", "ctrail_logs_dead"}
    notification = made["aws_s3_bucket_notification"]["ctrail_logs"]
    if way == "s3":
        prefixes = [rule["filter_prefix"] for rule in notification["queue"]]
        assert prefixes == ["AWSLogs/", "o'brien/$(touch pwned)`id`/$${x}%%{y}/AWSLogs/"]
    else:
        assert notification["eventbridge"]
        assert "$${x}" in made["aws_cloudwatch_event_rule"]["ctrail_logs"]["event_pattern"]


def test_trails_of_a_bucket_share_a_queue_and_no_rule_holds_another(tmp_path: Path) -> None:
    trails = [
        Trail("a", BUCKET),
        Trail("inner", BUCKET, "AWSLogs"),
        Trail("b", BUCKET, "b"),
        Trail("dotted", "o.ther"),
        Trail("dashed", "o-ther"),
        Trail("point", "point-abc-s3alias", delivered_to="other/first"),
        Trail("folder", tmp_path.as_uri()),
    ]
    made = json.loads(setup_text(settings_in(tmp_path, trails), "terraform", "s3"))["resource"]
    rules = {
        name: [rule["filter_prefix"] for rule in item["queue"]]
        for name, item in made["aws_s3_bucket_notification"].items()
    }
    assert rules == {
        "ctrail_logs": ["AWSLogs/", "b/AWSLogs/"],
        "ctrail_o_ther": ["AWSLogs/"],
        "ctrail_o_ther_2": ["AWSLogs/"],
        "ctrail_other": ["first/AWSLogs/"],
    }


def test_what_sends_no_notifications_is_refused(tmp_path: Path) -> None:
    point = "arn:aws:s3:eu-west-1:111122223333:accesspoint/logs"
    for trail, says in (
        (Trail("a", tmp_path.as_uri()), "a folder sends no notifications"),
        (Trail("a", point), "name the bucket in `delivered_to`"),
    ):
        with pytest.raises(ConfigurationError, match=says):
            setup_text(settings_in(tmp_path, [trail]), "cli", "s3")


@pytest.mark.parametrize("form", [[], *([form] for form in FORMS)])
def test_the_command_prints_and_changes_nothing(tmp_path: Path, form: list[str]) -> None:
    config = {"trails": [{"name": "main", "bucket": BUCKET, "region": "eu-west-1"}]}
    (tmp_path / "config.json").write_text(json.dumps(config))
    done = ctrail(tmp_path, "queue", "setup", "--print", *form)
    assert done.returncode == 0, done.stderr
    assert "ctrail-logs-dead" in done.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]
