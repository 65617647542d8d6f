"""A day of a growing bucket whose notifications are lost, doubled and late, and whose runs die."""

import pickle
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from ctrail_pipeline.core.ledger.ledger import Ledger
from ctrail_pipeline.core.ledger.source_prefixes import missed_by_source
from ctrail_pipeline.core.listing import notification_intake
from ctrail_pipeline.core.listing.look import look
from ctrail_pipeline.core.listing.look_cursor import LookCursor
from ctrail_pipeline.core.listing.selection import Selection
from ctrail_pipeline.core.run.sync import sync
from ctrail_pipeline.sample.bucket import ORGANIZATION_BUCKET, generate_log_files
from ctrail_pipeline_tests.support.dying_intake import DIES, STEPS
from ctrail_pipeline_tests.support.moto_server import moto_server
from ctrail_pipeline_tests.support.notified_bucket import (
    BUCKET,
    NotifiedBucket,
    s3_message,
    set_nobodys_credentials,
)
from ctrail_pipeline_tests.support.oracle import read_buckets
from ctrail_pipeline_tests.support.project import PROJECT
from ctrail_pipeline_tests.support.sync_process import assert_exact, put_object
from ctrail_pipeline_tests.support.thorough import thorough

TICKS = 24
LISTED = Selection(listed=True)


@pytest.mark.parametrize("seed", [1, *thorough(2)])
@pytest.mark.thorough
def test_all_of_a_day_is_in_once_though_notifications_are_lost_and_doubled(
    tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One in twenty is lost, one in twenty comes twice, one in ten comes an hour late."""
    set_nobodys_credentials(monkeypatch, tmp_path)
    monkeypatch.setattr(notification_intake, "_SHORT_WAIT_SECONDS", 0)
    rng = Random(seed)
    objects = [
        item
        for item in generate_log_files(log_files=300, days=1, seed=seed)
        if item.bucket == ORGANIZATION_BUCKET and "/CloudTrail/" in item.key
    ]
    objects.sort(key=lambda item: item.last_modified)
    lost: set[str] = set()
    late: list[str] = []
    with moto_server() as endpoint:
        bucket = NotifiedBucket(endpoint, tmp_path)
        settings = bucket.settings()
        cursor = LookCursor()
        steps = iter([*STEPS, *[""] * TICKS])
        share = -(-len(objects) // TICKS)
        for first in range(0, len(objects), share):
            messages, late = late, []
            for item in objects[first : first + share]:
                put_object(bucket.folder, item.key, item.body, item.last_modified)
                bucket.s3.put_object(Bucket=BUCKET, Key=item.key, Body=item.body)
                message = s3_message(item.key, size=len(item.body))
                chance = rng.random()
                if chance < 0.05:
                    lost.add(item.key)
                elif chance < 0.15:
                    late.append(message)
                else:
                    messages += [message] * (2 if chance < 0.2 else 1)
            rng.shuffle(messages)
            bucket.send(*messages)
            step = next(steps) if first else ""
            if step:
                dead = subprocess.run(
                    [sys.executable, "-c", DIES, step],
                    cwd=PROJECT,
                    input=pickle.dumps(settings),
                    capture_output=True,
                    timeout=120,
                    check=False,
                )
                assert dead.returncode == -signal.SIGKILL, dead.stderr.decode()
            result = look(settings, cursor, 20)
            cursor = result.cursor
            assert result.problems == []
            if not first:
                assert sync(settings).ok  # the account's past, as a run for backlog lists it
            elif result.waiting:
                assert sync(settings, LISTED).ok
        bucket.send(*late)
        with closing(sqlite3.connect(settings.state_db)) as database, database:
            # As if a day had passed since the last listing, and the queue had long worked.
            database.execute("UPDATE source_prefix SET listed_at = listed_at - 86400")
            database.execute("UPDATE queue SET works_since = 1")
        wait_and_take = replace(settings, lookback_hours=48)
        assert sync(wait_and_take).ok
        assert_exact(settings, read_buckets([(bucket.folder, "")]))
        with closing(Ledger(settings.ledger)) as ledger:
            missed = sum(number for number, _ in missed_by_source(ledger).values())
        assert 0 < missed <= len(lost)
        assert sync(settings).progress.log_files == 0
