"""A committed log file that is visited again keeps what it has, whatever the visit meets."""

import sqlite3
from contextlib import closing
from pathlib import Path

from ctrail_pipeline.core.ledger.rows import LogFileState
from ctrail_pipeline.core.run.sync import sync
from ctrail_pipeline.core.settings import Settings
from ctrail_pipeline_tests.support.late_log_files import NOON, event, put_log_file
from ctrail_pipeline_tests.support.oracle import snapshot
from ctrail_pipeline_tests.support.sync_process import local_trail, settings_in


def have_it_visited(settings: Settings) -> None:
    with closing(sqlite3.connect(settings.state_db)) as database, database:
        database.execute("UPDATE log_file SET next_visit = 0")


def states(settings: Settings) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(settings.state_db)) as database:
        return database.execute(
            "SELECT state, records, quarantined, next_visit FROM log_file"
        ).fetchall()


def test_a_committed_log_file_that_expired_stays_committed(tmp_path: Path) -> None:
    settings = settings_in(tmp_path, [local_trail(tmp_path / "bucket")])
    rejected = {**event(2), "eventTime": "no time"}
    key = put_log_file(tmp_path / "bucket", "111122223333", NOON, [event(1), rejected])
    assert sync(settings).ok
    before = snapshot(settings.events_dir)
    have_it_visited(settings)
    (tmp_path / "bucket" / key).unlink()
    assert sync(settings).ok
    assert states(settings) == [(LogFileState.COMMITTED, 1, 1, None)]
    assert snapshot(settings.events_dir) == before
