"""Old output is removed on purpose, and nothing of it comes back.

This holds whenever a prune dies, and whatever happens to the bucket afterwards.
"""

import os
import sqlite3
import stat
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Thread

import pytest

from ctrail_pipeline.core.exceptions import ConfigurationError, LedgerError
from ctrail_pipeline.core.ledger.ledger import Ledger
from ctrail_pipeline.core.ledger.queries_prune import decide_pruning
from ctrail_pipeline.core.ledger.rows import Pruned
from ctrail_pipeline.core.listing.selection import Selection
from ctrail_pipeline.core.run.sync import sync
from ctrail_pipeline.core.settings import Settings, Trail
from ctrail_pipeline.core.upkeep.prune import prune
from ctrail_pipeline.sample.bucket import (
    ORGANIZATION_BUCKET,
    PAYMENTS_BUCKET,
    PAYMENTS_PREFIX,
    write_sample,
)
from ctrail_pipeline_tests.support.command import ctrail
from ctrail_pipeline_tests.support.oracle import snapshot
from ctrail_pipeline_tests.support.sync_process import run_sync, settings_in
from ctrail_pipeline_tests.support.thorough import thorough

BEFORE = datetime(2026, 1, 15, 6, 30, tzinfo=UTC)
FIRST_HOUR_KEPT = "2026/01/15/06"


class Killed(BaseException):
    """The process ends here: nothing that follows is done."""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    write_sample(tmp_path / "sample", log_files=120, days=2)
    trails = [
        Trail("organization", (tmp_path / "sample" / ORGANIZATION_BUCKET).as_uri()),
        Trail("payments", (tmp_path / "sample" / PAYMENTS_BUCKET).as_uri(), PAYMENTS_PREFIX),
    ]
    return replace(settings_in(tmp_path, trails), batch_log_files=20)


def hour_of(path: Path) -> str:
    return "/".join(path.parts[-5:-1])


def event_files(settings: Settings) -> list[Path]:
    return sorted(settings.events_dir.rglob("*.jsonl"))


def lines_from(settings: Settings, first_hour: str) -> list[bytes]:
    return sorted(
        line
        for path in event_files(settings)
        if hour_of(path) >= first_hour
        for line in path.read_bytes().splitlines()
    )


def states(settings: Settings) -> set[int]:
    with closing(sqlite3.connect(settings.state_db)) as ledger:
        return {row[0] for row in ledger.execute("SELECT DISTINCT pruned FROM output_file")}


def log_again(settings: Settings) -> None:
    """Give every log file of the bucket another etag; the next run looks back over everything."""
    for path in (settings.events_dir.parent / "sample").rglob("*.json.gz"):
        os.utime(path, (path.stat().st_mtime + 1,) * 2)
    with closing(sqlite3.connect(settings.state_db)) as ledger, ledger:
        ledger.execute("UPDATE source_prefix SET deep_listed_at = 0")
        ledger.execute("DELETE FROM coverage")


def assert_pruned(settings: Settings, kept_lines: list[bytes]) -> None:
    assert lines_from(settings, "") == kept_lines
    assert states(settings) == {Pruned.NO, Pruned.REMOVED}
    folders = [path for path in settings.events_dir.rglob("*") if path.is_dir()]
    assert all(any(path.iterdir()) or path.name == ".staging" for path in folders), (
        "no empty folders are left"
    )


def test_whole_hours_before_the_date_go_and_nothing_brings_them_back(settings: Settings) -> None:
    assert sync(settings).ok
    kept_lines = lines_from(settings, FIRST_HOUR_KEPT)
    pruned_files = [path for path in event_files(settings) if hour_of(path) < FIRST_HOUR_KEPT]
    lines = sum(path.read_bytes().count(b"\n") for path in pruned_files)
    size = sum(path.stat().st_size for path in pruned_files)
    would = prune(settings, BEFORE, dry_run=True)
    assert all(path.exists() for path in pruned_files)
    pruned = prune(settings, BEFORE)
    assert pruned == would
    assert (pruned.files, pruned.lines, pruned.bytes) == (len(pruned_files), lines, size)
    assert_pruned(settings, kept_lines)
    assert prune(settings, BEFORE).files == 0

    assert sync(settings).progress.events == 0
    log_again(settings)
    again = sync(settings)
    assert again.ok
    assert again.progress.log_files > 100
    assert again.progress.events == 0
    assert_pruned(settings, kept_lines)


