"""What people are told of queues: `ctrail status` in each form, and the check of a trail."""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from dagster import AssetCheckEvaluation, DagsterInstance, build_sensor_context

from ctrail_pipeline.config.file import Config
from ctrail_pipeline.core.listing import notification_intake
from ctrail_pipeline.core.run.sync import sync
from ctrail_pipeline.core.settings import Settings
from ctrail_pipeline.definitions import build_definitions
from ctrail_pipeline.orchestration.notification_check import NOTIFIED
from ctrail_pipeline.orchestration.resources import LedgerResource
from ctrail_pipeline.reports.status import read_status
from ctrail_pipeline.reports.status_json import as_json
from ctrail_pipeline.reports.status_prometheus import as_prometheus
from ctrail_pipeline.reports.status_table import notes
from ctrail_pipeline_tests.support.moto_server import moto_server
from ctrail_pipeline_tests.support.new_log_files import NOW
from ctrail_pipeline_tests.support.notified_bucket import (
    ACCOUNT,
    NotifiedBucket,
    s3_message,
    set_nobodys_credentials,
)

REGION = "eu-west-1"


@pytest.fixture
def bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[NotifiedBucket]:
    set_nobodys_credentials(monkeypatch, tmp_path)
    monkeypatch.setattr(notification_intake, "_SHORT_WAIT_SECONDS", 0)
    with moto_server() as endpoint:
        yield NotifiedBucket(endpoint, tmp_path)


def change(settings: Settings, statement: str) -> None:
    with closing(sqlite3.connect(settings.state_db)) as ledger, ledger:
        ledger.execute(statement)


def evaluation(settings: Settings, instance: DagsterInstance) -> AssetCheckEvaluation | None:
    """Return what a tick of the sensor notes of the check, if it notes anything."""
    resources = {"cursor": LedgerResource(state_db=str(settings.state_db))}
    definitions = build_definitions(Config(settings, settings.state_db))
    with build_sensor_context(instance, resources=resources) as context:
        result: Any = definitions.resolve_sensor_def("new_log_files")(context)
    for event in result.asset_events:
        instance.report_runless_asset_event(event)
    found = [event for event in result.asset_events if event.check_name == NOTIFIED]
    return found[0] if found else None


def test_status_says_what_is_in_a_queue_what_stays_and_what_it_missed(
    bucket: NotifiedBucket,
) -> None:
    dead = bucket.make_queue("dead")
    policy = {"deadLetterTargetArn": bucket.arn(dead), "maxReceiveCount": "5"}
    bucket.sqs.set_queue_attributes(
        QueueUrl=bucket.queue, Attributes={"RedrivePolicy": json.dumps(policy)}
    )
    bucket.sqs.send_message(QueueUrl=dead, MessageBody="x")
    settings = bucket.settings()
    key = bucket.put(ACCOUNT, REGION, NOW - timedelta(hours=2), "A")
    bucket.send(s3_message(key), s3_message(key, bucket="others"), "secret")
    assert sync(settings).progress.log_files == 1
    change(settings, "UPDATE queue SET works_since = 1")
    change(settings, "UPDATE source_prefix SET listed_at = 0")
    bucket.put(ACCOUNT, REGION, NOW - timedelta(hours=1), "B")
    assert sync(settings).progress.log_files == 1

    status = read_status(settings)
    [queue] = status.queues
    assert (queue.waiting, queue.dead_letters, queue.trouble) == (2, 1, "")
    assert queue.counts == {"new": 1, "other_bucket": 1, "not_understood": 1}
    lines = "\n".join(notes(status))
    assert f"{bucket.queue}: asked " in lines
    assert "2 messages in it" in lines
    assert "1 dead letters; named so far: 1 new log files, " in lines
    assert f"stay in the queue, such as s3://others/{key}" in lines
    assert "1 log files were found by listing, not by notification" in lines
    assert "secret" not in lines + json.dumps(as_json(status))
    assert as_json(status)["queues"][0]["counts"] == queue.counts
    assert as_json(status)["partitions"][0]["missed"] == 1
    metrics = as_prometheus(status).splitlines()
    labels = f'{{queue="{bucket.queue}"}}'
    assert {
        f"ctrail_queue_works{labels} 1",
        f"ctrail_queue_messages{labels} 2",
        f"ctrail_queue_dead_letters{labels} 1",
        f'ctrail_queue_named{{queue="{bucket.queue}",sort="other_bucket"}} 1',
        f'ctrail_log_files_missed{{trail="main",account="{ACCOUNT}",region="{REGION}"}} 1',
    } <= set(metrics)


def test_the_check_fails_while_a_queue_is_in_trouble_or_misses_log_files(
    bucket: NotifiedBucket,
) -> None:
    settings = bucket.settings()
    bucket.put(ACCOUNT, REGION, NOW - timedelta(hours=2), "A")
    assert sync(settings).ok
    with DagsterInstance.ephemeral() as instance:
        first = evaluation(settings, instance)
        assert first is not None
        assert (first.passed, first.description) == (True, "they do")
        assert evaluation(settings, instance) is None
        change(settings, "UPDATE queue SET works_since = 1")
        silent = evaluation(settings, instance)
        assert silent is not None
        assert not silent.passed
        assert "has named no log file so far" in str(silent.description)
        change(settings, f"INSERT INTO queue_tally VALUES ('{bucket.queue}', 'new', 1, '')")
        url = bucket.queue
        bucket.sqs.delete_queue(QueueUrl=url)
        in_trouble = evaluation(settings, instance)
        assert in_trouble is not None
        assert not in_trouble.passed
        assert "there is no such queue" in str(in_trouble.description)
        bucket.make_queue("trail-events")
        change(settings, f"UPDATE source_prefix SET missed = 3, missed_at = {NOW.timestamp():.0f}")
        missing = evaluation(settings, instance)
        assert missing is not None
        assert not missing.passed
        assert "3 in all" in str(missing.description)
        change(settings, f"UPDATE source_prefix SET missed_at = {NOW.timestamp() - 200_000:.0f}")
        well = evaluation(settings, instance)
        assert well is not None
        assert well.passed


def test_a_trail_without_a_queue_has_no_such_check(bucket: NotifiedBucket) -> None:
    without = bucket.settings(bucket.trail(queue=None))
    for settings, has in ((bucket.settings(), True), (without, False)):
        definitions = build_definitions(Config(settings, None))
        names = {key.name for checks in definitions.asset_checks or () for key in checks.check_keys}
        assert (NOTIFIED in names) is has
