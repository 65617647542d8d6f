"""`ctrail explain` finds an event by eventID, name, time or line, and says where it came from."""

import gzip
import json
import os
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO

import pytest

from ctrail_pipeline.core.audit.explain import Explained, explainer
from ctrail_pipeline.core.audit.sought import Sought
from ctrail_pipeline.core.exceptions import ConfigurationError, LedgerError
from ctrail_pipeline.core.ledger.ledger import Ledger
from ctrail_pipeline.core.ledger.segments import LedgerSegments
from ctrail_pipeline.core.output.local.local_output import LocalOutput
from ctrail_pipeline.core.output_files import NamedFile
from ctrail_pipeline.core.run.sync import sync
from ctrail_pipeline.core.settings import Settings, Trail
from ctrail_pipeline.core.upkeep.segment_merging import SegmentMerger
from ctrail_pipeline.reports.explain import as_json, differences
from ctrail_pipeline_tests.support.command import ctrail
from ctrail_pipeline_tests.support.real_logs import REAL_LOGS, needs_real_logs
from ctrail_pipeline_tests.support.sync_process import settings_in
from ctrail_pipeline_tests.support.two_trails import ACCOUNT, REGION, TwoTrails, event


@pytest.fixture
def world(tmp_path: Path) -> TwoTrails:
    return TwoTrails(tmp_path)


def ids(found: Sequence[Explained]) -> list[str]:
    return [explained.record.event_id for explained in found if explained.record]


def test_an_event_leads_to_its_line_its_log_file_and_its_run(world: TwoTrails) -> None:
    path = world.put("first", "A", event("a"), event("b", 1), event("c", 2))
    world.put("second", "A", event("z"))
    world.sync()
    [found] = world.explain(Sought(event_id="b"))
    lines = Path(found.path).read_bytes().splitlines()
    assert lines[found.line.number - 1] == found.line.data == event("b", 1)
    assert (found.where, found.trail) == (path.as_uri(), "first")
    assert found.log_file.etag == b'"%x-%x' % (path.stat().st_mtime_ns, path.stat().st_size)
    text = gzip.decompress(path.read_bytes())
    assert found.log_file.sha256 == sha256(text).digest()
    assert (found.batch.run_id, found.new_line, found.new_lines) == ("the-run", 2, 3)
    assert abs(found.batch.committed_at - datetime.now(UTC).timestamp()) < 60
    assert found.is_as_written
    assert found.index is None, "nothing is fetched that was not asked for"


def test_an_event_is_found_by_its_id_in_whichever_folder_it_lies(world: TwoTrails) -> None:
    """The dedup partition of a record without a recipient is that of its caller."""
    identity = {"accountId": "999988887777"}
    world.put("first", "A", event("a", recipientAccountId=None, userIdentity=identity), event("b"))
    world.sync()
    [found] = world.explain(Sought(event_id="a", accounts=[ACCOUNT]))
    assert found.line.file.folder == f"{ACCOUNT}/{REGION}/2026/01/10/12"
    assert world.explain(Sought(event_id="a", accounts=["999988887777"])) == []


def test_an_aggregated_event_is_found_by_its_event_id(world: TwoTrails) -> None:
    aggregated = json.dumps(
        {
            "eventCategory": "Aggregated",
            "accountId": ACCOUNT,
            "eventId": "of-a-window",
            "awsRegion": REGION,
            "timeWindow": {"windowStart": "2026-01-10T12:05:00+00:00"},
        }
    ).encode()
    world.put("first", "A", event("a"), aggregated)
    copy = world.put("second", "A", event("b"), event("c"), aggregated)
    world.sync()
    [found] = world.explain(Sought(event_id="of-a-window"), fetch=True)
    assert found.line.data == aggregated
    assert found.copies.found == (f"{copy.as_uri()} index 2",)
    assert as_json(found)["event_time"] == "2026-01-10T12:05:00Z"


