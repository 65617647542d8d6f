"""Each verdict of a comparison is made true and told; what is missing is queued and comes in."""

import gzip
import json
import os
import shutil
import sqlite3
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ctrail_pipeline.core.audit import compare_bucket, compare_report
from ctrail_pipeline.core.audit.compare import compare
from ctrail_pipeline.core.audit.compare_report import COUNTS, DayStatus, PrefixReport, Report
from ctrail_pipeline.core.audit.digest_result import DigestResult
from ctrail_pipeline.core.audit.findings import EXPLANATIONS, Finding, FindingKind, HourState
from ctrail_pipeline.core.audit.hour_states import HourRange
from ctrail_pipeline.core.audit.listed_hours import listed_hours
from ctrail_pipeline.core.bucket.interface import Page
from ctrail_pipeline.core.bucket.local import LocalBucket
from ctrail_pipeline.core.exceptions import AccessDenied, ConfigurationError
from ctrail_pipeline.core.keys.coverage import Range
from ctrail_pipeline.core.keys.log_file_key import key_of
from ctrail_pipeline.core.keys.minutes import MINUTES_PER_DAY, Minute, day_number
from ctrail_pipeline.core.keys.source_prefix import SourcePrefix
from ctrail_pipeline.core.ledger.ledger import Ledger
from ctrail_pipeline.core.ledger.log_files import put_found
from ctrail_pipeline.core.ledger.queries_compare import known_by_name
from ctrail_pipeline.core.ledger.rows import FoundLogFile
from ctrail_pipeline.core.ledger.source_prefixes import covered_ranges
from ctrail_pipeline.core.listing.selection import Selection
from ctrail_pipeline.core.listing.sources import Source
from ctrail_pipeline.core.run.sync import sync
from ctrail_pipeline.core.settings import Settings, Trail
from ctrail_pipeline.core.upkeep.prune import prune
from ctrail_pipeline_tests.support.oracle import check_output, snapshot
from ctrail_pipeline_tests.support.real_logs import REAL_LOGS, needs_real_logs
from ctrail_pipeline_tests.support.s3_server import S3Server
from ctrail_pipeline_tests.support.sync_process import settings_in

ACCOUNT, REGION = "111122223333", "eu-west-1"
FIRST = day_number(2026, 1, 1) or 0
LONG_AGO = datetime(2026, 3, 20, tzinfo=UTC).timestamp()
DAYS = 60


def event(number: int, day: int, **extra: object) -> bytes:
    moment = datetime(1970, 1, 1, 12, number % 60, tzinfo=UTC) + timedelta(days=day)
    fields = {
        "eventTime": f"{moment:%Y-%m-%dT%H:%M:%SZ}",
        "eventID": f"{day}-{number}",
        "eventName": "GetObject",
        "awsRegion": REGION,
        "recipientAccountId": ACCOUNT,
    }
    return json.dumps(fields | extra).encode()


class World:
    """A bucket with one account and region, a log file each day, and what was synced from it."""

    def __init__(self, folder: Path) -> None:
        self.bucket = folder / "bucket"
        self.source_prefix = SourcePrefix(self.bucket.as_uri(), "", "", ACCOUNT, REGION)
        self.settings = settings_in(folder, [Trail("main", self.bucket.as_uri())])

    def put(
        self,
        day: int,
        suffix: str,
        *events: bytes,
        modified: float = LONG_AGO,
        body: bytes | None = None,
    ) -> Path:
        """Put a log file of 12:05 that came in long ago, unless the caller says otherwise."""
        path = self.bucket / key_of(self.source_prefix, day, f"1205{suffix:0>16}")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body or gzip.compress(b'{"Records":[' + b",".join(events) + b"]}"))
        os.utime(path, (modified, modified))
        return path

    def fill(self, days: int = DAYS) -> list[Path]:
        return [
            self.put(FIRST + n, "A", event(1, FIRST + n), event(2, FIRST + n)) for n in range(days)
        ]

    def compare(self, selection: Selection | None = None, *, deep: bool = False) -> Report:
        return compare(self.settings, selection, deep=deep)

    def output(self) -> list[Path]:
        return sorted(self.settings.events_dir.rglob("*.jsonl"))

    def assert_whole(self) -> None:
        buckets = [(self.bucket, "")]
        settings = self.settings
        check_output(settings.events_dir, settings.quarantine_dir, buckets).assert_clean()


