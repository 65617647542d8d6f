"""A log file too large to be held at once goes through in rounds: nothing else is different."""

import json
from collections.abc import Sequence
from dataclasses import astuple, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from ctrail_pipeline.core import batch
from ctrail_pipeline.core.settings import Settings
from ctrail_pipeline.core.sync import Summary, sync
from ctrail_pipeline_tests.oracle import read_buckets
from ctrail_pipeline_tests.parquet_rows import assert_rows
from ctrail_pipeline_tests.sync_process import assert_exact, local_trail, settings_in
from ctrail_pipeline_tests.test_memory import ACCOUNT, NOON, REGION, put_log_file


def record(number: int, **more: Any) -> dict[str, Any]:
    at = NOON + timedelta(minutes=7 * number % 180)
    return {
        "eventTime": f"{at:%Y-%m-%dT%H:%M:%SZ}",
        "eventID": f"id-{number}",
        "eventName": f"Name{number % 3}",
        "awsRegion": REGION,
        "recipientAccountId": ACCOUNT,
        **more,
    }


def log_file(records: Sequence[object], tail: str = "]}") -> bytes:
    return ('{"Records":[' + ",".join(map(json.dumps, records)) + tail).encode()


def fill(bucket: Path) -> None:
    """Copies near and far, eventIDs taken near and far, and what cannot be an event."""
    many: list[object] = [record(number) for number in range(20)]
    many += [record(0), record(19), record(19)]
    many += [record(1, forged=1), record(1, forged=2), record(18, forged=1)]
    many += [{"eventTime": "yesterday"}, "no object", record(3, eventTime="2026-13-01T00:00:00Z")]
    many += [record(number) for number in range(15, 25)]
    put_log_file(bucket, 0, log_file(many))
    put_log_file(bucket, 1, log_file(many[5:17], ',{"cut":'))
    put_log_file(bucket, 2, log_file([record(number) for number in range(22, 40)], '],\n"b":1}'))
    path = next(bucket.rglob("*0002.json.gz"))
    broken = path.with_name(path.name.replace("0002.json", "0003.json"))
    broken.write_bytes(path.read_bytes()[:-3])


def synced(settings: Settings) -> tuple[Summary, dict[str, list[bytes]]]:
    summary = sync(settings)
    lines: dict[str, list[bytes]] = {}
    for root in (settings.events_dir, settings.quarantine_dir):
        for path in sorted(root.rglob("*.jsonl")):
            folder = str(path.parent.relative_to(settings.events_dir.parent))
            lines.setdefault(folder, []).extend(path.read_bytes().splitlines())
    return summary, lines


@pytest.mark.parametrize("pieces", [1, 3, 7, 20])
def test_rounds_make_no_difference(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pieces: int
) -> None:
    bucket = tmp_path / "bucket"
    fill(bucket)
    expected, lines = synced(settings_in(tmp_path / "at once", [local_trail(bucket)]))
    monkeypatch.setattr(batch, "PIECES_AT_ONCE", pieces)
    settings = replace(
        settings_in(tmp_path / "in rounds", [local_trail(bucket)]),
        output_formats=("jsonl", "parquet"),
    )
    found, found_lines = synced(settings)
    assert {folder: sorted(some) for folder, some in found_lines.items()} == {
        folder: sorted(some) for folder, some in lines.items()
    }
    assert [astuple(one) for one in found.partitions.values()] == [
        astuple(one) for one in expected.partitions.values()
    ]
    (counts,) = found.partitions.values()
    assert min(counts.events, counts.duplicates, counts.conflicts, counts.quarantined) > 0
    assert found.events_by_hour == expected.events_by_hour
    assert found.events_by_name == expected.events_by_name
    assert_exact(settings, read_buckets([(bucket, "")]))
    assert_rows(settings)

    put_log_file(bucket, 9, log_file([record(number) for number in range(40)]))
    again, _ = synced(settings)
    assert again.progress.events == 0
    assert_exact(settings, read_buckets([(bucket, "")]))


def test_a_log_file_is_scattered_over_all_its_rounds_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = tmp_path / "bucket"
    days = (NOON - timedelta(days=back) for back in range(10))
    records = [record(0, eventTime=f"{day:%Y-%m-%dT%H:%M:%SZ}") for day in days]
    put_log_file(bucket, 0, log_file(records))
    monkeypatch.setattr(batch, "PIECES_AT_ONCE", 3)
    settings = settings_in(tmp_path, [local_trail(bucket)], max_hours_per_log_file=5)
    summary, lines = synced(settings)
    assert summary.progress.events == 5
    assert sum(len(some) for folder, some in lines.items() if folder.startswith("q")) == 5
