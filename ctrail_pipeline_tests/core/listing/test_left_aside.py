"""What is seen and not brought in is counted, named, and replaced when it is listed again."""

import json
import sqlite3
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from ctrail_pipeline.core.audit.compare import compare
from ctrail_pipeline.core.audit.findings import FindingKind
from ctrail_pipeline.core.keys.left_aside import LeftAside
from ctrail_pipeline.core.listing.look import look
from ctrail_pipeline.core.listing.look_cursor import LookCursor
from ctrail_pipeline.core.listing.selection import Selection
from ctrail_pipeline.core.run.dry_run import estimate
from ctrail_pipeline.core.run.sync import sync
from ctrail_pipeline.core.settings import Settings
from ctrail_pipeline.reports.sentences import estimate_line, summary_line
from ctrail_pipeline.reports.status import read_status
from ctrail_pipeline.reports.status_json import as_json as status_as_json
from ctrail_pipeline.reports.status_table import notes
from ctrail_pipeline.reports.sync_json import as_json, estimates_as_json
from ctrail_pipeline.reports.verify_json import as_json as verify_as_json
from ctrail_pipeline.reports.verify_text import finding_lines
from ctrail_pipeline_tests.support.new_log_files import NOW, put
from ctrail_pipeline_tests.support.sync_process import local_trail, put_object, settings_in

ACCOUNT, REGION = "111122223333", "eu-west-1"
ROOT = f"AWSLogs/{ACCOUNT}/"
REGION_FOLDER = f"{ROOT}CloudTrail/{REGION}/"
TODAY = f"{REGION_FOLDER}{NOW:%Y/%m/%d}/"
STANDARD_NAME = f"{ACCOUNT}_CloudTrail_{REGION}_{NOW:%Y%m%dT%H%MZ}_ABCDEFGHIJKLMNOP"


@pytest.fixture
def bucket(tmp_path: Path) -> Path:
    return tmp_path / "bucket"


@pytest.fixture
def settings(tmp_path: Path, bucket: Path) -> Settings:
    put(bucket, ACCOUNT, REGION, NOW, "A")
    return settings_in(tmp_path, [local_trail(bucket, name="main")], process_workers=1)


def add(bucket: Path, key: str, body: bytes = b"x") -> str:
    put_object(bucket, key, body, NOW)
    return f"{bucket.as_uri()}/{key}"


def left_aside(settings: Settings) -> dict[str, LeftAside]:
    summary = sync(settings)
    assert summary.ok, summary.problems
    return summary.left_aside


def let_a_day_pass(settings: Settings) -> None:
    with sqlite3.connect(settings.state_db) as ledger:
        ledger.execute("UPDATE source_prefix SET deep_listed_at = deep_listed_at - 86400")
    ledger.close()


@pytest.mark.parametrize(
    "name",
    [
        f"{STANDARD_NAME}.JSON.GZ",
        f"{STANDARD_NAME}.gz",
        f"{STANDARD_NAME}.Json",
        STANDARD_NAME,
        "renamed.GZ",
    ],
)
def test_the_name_decides_what_is_fetched(settings: Settings, bucket: Path, name: str) -> None:
    key = put(bucket, ACCOUNT, REGION, NOW, "B")
    (bucket / key).rename(bucket / f"{TODAY}{name}")
    assert sync(settings).progress.events == 2


def test_other_names_are_counted_and_named_in_every_report(
    settings: Settings, bucket: Path
) -> None:
    first = add(bucket, f"{TODAY}a.json.bz2")
    add(bucket, f"{TODAY}b.txt")
    expected = {"main": LeftAside(2, first)}
    said = f"2 objects and folders are left aside, such as {first}"
    as_plain = {"main": {"objects": 2, "example": first}}

    (trail,) = estimate(settings, Selection(), lambda _problem: None)
    assert said in estimate_line(trail)
    assert estimates_as_json([trail], [])["estimates"][0]["left_aside"] == as_plain

    for _ in range(2):
        summary = sync(settings)
        assert (summary.ok, summary.left_aside) == (True, expected)
        assert said in summary_line(summary)
        assert as_json(summary)["left_aside"] == as_plain

    status = read_status(settings)
    assert said in notes(status)
    assert json.loads(json.dumps(status_as_json(status)))["left_aside"] == as_plain

    (trail,) = estimate(settings, Selection(), lambda _problem: None)
    assert trail.left_aside == expected["main"]

    report = compare(settings)
    assert report.is_complete, "a warning fails nothing"
    assert report.counts == {FindingKind.LEFT_ASIDE: 1}
    assert finding_lines(report)[0].startswith("WARNING: left aside (1)")
    assert f"{first}: no log file's name; the first of 2" in finding_lines(report)[1]
    assert verify_as_json(report)["left_aside"] == as_plain


