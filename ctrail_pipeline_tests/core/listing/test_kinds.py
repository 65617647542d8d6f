"""Kinds beside CloudTrail are brought in, at no LIST in an ordinary run, and their past too."""

import json
import sqlite3
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from ctrail_pipeline.core.audit.compare import compare
from ctrail_pipeline.core.bucket.interface import Folder
from ctrail_pipeline.core.bucket.local import LocalBucket
from ctrail_pipeline.core.keys.source_prefix import KINDS
from ctrail_pipeline.core.listing.look import Look, look
from ctrail_pipeline.core.listing.look_cursor import LookCursor
from ctrail_pipeline.core.listing.selection import Selection
from ctrail_pipeline.core.run.dry_run import estimate
from ctrail_pipeline.core.run.sync import sync
from ctrail_pipeline.core.settings import Settings
from ctrail_pipeline.reports.status import read_status
from ctrail_pipeline_tests.support.new_log_files import NOW, put
from ctrail_pipeline_tests.support.sync_process import local_trail, settings_in

ACCOUNT, REGION = "111122223333", "eu-west-1"
ACCOUNT_FOLDER = f"AWSLogs/{ACCOUNT}/"
CLOUDTRAIL, NETWORK, INSIGHT, AGGREGATED = KINDS
SIBLINGS = [NETWORK, INSIGHT, AGGREGATED]


@pytest.fixture
def bucket(tmp_path: Path) -> Path:
    return tmp_path / "bucket"


@pytest.fixture
def settings(tmp_path: Path, bucket: Path) -> Settings:
    return settings_in(tmp_path, [local_trail(bucket, name="main")], process_workers=1)


@pytest.fixture
def listed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The folders that are listed with a delimiter, as discovery lists them."""
    folders: list[str] = []
    list_folder = LocalBucket.list_folder

    def noting(self: LocalBucket, folder: str, *, expected: bool = False) -> Folder:
        folders.append(folder)
        return list_folder(self, folder, expected=expected)

    monkeypatch.setattr(LocalBucket, "list_folder", noting)
    return folders


def deliver(bucket: Path, kind: str, *, days_ago: int = 0, region: str = REGION) -> None:
    put(bucket, ACCOUNT, region, NOW - timedelta(days=days_ago), "A", kind)


def kinds_in(settings: Settings) -> list[str]:
    """The kind of each event in the output, which the event's ID begins with."""
    lines = [
        json.loads(line)["eventID"].partition(ACCOUNT)[0]
        for path in settings.events_dir.rglob("*.jsonl")
        for line in path.read_bytes().splitlines()
    ]
    return sorted(lines)


def let_a_day_pass(settings: Settings) -> None:
    with sqlite3.connect(settings.state_db) as ledger:
        ledger.execute("UPDATE source_prefix SET deep_listed_at = deep_listed_at - 86400")
    ledger.close()


def test_a_first_sync_brings_in_every_kind(settings: Settings, bucket: Path) -> None:
    for kind in KINDS:
        deliver(bucket, kind)
    assert sync(settings).ok
    assert kinds_in(settings) == sorted(KINDS)
    assert sync(settings).progress.log_files == 0


def test_a_bucket_with_other_kinds_only_just_works(settings: Settings, bucket: Path) -> None:
    for days in (40, 0):
        deliver(bucket, NETWORK, days_ago=days)
    assert sync(settings).progress.log_files == 2
    put(bucket, ACCOUNT, REGION, NOW, "B", NETWORK)
    assert sync(settings).progress.log_files == 1
    assert compare(settings).is_complete


def test_an_ordinary_run_lists_no_more_folders_to_find_accounts_than_before(
    settings: Settings, bucket: Path, listed: list[str]
) -> None:
    deliver(bucket, CLOUDTRAIL)
    deliver(bucket, INSIGHT)
    sync(settings)
    assert sorted(listed) == [
        "AWSLogs/",
        ACCOUNT_FOLDER,
        f"{ACCOUNT_FOLDER}{INSIGHT}/",
        f"{ACCOUNT_FOLDER}{CLOUDTRAIL}/",
    ]
    listed.clear()
    put(bucket, ACCOUNT, REGION, NOW, "B", INSIGHT)
    assert sync(settings).progress.log_files == 1, "a known kind is listed in every run"
    assert listed == ["AWSLogs/", f"{ACCOUNT_FOLDER}{CLOUDTRAIL}/"]


def test_a_new_kind_is_found_at_the_next_deep_listing_with_its_past(
    settings: Settings, bucket: Path
) -> None:
    deliver(bucket, CLOUDTRAIL)
    sync(settings)
    deliver(bucket, NETWORK)
    deliver(bucket, NETWORK, days_ago=400)
    assert sync(settings).progress.log_files == 0
    let_a_day_pass(settings)
    assert sync(settings).progress.log_files == 2
    assert kinds_in(settings) == [CLOUDTRAIL, NETWORK, NETWORK]


