"""Other users can read nothing that we write, and no event leaks into logs or databases.

The events carry a text that is nowhere else. After runs that met every kind of trouble, the tests
search all that was printed or kept for this text and for the credentials. They search logs,
Dagster's database and the ledger.
"""

import gzip
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from ctrail_pipeline_tests.support.fault_server import Faults, FaultServer
from ctrail_pipeline_tests.support.project import PROJECT

pytestmark = pytest.mark.thorough

CANARY = "Canary7f3a"
"""The text is in every value of each event, as far as the record stays an event."""
SECRET = "ctrail-secret-8c1b5e2f9d"
ACCOUNT, REGION, BUCKET = "111122223333", "eu-west-1", "private-logs"
FOLDER = f"AWSLogs/{ACCOUNT}/CloudTrail/{REGION}/2026/01/15/"


@dataclass(frozen=True)
class Ran:
    """A folder in which every command ran once, and what the commands printed."""

    folder: Path
    printed: str


def event(number: int, **changes: object) -> dict[str, object]:
    return {
        "eventVersion": "1.11",
        "userIdentity": {"type": "IAMUser", "userName": f"{CANARY}-user", "accountId": ACCOUNT},
        "eventTime": f"2026-01-15T10:{number:02d}:00Z",
        "eventSource": "s3.amazonaws.com",
        "eventName": "GetObject",
        "awsRegion": REGION,
        "sourceIPAddress": f"{CANARY}-address",
        "userAgent": f"[{CANARY}-agent]",
        "requestParameters": {"bucketName": f"{CANARY}-bucket"},
        "eventID": f"{CANARY}-{number}",
        "recipientAccountId": ACCOUNT,
        **changes,
    }


def put(bucket: Path, name: str, data: bytes) -> str:
    key = f"{FOLDER}{ACCOUNT}_CloudTrail_{REGION}_20260115T1005Z_{name:0>16}.json.gz"
    path = bucket / key
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return key


def log_file(*records: object) -> bytes:
    return gzip.compress(json.dumps({"Records": records}).encode(), mtime=0)


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    folder = tmp_path_factory.mktemp("private")
    root = folder / "buckets"
    bucket = root / BUCKET
    put(bucket, "sound", log_file(event(1), event(2)))
    put(bucket, "conflict", log_file(event(1, eventName="PutObject")))
    put(bucket, "noTime", log_file(event(3, eventTime=f"{CANARY}-time"), CANARY, {CANARY: 1}))
    put(bucket, "oddAccount", log_file(event(4, recipientAccountId=f"{CANARY}/../../etc")))
    put(bucket, "badChecksum", log_file(event(5))[:-8] + b"\0" * 8)
    put(bucket, "badJson", gzip.compress(f'{{"Records":[{{"a":"{CANARY}'.encode()))
    denied = put(bucket, "denied", log_file(event(6)))
    kms = put(bucket, "kms", log_file(event(7)))
    with FaultServer(root, Faults(denied={denied}, kms_denied={kms})) as server:
        trails = [{"name": "private", "bucket": BUCKET, "endpoint_url": server.endpoint_url}]
        configuration = {
            "trails": trails,
            "output_formats": ["jsonl", "parquet"],
            "batch_log_files": 1,
        }
        (folder / "config.json").write_text(json.dumps(configuration))
        home = folder / "home"
        home.mkdir()
        shutil.copy(PROJECT / "dagster.yaml", home)
        environment = {
            **{name: value for name, value in os.environ.items() if name != "CTRAIL_CONFIG"},
            "AWS_ACCESS_KEY_ID": "AKIAEXAMPLEPRIVATE00",
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_SESSION_TOKEN": f"{SECRET}-token",
            "AWS_DEFAULT_REGION": "us-east-1",
            "DAGSTER_HOME": str(home),
        }
        job = ["-m", "dagster", "job", "execute", "-m", "ctrail_pipeline.definitions", "-j"]
        printed = ""
        for arguments in (
            [*job, "sync"],
            [*job, "trail_private", "--tags", f'{{"dagster/partition":"{ACCOUNT}/{REGION}"}}'],
            ["-m", "ctrail_pipeline.cli", "sync", "-v"],
            ["-m", "ctrail_pipeline.cli", "compact", "-v"],
            [*job, "verify"],
            ["-m", "ctrail_pipeline.cli", "verify", "--deep", "--html", "report.html"],
            ["-m", "ctrail_pipeline.cli", "status"],
            ["-m", "ctrail_pipeline.cli", "status", "--json"],
        ):
            done = subprocess.run(
                [sys.executable, *arguments],
                cwd=folder,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                umask=0,
                check=False,
            )
            printed += done.stdout
    return Ran(folder, printed)


def test_everything_was_met(ran: Ran) -> None:
    """If the text were in no output file, the other tests would find nothing either."""
    events = "".join(path.read_text() for path in (ran.folder / "events").rglob("*.jsonl"))
    assert events.count(f"{CANARY}-user") == 4
    quarantine = "".join(path.read_text() for path in (ran.folder / "quarantine").rglob("*.jsonl"))
    assert quarantine.count(CANARY) > 4
    assert list((ran.folder / "parquet").rglob("*.parquet"))
    for words in ("s3:GetObject", "kms:Decrypt", "damaged"):
        assert words in ran.printed


def test_nothing_of_an_event_is_printed(ran: Ran) -> None:
    assert CANARY not in ran.printed


def test_no_credential_is_printed_or_kept(ran: Ran) -> None:
    assert SECRET not in ran.printed
    for path in ran.folder.rglob("*"):
        if path.is_file():
            assert SECRET.encode() not in path.read_bytes(), path


def test_nothing_of_an_event_is_in_dagsters_folder_the_ledger_or_a_report(ran: Ran) -> None:
    searched = 0
    for path in ran.folder.rglob("*"):
        top = path.relative_to(ran.folder).parts[0]
        if path.is_file() and top not in ("events", "quarantine", "parquet", "buckets"):
            searched += 1
            assert CANARY.encode() not in path.read_bytes(), path
    assert searched > 5


def test_what_we_write_is_for_its_owner_only(ran: Ran) -> None:
    written = [
        *(ran.folder / "events", ran.folder / "quarantine", ran.folder / "parquet"),
        *ran.folder.glob("state.db*"),
        ran.folder / "report.html",
    ]
    for top in written:
        for path in (top, *top.rglob("*")):
            mode = path.stat().st_mode & 0o777
            assert mode == (0o700 if path.is_dir() else 0o600), f"{path}: {mode:o}"