def test_an_example_is_printable(settings: Settings, bucket: Path) -> None:
    add(bucket, f"{TODAY}a\x1b[2J.txt")
    assert "a\\u001b[2J.txt" in summary_line(sync(settings))


def test_a_day_that_is_listed_again_has_its_tally_replaced(
    settings: Settings, bucket: Path
) -> None:
    old = NOW - timedelta(days=100)
    in_the_past = add(bucket, f"{REGION_FOLDER}{old:%Y/%m/%d}/old.txt")
    today = add(bucket, f"{TODAY}a.txt")
    assert left_aside(settings) == {"main": LeftAside(2, in_the_past)}
    add(bucket, f"{TODAY}b.txt")
    assert left_aside(settings)["main"].objects == 3
    (bucket / f"{TODAY}a.txt").unlink()
    (bucket / f"{TODAY}b.txt").unlink()
    (bucket / f"{REGION_FOLDER}{old:%Y/%m/%d}/old.txt").unlink()
    assert left_aside(settings) == {"main": LeftAside(1, in_the_past)}, "it was not listed again"
    assert today not in summary_line(sync(settings))
    assert compare(settings).left_aside == {}
    assert left_aside(settings) == {}


def test_a_run_of_hours_replaces_the_whole_day(settings: Settings, bucket: Path) -> None:
    add(bucket, f"{TODAY}a.txt")
    add(bucket, f"{TODAY}z.txt")
    assert left_aside(settings)["main"].objects == 2
    summary = sync(settings, Selection(start=NOW - timedelta(hours=1)))
    assert summary.left_aside["main"].objects == 2


def test_a_look_counts_too(settings: Settings, bucket: Path) -> None:
    sync(settings)
    first = add(bucket, f"{TODAY}a.txt")
    look(settings, LookCursor(), 25)
    assert read_status(settings).left_aside == {"main": LeftAside(1, first)}


def test_a_run_that_sees_nothing_new_writes_nothing(settings: Settings, bucket: Path) -> None:
    add(bucket, f"{TODAY}a.txt")
    add(bucket, f"{ROOT}CloudTrail-Lake/Query/2026/01/15/id/result_1.csv.gz")
    sync(settings)
    sync(settings)

    with sqlite3.connect(settings.state_db) as watching:
        before = watching.execute("PRAGMA data_version").fetchone()
        sync(settings)
        assert watching.execute("PRAGMA data_version").fetchone() == before
    watching.close()


