"""`ctrail verify` as a shell sees it, and the HTML page that it writes."""

import json
import os
import re
import shutil
import stat
from html.parser import HTMLParser
from pathlib import Path

import pytest

from ctrail_pipeline.core.audit.compare_report import Day, DayStatus, PrefixReport, Report
from ctrail_pipeline.core.audit.findings import Finding, FindingKind, HourState
from ctrail_pipeline.core.audit.hour_states import HourRange
from ctrail_pipeline.core.keys.source_prefix import SourcePrefix
from ctrail_pipeline.core.listing.problem import Problem
from ctrail_pipeline.reports.verify_html import as_html
from ctrail_pipeline.reports.verify_json import as_json
from ctrail_pipeline.reports.verify_text import finding_lines, notes
from ctrail_pipeline.sample.bucket import write_sample
from ctrail_pipeline_tests.support.command import assert_whole, ctrail, log_files

HOSTILE = "<script>alert(1)</script>\"'&\x1b[2J\u202e\ud800\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_sample(tmp_path / "sample", log_files=60)
    return tmp_path


def put_late(folder: Path) -> Path:
    """Put a copy of a log file into the bucket under another name, with an old time."""
    path = log_files(folder)[0]
    late = path.with_name(path.name[:-24] + "LATELATELATELATE.json.gz")
    shutil.copy(path, late)
    os.utime(late, (1.6e9, 1.6e9))
    return late


def test_complete_is_0_and_a_missing_log_file_1_until_it_is_synced(folder: Path) -> None:
    assert ctrail(folder, "sync").returncode == 0
    well = ctrail(folder, "verify", "--deep")
    assert well.returncode == 0, well.stderr
    assert well.stdout.splitlines()[-1].startswith("60 log files listed, 60 committed, 0 missing")
    late = put_late(folder)
    bad = ctrail(folder, "verify")
    assert bad.returncode == 1
    assert "WARNING: log file not synced (1): the bucket holds the log file" in bad.stdout
    assert f"  {late.as_uri()}: " in bad.stdout
    assert "1 log files are queued for the next sync" in bad.stdout
    assert ctrail(folder, "sync").returncode == 0
    assert ctrail(folder, "verify").returncode == 0
    assert_whole(folder)


def test_json_has_totals_partitions_and_findings(folder: Path) -> None:
    assert ctrail(folder, "sync").returncode == 0
    late = put_late(folder)
    done = ctrail(folder, "verify", "--json", "--trail", "organization")
    report = json.loads(done.stdout)
    assert (done.returncode, report["ok"]) == (1, False)
    assert {partition["trail"] for partition in report["partitions"]} == {"organization"}
    assert report["totals"]["missing"] == 1
    [finding] = report["findings"]
    assert finding["where"] == late.as_uri()
    assert finding["meaning"]
    assert finding["advice"]
    states = {hours["state"] for part in report["partitions"] for hours in part["hour_ranges"]}
    assert states == {"listed complete", "open"}
    days = [day for part in report["partitions"] for day in part["days"] if day.get("missing")]
    assert [day["status"] for day in days] == ["late"]


def test_a_call_that_cannot_be_right_is_2(folder: Path) -> None:
    assert ctrail(folder, "verify").returncode == 2  # there is no ledger
    assert ctrail(folder, "sync").returncode == 0
    assert ctrail(folder, "verify", "--trail", "none").returncode == 2
    assert ctrail(folder, "verify", "--start", "someday").returncode == 2


def test_the_page_is_private_and_written_over(folder: Path) -> None:
    assert ctrail(folder, "sync").returncode == 0
    for _ in range(2):
        assert ctrail(folder, "verify", "--html", "report.html").returncode == 0
        assert stat.S_IMODE((folder / "report.html").stat().st_mode) == 0o600
    assert "everything is here" in (folder / "report.html").read_text()
    done = ctrail(folder, "verify", "--html", "nowhere/report.html")
    assert done.returncode == 1
    assert "cannot be written" in done.stderr


