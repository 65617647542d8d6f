"""`ctrail status`: what the ledger says against what is there, in three forms, changing nothing."""

import gzip
import json
import re
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from ctrail_pipeline.config.file import load_config
from ctrail_pipeline.reports.status import read_status
from ctrail_pipeline.reports.status_prometheus import as_prometheus
from ctrail_pipeline.reports.units import duration, size
from ctrail_pipeline.sample.bucket import ORGANIZATION_BUCKET, PAYMENTS_BUCKET, write_sample
from ctrail_pipeline_tests.support.command import ctrail, log_files, written

_SAMPLE = re.compile(r'([a-z_]+)(?:\{((?:[a-z]+="(?:[^"\\]|\\.)*",?)*)\})? (-?\d+)')


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder after a sync of a sample with a damaged log file and one with a bad record."""
    folder = tmp_path_factory.mktemp("status")
    write_sample(folder / "sample", log_files=80, days=2)
    damaged, bad = log_files(folder)[:2]
    damaged.write_bytes(damaged.read_bytes()[:-20])
    content = json.loads(gzip.decompress(bad.read_bytes()))
    content["Records"].append("no record")
    bad.write_bytes(gzip.compress(json.dumps(content).encode(), mtime=0))
    assert ctrail(folder, "sync").returncode == 1
    return folder


def status(folder: Path) -> dict[str, Any]:
    done = ctrail(folder, "status", "--json")
    assert done.stderr.count("\n") <= 1  # that these are the sample trails
    found: dict[str, Any] = json.loads(done.stdout)
    assert done.returncode == (0 if found["ok"] else 1)
    return found


def keys_by_partition(folder: Path, bucket: str) -> Counter[tuple[str, str]]:
    return Counter((path.parts[-7], path.parts[-5]) for path in log_files(folder, bucket))


def test_it_says_of_each_partition_what_is_there(folder: Path) -> None:
    found = status(folder)
    for trail, bucket in (("organization", ORGANIZATION_BUCKET), ("payments", PAYMENTS_BUCKET)):
        rows = [row for row in found["partitions"] if row["trail"] == trail]
        assert {
            (row["account"], row["region"]): row["log_files"] + row["damaged"] for row in rows
        } == keys_by_partition(folder, bucket)
    assert sum(row["damaged"] for row in found["partitions"]) == 1
    assert (found["ok"], found["open_log_files"]) == (False, {"damaged": 1})
    assert sum(row["quarantined"] for row in found["partitions"]) >= 1
    files = list((folder / "events").rglob("*.jsonl"))
    lines = sum(path.read_bytes().count(b"\n") for path in files)
    assert sum(row["events"] for row in found["partitions"]) == lines
    sizes: Counter[tuple[str, str]] = Counter()
    for path in files:
        sizes[path.parts[-7], path.parts[-6]] += path.stat().st_size
    assert {(o["account"], o["region"]): o["bytes"] for o in found["output"]} == sizes
    quarantine = [path.stat().st_size for path in (folder / "quarantine").rglob("*.jsonl")]
    assert found["quarantine_bytes"] == sum(quarantine)
    assert found["ledger_bytes"] >= (folder / "state.db").stat().st_size
    for row in found["partitions"]:
        if row["damaged"] == 0:
            assert row["cursor"].startswith("2026-01-1")
            assert row["lag_seconds"] > 0
            assert row["newest_event"] <= "2026-01-16"


def test_a_table_has_a_line_for_each_partition_and_a_total(folder: Path) -> None:
    done = ctrail(folder, "status")
    lines = [line.split() for line in done.stdout.splitlines()]
    found = status(folder)
    for row in found["partitions"]:
        partition = f"{row['account']}/{row['region']}"
        [*_] = [line for line in lines if partition in line and f"{row['events']:,}" in line]
    [total] = [line for line in lines if line[:1] == ["all"]]
    assert total[1] == str(len(found["partitions"]))
    assert f"{sum(row['events'] for row in found['partitions']):,}" in total
    for trail in ("organization", "payments"):
        [trail_total] = [line for line in lines if line[:1] == [trail]]
        rows = [row for row in found["partitions"] if row["trail"] == trail]
        assert trail_total[1] == f"{sum(row['log_files'] for row in rows):,}"
    assert lines[1][:2] == ["trail,", "account/region"]


def test_prometheus_can_read_it(folder: Path) -> None:
    done = ctrail(folder, "status", "--prometheus")
    assert done.returncode == 0, "whatever stands open"
    samples: dict[str, dict[str, int]] = {}
    for line in done.stdout.splitlines():
        if line.startswith("# "):
            assert re.fullmatch(r"# (HELP ctrail_[a-z_]+ \S.*|TYPE ctrail_[a-z_]+ gauge)", line)
            continue
        match = _SAMPLE.fullmatch(line)
        assert match, line
        assert f"# TYPE {match[1]} gauge\n" in done.stdout.partition(line)[0]
        family = samples.setdefault(match[1], {})
        assert match[2] not in family
        family[match[2]] = int(match[3])
    found = status(folder)
    row = found["partitions"][0]
    labels = f'trail="{row["trail"]}",account="{row["account"]}",region="{row["region"]}"'
    assert samples["ctrail_events"][labels] == row["events"]
    assert samples["ctrail_log_files_open"][f'{labels},state="damaged"'] == row["damaged"]
    assert sum(samples["ctrail_output_bytes"].values()) == sum(
        row["bytes"] for row in found["output"]
    )
    assert set(samples) == {
        "ctrail_cursor_timestamp_seconds",
        "ctrail_events",
        "ctrail_ledger_bytes",
        "ctrail_log_files",
        "ctrail_log_files_accepted",
        "ctrail_log_files_missed",
        "ctrail_log_files_open",
        "ctrail_lost_files",
        "ctrail_newest_event_timestamp_seconds",
        "ctrail_output_bytes",
        "ctrail_parquet_bytes",
        "ctrail_quarantine_bytes",
        "ctrail_quarantined_records",
        "ctrail_status_timestamp_seconds",
    }


def test_names_are_escaped_for_prometheus(tmp_path: Path) -> None:
    write_sample(tmp_path / "sample", log_files=20)
    name = 'a "b\\'
    trail = {"name": name, "bucket": (tmp_path / "sample" / ORGANIZATION_BUCKET).as_uri()}
    (tmp_path / "config.json").write_text(json.dumps({"trails": [trail]}))
    assert ctrail(tmp_path, "sync").returncode == 0
    text = as_prometheus(read_status(load_config({}, tmp_path).settings))
    assert 'trail="a \\"b\\\\",' in text
    assert name in ctrail(tmp_path, "status").stdout


def test_the_time_of_the_newest_event_may_be_a_leap_second(tmp_path: Path) -> None:
    write_sample(tmp_path / "sample", log_files=20)
    assert ctrail(tmp_path, "sync").returncode == 0
    found = read_status(load_config({}, tmp_path).settings)
    newest = replace(found.partitions[0], newest_event="2016-12-31T23:59:60Z")
    text = as_prometheus(replace(found, partitions=[newest]))
    [line] = [line for line in text.splitlines() if line.startswith("ctrail_newest_event")]
    assert float(line.split()[-1]) == datetime(2016, 12, 31, 23, 59, 59, tzinfo=UTC).timestamp()


def test_before_the_first_sync_it_says_so_and_makes_nothing(tmp_path: Path) -> None:
    write_sample(tmp_path / "sample", log_files=10)
    done = ctrail(tmp_path, "status")
    assert done.returncode == 0
    assert "organization: not synced yet" in done.stdout
    assert "payments: not synced yet" in done.stdout
    assert status(tmp_path)["partitions"] == []
    assert ctrail(tmp_path, "status", "--prometheus").returncode == 0
    assert written(tmp_path) == set()


def test_a_trail_that_is_no_longer_configured_is_shown_as_that(tmp_path: Path) -> None:
    write_sample(tmp_path / "sample", log_files=40)
    assert ctrail(tmp_path, "sync").returncode == 0
    bucket = (tmp_path / "sample" / ORGANIZATION_BUCKET).as_uri()
    config = {"trails": [{"name": "renamed", "bucket": bucket}]}
    (tmp_path / "config.json").write_text(json.dumps(config))
    names = {row["trail"] for row in status(tmp_path)["partitions"]}
    payments = (tmp_path / "sample" / PAYMENTS_BUCKET).as_uri()
    assert names == {"renamed", f"(not configured) {payments}/audit/payments"}


def test_a_folder_of_another_ledger_is_refused(tmp_path: Path) -> None:
    write_sample(tmp_path / "sample", log_files=10)
    assert ctrail(tmp_path, "sync").returncode == 0
    (tmp_path / "events" / ".ctrail").write_text('{"ledger": "another", "generation": 1}')
    done = ctrail(tmp_path, "status")
    assert done.returncode == 1
    assert "belongs to another ledger" in done.stderr


def test_numbers_for_people() -> None:
    assert [size(n) for n in (0, 999, 1_500, 2e6, 3e9, 4e12)] == [
        *("0 B", "999 B", "2 kB", "2 MB", "3 GB", "4.0 TB")
    ]
    assert [duration(s) for s in (0, 119, 120, 7_199, 7_200, 9_000, 36_000, 172_800)] == [
        *("0 s", "119 s", "2 min", "120 min", "2 h", "2.5 h", "10 h", "2 d")
    ]