# --- outside of the folders of regions ------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "example"),
    [
        (f"{ROOT}CloudTrail/{STANDARD_NAME}.json.gz", None),
        (f"{ROOT}{STANDARD_NAME}.json.gz", None),
        (f"AWSLogs/{STANDARD_NAME}.json.gz", None),
        (
            f"AWSLogs/team/{ACCOUNT}/CloudTrail/{REGION}/2026/01/15/x.json.gz",
            f"AWSLogs/team/{ACCOUNT}/",
        ),
        (
            f"AWSLogs/o-abc123def4/team/{ACCOUNT}/CloudTrail/{REGION}/2026/01/15/x.json.gz",
            f"AWSLogs/o-abc123def4/team/{ACCOUNT}/",
        ),
        (
            f"AWSLogs/old/team/{ACCOUNT}/CloudTrail/{REGION}/2026/01/15/x.json.gz",
            "AWSLogs/old/",
        ),
        (
            f"AWSLogs/o-abc123def4/old/team/{ACCOUNT}/CloudTrail/{REGION}/2026/01/15/x.json.gz",
            "AWSLogs/o-abc123def4/old/",
        ),
        (f"{ROOT}2026/01/15/x.json.gz", f"{ROOT}2026/"),
        (
            f"{ROOT}CloudTrail-Lake/Query/2026/01/15/id/result_1.csv.gz",
            f"{ROOT}CloudTrail-Lake/",
        ),
        (f"{ROOT}CloudTrail-New/{REGION}/2026/01/15/x.json.gz", f"{ROOT}CloudTrail-New/"),
        (f"{ROOT}cloudtrail/{REGION}/2026/01/15/x.json.gz", f"{ROOT}cloudtrail/"),
        (f"{ROOT}CloudTrail/eu west/2026/01/15/x.json.gz", f"{ROOT}CloudTrail/eu west/"),
        (f"AWSLogs/my account/CloudTrail/{REGION}/2026/01/15/x.json.gz", "AWSLogs/my account/"),
    ],
)
def test_what_lies_outside_of_the_regions_is_counted_by_discovery(
    settings: Settings, bucket: Path, key: str, example: str | None
) -> None:
    add(bucket, key)
    expected = {"main": LeftAside(1, f"{bucket.as_uri()}/{example or key}")}
    (trail,) = estimate(settings, Selection(), lambda _problem: None)
    assert {"main": trail.left_aside} == expected
    for _ in range(2):
        assert left_aside(settings) == expected
    assert compare(settings).left_aside == expected
    (bucket / key).unlink()
    for parent in (bucket / key).parents:
        if parent == bucket or any(parent.iterdir()):
            break
        parent.rmdir()
    let_a_day_pass(settings)
    assert left_aside(settings) == {}


@pytest.mark.parametrize(
    "key",
    [
        f"{ROOT}CloudTrail-Digest/{REGION}/2026/01/15/x.json.gz",
        f"{ROOT}Config/{REGION}/2026/1/15/ConfigHistory/x.json.gz",
        f"{ROOT}vpcflowlogs/{REGION}/2026/01/15/x.log.gz",
        f"{ROOT}elasticloadbalancing/{REGION}/2026/01/15/x.log.gz",
        f"{ROOT}WAFLogs/{REGION}/acl/2026/01/15/00/00/x.log.gz",
        f"{ROOT}GuardDuty/{REGION}/2026/01/15/x.jsonl.gz",
        f"{ROOT}ELBAccessLogTestFile",
        f"{TODAY}empty_$folder$",
        f"AWSLogs/444455556666/vpcflowlogs/{REGION}/2026/01/15/x.log.gz",
        f"AWSLogs/aws-account-id={ACCOUNT}/aws-service=vpcflowlogs/x.log.parquet",
    ],
)
def test_other_services_digests_and_markers_are_not_counted(
    settings: Settings, bucket: Path, key: str
) -> None:
    add(bucket, key, b"" if "$folder$" in key else b"x")
    assert left_aside(settings) == {}
    assert compare(settings).left_aside == {}


def test_what_the_user_did_not_choose_is_not_counted(settings: Settings, bucket: Path) -> None:
    add(bucket, f"{ROOT}CloudTrail-Insight/{REGION}/2026/01/15/x.json.gz", b'{"Records":[]}')
    add(bucket, "AWSLogs/444455556666/CloudTrail-New/x.json.gz")
    add(bucket, f"{ROOT}CloudTrail/us-east-1/2026/01/15/x.txt")
    narrow = replace(
        settings, kinds=("CloudTrail",), exclude_accounts=("4444*",), regions=("eu-*",)
    )
    assert left_aside(narrow) == {}


def test_an_account_that_is_not_looked_at_keeps_its_tally(settings: Settings, bucket: Path) -> None:
    add(bucket, f"{ROOT}CloudTrail-New/x.json.gz")
    first = left_aside(settings)
    assert first["main"].objects == 1
    add(bucket, "AWSLogs/444455556666/CloudTrail-Lake/Query/x.csv.gz")
    assert left_aside(settings)["main"].objects == 2, "a new account is looked at at once"
