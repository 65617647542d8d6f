"""The sample bucket: its properties that the demo, the tests and the benchmarks rely on."""

import gzip
import hashlib
import json
import re
import statistics
import subprocess
import sys
from collections import Counter
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

from ctrail_pipeline.sample.bucket import (
    ACCOUNTS,
    ORGANIZATION_BUCKET,
    PAYMENTS_ACCOUNT,
    PAYMENTS_BUCKET,
    PAYMENTS_PREFIX,
    SampleObject,
    generate_log_files,
    main,
    write_sample,
)
from ctrail_pipeline_tests.support.oracle import read_buckets
from ctrail_pipeline_tests.support.project import PROJECT


def tree_hash(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(folder.glob("**/*")):
        if path.is_file():
            digest.update(path.relative_to(folder).as_posix().encode() + b"\0")
            digest.update(b"%d" % path.stat().st_mtime_ns + path.read_bytes())
    return digest.hexdigest()


def records_of(sample_object: SampleObject) -> list[dict[str, Any]]:
    records: list[dict[str, Any]] = json.loads(gzip.decompress(sample_object.body))["Records"]
    return records


@pytest.fixture(scope="module")
def log_files() -> list[SampleObject]:
    return [
        sample_object
        for sample_object in generate_log_files()
        if "/CloudTrail/" in sample_object.key
    ]


@pytest.fixture(scope="module")
def records(log_files: list[SampleObject]) -> list[dict[str, Any]]:
    return [record for log_file in log_files for record in records_of(log_file)]


def test_the_same_seed_gives_the_same_bytes_and_times(tmp_path: Path) -> None:
    first = write_sample(tmp_path / "first", log_files=100)
    again = write_sample(tmp_path / "again", log_files=100)
    write_sample(tmp_path / "other", log_files=100, seed=2)
    assert first == again
    assert tree_hash(tmp_path / "first") == tree_hash(tmp_path / "again")
    assert tree_hash(tmp_path / "first") != tree_hash(tmp_path / "other")


def test_the_summary_counts_what_is_on_disk(tmp_path: Path) -> None:
    summary = write_sample(tmp_path / "sample", log_files=600)
    found = read_buckets(
        [
            (tmp_path / "sample" / ORGANIZATION_BUCKET, ""),
            (tmp_path / "sample" / PAYMENTS_BUCKET, PAYMENTS_PREFIX),
        ]
    )
    files = [path for path in (tmp_path / "sample").glob("**/*") if path.is_file()]
    assert (summary.log_files, found.log_files) == (600, 600)
    assert summary.records == found.records
    assert summary.distinct_records == len(found.lines)
    assert summary.other_objects == len(files) - 600 > 0
    assert summary.stored_bytes == sum(path.stat().st_size for path in files)
    assert not found.damaged_log_files
    assert not found.quarantined


@pytest.mark.parametrize("count", [0, 1, 2, 4, 5, 9, 123])
def test_as_many_log_files_as_asked_for(count: int) -> None:
    keys = [
        sample_object.key
        for sample_object in generate_log_files(log_files=count)
        if "/CloudTrail/" in sample_object.key
    ]
    assert len(keys) == len(set(keys)) == count


def test_keys_are_cloudtrails(log_files: list[SampleObject]) -> None:
    name = (
        r"(?P<account>\d{12})/CloudTrail/(?P<region>[a-z0-9-]+)/(?P<day>\d{4}/\d{2}/\d{2})/"
        r"(?P=account)_CloudTrail_(?P=region)_\d{8}T\d{4}Z_[A-Za-z0-9]{16}\.json\.gz"
    )
    starts = {
        ORGANIZATION_BUCKET: "AWSLogs/o-exampleorg1/",
        PAYMENTS_BUCKET: "audit/payments/AWSLogs/",
    }
    seen = set()
    for log_file in log_files:
        key = re.fullmatch(re.escape(starts[log_file.bucket]) + name, log_file.key)
        assert key, log_file.key
        assert key["day"].replace("/", "") in log_file.key.rpartition("/")[2]
        seen.add((key["account"], key["region"], key["day"]))
        assert (
            log_file.body[10 : log_file.body.index(b"\0", 10)].decode() in log_file.key
        )  # gzip's FNAME
    assert {account for account, _, _ in seen} == set(ACCOUNTS)
    assert len({region for _, region, _ in seen}) == 4
    assert {day for _, _, day in seen} == {f"2026/01/{day}" for day in (12, 13, 14, 15)}


def test_the_trails_overlap_in_records_but_not_in_log_files(log_files: list[SampleObject]) -> None:
    packed: dict[str, list[frozenset[str]]] = {ORGANIZATION_BUCKET: [], PAYMENTS_BUCKET: []}
    for log_file in log_files:
        if f"/{PAYMENTS_ACCOUNT}/" in log_file.key:
            packed[log_file.bucket].append(
                frozenset(record["eventID"] for record in records_of(log_file))
            )
    of_payments, of_organization = packed[PAYMENTS_BUCKET], packed[ORGANIZATION_BUCKET]
    assert len(of_payments) == len(of_organization) == 300
    assert frozenset().union(*of_payments) == frozenset().union(*of_organization)
    assert len(set(of_payments) & set(of_organization)) < 0.25 * len(of_payments)


def test_sizes_are_those_of_real_logs(log_files: list[SampleObject]) -> None:
    counts = [log_file.records for log_file in log_files]
    centiles = statistics.quantiles(counts, n=100)
    assert 4 <= centiles[49] <= 6
    assert 13 <= centiles[89] <= 19
    assert 25 <= centiles[98] <= 50
    assert max(counts) > 100
    plain = sum(len(gzip.decompress(log_file.body)) for log_file in log_files)
    assert 1400 <= plain / sum(counts) <= 1700
    assert 4 <= plain / sum(len(log_file.body) for log_file in log_files) <= 8


def test_large_log_files_hold_thousands_of_records() -> None:
    counts = [
        sample_object.records
        for sample_object in generate_log_files(log_files=3, shape="large")
        if sample_object.records
    ]
    assert len(counts) == 3
    assert min(counts) >= 2000


def test_every_shape_occurs(records: list[dict[str, Any]], log_files: list[SampleObject]) -> None:
    text = b"".join(gzip.decompress(log_file.body) for log_file in log_files)
    assert {record["userIdentity"].get("type") for record in records} >= {
        "AssumedRole",
        "AWSAccount",
        "AWSService",
        "IAMUser",
        "Root",
        "WebIdentityUser",
    }
    services = [record for record in records if record["userIdentity"].get("type") == "AWSService"]
    assert not any("accountId" in record["userIdentity"] for record in services)
    assert any("recipientAccountId" not in record for record in services)
    assert any("recipientAccountId" not in record for record in records if record not in services)
    for fragment in (
        b'"bytesTransferredIn":0.0',
        b"1.688E9",
        "東京 🚀".encode(),
        rb"\ud83d\ude80",
        rb"\u003cteam\/payments",
        rb"back\u0000slash",
        b'"readOnly":"true"',
        b'"errorCode":"AccessDenied"',
        b'"addendum"',
        b'"eventName":"ConsoleLogin"',
    ):
        assert fragment in text
    assert re.search(rb'":[0-9]{30}[,}]', text)
    assert max(len(json.dumps(record)) for record in records) > 20_000


def test_shared_event_ids_pair_events_of_two_accounts(records: list[dict[str, Any]]) -> None:
    accounts: dict[str, set[str]] = {}
    for record in records:
        if "sharedEventID" in record and "recipientAccountId" in record:
            of_pair = accounts.setdefault(record["sharedEventID"], set())
            of_pair.add(record["recipientAccountId"])
    assert any(len(of_pair) == 2 for of_pair in accounts.values())


def test_some_records_are_of_another_day_or_region_than_their_key(
    log_files: list[SampleObject],
) -> None:
    days = regions = 0
    for log_file in log_files:
        region, year, month, day = log_file.key.split("/")[-5:-1]
        for record in records_of(log_file):
            days += not record["eventTime"].startswith(f"{year}-{month}-{day}")
            regions += record["awsRegion"] != region
    assert days
    assert regions


def test_some_records_are_delivered_twice_within_a_trail(log_files: list[SampleObject]) -> None:
    trail = [log_file for log_file in log_files if log_file.bucket == ORGANIZATION_BUCKET]
    holders = Counter(
        event_id
        for log_file in trail
        for event_id in {record["eventID"] for record in records_of(log_file)}
    )
    assert set(holders.values()) == {1, 2}


def test_objects_are_delivered_at_about_the_time_in_their_key(
    log_files: list[SampleObject],
) -> None:
    delays = []
    for log_file in log_files:
        stamp = log_file.key.rpartition("/")[2].split("_")[3]
        at = datetime.strptime(stamp, "%Y%m%dT%H%MZ").replace(tzinfo=UTC)
        delays.append((log_file.last_modified - at).total_seconds())
    assert min(delays) >= 0
    assert statistics.median(delays) < 5 * 60
    assert 30 * 60 < max(delays) < 3 * 3600


def test_last_day_and_days_move_the_sample() -> None:
    objects = generate_log_files(log_files=50, days=1, last_day=date(2024, 2, 29))
    assert all("/2024/02/29/" in sample_object.key for sample_object in objects)


def test_an_existing_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "sample").mkdir()
    with pytest.raises(FileExistsError):
        write_sample(tmp_path / "sample", log_files=5)
    assert write_sample(tmp_path / "sample", log_files=5, force=True).log_files == 5
    assert [path.name for path in tmp_path.iterdir()] == ["sample"]


