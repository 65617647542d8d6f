"""`ctrail query`: what the view shows against the files, which files it reads, and how it fails.

Needs the extra `query`.
"""

import csv
import json
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from threading import Event, Semaphore, Thread
from typing import Any

import pytest

from ctrail_pipeline.cli.commands.query import run_query
from ctrail_pipeline.cli.events_view import (
    COLUMNS,
    connect,
    lines_not_read,
)
from ctrail_pipeline.cli.longest_line import LINE_BYTES, longest_line
from ctrail_pipeline.cli.query_output import ROWS_IN_TABLE
from ctrail_pipeline.config.file import load_config
from ctrail_pipeline.core.output.local.local_output import LocalOutput
from ctrail_pipeline.core.output_files import FileName, Kind
from ctrail_pipeline.core.run.sync import sync
from ctrail_pipeline.core.settings import Settings
from ctrail_pipeline.core.upkeep import compaction
from ctrail_pipeline.core.upkeep.compaction import compact
from ctrail_pipeline.sample.bucket import write_sample
from ctrail_pipeline_tests.support.command import ctrail
from ctrail_pipeline_tests.support.project import PROJECT

pytest.importorskip("duckdb", reason="the extra `query` is not installed")

HOUR_FOLDER = "111122223333/eu-west-1/2026/01/15/07"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an awkward name, after a sync."""
    folder = tmp_path_factory.mktemp("query") / "it's [here]*"
    folder.mkdir()
    write_sample(folder / "sample", log_files=80, days=2)
    assert ctrail(folder, "sync").returncode == 0
    return folder


def query(folder: Path, sql: str) -> list[dict[str, Any]]:
    done = ctrail(folder, "query", "-q", "--json", sql)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def events(folder: Path) -> list[tuple[list[str], dict[str, Any]]]:
    """Folders of the path, and the event, of every line."""
    return [
        (list(path.relative_to(folder / "events").parts), json.loads(line))
        for path in (folder / "events").rglob("*.jsonl")
        for line in path.read_bytes().splitlines()
    ]


def one_event(folder: Path, *lines: str) -> Path:
    path = folder / "events" / HOUR_FOLDER / "events_00001.jsonl"
    path.parent.mkdir(parents=True)
    path.write_text("".join(f"{line}\n" for line in lines))
    return folder


def test_every_event_is_there_under_its_account_region_date_and_hour(folder: Path) -> None:
    rows = query(folder, "SELECT eventID, account, region, date, hour, eventTime FROM events")
    assert Counter(tuple(row.values()) for row in rows) == Counter(
        (
            event["eventID"],
            path[0],
            path[1],
            "-".join(path[2:5]),
            int(path[5]),
            event["eventTime"].replace("T", " ").rstrip("Z"),
        )
        for path, event in events(folder)
    )


def test_fields_are_those_of_the_record(folder: Path) -> None:
    by_id = {event["eventID"]: event for _, event in events(folder)}
    rows = query(folder, "SELECT * FROM events")
    assert rows[0].keys() == COLUMNS.keys()
    for row in rows:
        event = by_id[row["eventID"]]
        for name in ("eventName", "sourceIPAddress", "errorCode", "userIdentity", "resources"):
            assert row[name] == event.get(name)
        assert set(event) <= set(COLUMNS), "a field without a column"


def test_an_aggregated_event_has_the_time_of_its_window(tmp_path: Path) -> None:
    window = '"timeWindow":{"windowStart":"2026-01-15T07:05:00Z","windowSize":"PT5M"}'
    one_event(
        tmp_path,
        f'{{"eventCategory":"Aggregated","eventId":"a",{window}}}',
        '{"eventCategory":"Management","eventTime":"2026-01-15T07:06:00+00:00"}',
    )
    with connect(LocalOutput(tmp_path / "events", tmp_path / "quarantine")) as connection:
        found = connection.execute("SELECT eventTime::VARCHAR FROM events ORDER BY 1").fetchall()
    assert found == [("2026-01-15 07:05:00",), ("2026-01-15 07:06:00",)]


@pytest.mark.parametrize(
    "condition",
    [
        "account = '444455556666'",
        "account LIKE '4444%' AND region <> 'us-east-1'",
        "date = '2026-01-15' AND hour BETWEEN 3 AND 6",
        "date > '2026-01-14' AND region IN ('eu-west-1', 'us-west-2')",
        "account = '999999999999'",
    ],
)
def test_only_the_files_that_a_condition_on_the_path_needs_are_read(
    folder: Path, condition: str
) -> None:
    with connect(LocalOutput(folder / "events", folder / "quarantine")) as connection:
        [(_, plan)] = connection.execute(
            f"EXPLAIN SELECT eventName FROM events WHERE {condition}"
        ).fetchall()
        needed = connection.execute(
            "SELECT count(DISTINCT (account, region, date, hour)) FROM events WHERE " + condition
        ).fetchall()[0][0]
    files = list((folder / "events").rglob("*.jsonl"))
    folders = {path.parent for path in files}
    assert len(folders) == len(files), "one file an hour in this sample"
    assert 0 <= needed < len(files)
    assert f"Scanning Files: {needed}/{len(files)}" in plan


def test_a_table_is_the_default_and_csv_is_csv(folder: Path) -> None:
    sql = "SELECT account, count(*) AS n FROM events GROUP BY 1 ORDER BY 1"
    rows = [[row["account"], str(row["n"])] for row in query(folder, sql)]
    table = ctrail(folder, "query", "-q", sql)
    assert [line.split() for line in table.stdout.splitlines() if line.strip()][2:] == rows
    text = ctrail(folder, "query", "-q", "--csv", sql).stdout
    assert list(csv.reader(text.splitlines())) == [["account", "n"], *rows]


def test_a_table_says_where_it_ends(folder: Path) -> None:
    done = ctrail(folder, "query", "-q", "SELECT * FROM range(2000)")
    assert done.stdout.splitlines()[-1].startswith(f"the first {ROWS_IN_TABLE:,} rows")
    assert len(done.stdout.splitlines()) < ROWS_IN_TABLE + 10


def test_nothing_in_an_event_makes_a_query_fail(tmp_path: Path) -> None:
    one_event(
        tmp_path,
        '{"eventTime":"2026-01-15T07:00:00Z","eventName":{"a":1},"readOnly":"true","resources":"x"}',
        '{"eventTime":"2026-01-15T07:00:01Z","eventName":7,"readOnly":"perhaps","extra":{}}',
        '{"eventTime":"2026-01-15T07:00:02Z","eventName":"\\ud800"}',
        '{"eventTime":12,"eventName":null}',
    )
    rows = query(tmp_path, "SELECT eventName, readOnly, resources, hour FROM events")
    assert len(rows) == 4
    assert all(row["hour"] == 7 for row in rows)
    names = [row["eventName"] for row in rows]
    assert names[:2] == ['{"a":1}', "7"]
    assert [row["readOnly"] for row in rows] == [True, None, None, None]


def test_lines_that_are_not_strict_json_are_counted_in_the_files_that_a_query_reads(
    tmp_path: Path,
) -> None:
    event = '{"eventTime":"2026-01-15T07:00:00Z","eventName":"%s"}'
    one_event(tmp_path, event % "\\ud800", event % "a\x01b", event % "Get")
    another_hour = tmp_path / "events" / HOUR_FOLDER.replace("/07", "/08")
    another_hour.mkdir()
    (another_hour / "events_00001.jsonl").write_text('{"timeWindow":{"windowStart":"x"}}\n')
    sql = "SELECT eventName FROM events WHERE "
    for condition, message in (
        (
            "eventName = 'Get'",
            "ctrail: 2 of the lines that the query read are not strict JSON, and a row of NULLs"
            " each; the files hold what AWS wrote\n",
        ),
        ("hour = 8", ""),
    ):
        done = ctrail(tmp_path, "query", "-q", "--csv", sql + condition)
        assert (done.returncode, done.stderr) == (0, message)


def test_a_record_of_forty_megabytes_is_read(tmp_path: Path) -> None:
    event = '{"eventTime":"2026-01-15T07:00:00Z","eventName":"Put%s","requestParameters":"%s"}'
    one_event(tmp_path, event % (1, ""), event % (2, "x" * 40_000_000), event % (3, ""))
    with connect(LocalOutput(tmp_path / "events", tmp_path / "quarantine")) as connection:
        rows = connection.execute(
            "SELECT eventName, length(requestParameters) FROM events ORDER BY 1"
        ).fetchall()
        assert rows == [("Put1", 2), ("Put2", 40_000_002), ("Put3", 2)]
        assert lines_not_read(connection) == 0


@pytest.mark.parametrize("before", [0, 3, 4_000])
@pytest.mark.parametrize("is_last", [False, True])
def test_the_longest_line_is_found_wherever_it_stands(
    tmp_path: Path, before: int, is_last: bool
) -> None:
    length = LINE_BYTES + 5
    path = tmp_path / "events"
    with path.open("wb") as file:
        file.write((b"x" * 5_000 + b"\n") * before)
        file.write(b"y" * length)
        file.write(b"" if is_last else b"\n" + (b"x" * 5_000 + b"\n") * 4_000)
    output, files = LocalOutput(tmp_path, tmp_path / "q"), [FileName(Kind.EVENTS, "", path.name)]
    assert longest_line(output, [*files, FileName(Kind.EVENTS, "", "gone")]) == length


def test_an_event_cannot_write_to_the_terminal(tmp_path: Path) -> None:
    one_event(
        tmp_path, json.dumps({"eventTime": "2026-01-15T07:00:00Z", "userAgent": "\x1b[2J[red]x\n"})
    )
    done = ctrail(tmp_path, "query", "-q", "SELECT userAgent FROM events")
    assert "\\u001b[2J[red]x\\n" in done.stdout
    assert "\x1b" not in done.stdout


def test_without_events_the_view_is_empty_and_there(tmp_path: Path) -> None:
    assert query(tmp_path, "SELECT * FROM events") == []
    described = query(tmp_path, "SELECT column_name AS n FROM (DESCRIBE events)")
    assert [row["n"] for row in described] == list(COLUMNS)
    assert list(tmp_path.iterdir()) == []


def test_the_view_has_the_same_columns_with_events_and_without(
    folder: Path, tmp_path: Path
) -> None:
    sql = "SELECT column_name, column_type FROM (DESCRIBE events)"
    assert query(folder, sql) == query(tmp_path, sql)


@pytest.mark.parametrize(
    ("sql", "code", "message"),
    [
        ("SELEC 1", 2, "syntax error"),
        ("SELECT nope FROM events", 2, 'Referenced column "nope" not found'),
        ("SELECT 'x'::INTEGER", 1, "Could not convert string 'x' to INT32"),
    ],
)
def test_what_is_wrong_with_sql_is_said(folder: Path, sql: str, code: int, message: str) -> None:
    done = ctrail(folder, "query", "-q", sql)
    assert done.returncode == code
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_without_duckdb_it_says_how_to_get_it(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "duckdb.py").write_text("raise ImportError")
    path = f"{tmp_path}:{PROJECT}"
    done = ctrail(folder, "query", "SELECT 1", env={"PYTHONPATH": path})
    assert done.returncode == 2
    assert "pip install 'ctrail-pipeline[query]'" in done.stderr


@pytest.mark.thorough
def test_events_that_are_being_merged_are_seen_once(tmp_path: Path) -> None:
    """A query at each step of a compaction. At two steps the folder holds some events twice."""
    settings = sample_settings_of(tmp_path)
    expected = sorted(event["eventID"] for _, event in events(tmp_path))
    seen: dict[str, list[str]] = {}
    on_disk: dict[str, int] = {}

    def look(step: str) -> None:
        if step not in seen:
            rows = query(tmp_path, "SELECT eventID FROM events ORDER BY 1")
            seen[step] = [row["eventID"] for row in rows]
            on_disk[step] = len(events(tmp_path))

    assert compact(settings, observe=look).folders > 5
    look("end")
    assert set(seen) == {
        *("registered", "staged", "committed", "marked", "linked", "published", "removed", "end")
    }
    for step, found in seen.items():
        assert found == expected, step
    assert on_disk["published"] > on_disk["end"] == len(expected)


@pytest.mark.thorough
def test_queries_while_files_are_merged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A compaction removes files while the query reads them. The query asks the ledger again."""
    monkeypatch.setattr(compaction, "_BATCH_FILES", 20)
    settings = sample_settings_of(tmp_path)
    expected = len(events(tmp_path))
    asked = Semaphore(0)
    stop = Event()

    def look() -> None:
        while not stop.is_set():
            run_query(
                settings, "SELECT count(*) AS n, count(DISTINCT eventID) AS d FROM events", "csv"
            )
            asked.release()

    thread = Thread(target=look)
    thread.start()
    for limit in (2, 3, 5, 8, 13, 21, 34, 10_000):
        compact(replace(settings, events_per_file=limit), observe=lambda _step: time.sleep(0.03))
        assert asked.acquire(timeout=60), "a query ended, or hangs"
    stop.set()
    thread.join()
    printed = capsys.readouterr().out.splitlines()
    assert set(printed) == {"n,d", f"{expected},{expected}"}
    assert len(printed) > 4


def test_a_file_that_somebody_removed_is_no_obstacle(tmp_path: Path) -> None:
    sample_settings_of(tmp_path)
    removed = next((tmp_path / "events").rglob("*.jsonl"))
    removed.unlink()
    rows = query(tmp_path, "SELECT eventID FROM events")
    assert len(rows) == len(events(tmp_path))


def sample_settings_of(folder: Path) -> Settings:
    """A folder with a few small files an hour, after syncs."""
    write_sample(folder / "sample", log_files=100, days=1)
    settings = replace(load_config({}, folder).settings, batch_log_files=3, process_workers=1)
    assert sync(settings).ok
    return settings