@pytest.fixture
def world(tmp_path: Path) -> World:
    world = World(tmp_path)
    world.fill()
    assert sync(world.settings).ok
    return world


def totals(report: Report) -> dict[str, int]:
    return {name: report.total(name) for name in COUNTS if report.total(name)}


def statuses(report: Report) -> dict[int, DayStatus]:
    """The days that are not complete, counted from the first one."""
    [prefix] = report.prefixes
    found = {day - FIRST: prefix.status_of(day) for day in range(FIRST, FIRST + DAYS)}
    return {
        day: status for day, status in found.items() if status and status is not DayStatus.COMPLETE
    }


def found(report: Report) -> list[tuple[FindingKind, str]]:
    return sorted(
        ((finding.kind, finding.where.rpartition("/")[2]) for finding in report.findings),
        key=lambda item: (item[0].value, item[1]),
    )


# --- the bucket against the ledger ----------------------------------------------------------------


def test_what_was_synced_is_complete(world: World) -> None:
    report = world.compare(deep=True)
    assert report.is_complete
    assert totals(report) == {"listed": DAYS, "committed": DAYS}
    assert (report.findings, report.queued, statuses(report)) == ([], 0, {})
    assert (report.output.files, report.output.lines) == (DAYS, 2 * DAYS)
    [prefix] = report.prefixes
    # The last hour may not be over: the newest key is of 12:05 on the last day.
    assert prefix.hours == [
        HourRange(FIRST * 24, (FIRST + DAYS - 1) * 24 + 12, HourState.LISTED_COMPLETE),
        HourRange((FIRST + DAYS - 1) * 24 + 12, (FIRST + DAYS - 1) * 24 + 13, HourState.OPEN),
    ]


def test_one_that_turned_up_beyond_the_horizon_is_missing_and_the_next_sync_brings_it_in_once(
    world: World,
) -> None:
    day = FIRST + 3
    late = world.put(day, "B", event(2, day), event(3, day))
    assert sync(world.settings).progress.log_files == 0, "no sync would ever have listed it"
    report = world.compare()
    assert not report.is_complete
    assert totals(report) == {"listed": DAYS + 1, "committed": DAYS, "missing": 1, "late": 1}
    [finding] = report.findings
    assert (finding.kind, finding.trail) == (FindingKind.LOG_FILE_MISSING, "main")
    assert finding.where == late.as_uri()
    assert finding.partition == f"{ACCOUNT}/{REGION}"
    assert finding.hours == (day * 24 + 12, day * 24 + 13)
    assert "more than 35 days behind" in finding.detail
    assert statuses(report) == {3: DayStatus.LATE}
    hours = HourRange(day * 24 + 12, day * 24 + 13, HourState.OPEN)
    assert hours in report.prefixes[0].hours
    assert report.queued == 1
    assert world.compare().queued == 0, "it is queued already"

    summary = sync(world.settings, Selection(listed=True))
    assert (summary.progress.log_files, summary.progress.events) == (1, 1)
    world.assert_whole()
    assert world.compare().is_complete
    assert sync(world.settings).progress.log_files == 0


def test_a_full_sync_brings_in_what_is_queued_too(world: World) -> None:
    world.put(FIRST + 3, "B", event(3, FIRST + 3))
    world.put(FIRST + 4, "B", event(3, FIRST + 4), modified=time.time())
    assert world.compare().queued == 2
    assert sync(world.settings).progress.events == 2
    world.assert_whole()
    assert world.compare().is_complete


def test_a_comparison_covers_nothing(world: World) -> None:
    with closing(Ledger(world.settings.state_db)) as ledger:
        before = covered_ranges(ledger)
    world.put(FIRST + DAYS + 5, "B", event(1, FIRST + DAYS + 5))
    report = world.compare()
    assert totals(report)["missing"] == 1
    assert "late" not in totals(report)
    assert report.findings[0].detail == "no sync has covered its time yet"
    assert report.prefixes[0].status_of(FIRST + DAYS + 5) is DayStatus.GAP
    with closing(Ledger(world.settings.state_db)) as ledger:
        assert covered_ranges(ledger) == before
    assert sync(world.settings).progress.events == 1
    assert world.compare().is_complete