def test_a_failed_write_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "sample").write_text("a file in the way")
    with pytest.raises(ValueError, match="days"):
        write_sample(tmp_path / "sample", log_files=5, days=0, force=True)
    assert [path.name for path in tmp_path.iterdir()] == ["sample"]
    assert (tmp_path / "sample").is_file()


def test_what_a_killed_run_left_is_removed(tmp_path: Path) -> None:
    partial = tmp_path / ".sample.abc.partial" / "sample"
    partial.mkdir(parents=True)
    write_sample(tmp_path / "sample", log_files=5)
    assert [path.name for path in tmp_path.iterdir()] == ["sample"]


def test_the_command_writes_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = str(tmp_path / "sample")
    assert main([folder, "--log-files", "20"]) == 0
    assert "20 log files" in capsys.readouterr().out
    before = tree_hash(tmp_path)
    assert main([folder, "--log-files", "30"]) == 0
    assert "is there already" in capsys.readouterr().out
    assert tree_hash(tmp_path) == before
    assert main([folder, "--log-files", "30", "--force"]) == 0
    assert "30 log files" in capsys.readouterr().out


def test_the_command_needs_nothing_but_the_standard_library(tmp_path: Path) -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-S",
            "-m",
            "ctrail_pipeline.sample",
            str(tmp_path / "s"),
            "--log-files=5",
        ],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