def test_a_run_of_a_part_does_not_hide_kinds_from_the_run_of_all(
    settings: Settings, bucket: Path
) -> None:
    deliver(bucket, CLOUDTRAIL)
    deliver(bucket, INSIGHT, region="us-east-1")
    assert sync(settings, Selection(regions=[REGION])).progress.log_files == 1
    assert sync(settings).progress.log_files == 1


@pytest.mark.parametrize("of_trail", [True, False])
def test_kinds_are_selected(
    settings: Settings, bucket: Path, listed: list[str], *, of_trail: bool
) -> None:
    for kind in KINDS:
        deliver(bucket, kind)
    chosen = (INSIGHT, CLOUDTRAIL)
    if of_trail:
        narrow = replace(settings, trails=(replace(settings.trails[0], kinds=chosen),))
    else:
        narrow = replace(settings, kinds=chosen)
    assert sync(narrow).ok
    assert kinds_in(settings) == sorted(chosen)
    assert not any(NETWORK in folder for folder in listed)
    assert looked(narrow).partitions == {"main": [f"{ACCOUNT}/{REGION}"]}
    assert compare(narrow).total("listed") == 2
    assert sync(settings).progress.log_files == 0, "a wider choice waits for the deep listing"
    let_a_day_pass(settings)
    assert sync(settings).progress.log_files == 2


# --- one partition over all kinds -----------------------------------------------------------------


def looked(settings: Settings, cursor: LookCursor | None = None) -> Look:
    result = look(settings, cursor or LookCursor(), 25)
    assert result.problems == []
    return result


def test_a_look_counts_an_account_and_region_once(settings: Settings, bucket: Path) -> None:
    for kind in KINDS:
        deliver(bucket, kind)
    result = looked(settings)
    key = ("main", f"{ACCOUNT}/{REGION}")
    assert result.found == 4
    assert result.waiting[key].log_files == 4
    assert result.partitions == {"main": [key[1]]}
    assert result.backlog == [key]
    assert result.looked_at == {key}
    assert sync(settings, Selection(listed=True)).progress.log_files == 4


def test_a_look_asks_for_kinds_once_a_day(
    settings: Settings, bucket: Path, listed: list[str]
) -> None:
    deliver(bucket, CLOUDTRAIL)
    cursor = looked(settings).cursor
    deliver(bucket, NETWORK)
    discovered_long_ago = replace(cursor, discovered={})
    listed.clear()
    result = looked(settings, LookCursor.parse(discovered_long_ago.dump()))
    assert (result.found, ACCOUNT_FOLDER in listed) == (0, False)
    a_day_ago = {name: at - 86_400 for name, at in cursor.kinds_discovered.items()}
    result = looked(settings, replace(discovered_long_ago, kinds_discovered=a_day_ago))
    assert (result.found, ACCOUNT_FOLDER in listed) == (1, True)


def test_a_cursor_of_before_there_were_kinds_is_understood() -> None:
    old = '{"round": 3, "after": "main: AWSLogs/", "discovered": {"main": 5.0}}'
    assert LookCursor.parse(old) == LookCursor(3, "main: AWSLogs/", {"main": 5.0}, {})


def test_status_has_a_line_for_an_account_and_region(settings: Settings, bucket: Path) -> None:
    deliver(bucket, CLOUDTRAIL)
    deliver(bucket, INSIGHT, days_ago=100)
    sync(settings)
    (partition,) = read_status(settings).partitions
    assert (partition.log_files, partition.events) == (2, 2)
    assert partition.cursor is not None
    assert partition.cursor >= NOW, "the cursor of what is delivered all the time"
    assert partition.newest_event == f"{NOW:%Y-%m-%dT%H:%M:00Z}"


def test_a_dry_run_and_verify_count_every_kind(settings: Settings, bucket: Path) -> None:
    for kind in KINDS:
        deliver(bucket, kind)
    (trail,) = estimate(settings, Selection(), lambda _problem: None)
    assert (trail.partitions, trail.log_files) == (1, 4)
    sync(settings)
    deliver(bucket, NETWORK, days_ago=1)
    report = compare(settings)
    assert (report.total("listed"), report.queued) == (5, 1)
    assert {prefix.source_prefix.label for prefix in report.prefixes} == {
        f"{ACCOUNT}/{REGION}",
        *(f"{ACCOUNT}/{REGION} {kind}" for kind in SIBLINGS),
    }
    assert sync(settings).progress.log_files == 1
