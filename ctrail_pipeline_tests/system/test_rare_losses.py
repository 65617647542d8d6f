"""Losses of an event that need two rare things at once. Each was seen, and each is closed."""

import gzip
import json
import os
import shutil
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ctrail_pipeline.core.keys.minutes import day_folder, day_number
from ctrail_pipeline.core.keys.source_prefix import SourcePrefix
from ctrail_pipeline.core.listing.selection import Selection
from ctrail_pipeline.core.run.sync import sync
from ctrail_pipeline.core.settings import Settings
from ctrail_pipeline.core.upkeep.rebuild import rebuild
from ctrail_pipeline_tests.support.oracle import read_buckets
from ctrail_pipeline_tests.support.sync_process import (
    assert_exact,
    local_trail,
    put_object,
    settings_in,
)

SOURCE_PREFIX = SourcePrefix("logs", "", "", "111122223333", "eu-west-1")
NOW = datetime.now(UTC).replace(second=0, microsecond=0)
NOON = NOW - timedelta(hours=6)


@pytest.fixture
def bucket(tmp_path: Path) -> Path:
    return tmp_path / "bucket"


@pytest.fixture
def settings(tmp_path: Path, bucket: Path) -> Settings:
    bucket.mkdir()
    return settings_in(tmp_path, [local_trail(bucket)])


def key_of(moment: datetime, suffix: str) -> str:
    number = day_number(moment.year, moment.month, moment.day)
    assert number is not None
    return (
        f"{SOURCE_PREFIX.folder}{day_folder(number)}"
        f"{SOURCE_PREFIX.account}_CloudTrail_{SOURCE_PREFIX.region}_"
        f"{moment:%Y%m%dT%H%MZ}_{suffix.rjust(16, '0')}.json.gz"
    )


def put(
    bucket: Path,
    moment: datetime,
    suffix: str,
    names: str,
    modified: datetime | None = None,
) -> None:
    """Put a log file with one event for each letter of `names`."""
    records = [
        {
            "eventTime": f"{NOON:%Y-%m-%dT%H:%M:00Z}",
            "eventID": name,
            "awsRegion": SOURCE_PREFIX.region,
            "recipientAccountId": SOURCE_PREFIX.account,
        }
        for name in names
    ]
    body = gzip.compress(json.dumps({"Records": records}).encode(), mtime=0)
    put_object(bucket, key_of(moment, suffix), body, modified or moment + timedelta(minutes=5))


def exact(settings: Settings, bucket: Path) -> None:
    assert_exact(settings, read_buckets([(bucket, "")]))


@pytest.mark.parametrize("original", ["written again", "deleted"])
def test_what_was_dropped_for_a_batch_that_vanishes_is_named_and_brought_back(
    settings: Settings, bucket: Path, caplog: pytest.LogCaptureFixture, original: str
) -> None:
    """A committed batch is never taken back: its lost file is named, and a rebuild forgets it."""
    committed, other_is_done = threading.Event(), threading.Event()

    class Died(Exception):
        pass

    def die_when_committed(step: str) -> None:
        if step == "committed":
            committed.set()
            other_is_done.wait(30)
            raise Died

    def first_run() -> None:
        with pytest.raises(Died):
            sync(settings, observe=die_when_committed)

    put(bucket, NOON, "A", "ab")
    first = threading.Thread(target=first_run)
    first.start()
    assert committed.wait(30)
    if original == "written again":
        put(bucket, NOON, "A", "ac", NOON + timedelta(minutes=9))
    else:
        put(bucket, NOON, "B", "abc")
    assert sync(settings).progress.duplicates  # of a batch that is committed, and not yet published
    other_is_done.set()
    first.join()
    shutil.rmtree(settings.events_dir / ".staging")
    if original == "deleted":
        (bucket / key_of(NOON, "A")).unlink()
    for _ in range(2):
        caplog.clear()
        assert not sync(settings).ok
        assert any(
            "its 2 lines vanished before they were published" in text for text in caplog.messages
        )
    rebuild(settings, force=True)
    sync(settings)
    exact(settings, bucket)


def test_a_last_modified_from_the_future_ends_no_partition(
    settings: Settings, bucket: Path
) -> None:
    put(bucket, NOON, "A", "a")
    future = datetime(2099, 1, 1, tzinfo=UTC)
    put(bucket, future, "F", "f", future + timedelta(minutes=1))
    assert sync(settings).ok
    put(bucket, NOON + timedelta(hours=1), "B", "b")
    put(bucket, NOW, "C", "c")
    assert sync(settings).progress.events == 2
    exact(settings, bucket)


def test_a_run_of_a_part_of_the_time_does_not_stand_for_the_daily_deep_listing(
    settings: Settings, bucket: Path
) -> None:
    put(bucket, NOON - timedelta(days=20), "A", "a")
    put(bucket, NOON, "B", "b")
    recent = Selection(start=NOON - timedelta(hours=1))
    assert sync(settings, recent).ok
    assert sync(settings, Selection(end=NOW + timedelta(days=1))).ok
    put(bucket, NOON - timedelta(days=15), "L", "l")
    assert sync(settings, recent).ok
    assert sync(settings).progress.events == 1
    exact(settings, bucket)


def test_a_clock_that_was_once_ahead_hides_no_failed_log_file(
    settings: Settings, bucket: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(bucket, NOON, "A", "a")
    path = bucket / key_of(NOON, "A")
    sound = path.read_bytes()
    times = path.stat().st_atime_ns, path.stat().st_mtime_ns

    def write(body: bytes) -> None:
        """The etag is the same, so that only another visit tells that the log file changed."""
        path.write_bytes(body)
        os.utime(path, ns=times)

    write(sound[:-3] + b"\xff\xff\xff")
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + 10 * 365 * 86_400)
    for _ in range(2):
        assert not sync(settings).ok
    monkeypatch.undo()
    write(sound)
    assert sync(settings).ok
    exact(settings, bucket)


def test_a_key_cannot_write_lines_of_its_own_into_the_log(
    settings: Settings, bucket: Path, caplog: pytest.LogCaptureFixture
) -> None:
    put_object(
        bucket, f"{SOURCE_PREFIX.folder}2026/01/15/a\nERROR forged \x1b[31m.json.gz", b"no", NOON
    )
    summary = sync(settings)
    assert summary.problems[0].state == "damaged"
    text = caplog.text + summary.problems[0].where + summary.problems[0].reason
    assert "\x1b" not in text
    assert "\nERROR forged" not in text
    assert "forged" in summary.problems[0].where
