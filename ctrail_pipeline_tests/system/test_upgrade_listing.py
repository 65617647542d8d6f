"""A ledger of before names decided otherwise: all is listed once more, and nothing stays behind."""

import gzip
import logging
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from ctrail_pipeline.core.audit.compare import compare
from ctrail_pipeline.core.bucket.interface import Page
from ctrail_pipeline.core.bucket.local import LocalBucket
from ctrail_pipeline.core.keys.source_prefix import CLOUDTRAIL
from ctrail_pipeline.core.ledger.ledger import Ledger
from ctrail_pipeline.core.ledger.source_prefixes import source_ids
from ctrail_pipeline.core.listing.look import look
from ctrail_pipeline.core.listing.look_cursor import LookCursor
from ctrail_pipeline.core.listing.selection import Selection
from ctrail_pipeline.core.run.dry_run import estimate
from ctrail_pipeline.core.run.sync import sync
from ctrail_pipeline.core.settings import Settings
from ctrail_pipeline.reports.sentences import estimate_line
from ctrail_pipeline.reports.status import read_status
from ctrail_pipeline_tests.support.version_3 import lay_out
from ctrail_pipeline_tests.support.version_3.make import ACCOUNT, REGION, record

OLD = f"{ACCOUNT}_CloudTrail_{REGION}_20251101T1215Z_000000000000000O"


@pytest.fixture
def pages(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The folders that are listed page by page, as log files are looked for."""
    folders: list[str] = []
    list_page = LocalBucket.list_page

    def noting(self: LocalBucket, folder: str, after: str, *, expected: bool = False) -> Page:
        folders.append(folder)
        return list_page(self, folder, after, expected=expected)

    monkeypatch.setattr(LocalBucket, "list_page", noting)
    return folders


def put_old(bucket: Path, number: int, kind: str = CLOUDTRAIL, ending: str = ".JSON.GZ") -> None:
    """Put a log file that lies 70 days behind the newest."""
    folder = bucket / f"AWSLogs/{ACCOUNT}/{kind}/{REGION}/2025/11/01"
    folder.mkdir(parents=True, exist_ok=True)
    body = b'{"Records":[' + record(number, eventTime="2025-11-01T12:00:00Z") + b"]}"
    (folder / f"{OLD}{ending}").write_bytes(gzip.compress(body))


def upgraded(folder: Path) -> Settings:
    """Lay out the old ledger, and open it once; its last deep listing was long ago."""
    settings = lay_out(folder)
    with closing(Ledger(settings.state_db)) as ledger, ledger.transaction():
        ledger.execute("UPDATE source_prefix SET deep_listed_at = 0")
    return settings


def old_coverage(settings: Settings) -> int:
    with closing(sqlite3.connect(settings.state_db)) as ledger:
        rows: int = ledger.execute(
            "SELECT count(*) FROM coverage WHERE listing_rule = 1"
        ).fetchone()[0]
    return rows


def rows_of(settings: Settings) -> list[tuple[str, int]]:
    """The names of log files and of source prefixes, each with its id."""
    with closing(Ledger(settings.state_db)) as ledger:
        names = ledger.rows("SELECT name, source_prefix FROM log_file")
        return sorted(
            [*names, *((prefix.label, id_) for prefix, id_ in source_ids(ledger).items())]
        )


def test_an_old_log_file_of_another_name_and_the_past_of_another_kind_come_in(
    tmp_path: Path, pages: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    settings = upgraded(tmp_path)
    bucket = tmp_path / "bucket"
    put_old(bucket, 50)
    put_old(bucket, 51, "CloudTrail-Insight", ".json.gz")
    before = rows_of(settings)
    (partition,) = read_status(settings).partitions
    assert partition.cursor is not None, "nobody reads «never» after an upgrade"

    (trail,) = estimate(settings, Selection(), lambda _problem: None)
    assert trail.list_requests_once_more == 1
    assert "1 of the requests (about $0.0000) list once more" in estimate_line(trail)

    with caplog.at_level(logging.INFO):
        summary = sync(settings)
    assert "1 accounts and regions were listed once more" in caplog.text
    assert "1 LIST requests, about $0.0000" in caplog.text
    # The two, and what the earlier version did not take for a UTC time.
    assert summary.progress.events == 3
    assert old_coverage(settings) == 0
    assert set(before) <= set(rows_of(settings)), "ids and rows stay"

    pages.clear()
    caplog.clear()
    with caplog.at_level(logging.INFO):
        assert sync(settings).progress.events == 0
    # One to see whether log files can be read, and one for each source prefix.
    assert len(pages) == 3, pages
    assert "listed once more" not in caplog.text


def test_verify_takes_what_was_covered_before_for_covered(tmp_path: Path) -> None:
    settings = upgraded(tmp_path)
    sync(settings)
    by_todays_rule = compare(settings).prefixes[0].hours
    with closing(Ledger(settings.state_db)) as ledger, ledger.transaction():
        ledger.execute("UPDATE coverage SET listing_rule = 1")
    assert compare(settings).prefixes[0].hours == by_todays_rule
    put_old(tmp_path / "bucket", 50)
    assert compare(settings).queued == 1


@pytest.mark.parametrize("is_all_gone", [True, False])
def test_nothing_of_the_old_coverage_stays_where_log_files_have_expired(
    tmp_path: Path, is_all_gone: bool
) -> None:
    settings = upgraded(tmp_path)
    region = tmp_path / f"bucket/AWSLogs/{ACCOUNT}/CloudTrail/{REGION}"
    shutil.rmtree(region if is_all_gone else region / "2026")
    put_old(tmp_path / "bucket", 51, "CloudTrail-Insight", ".json.gz")
    if not is_all_gone:
        put_old(tmp_path / "bucket", 50)
    sync(settings)
    assert old_coverage(settings) == 0
    assert look(settings, LookCursor(), 25).backlog == []


def test_the_sensor_has_the_rest_listed_by_a_run_for_backlog(tmp_path: Path) -> None:
    settings = upgraded(tmp_path)
    put_old(tmp_path / "bucket", 50)
    key = (settings.trails[0].name, f"{ACCOUNT}/{REGION}")
    result = look(settings, LookCursor(), 25)
    assert result.backlog == [key]
    sync(settings, Selection(partitions=[key[1]]))
    assert look(settings, LookCursor(), 25).backlog == []
    assert old_coverage(settings) == 0