def test_what_came_in_within_the_hour_is_new_and_no_loss(world: World) -> None:
    world.put(FIRST + 3, "B", event(3, FIRST + 3), modified=time.time() - 600)
    report = world.compare()
    assert report.is_complete
    assert totals(report) == {"listed": DAYS + 1, "committed": DAYS, "new": 1}
    assert (report.findings, report.queued) == ([], 1)
    assert sync(world.settings, Selection(listed=True)).progress.events == 1


def test_one_that_a_look_found_and_nobody_fetched_is_missing(world: World) -> None:
    world.put(FIRST + 3, "B", event(3, FIRST + 3), modified=time.time())
    assert world.compare().is_complete
    os.utime(world.put(FIRST + 3, "B", event(3, FIRST + 3)), (LONG_AGO, LONG_AGO))
    assert totals(world.compare())["missing"] == 1


def test_another_version_of_a_log_file_is_fetched_again(world: World) -> None:
    day = FIRST + 5
    world.put(day, "A", event(1, day), event(2, day), event(9, day), modified=LONG_AGO + 1)
    report = world.compare()
    assert totals(report) == {"listed": DAYS, "committed": DAYS - 1, "missing": 1, "late": 1}
    assert "another version" in report.findings[0].detail
    summary = sync(world.settings, Selection(listed=True))
    assert (summary.progress.events, summary.progress.duplicates) == (1, 2)
    assert world.compare().is_complete
    world.assert_whole()


def test_a_damaged_one_and_one_that_cannot_be_read(world: World) -> None:
    damaged = world.put(FIRST + DAYS, "B", body=gzip.compress(b'{"Records":[]}' * 9)[:-9])
    failed = world.put(FIRST + DAYS, "C", event(1, FIRST + DAYS))
    failed.unlink()
    failed.symlink_to(world.bucket / "secret")
    (world.bucket / "secret").write_bytes(b"")
    with pytest.MonkeyPatch.context() as patch:
        get = LocalBucket.get

        def denied(self: LocalBucket, key: str, etag: bytes | None) -> object:
            if key.endswith("C.json.gz"):
                raise AccessDenied("it may not be read: s3:GetObject")
            return get(self, key, etag)

        patch.setattr(LocalBucket, "get", denied)
        assert not sync(world.settings).ok
    report = world.compare()
    assert not report.is_complete
    counted = totals(report)
    assert counted["listed"] == DAYS + 2
    assert (counted["committed"], counted["damaged"], counted["failed"]) == (DAYS, 1, 1)
    assert found(report) == [
        (FindingKind.LOG_FILE_DAMAGED, damaged.name),
        (FindingKind.LOG_FILE_FAILED, failed.name),
    ]
    assert report.prefixes[0].status_of(FIRST + DAYS) is DayStatus.DAMAGED
    assert any("s3:GetObject" in finding.detail for finding in report.findings)


def test_what_the_bucket_no_longer_holds_is_counted_and_no_finding(world: World) -> None:
    files = sorted(world.bucket.rglob("*.json.gz"))
    for path in (files[0], files[7], files[8], files[-1]):
        path.unlink()
    report = world.compare()
    assert report.is_complete
    assert totals(report) == {"listed": DAYS - 4, "committed": DAYS - 4, "expired": 4}
    expired = {day - FIRST for day, counts in report.prefixes[0].days.items() if counts.expired}
    assert expired == {0, 7, 8, DAYS - 1}


def test_a_source_prefix_whose_folder_has_expired_is_still_accounted_for(world: World) -> None:
    other_prefix = replace(world.source_prefix, region="us-east-1")
    path = world.bucket / key_of(other_prefix, FIRST, f"1205{'Z':0>16}")
    path.parent.mkdir(parents=True)
    path.write_bytes(gzip.compress(b'{"Records":[' + event(50, FIRST) + b"]}"))
    assert sync(world.settings).progress.events == 1
    shutil.rmtree(world.bucket / "AWSLogs" / ACCOUNT / "CloudTrail" / "us-east-1")
    by_region = {
        prefix.source_prefix.region: prefix.total("expired") for prefix in world.compare().prefixes
    }
    assert by_region == {REGION: 0, "us-east-1": 1}