def test_events_are_found_by_time_however_utc_is_written(world: TwoTrails) -> None:
    times = ["12:00:00Z", "12:01:00+00:00", "12:02:00Z", "12:03:00+00:00"]
    world.put(
        "first",
        "A",
        *(event(str(n), eventTime=f"2026-01-10T{time}") for n, time in enumerate(times)),
    )
    world.sync()
    start, end = datetime(2026, 1, 10, 12, 1, tzinfo=UTC), datetime(2026, 1, 10, 12, 3, tzinfo=UTC)
    assert ids(world.explain(Sought(start=start, end=end))) == ["1", "2"]


def test_every_line_of_the_output_leads_to_the_log_file_that_holds_it(world: TwoTrails) -> None:
    for suffix in "ABCDEF":
        events = [event(f"{suffix}{n}", n) for n in range(5)]
        world.put("first", suffix, *events, event("shared", 50))
        world.put("second", suffix, *events[:3], event(f"{suffix}x", 7))
    world.settings = replace(world.settings, batch_log_files=4, events_per_file=3)
    world.sync()
    checked = 0
    for path in sorted(world.settings.events_dir.rglob("*.jsonl")):
        for number, line in enumerate(path.read_bytes().splitlines(), 1):
            found = world.at(f"{path}:{number}")
            assert found.line.data == line
            body = gzip.decompress(Path(found.where.removeprefix("file://")).read_bytes())
            assert line in body
            checked += 1
    assert checked == 6 * 5 + 1 + 6


def test_copies_in_other_trails_are_told_if_asked(world: TwoTrails) -> None:
    world.put("first", "A", event("x"), event("copied", 1))
    copy = world.put("second", "A", event("y", 2), event("z", 3), event("copied", 1))
    world.sync()
    [found] = world.explain(Sought(event_id="copied"))
    assert (found.trail, found.copies.candidates, found.copies.found) == ("first", 1, ())
    [found] = world.explain(Sought(event_id="copied"), fetch=True)
    assert found.copies.found == (f"{copy.as_uri()} index 2",)
    assert (found.index, found.note) == (1, "")
    # A log file that held a duplicate of something else holds no copy of this one.
    [unique] = world.explain(Sought(event_id="x"), fetch=True)
    assert (unique.copies.looked_at, unique.copies.found) == (1, ())


def test_its_own_log_file_is_no_copy_of_it(world: TwoTrails) -> None:
    """This holds even for a log file with duplicates, of something else or of this event."""
    world.put("first", "A", event("a"), event("a"), event("b", 1))
    world.sync()
    for event_id in "ab":
        [found] = world.explain(Sought(event_id=event_id), fetch=True)
        assert found.log_file.duplicates == 1
        assert (found.copies.candidates, found.copies.found) == (0, ())


def test_the_index_is_the_one_in_the_log_file_not_among_its_new_lines(world: TwoTrails) -> None:
    world.put("first", "A", event("a"), event("b", 1))
    world.sync()
    world.put("first", "B", event("a"), event("b", 1), event("c", 2))
    world.sync()
    [found] = world.explain(Sought(event_id="c"), fetch=True)
    assert (found.new_line, found.new_lines, found.index) == (1, 1, 2)


def test_records_that_share_an_event_id_are_all_found_and_told_apart(world: TwoTrails) -> None:
    world.put("first", "A", event("same", userAgent="aws-cli"), event("other", 1))
    world.put("second", "B", event("same", userAgent="forged", extra=1))
    world.sync()
    found = world.explain(Sought(event_id="same"))
    assert {explained.trail for explained in found} == {"first", "second"}
    assert len({explained.line.data for explained in found}) == 2
    assert differences(found) == ["userAgent", "extra"]
    assert world.explain(Sought(event_id="none")) == []


def test_an_event_id_that_is_written_with_escapes_is_found(world: TwoTrails) -> None:
    hidden = event("hidden").replace(b'"hidden"', b'"\\u0068idden"')
    world.put("first", "A", hidden)
    world.sync()
    assert [explained.line.data for explained in world.explain(Sought(event_id="hidden"))] == [
        hidden
    ]


def test_only_the_hours_that_may_hold_it_are_read(
    world: TwoTrails, monkeypatch: pytest.MonkeyPatch
) -> None:
    for hour in range(24):
        world.put("first", f"H{hour}", event(f"id{hour}", eventTime=f"2026-01-10T{hour:02}:00:00Z"))
    world.sync()
    opened = []
    read = LocalOutput.open

    def counted(self: LocalOutput, file: NamedFile) -> BinaryIO:
        opened.append(self.address_of(file))
        return read(self, file)

    monkeypatch.setattr(LocalOutput, "open", counted)
    assert ids(world.explain(Sought(event_id="id7"))) == ["id7"]
    assert len(set(opened)) == 1


