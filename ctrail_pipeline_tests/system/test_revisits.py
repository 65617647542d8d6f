"""Syncs visit a damaged log file as long as it is there, and its rows in the ledger do not grow.

The ledger still knows where lines came from: those in quarantine, and the sound records.
"""

import gzip
import os
import sqlite3
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ctrail_pipeline.core.audit.compare import compare
from ctrail_pipeline.core.audit.explain import Explained
from ctrail_pipeline.core.batch import fetch, retry_schedule
from ctrail_pipeline.core.bucket.interface import Fetched
from ctrail_pipeline.core.exceptions import StoreError, StoreUnavailable
from ctrail_pipeline.core.ledger.rows import LogFileState
from ctrail_pipeline.core.listing.sources import LogFileRef
from ctrail_pipeline.core.run.summary import Summary
from ctrail_pipeline.core.run.sync import sync
from ctrail_pipeline.core.upkeep.compaction import compact
from ctrail_pipeline_tests.support.oracle import read_buckets
from ctrail_pipeline_tests.support.sync_process import assert_exact
from ctrail_pipeline_tests.support.two_trails import TwoTrails, event

VISITS = 200
UNCUT = b'{"Records":[' + event("sound") + b"," + event("cut") + b"]}"
DAMAGED = {
    "cut JSON": gzip.compress(UNCUT[:-9]),
    "cut gzip": gzip.compress(UNCUT)[:-9],
}
A_LATER_DAY = datetime(2026, 2, 1, tzinfo=UTC)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TwoTrails:
    """Two trails whose damaged log files are due for a visit at once."""
    monkeypatch.setattr(retry_schedule, "_VISIT_AFTER_SECONDS", (0,))
    return TwoTrails(tmp_path)


@pytest.fixture(params=DAMAGED)
def damaged(world: TwoTrails, request: pytest.FixtureRequest) -> Path:
    """The damaged log file after its first sync."""
    path = world.put("first", "D")
    put(path, DAMAGED[request.param], 1)
    world.put("first", "A", event("other"))
    visit(world)
    return path


def put(path: Path, content: bytes, version: int) -> None:
    path.write_bytes(content)
    os.utime(path, (1_768_046_400 + version,) * 2)


def visit(world: TwoTrails) -> Summary:
    return sync(replace(world.settings, trails=world.settings.trails[:1]))


def rows_of_damaged(world: TwoTrails) -> list[tuple[str, LogFileState, bool]]:
    """The ledger's rows of the log file's versions: table, state, and whether lines came of it."""
    columns = "state, position >= 0 FROM"
    with closing(sqlite3.connect(world.settings.state_db)) as ledger:
        return [
            (table, LogFileState(state), bool(has_lines))
            for table, state, has_lines in ledger.execute(
                f"SELECT 'now', {columns} log_file WHERE name LIKE '%D' UNION ALL"
                f" SELECT 'earlier', {columns} superseded_log_file"
            )
        ]


def explained(world: TwoTrails) -> list[Explained]:
    """Every line that came from the log file, in events and quarantine."""
    files = [*world.settings.events_dir.rglob("*.jsonl")]
    files += world.settings.quarantine_dir.rglob("*.jsonl")
    return [
        line
        for path in sorted(files)
        for number in range(1, len(path.read_bytes().splitlines()) + 1)
        if (line := world.at(f"{path}:{number}")).key.endswith("D.json.gz")
    ]


def assert_right(world: TwoTrails, lines: list[tuple[str, int]]) -> None:
    """Assert that the output matches the bucket, and that each line leads to its version."""
    assert_exact(world.settings, read_buckets([(world.buckets["first"], "")]))
    assert [(line.log_file.state.name, line.batch.id) for line in explained(world)] == lines
    report = compare(world.settings, deep=True)
    assert [finding.kind.name for finding in report.findings] == ["LOG_FILE_DAMAGED"]


@pytest.mark.thorough
def test_two_hundred_visits_of_a_damaged_log_file(world: TwoTrails, damaged: Path) -> None:
    """New log files come meanwhile in the same batches, and a compaction merges the first lines."""
    before = [(line.log_file.state.name, line.batch.id) for line in explained(world)]
    assert before
    for number in range(VISITS):
        if number % 20 == 10:
            world.put("first", f"{number}", event(f"new {number}"))
        assert len(visit(world).problems) == 1, "it was looked at"
        if number == VISITS // 2:
            assert compact(world.settings, now=A_LATER_DAY).problems == []
    assert rows_of_damaged(world) == [
        ("now", LogFileState.DAMAGED, False),
        ("earlier", LogFileState.DAMAGED, True),
    ]
    assert_right(world, before)


def test_a_damaged_log_file_that_cannot_be_read_every_second_time(
    world: TwoTrails, damaged: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = [(line.log_file.state.name, line.batch.id) for line in explained(world)]
    get = fetch._get

    def refuse(ref: LogFileRef, fetched: Fetched | StoreError | None = None) -> Fetched:
        if ref.key.endswith("D.json.gz"):
            raise StoreUnavailable("not today")
        return get(ref, fetched)

    for number in range(20):
        with monkeypatch.context() as patch:
            if number % 2 == 0:
                patch.setattr(fetch, "_get", refuse)
            assert len(visit(world).problems) == 1
    assert rows_of_damaged(world) == [
        ("now", LogFileState.DAMAGED, False),
        ("earlier", LogFileState.DAMAGED, True),
    ]
    assert_right(world, before)


def test_a_log_file_that_heals_after_many_visits(world: TwoTrails, damaged: Path) -> None:
    before = explained(world)
    for _ in range(5):
        visit(world)
    put(damaged, gzip.compress(UNCUT), 2)
    assert visit(world).ok
    assert rows_of_damaged(world) == [
        ("now", LogFileState.COMMITTED, True),
        ("earlier", LogFileState.DAMAGED, True),
    ]
    after = explained(world)
    assert len(after) > len(before)
    assert {(line.path, line.batch.id) for line in before} < {
        (line.path, line.batch.id) for line in after
    }
    assert {line.log_file.superseded for line in after} == {True, False}


def test_versions_that_take_turns_are_kept_once_each(world: TwoTrails, damaged: Path) -> None:
    """Each version that brought lines has one row. Putting it again and again adds none."""
    old = damaged.read_bytes()
    for number in range(2, 20):
        put(damaged, gzip.compress(UNCUT) if number % 2 else old, number)
        visit(world)
    assert rows_of_damaged(world) == [
        ("now", LogFileState.COMMITTED, False),
        ("earlier", LogFileState.DAMAGED, True),
        ("earlier", LogFileState.COMMITTED, True),
    ]