def test_names_of_all_kinds_and_places_are_compared(world: World) -> None:
    """Odd keys lie in and beside the folders of days, and some of them have expired."""
    folder = world.bucket / world.source_prefix.folder
    names = ["2026/01/03/copy of a file.json", "2026/01/03/zzz.json.gz", "2026/01/03/0.json"]
    names += ["strays/x.json.gz", "0first.json", "2026/13/45/y.json.gz", "zlast.json.gz"]
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b'{"Records":[' + event(10 + number, FIRST + 2) + b"]}")
    (folder / "2026/01/03/notes.txt").write_text("no log file")
    with closing(sqlite3.connect(world.settings.state_db)) as ledger, ledger:
        ledger.execute("UPDATE source_prefix SET deep_listed_at = 0")
        ledger.execute("DELETE FROM coverage")
    assert sync(world.settings).progress.events == len(names)
    assert totals(world.compare()) == {"listed": DAYS + 7, "committed": DAYS + 7}
    for name in (names[1], names[3], names[6]):
        (folder / name).unlink()
    report = world.compare()
    assert totals(report) == {"listed": DAYS + 4, "committed": DAYS + 4, "expired": 3}
    assert {
        day: counts.expired for day, counts in report.prefixes[0].days.items() if counts.expired
    } == {
        0: 2,
        FIRST + 2: 1,
    }
    # A comparison of a part of the time says nothing about what lies in no day's folder.
    part = world.compare(Selection(start=datetime(2026, 1, 3, 5, tzinfo=UTC)))
    assert totals(part) == {"listed": DAYS, "committed": DAYS, "expired": 1}