def test_merged_segments_are_searched_too(world: TwoTrails) -> None:
    world.settings = replace(world.settings, batch_log_files=1, process_workers=1)
    for number in range(9):
        world.put("first", f"S{number}", event(f"id{number}", number))
    world.sync()
    with closing(Ledger(world.settings.state_db)) as ledger:
        merger = SegmentMerger(ledger, 0.001)
        merger._since = 0
        merger.merge()
        assert len(LedgerSegments(ledger).segments(f"{ACCOUNT}/{REGION}/2026/01/10/12", 0)) < 9
    assert ids(world.explain(Sought(event_id="id4"))) == ["id4"]


def test_by_name_time_account_and_region(world: TwoTrails) -> None:
    world.put(
        "first",
        "A",
        event("a", 1, eventName="ConsoleLogin"),
        event("b", 2),
        event("c", 3, eventName="ConsoleLogin"),
        event("d", 3, eventName="ConsoleLogin", eventTime="2026-01-11T12:03:00Z"),
        event("e", 4, eventName="ConsoleLogin", recipientAccountId="999999999999"),
        event("f", 5, eventName="ConsoleLoginX"),
    )
    world.sync()
    logins = Sought(event_name="ConsoleLogin")
    assert sorted(ids(world.explain(logins))) == ["a", "c", "d", "e"]
    assert ids(world.explain(replace(logins, accounts=["1*"]))) == ["a", "c", "d"]
    assert ids(world.explain(replace(logins, regions=["us-*"]))) == []
    start = datetime(2026, 1, 10, 12, 2, tzinfo=UTC)
    end = datetime(2026, 1, 10, 12, 4, tzinfo=UTC)
    assert ids(world.explain(Sought(start=start, end=end))) == ["b", "c"]
    assert ids(world.explain(Sought(start=end))) == ["f", "d", "e"]


def test_a_record_without_account_and_region_is_found_under_its_keys(world: TwoTrails) -> None:
    world.put("first", "A", event("a", recipientAccountId=None, awsRegion=None))
    world.sync()
    assert ids(world.explain(Sought(event_id="a", accounts=[ACCOUNT]))) == ["a"]
    assert ids(world.explain(Sought(event_id="a", accounts=["9*"]))) == []


def test_a_line_by_any_path_to_its_file(world: TwoTrails, monkeypatch: pytest.MonkeyPatch) -> None:
    world.put("first", "A", event("a"), event("b", 1), b'{"no":"time"}')
    world.sync()
    [path] = world.settings.events_dir.rglob("*.jsonl")
    inside = path.relative_to(world.settings.events_dir)
    monkeypatch.chdir(world.settings.events_dir.parent)
    for text in (path, inside, path.relative_to(Path.cwd())):
        assert world.at(f"{text}:2").line.data == event("b", 1)
    [quarantine] = world.settings.quarantine_dir.rglob("*.jsonl")
    assert world.at(f"{quarantine}:1").trail == "first"
    for wrong in (f"{path}:3", f"{path}:0", f"{path}", "events_00009.jsonl:1", "/etc/x.jsonl:1"):
        with pytest.raises(ConfigurationError):
            world.at(wrong)


def test_a_line_that_was_added_is_not_explained_away(world: TwoTrails) -> None:
    world.put("first", "A", event("a"))
    world.sync()
    [path] = world.settings.events_dir.rglob("*.jsonl")
    with path.open("ab") as file:
        file.write(event("forged") + b"\n")
    assert not world.at(f"{path}:1").is_as_written
    with pytest.raises(LedgerError, match="more lines than were written"):
        world.at(f"{path}:2")


def test_without_hashes_no_log_file_is_called_another_version(world: TwoTrails) -> None:
    world.settings = replace(world.settings, hash_log_files=False)
    world.put("first", "A", event("a"), event("b", 1))
    world.sync()
    [found] = world.explain(Sought(event_id="b"), fetch=True)
    assert (found.index, found.note) == (1, "")