# --- the page -------------------------------------------------------------------------------------


class Page(HTMLParser):
    """A page as a browser reads it: tags, and the texts between them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def boxes(self) -> list[str]:
        return [str(attrs["class"]) for tag, attrs in self.tags if tag == "rect"]


def page(report: Report) -> tuple[Page, str]:
    text = b"".join(as_html(report)).decode()
    return Page(text), text


def hostile_report() -> Report:
    report = Report()
    source_prefix = SourcePrefix("b", "", "", HOSTILE, HOSTILE)
    prefix_report = PrefixReport(HOSTILE, source_prefix, {20_000: Day(listed=1, missing=1)})
    report.prefixes = [prefix_report]
    report.note(Finding(FindingKind.LOG_FILE_MISSING, HOSTILE, HOSTILE, HOSTILE, HOSTILE, (1, 3)))
    report.problems = [Problem(HOSTILE, HOSTILE, "not listed", HOSTILE)]
    return report


def test_hostile_names_are_text_and_nothing_else() -> None:
    found, text = page(hostile_report())
    assert {tag for tag, _ in found.tags} <= {
        *("html", "head", "meta", "title", "style", "body", "h1", "h2", "h3", "p", "br", "span"),
        *("ul", "li", "div", "table", "tr", "th", "td", "svg", "rect", "text"),
    }
    assert not [name for _, attrs in found.tags for name in attrs if name.startswith("on")]
    assert not re.search(r"[\x00-\x09\x0b-\x1f\u202e\ud800]", text)
    assert any("<script>alert(1)</script>\"'&\\u001b[2J\\u202e" in shown for shown in found.texts)


def test_hostile_names_do_not_steer_a_terminal() -> None:
    for line in finding_lines(hostile_report()):
        assert line.isprintable()


def test_it_loads_nothing_from_elsewhere() -> None:
    found, text = page(hostile_report())
    assert not re.search(r"url\(|@import|href=|src=", text)
    [policy] = [attrs for tag, attrs in found.tags if tag == "meta" and "http-equiv" in attrs]
    assert str(policy["content"]).startswith("default-src 'none'")


def test_a_box_for_each_day_in_the_colour_of_its_status() -> None:
    report = Report()
    days = {
        100: Day(listed=2, committed=2),
        101: Day(listed=2, committed=1, missing=1),
        102: Day(listed=2, committed=1, missing=1, late=1),
        103: Day(listed=2, committed=1, damaged=1),
    }
    hours = [HourRange(2400, 2520, HourState.LISTED_COMPLETE)]
    source_prefix = SourcePrefix("b", "", "", "1", "r")
    report.prefixes = [PrefixReport("t", source_prefix, days, hours)]
    found, text = page(report)
    assert found.boxes() == ["complete", "gap", "late", "damaged", "complete"]
    assert "1970-04-12: gap, 2 listed, 1 committed, 1 missing" in text
    assert "1970-04-15: complete, no log files" in text
    for status in DayStatus:
        assert f'<span class="{status.value}">' in text


def test_years_are_drawn_as_stretches() -> None:
    """The page of a thousand days is no larger than what changes in them."""
    report = Report()
    hours = [HourRange(2400, 2400 + 24 * 3_000, HourState.LISTED_COMPLETE)]
    source_prefix = SourcePrefix("b", "", "", "1", "r")
    days = {1000: Day(listed=2, committed=1, failed=1)}
    report.prefixes = [PrefixReport("t", source_prefix, days, hours)]
    found, text = page(report)
    assert found.boxes() == ["complete", "damaged", "complete"]
    assert len(text) < 20_000


def test_an_empty_report_is_a_page_too() -> None:
    assert "There is no log file." in page(Report())[1]


def test_numbers_of_findings_that_are_not_named_are_said() -> None:
    report = hostile_report()
    report.counts[FindingKind.LOG_FILE_MISSING] = 4_321
    assert "and 4,320 more" in page(report)[1]
    assert as_json(report)["finding_counts"] == {"log file not synced": 4_321}
    assert notes(report)