def test_over_s3_the_etags_of_listing_and_ledger_are_the_same(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in list(os.environ):
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    with S3Server(tmp_path) as server:
        for name, value in server.env().items():
            monkeypatch.setenv(name, value)
        trail = Trail("main", "bucket", "", server.region, server.endpoint_url)
        settings = settings_in(tmp_path / "s3", [trail])
        assert sync(settings).ok
        report = compare(settings, deep=True)
        assert report.is_complete
        assert totals(report) == {"listed": DAYS, "committed": DAYS}
        late = world.put(FIRST + 3, "B", event(3, FIRST + 3))
        [finding] = compare(settings).findings
        assert finding.where == f"s3://bucket/{late.relative_to(world.bucket)}"
        assert sync(settings, Selection(listed=True)).progress.events == 1
        assert compare(settings).is_complete


def test_what_a_wrong_clock_dates_far_ahead_is_missing_and_not_new(world: World) -> None:
    """It counted as new for years, and verify had nothing to say of it."""
    world.put(FIRST + 3, "B", event(3, FIRST + 3), modified=time.time() + 2 * 86_400)
    report = world.compare()
    assert (totals(report)["missing"], report.is_complete) == (1, False)


def test_odd_characters_in_keys_make_no_difference(world: World) -> None:
    folder = world.bucket / world.source_prefix.folder / "2026/01/03"
    for number, name in enumerate(("a\tb", "é😀", "'; --", "?,?", "%_*")):
        (folder / f"{name}.json").write_bytes(b'{"Records":[' + event(20 + number, FIRST) + b"]}")
    assert totals(world.compare())["new"] == 5
    assert sync(world.settings, Selection(listed=True)).progress.events == 5
    assert totals(world.compare()) == {"listed": DAYS + 5, "committed": DAYS + 5}


def test_a_name_with_a_nul_is_looked_up_whole(world: World) -> None:
    """S3 allows a NUL in a key; a file system does not."""
    name = "/2026/01/03/a\0b.json"
    with closing(Ledger(world.settings.state_db)) as ledger:
        found = FoundLogFile(1, FIRST + 2, name, b"e" * 16, 1, False)
        with ledger.transaction():
            put_found(ledger, [found], 1)
        assert set(known_by_name(ledger, 1, FIRST + 2, [name, "/2026/01/03/a"])) == {name}


def test_a_window_is_widened_to_whole_days_and_nothing_else_is_looked_at(world: World) -> None:
    for day in (9, 10, 11, 12):
        world.put(FIRST + day, "B", event(3, FIRST + day))
    window = Selection(
        start=datetime(2026, 1, 11, 3, tzinfo=UTC), end=datetime(2026, 1, 12, 0, tzinfo=UTC)
    )
    report = world.compare(window)
    assert {day - FIRST for day in report.prefixes[0].days} == {10, 11}
    assert [finding.hours for finding in report.findings] == [
        ((FIRST + 10) * 24 + 12, (FIRST + 10) * 24 + 13)
    ]
    assert report.queued == 1


def test_what_failed_outside_of_the_window_is_not_said(world: World) -> None:
    world.put(FIRST + 30, "B", body=b"\x1f\x8bno gzip", modified=time.time())
    world.compare()
    assert not sync(world.settings).ok
    assert totals(world.compare())["damaged"] == 1
    january = Selection(end=datetime(2026, 1, 20, tzinfo=UTC))
    assert world.compare(january).is_complete
    # The same holds where the configuration begins on the same day, but later.
    late = replace(world.settings, start=datetime(2026, 1, 31, 13, tzinfo=UTC))
    assert compare(late).is_complete


def test_a_source_prefix_that_was_never_synced_is_missing_and_left_to_the_next_sync(
    world: World,
) -> None:
    """A row for each key of a bucket that nobody has synced yet would be waste."""
    other_prefix = replace(world.source_prefix, region="us-east-1")
    path = world.bucket / key_of(other_prefix, FIRST, f"1205{'Z':0>16}")
    path.parent.mkdir(parents=True)
    path.write_bytes(gzip.compress(b'{"Records":[' + event(50, FIRST) + b"]}"))
    os.utime(path, (LONG_AGO, LONG_AGO))
    report = world.compare()
    assert (totals(report)["missing"], report.queued) == (1, 0)
    assert not report.is_complete
    assert sync(world.settings, Selection(listed=True)).progress.log_files == 0
    assert sync(world.settings).progress.events == 1
    assert world.compare().is_complete


def test_what_the_configuration_does_not_want_is_not_missing(world: World) -> None:
    """The start lies in the middle of a day: log files of the morning are not wanted."""
    wanted = replace(world.settings, start=datetime(2026, 1, 11, 12, 30, tzinfo=UTC))
    world.put(FIRST + 10, "B", event(3, FIRST + 10))
    report = compare(wanted)
    assert report.is_complete
    assert report.queued == 0


def test_a_source_prefix_that_cannot_be_listed_is_a_problem_and_open(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(_self: LocalBucket, _folder: str, _after: str, *, expected: bool) -> Page:
        raise AccessDenied("it may not be listed: s3:ListBucket")

    monkeypatch.setattr(LocalBucket, "list_page", denied)
    report = world.compare()
    assert not report.is_complete
    assert [problem.reason for problem in report.problems] == [
        "it may not be listed: s3:ListBucket"
    ]
    assert {hours.state for hours in report.prefixes[0].hours} == {HourState.OPEN}
    assert totals(report) == {}, "nothing is called expired that was not listed"


def test_a_listing_is_compared_page_by_page(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The verdicts are the same wherever a page ends."""
    for path in sorted(world.bucket.rglob("*.json.gz"))[3:40:5]:
        path.unlink()
    world.put(FIRST + 20, "B", event(3, FIRST + 20))
    once = world.compare()
    for size in (1, 2, 7):
        monkeypatch.setattr("ctrail_pipeline.core.bucket.local.PAGE_SIZE", size)
        again = world.compare()
        assert totals(again) == totals(once)
        assert again.prefixes[0].days == once.prefixes[0].days
        assert again.requests > once.requests


def test_findings_are_counted_beyond_those_that_are_named(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compare_report, "FINDINGS_NAMED", 2)
    for number in range(5):
        world.put(FIRST + number, "B", event(3, FIRST + number))
    report = world.compare()
    assert (len(report.findings), report.counts[FindingKind.LOG_FILE_MISSING]) == (2, 5)
    assert report.counts_by_trail["main", FindingKind.LOG_FILE_MISSING] == 5
    assert report.queued == 5


def test_a_sync_at_work_makes_no_log_file_expired(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between listing and comparison, the sync commits what the listing has not seen."""
    compare_page = compare_bucket.BucketComparison._compare_page
    syncs: list[bool] = []

    def late(self: object, walk: object, page: Page) -> None:
        if not syncs:
            syncs.append(True)
            world.put(FIRST + 1, "B", event(3, FIRST + 1))
            day = FIRST + DAYS
            world.put(day, "B", event(3, day))
            assert sync(world.settings).progress.log_files > 0
        compare_page(self, walk, page)  # type: ignore[arg-type]

    monkeypatch.setattr(compare_bucket.BucketComparison, "_compare_page", late)
    assert "expired" not in totals(world.compare())


def test_without_a_ledger_there_is_nothing_to_compare(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.fill(2)
    with pytest.raises(ConfigurationError, match="run a sync first"):
        world.compare()
    assert not world.settings.state_db.exists()


# --- the ledger against the output ----------------------------------------------------------------


def flip_a_byte(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def add_a_line(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b'{"eventID":"forged"}\n')


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


def make_a_link(path: Path) -> None:
    """Replace the file by a link of the same size, as far as the folder tells."""
    size, elsewhere = path.stat().st_size, path.with_suffix(".elsewhere")
    path.rename(elsewhere)
    slashes = "/" * (size - 1 - len(elsewhere.name))
    path.symlink_to(f".{slashes}{elsewhere.name}")
    assert path.lstat().st_size == size


def join_lines(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"\n", b" ", 1))


@pytest.mark.parametrize(
    ("change", "kind", "deep_only"),
    [
        (flip_a_byte, FindingKind.OUTPUT_ALTERED, True),
        (join_lines, FindingKind.OUTPUT_ALTERED, True),
        (truncate, FindingKind.OUTPUT_ALTERED, False),
        (add_a_line, FindingKind.OUTPUT_ALTERED, False),
        (make_a_link, FindingKind.OUTPUT_ALTERED, False),
        (Path.unlink, FindingKind.OUTPUT_MISSING, False),
    ],
)
def test_output_that_was_changed_is_found(
    world: World, change: Callable[[Path], object], kind: FindingKind, deep_only: bool
) -> None:
    path = world.output()[7]
    change(path)
    shallow, deep = world.compare(), world.compare(deep=True)
    assert found(deep) == [(kind, path.name)]
    assert deep.findings[0].where == str(path)
    assert deep.findings[0].trail == "main"
    assert deep.findings[0].severity.value == "error"
    assert not deep.is_complete
    assert shallow.is_complete is deep_only
    assert (deep.output.altered, deep.output.missing) == (
        (1, 0) if kind is FindingKind.OUTPUT_ALTERED else (0, 1)
    )


def test_files_that_the_ledger_does_not_know_are_named_where_readers_take_them(
    world: World,
) -> None:
    beside = world.output()[0].with_name("events_00099.jsonl")
    elsewhere = (
        world.settings.events_dir / "999999999999/eu-west-1/2026/01/01/00/events_00001.jsonl"
    )
    harmless = world.settings.events_dir / "README"
    elsewhere.parent.mkdir(parents=True)
    for path in (beside, elsewhere, harmless):
        path.write_text("{}\n")
    report = world.compare()
    assert sorted(finding.where for finding in report.findings) == sorted(
        map(str, (beside, elsewhere))
    )
    assert {finding.kind for finding in report.findings} == {FindingKind.OUTPUT_FOREIGN}
    assert (report.output.foreign, report.output.others) == (2, 1)
    assert not report.is_complete


def test_quarantine_is_compared_too(world: World) -> None:
    world.put(FIRST + DAYS, "B", b'{"no":"time"}', event(3, FIRST + DAYS))
    assert sync(world.settings).ok
    assert world.compare(deep=True).is_complete
    [path] = world.settings.quarantine_dir.rglob("*.jsonl")
    flip_a_byte(path)
    assert (FindingKind.OUTPUT_ALTERED, path.name) in found(world.compare(deep=True))


def test_pruned_output_is_not_missing(world: World) -> None:
    prune(world.settings, datetime(2026, 1, 20, tzinfo=UTC))
    report = world.compare(deep=True)
    assert report.is_complete
    assert report.output.files == DAYS - 19


def test_a_count_that_the_ledger_contradicts_itself_in_is_found(world: World) -> None:
    with closing(sqlite3.connect(world.settings.state_db)) as ledger, ledger:
        ledger.execute("UPDATE output_partition SET lines = lines + 1 WHERE id = 1")
    report = world.compare()
    assert [finding.kind for finding in report.findings] == [FindingKind.OUTPUT_ALTERED]
    assert "3 lines in all, and 2 by its files" in report.findings[0].detail


def test_a_choice_of_accounts_or_days_chooses_the_output_too(world: World) -> None:
    for path in world.output():
        path.unlink()
    assert world.compare(Selection(accounts=["9*"])).output.files == 0
    days = Selection(
        start=datetime(2026, 1, 2, tzinfo=UTC), end=datetime(2026, 1, 3, 12, tzinfo=UTC)
    )
    assert world.compare(days).output.missing == 2


# --- digests --------------------------------------------------------------------------------------


def test_what_digests_say_is_merged_in(world: World) -> None:
    first, last = FIRST * 24, (FIRST + 2) * 24
    altered = Finding(FindingKind.LOG_FILE_ALTERED, "s3://b/k", "another SHA-256", "main")

    def digests(_report: Report, sources: Sequence[Source]) -> DigestResult:
        [source] = sources
        hours = [
            HourRange(first, last, HourState.PROVED),
            HourRange(last, last + 1, HourState.CONTRADICTED),
        ]
        return DigestResult([altered], {source.source_prefix: hours})

    report = compare(world.settings, digests=digests)
    assert not report.is_complete
    assert report.findings == [altered]
    [prefix] = report.prefixes
    assert prefix.hours[:2] == [
        HourRange(first, last, HourState.PROVED),
        HourRange(last, last + 1, HourState.CONTRADICTED),
    ]
    assert prefix.hours_by_state()[HourState.PROVED] == 48
    assert statuses(report) == {2: DayStatus.DAMAGED}


def test_every_kind_of_finding_has_its_meaning_and_advice() -> None:
    assert set(EXPLANATIONS) == set(FindingKind)


def test_a_stretch_that_was_never_covered_is_a_gap() -> None:
    day = MINUTES_PER_DAY
    covered = [Range(Minute(0), Minute(101 * day)), Range(Minute(103 * day), Minute(105 * day))]
    report = PrefixReport("main", SourcePrefix("b", "", "", ACCOUNT, REGION))
    report.hours = listed_hours(Range(Minute(0), Minute(10**9)), covered, report, 100)
    assert [hours[:2] for hours in report.hours] == [(2400, 2424), (2424, 2472), (2472, 2520)]
    assert [report.status_of(number) for number in range(99, 106)] == [
        *(None, DayStatus.COMPLETE, DayStatus.GAP, DayStatus.GAP),
        *(DayStatus.COMPLETE, DayStatus.COMPLETE, None),
    ]


# --- real log files -------------------------------------------------------------------------------


@needs_real_logs
def test_real_log_files_compare_as_complete(tmp_path: Path) -> None:
    buckets = [
        folder
        for folder in sorted(REAL_LOGS.iterdir())
        if folder.is_dir() and folder.name[0] != "_"
    ]
    compared = 0
    for bucket in buckets:
        prefix = "some-prefix" if bucket.name == "trailscraper" else ""
        settings = settings_in(tmp_path / bucket.name, [Trail("real", bucket.as_uri(), prefix)])
        summary = sync(settings)
        report = compare(settings, deep=True)
        damaged = sum(problem.state == "damaged" for problem in summary.problems)
        assert report.total("listed") == summary.progress.log_files, bucket.name
        assert report.total("committed") == summary.progress.log_files - damaged
        assert report.total("damaged") == damaged
        assert report.is_complete is (damaged == 0)
        assert report.output.lines == summary.progress.events + _quarantined(settings)
        assert len(snapshot(settings.events_dir)) == summary.progress.events
        compared += report.total("listed")
    assert compared > 0


def _quarantined(settings: Settings) -> int:
    return sum(path.read_bytes().count(b"\n") for path in settings.quarantine_dir.rglob("*.jsonl"))
