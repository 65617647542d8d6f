"""Memory does not grow with what is in a bucket or in the ledger, however hostile.

The promise is G6 of docs/architecture.md.
"""

import gc
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from ctrail_pipeline.core.ledger.ledger import Ledger
from ctrail_pipeline.core.run.sync import sync
from ctrail_pipeline.core.settings import Settings
from ctrail_pipeline_tests.support.large_log_files import (
    ACCOUNT,
    MB,
    NOON,
    REGION,
    event,
    put_log_file,
)
from ctrail_pipeline_tests.support.measured_sync import synced
from ctrail_pipeline_tests.support.sync_process import local_trail, settings_in


@pytest.mark.thorough
def test_bombs_fetched_ahead_are_inflated_one_after_the_other(tmp_path: Path) -> None:
    """The 14 log files of 32 MB are stored in 32 KB. Taken for small, all would be held at once."""
    for number in range(14):
        text = '{"Records":[' + event(NOON, number, "a" * (32 * MB)) + "]}"
        put_log_file(tmp_path / "bucket", number, text.encode())
    log_files, events, peak = synced(tmp_path, download_workers=14)
    assert (log_files, events) == (14, 14)
    assert peak < 250


@pytest.mark.thorough
def test_a_log_file_that_names_many_busy_hours(tmp_path: Path) -> None:
    """The log file has 60 hours. The ledger holds 20 segments of 1,000 events for each of them."""
    bucket = tmp_path / "bucket"
    hours = [NOON - timedelta(hours=back) for back in range(60)]
    settings = settings_in(tmp_path, [local_trail(bucket)])
    fill_ledger(settings, [f"{ACCOUNT}/{REGION}/{hour:%Y/%m/%d/%H}" for hour in hours])
    records = ",".join(event(hour, number) for number, hour in enumerate(hours))
    put_log_file(bucket, 0, b'{"Records":[' + records.encode() + b"]}")
    log_files, events, peak = synced(tmp_path)
    assert (log_files, events) == (1, 60)
    assert peak < 80


def fill_ledger(settings: Settings, partitions: list[str]) -> None:
    """Fill the ledger with segments without a filter, of events that are in no log file."""

    def rows() -> Iterator[tuple[int, bytes, bytes]]:
        for id_ in range(1, len(partitions) + 1):
            for _ in range(20):
                identities = sorted(os.urandom(16) for _ in range(1000))
                keys = sorted(os.urandom(6) for _ in range(1000))
                yield id_, b"".join(identities), b"".join(keys)

    Ledger(settings.state_db).close()
    with sqlite3.connect(settings.state_db) as ledger:
        ledger.executemany(
            "INSERT INTO dedup_partition (name) VALUES (?)", [(name,) for name in partitions]
        )
        ledger.executemany(
            "INSERT INTO segment (dedup_partition, batch, count, identities, event_keys)"
            " VALUES (?, 0, 1000, ?, ?)",
            rows(),
        )
    ledger.close()


@pytest.mark.thorough
def test_a_large_log_file_is_in_memory_once(tmp_path: Path) -> None:
    """A sync does not hold copies of all lines beside the text."""
    padding = os.urandom(700).hex()
    records = (event(NOON + timedelta(seconds=at % 3600), at, padding) for at in range(70_000))
    text = ('{"Records":[' + ",".join(records) + "]}").encode()
    assert len(text) > 100 * MB
    put_log_file(tmp_path / "bucket", 0, text)
    log_files, events, peak = synced(tmp_path)
    assert (log_files, events) == (1, 70_000)
    assert peak < len(text) / MB * 1.9


@pytest.mark.thorough
def test_a_log_file_of_very_many_small_records(tmp_path: Path) -> None:
    """The records would take a kilobyte each if the sync held all of them at once."""
    records = (event(NOON + timedelta(seconds=at % 3600), at, "a" * 90) for at in range(300_000))
    text = ('{"Records":[' + ",".join(records) + "]}").encode()
    put_log_file(tmp_path / "bucket", 0, text)
    log_files, events, peak = synced(tmp_path)
    assert (log_files, events) == (1, 300_000)
    assert peak < len(text) / MB + 170


