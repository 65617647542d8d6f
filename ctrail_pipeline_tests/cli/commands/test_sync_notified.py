"""`ctrail sync --watch` of a trail with a queue fetches what a notification names at once."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from ctrail_pipeline_tests.support.moto_server import moto_server
from ctrail_pipeline_tests.support.new_log_files import NOW
from ctrail_pipeline_tests.support.notified_bucket import (
    ACCOUNT,
    BUCKET,
    NotifiedBucket,
    set_nobodys_credentials,
)
from ctrail_pipeline_tests.support.oracle import read_buckets
from ctrail_pipeline_tests.support.project import PROJECT
from ctrail_pipeline_tests.support.sync_process import assert_exact

TRIES = 300
"""Of a tenth of a second each: much longer than it takes, much shorter than an hour."""


@pytest.fixture
def bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[NotifiedBucket]:
    set_nobodys_credentials(monkeypatch, tmp_path)
    with moto_server() as endpoint:
        yield NotifiedBucket(endpoint, tmp_path)


def lines(folder: Path) -> int:
    return sum(file.read_bytes().count(b"\n") for file in folder.glob("events/*/*/*/*/*/*/*.jsonl"))


def wait_for_lines(folder: Path, number: int) -> None:
    for _ in range(TRIES):
        if lines(folder) >= number:
            return
        time.sleep(0.1)
    raise AssertionError(f"{lines(folder)} of {number} lines")


def test_a_watch_fetches_what_a_notification_names_long_before_its_next_round(
    bucket: NotifiedBucket, tmp_path: Path
) -> None:
    trail = {"name": "main", "bucket": BUCKET, "endpoint_url": bucket.endpoint}
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"trails": [trail | {"queue": bucket.queue}]}))
    bucket.put(ACCOUNT, "eu-west-1", NOW - timedelta(hours=1), "A")
    bucket.notify("s3")
    watch = subprocess.Popen(
        [sys.executable, "-m", "ctrail_pipeline.cli", "sync", "--watch", "1h", "--json"],
        cwd=PROJECT,
        env={**os.environ, "CTRAIL_CONFIG": str(config), "PYTHONPATH": str(PROJECT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        wait_for_lines(tmp_path, 1)
        for number in range(3):
            bucket.put(ACCOUNT, "eu-west-1", NOW - timedelta(minutes=number), "B")
            wait_for_lines(tmp_path, 2 + number)
        bucket.sqs.delete_queue(QueueUrl=bucket.queue)  # that ends no watch
        watch.send_signal(signal.SIGTERM)
        output, errors = watch.communicate(timeout=60)
    finally:
        watch.kill()
    assert watch.returncode == 0, errors
    rounds = [json.loads(line) for line in output.splitlines()]
    assert [item["log_files"] for item in rounds[:4]] == [1, 1, 1, 1]
    assert_exact(bucket.settings(), read_buckets([(bucket.folder, "")]))
