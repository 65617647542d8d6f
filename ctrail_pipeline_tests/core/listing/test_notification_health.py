"""While a queue works, listing is rare; what it finds then is counted as missed by notification."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from ctrail_pipeline.core.ledger.ledger import Ledger
from ctrail_pipeline.core.ledger.source_prefixes import missed_by_source
from ctrail_pipeline.core.listing import notification_health, notification_intake
from ctrail_pipeline.core.listing.look import Look, look
from ctrail_pipeline.core.listing.look_cursor import LookCursor
from ctrail_pipeline.core.listing.selection import Selection
from ctrail_pipeline.core.run.sync import sync
from ctrail_pipeline.core.settings import Settings
from ctrail_pipeline_tests.support.moto_server import moto_server
from ctrail_pipeline_tests.support.new_log_files import NOW
from ctrail_pipeline_tests.support.notified_bucket import (
    ACCOUNT,
    NotifiedBucket,
    s3_message,
    set_nobodys_credentials,
)
from ctrail_pipeline_tests.support.oracle import read_buckets
from ctrail_pipeline_tests.support.sync_process import assert_exact

REGION = "eu-west-1"
PARTITION = ("main", f"{ACCOUNT}/{REGION}")


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with moto_server() as address:
        yield address


@pytest.fixture
def bucket(endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> NotifiedBucket:
    set_nobodys_credentials(monkeypatch, tmp_path)
    monkeypatch.setattr(notification_intake, "_SHORT_WAIT_SECONDS", 0)
    return NotifiedBucket(endpoint, tmp_path)


@pytest.fixture
def settings(bucket: NotifiedBucket) -> Settings:
    """Settings of a ledger with one log file, whose queue works since long ago."""
    settings = bucket.settings()
    bucket.send(s3_message(bucket.put(ACCOUNT, REGION, NOW - timedelta(hours=2), "A")))
    assert sync(settings).progress.log_files == 1
    change(settings, "UPDATE queue SET works_since = 1")
    return settings


def change(settings: Settings, statement: str) -> None:
    with closing(sqlite3.connect(settings.state_db)) as ledger, ledger:
        ledger.execute(statement)


def looked(settings: Settings) -> Look:
    found = look(settings, LookCursor(), 20)
    assert found.problems == []
    return found


def missed(settings: Settings) -> int:
    with closing(Ledger(settings.ledger)) as ledger:
        return sum(number for number, _ in missed_by_source(ledger).values())


def test_while_the_queue_works_nothing_is_listed_until_a_listing_is_due(
    bucket: NotifiedBucket, settings: Settings
) -> None:
    bucket.put(ACCOUNT, REGION, NOW - timedelta(hours=1), "B")  # no message names it
    found = looked(settings)
    assert (found.requests, found.found, found.notified) == (0, 0, {PARTITION})
    assert sync(settings).progress.log_files == 0
    assert missed(settings) == 0
    change(settings, "UPDATE source_prefix SET listed_at = listed_at - 86400")
    found = looked(settings)
    assert (found.requests, found.found, found.notified) == (1, 1, set())
    assert missed(settings) == 1
    assert sync(settings, Selection(listed=True)).progress.log_files == 1
    assert missed(settings) == 1
    # Where a message was missed, listing is frequent for a week.
    assert looked(settings).requests == 1
    change(settings, "UPDATE source_prefix SET missed_at = missed_at - 700000")
    assert looked(settings).requests == 0
    assert_exact(settings, read_buckets([(bucket.folder, "")]))


def test_a_sync_lists_when_it_is_due_and_counts_what_no_message_named(
    bucket: NotifiedBucket, settings: Settings
) -> None:
    bucket.put(ACCOUNT, REGION, NOW - timedelta(hours=1), "B")
    bucket.notify("s3")
    bucket.put(ACCOUNT, REGION, NOW - timedelta(hours=1), "C")
    assert sync(settings).progress.log_files == 1
    change(settings, "UPDATE source_prefix SET listed_at = 0")
    assert sync(settings).progress.log_files == 1
    assert missed(settings) == 1
    assert sync(settings).progress.log_files == 0
    assert_exact(settings, read_buckets([(bucket.folder, "")]))


def test_the_horizon_is_listed_once_a_week(bucket: NotifiedBucket, settings: Settings) -> None:
    bucket.put(ACCOUNT, REGION, NOW - timedelta(days=20), "B")
    change(
        settings, "UPDATE source_prefix SET listed_at = 0, deep_listed_at = deep_listed_at - 520000"
    )
    assert looked(settings).found == 0
    change(settings, "UPDATE source_prefix SET deep_listed_at = deep_listed_at - 90000")
    assert looked(settings).found == 1


@pytest.mark.parametrize(
    ("key_time", "works_since", "is_missed"),
    [
        (timedelta(hours=1), "1", 1),
        (timedelta(minutes=5), "1", 0),  # its message may be on its way
        (timedelta(hours=1), "strftime('%s', 'now') - 600", 0),  # nobody sent messages then
    ],
)
def test_only_what_a_message_should_have_named_counts_as_missed(
    bucket: NotifiedBucket,
    settings: Settings,
    key_time: timedelta,
    works_since: str,
    is_missed: int,
) -> None:
    bucket.put(ACCOUNT, REGION, NOW - key_time, "B")
    change(settings, f"UPDATE queue SET works_since = {works_since}")
    change(settings, "UPDATE source_prefix SET listed_at = 0")
    assert looked(settings).found == 1
    assert missed(settings) == is_missed


def test_listing_takes_over_while_a_queue_is_in_trouble_and_until_it_works_again(
    bucket: NotifiedBucket, settings: Settings
) -> None:
    gone = replace(settings, trails=(bucket.trail(queue=f"{bucket.queue}-gone"),))
    bucket.put(ACCOUNT, REGION, NOW - timedelta(hours=1), "B")
    found = looked(gone)
    assert (found.requests, found.found, found.notified) == (1, 1, set())
    assert looked(gone).requests == 1
    assert missed(gone) == 0
    assert looked(settings).requests == 0


def test_a_queue_that_has_named_nothing_so_far_saves_no_listing(settings: Settings) -> None:
    assert looked(settings).requests == 0
    change(settings, "UPDATE queue_tally SET sort = 'digest'")
    assert looked(settings).requests == 1


def test_a_queue_that_nobody_emptied_lately_saves_no_listing(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notification_health, "WORKING_SECONDS", -1)
    assert looked(settings).requests == 1


def test_a_new_accounts_past_is_listed_though_the_queue_works(
    bucket: NotifiedBucket, settings: Settings
) -> None:
    bucket.put("111122223333", REGION, NOW - timedelta(days=90), "A")
    bucket.notify("s3")
    bucket.put("111122223333", REGION, NOW, "B")
    found = looked(settings)
    assert found.backlog == [("main", f"111122223333/{REGION}")]
    assert sync(settings).progress.log_files == 2
    assert looked(settings).backlog == []
    assert_exact(settings, read_buckets([(bucket.folder, "")]))