@pytest.mark.thorough
def test_what_large_log_files_took_is_given_back(tmp_path: Path) -> None:
    """Otherwise the heap of each fetching thread would keep its largest log file's memory."""
    records = (
        event(NOON + timedelta(seconds=at % 3600), at, os.urandom(80).hex() + "a" * 1_200)
        for at in range(15_000)
    )
    text = ('{"Records":[' + ",".join(records) + "]}").encode()
    assert len(text) > 20 * MB
    for number in range(40):
        put_log_file(tmp_path / "bucket", number, text)
    log_files, events, peak = synced(tmp_path, arenas=40, process_workers=1)
    assert (log_files, events) == (40, 15_000)
    assert peak < 125


@pytest.mark.thorough
def test_a_log_file_of_nothing_but_nul(tmp_path: Path) -> None:
    """40 MB, 40 KB stored. Each NUL once took six bytes of JSON in quarantine, and 14 of memory."""
    put_log_file(tmp_path / "bucket", 0, bytes(40 * MB))
    log_files, events, peak = synced(tmp_path)
    assert (log_files, events) == (1, 0)
    assert peak < 2.5 * 40
    [line] = (tmp_path / "quarantine").rglob("*.jsonl")
    assert line.stat().st_size < 1.4 * 40 * MB


def test_cycles_are_searched_for_less_often_while_a_sync_lasts_and_then_as_before(
    tmp_path: Path,
) -> None:
    put_log_file(tmp_path / "bucket", 0, ('{"Records":[' + event(NOON, 0) + "]}").encode())
    before, during = gc.get_threshold(), []
    settings = settings_in(tmp_path, [local_trail(tmp_path / "bucket")])
    sync(settings, observe=lambda _step: during.append(gc.get_threshold()))
    assert max(during)[0] > 10 * before[0]
    assert gc.get_threshold() == before


def test_what_batches_and_runs_held_is_gone_with_them(tmp_path: Path) -> None:
    """No reference cycle may hold it: Python searches for cycles too rarely to bound memory."""
    for number in range(4):
        text = "".join(("{", '"Records":[', event(NOON, number), ",", event(NOON, 9), "]}"))
        put_log_file(tmp_path / "bucket", number, text.encode())
    put_log_file(tmp_path / "bucket", 4, b'{"Records":[{"eventTime":1},{]}')
    settings = settings_in(
        tmp_path,
        [local_trail(tmp_path / "bucket")],
        batch_log_files=1,
        output_formats=("jsonl", "parquet"),
    )
    gc.collect()
    flags = gc.get_debug()
    gc.set_debug(gc.DEBUG_SAVEALL)
    gc.disable()
    try:
        summary = sync(settings)
        gc.collect()
        leaked = [
            type(garbage) for garbage in gc.garbage if "ctrail_pipeline" in type(garbage).__module__
        ]
    finally:
        gc.set_debug(flags)
        gc.garbage.clear()
        gc.enable()
    assert summary.progress.log_files == 5
    assert not leaked


def test_a_batch_is_full_of_small_records_before_it_is_full_of_text(tmp_path: Path) -> None:
    """Each record takes more memory beside its text than the text itself."""
    for number in range(6):
        events = ",".join(event(NOON, number * 500 + index) for index in range(500))
        put_log_file(tmp_path / "bucket", number, f'{{"Records":[{events}]}}'.encode())
    settings = settings_in(
        tmp_path, [local_trail(tmp_path / "bucket")], batch_bytes=1000 * 640, process_workers=1
    )
    assert sync(settings).progress.events == 3000
    with closing(sqlite3.connect(settings.state_db)) as ledger:
        batches = ledger.execute("SELECT log_files FROM batch WHERE log_files > 0").fetchall()
    assert batches == [(2,)] * 3