def test_a_log_file_that_is_gone_or_another_by_now_is_said(world: TwoTrails) -> None:
    path = world.put("first", "A", event("a"), event("b", 1))
    world.sync()
    world.put("first", "A", event("new", 5), event("a"))
    [found] = world.explain(Sought(event_id="a"), fetch=True)
    assert (found.index, "another version" in found.note) == (1, True)
    path.unlink()
    [found] = world.explain(Sought(event_id="a"), fetch=True)
    assert (found.index, "no longer there" in found.note) == (None, True)


def test_a_log_file_that_was_processed_again_still_leads_to_the_version_it_came_from(
    world: TwoTrails,
) -> None:
    path = world.put("first", "A", event("a"))
    old = path.stat().st_mtime_ns, path.stat().st_size
    world.sync()
    world.put("first", "A", event("a"), event("b", 1))
    os.utime(path, (old[0] / 1e9 + 5,) * 2)
    world.sync()
    [first], [second] = (world.explain(Sought(event_id=event_id)) for event_id in "ab")
    assert first.log_file.superseded
    assert first.log_file.etag == b'"%x-%x' % old
    assert not second.log_file.superseded
    assert as_json(second)["etag"] != as_json(first)["etag"]


def test_from_a_shell(tmp_path: Path) -> None:
    world = TwoTrails(tmp_path)
    world.put("first", "A", event("same", userAgent="\\u001b[2Jx"), event("c", 4))
    world.put("second", "B", event("same", userAgent="y"))
    trails = [{"name": n, "bucket": p.as_uri(), "prefix": ""} for n, p in world.buckets.items()]
    (tmp_path / "config.json").write_text(json.dumps({"trails": trails}))
    assert ctrail(tmp_path, "sync").returncode == 0
    process = ctrail(tmp_path, "explain", "same")
    assert process.returncode == 0, process.stderr
    assert event("same", userAgent="y").decode() in process.stdout
    assert "2 different events have this eventID. They differ in: userAgent." in process.stdout
    assert process.stdout.count("by run ctrail, batch ") == 2
    as_lines = ctrail(tmp_path, "explain", "c", "--json", "--fetch").stdout
    assert json.loads(as_lines)["index"] == 1
    assert json.loads(as_lines)["text"].encode() == event("c", 4)
    nothing = ctrail(tmp_path, "explain", "nothing")
    assert (nothing.returncode, nothing.stdout) == (1, "")
    assert "no such event" in nothing.stderr
    assert ctrail(tmp_path, "explain").returncode == 2
    assert ctrail(tmp_path, "explain", "x.jsonl:1").returncode == 2
    limited = ctrail(tmp_path, "explain", "--event-name", "GetObject", "--limit", "1", "--json")
    assert len(limited.stdout.splitlines()) == 1
    assert "more than 1 such events" in limited.stderr


@needs_real_logs
def test_real_events_are_found_again(tmp_path: Path) -> None:
    bucket = max(
        (
            folder
            for folder in REAL_LOGS.iterdir()
            if folder.is_dir() and folder.name[0] not in "_."
        ),
        key=lambda folder: sum(1 for _ in folder.rglob("*.json.gz")),
    )
    prefix = "some-prefix" if bucket.name == "trailscraper" else ""
    settings: Settings = settings_in(tmp_path, [Trail("real", bucket.as_uri(), prefix)])
    sync(settings)
    files = sorted(settings.events_dir.rglob("*.jsonl"))
    assert files
    with explainer(settings, fetch=True) as explain:
        for path in files[:: max(1, len(files) // 10)]:
            line = path.read_bytes().splitlines()[-1]
            event_id = json.loads(line)["eventID"]
            [found] = [
                explain.explain(found_line)
                for found_line in explain.lines(Sought(event_id=event_id))
                if found_line.data == line
            ]
            body = Path(found.where.removeprefix("file://")).read_bytes()
            text = gzip.decompress(body) if body[:2] == b"\x1f\x8b" else body
            assert found.index is not None
            assert json.loads(text)["Records"][found.index]["eventID"] == event_id