@pytest.mark.parametrize("step", ["decided", "marked", "removed"])
@pytest.mark.parametrize("next_command", ["sync", *thorough("prune")])
def test_a_prune_that_dies_is_finished_by_whoever_comes_next(
    settings: Settings, step: str, next_command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ctrail_pipeline.core.upkeep.prune._DECIDED_AT_ONCE", 10)
    monkeypatch.setattr("ctrail_pipeline.core.batch.recovery._REMOVED_AT_ONCE", 4)
    assert sync(settings).ok
    kept_lines = lines_from(settings, FIRST_HOUR_KEPT)
    steps = []

    def die(at: str) -> None:
        steps.append(at)
        if steps.count(step) == 2:
            raise Killed

    with pytest.raises(Killed):
        prune(settings, BEFORE, observe=die)
    assert states(settings) > {Pruned.NO, Pruned.DECIDED}
    log_again(settings)
    if next_command == "sync":
        assert sync(settings).progress.events == 0
        assert Pruned.DECIDED not in states(settings)
    prune(settings, BEFORE)
    assert_pruned(settings, kept_lines)
    assert sync(settings).progress.events == 0
    assert_pruned(settings, kept_lines)


def test_a_batch_that_is_committed_and_not_published_is_not_touched(settings: Settings) -> None:
    """The run was killed before it linked its files: recovery publishes them, prune takes them."""
    assert run_sync(settings, kill_at=("committed", 1)).returncode < 0
    with closing(Ledger(settings.state_db)) as ledger, ledger.transaction():
        assert decide_pruning(ledger, "2099/01/01/00", 1000) == ([], 0)
    prune(settings, BEFORE)
    assert sync(settings).ok
    prune(settings, BEFORE)
    kept_lines = lines_from(settings, "")
    assert all(hour_of(path) >= FIRST_HOUR_KEPT for path in event_files(settings))
    log_again(settings)
    assert sync(settings).progress.events == 0
    assert lines_from(settings, "") == kept_lines


def test_late_events_of_pruned_hours_are_new_and_stay(settings: Settings) -> None:
    """Events that were never there are brought in, whatever their date."""
    part = Selection(accounts=["2*"])
    assert sync(settings, part).ok
    prune(settings, BEFORE)
    kept_lines = lines_from(settings, "")
    summary = sync(settings)
    assert summary.ok
    now = lines_from(settings, "")
    assert len(now) == len(kept_lines) + summary.progress.events
    assert {hour_of(path) for path in event_files(settings)} > {"2026/01/14/12"}
    names = [path.relative_to(settings.events_dir) for path in event_files(settings)]
    assert len(names) == len(set(names))


def test_a_name_is_never_used_twice(settings: Settings) -> None:
    assert sync(settings, Selection(trails=["payments"])).ok
    before = {path.relative_to(settings.events_dir) for path in event_files(settings)}
    prune(settings, BEFORE + timedelta(days=30))
    assert event_files(settings) == []
    assert sync(settings).ok
    assert before.isdisjoint(
        path.relative_to(settings.events_dir) for path in event_files(settings)
    )


def test_pruning_while_a_sync_is_at_work(settings: Settings) -> None:
    """All of the output is pruned again and again: the sync finds its folders gone under it."""
    failed: list[BaseException] = []

    def work() -> None:
        try:
            assert sync(replace(settings, batch_log_files=3)).ok
        except BaseException as error:  # noqa: BLE001 - the test's thread raises it
            failed.append(error)

    thread = Thread(target=work)
    thread.start()
    while thread.is_alive():
        if (settings.events_dir / ".ctrail").exists():
            prune(settings, BEFORE)
    thread.join()
    assert failed == []
    prune(settings, BEFORE)
    kept_lines = lines_from(settings, "")
    assert all(hour_of(path) >= FIRST_HOUR_KEPT for path in event_files(settings))
    log_again(settings)
    assert sync(settings).progress.events == 0
    assert lines_from(settings, "") == kept_lines


def test_a_ledger_from_before_a_prune_is_refused(settings: Settings, tmp_path: Path) -> None:
    assert sync(settings).ok
    with closing(sqlite3.connect(settings.state_db)) as ledger:
        ledger.execute("VACUUM INTO ?", (str(tmp_path / "backup.db"),))
    prune(settings, BEFORE)
    for path in tmp_path.glob(f"{settings.state_db.name}*"):
        path.unlink()
    (tmp_path / "backup.db").rename(settings.state_db)
    with pytest.raises(LedgerError, match="an older copy was restored"):
        sync(settings)


def test_without_a_ledger_there_is_nothing_to_prune(settings: Settings) -> None:
    with pytest.raises(ConfigurationError, match="there is no ledger"):
        prune(settings, BEFORE)
    assert not settings.state_db.exists()


def test_from_a_shell(tmp_path: Path) -> None:
    write_sample(tmp_path / "sample", log_files=60, days=2)
    assert ctrail(tmp_path, "sync").returncode == 0
    events = snapshot(tmp_path / "events")
    dry = ctrail(tmp_path, "prune", "--before", "2026-01-15", "--dry-run")
    assert dry.stdout.startswith("would be removed: ")
    assert snapshot(tmp_path / "events") == events
    process = ctrail(tmp_path, "prune", "--before", "2026-01-15")
    assert process.returncode == 0, process.stderr
    assert process.stdout == dry.stdout.replace("would be removed", "removed")
    assert set() < snapshot(tmp_path / "events") < events
    assert ctrail(tmp_path, "sync").stdout.startswith("0 new log files, 0 new events")
    assert ctrail(tmp_path, "prune", "--before", "last week").returncode == 2
    mode = stat.S_IMODE((tmp_path / "state.db").stat().st_mode)
    assert mode == 0o600
