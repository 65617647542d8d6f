"""Which folder an event goes to, and that copies meet whatever their folders would be."""

import json
from pathlib import Path

import pytest

from ctrail_pipeline.core.ledger.ledger import Ledger
from ctrail_pipeline.core.run.sync import sync
from ctrail_pipeline.core.settings import Settings
from ctrail_pipeline_tests.support.hostile_log_files import ACCOUNT, NOON, REGION, packed
from ctrail_pipeline_tests.support.oracle import read_buckets
from ctrail_pipeline_tests.support.sync_process import (
    assert_exact,
    local_trail,
    put_object,
    settings_in,
)

CALLER = "999988887777"
OTHER = "444455556666"
HOUR = "2026/01/10/12"


@pytest.fixture
def bucket(tmp_path: Path) -> Path:
    return tmp_path / "bucket"


@pytest.fixture
def settings(tmp_path: Path, bucket: Path) -> Settings:
    return settings_in(tmp_path, [local_trail(bucket)], process_workers=1)


def put(bucket: Path, *records: bytes, account: str = ACCOUNT, region: str = REGION) -> None:
    folder = f"AWSLogs/{account}/CloudTrail/{region}/2026/01/10"
    key = f"{folder}/{account}_CloudTrail_{region}_20260110T1205Z_{0:016}.json.gz"
    put_object(bucket, key, packed(*records), NOON)


def event(**fields: object) -> bytes:
    return json.dumps({"eventTime": "2026-01-10T12:00:00Z"} | fields).encode()


def aggregated(**fields: object) -> bytes:
    window = {"windowStart": "2026-01-10T12:55:00Z", "windowEnd": "2026-01-10T13:00:00Z"}
    known = {"eventCategory": "Aggregated", "accountId": OTHER, "awsRegion": REGION}
    return json.dumps(known | {"timeWindow": window} | fields).encode()


def folders(settings: Settings) -> dict[str, list[bytes]]:
    """The lines of each folder of the output."""
    return {
        path.parent.relative_to(settings.events_dir).as_posix(): path.read_bytes().splitlines()
        for path in sorted(settings.events_dir.rglob("*.jsonl"))
    }


def dedup_partitions(settings: Settings) -> set[str]:
    ledger = Ledger(settings.state_db)
    try:
        return {name for (name,) in ledger.rows("SELECT name FROM dedup_partition")}
    finally:
        ledger.close()


IDENTITY = {"accountId": CALLER}


@pytest.mark.parametrize(
    ("record", "folder", "dedup"),
    [
        (
            event(recipientAccountId=OTHER, userIdentity=IDENTITY, awsRegion="us-east-1"),
            f"{OTHER}/us-east-1/{HOUR}",
            f"{OTHER}/us-east-1/{HOUR}",
        ),
        (event(userIdentity=IDENTITY), f"{ACCOUNT}/{REGION}/{HOUR}", f"{CALLER}/-/{HOUR}"),
        (
            event(recipientAccountId="../../..", userIdentity=IDENTITY, awsRegion="../.."),
            f"{ACCOUNT}/{REGION}/{HOUR}",
            f"{CALLER}/-/{HOUR}",
        ),
        (event(userIdentity={}), f"{ACCOUNT}/{REGION}/{HOUR}", f"-/-/{HOUR}"),
        (aggregated(), f"{OTHER}/{REGION}/{HOUR}", f"{OTHER}/{REGION}/{HOUR}"),
        (aggregated(accountId="x"), f"{ACCOUNT}/{REGION}/{HOUR}", f"-/{REGION}/{HOUR}"),
        (
            aggregated(accountId=None, userIdentity=IDENTITY, recipientAccountId=CALLER),
            f"{ACCOUNT}/{REGION}/{HOUR}",
            f"-/{REGION}/{HOUR}",
        ),
    ],
)
def test_the_recipient_names_the_folder_and_the_record_alone_the_dedup_partition(
    settings: Settings, bucket: Path, record: bytes, folder: str, dedup: str
) -> None:
    put(bucket, record)
    assert sync(settings).ok
    assert folders(settings) == {folder: [record]}
    assert dedup_partitions(settings) == {dedup}
    assert_exact(settings, read_buckets([(bucket, "")]))


def test_the_caller_names_the_folder_only_if_the_key_has_no_account(
    settings: Settings, bucket: Path
) -> None:
    record = event(userIdentity=IDENTITY)
    put(bucket, record, account="not-an-account")
    assert sync(settings).ok
    assert folders(settings) == {f"{CALLER}/{REGION}/{HOUR}": [record]}
    assert_exact(settings, read_buckets([(bucket, "")]))


@pytest.mark.parametrize("in_one_batch", [True, False])
def test_a_copy_below_another_accounts_key_stays_where_the_first_one_went(
    settings: Settings, bucket: Path, in_one_batch: bool
) -> None:
    record = event(userIdentity=IDENTITY)
    put(bucket, record)
    if not in_one_batch:
        assert sync(settings).ok
    put(bucket, record, account=OTHER)
    summary = sync(settings)
    assert summary.ok
    assert summary.progress.duplicates == 1
    assert folders(settings) == {f"{ACCOUNT}/{REGION}/{HOUR}": [record]}
