"""If somebody restores an older copy of the ledger, a sync refuses it or doubles nothing.

The tests take a copy at each step of the commit protocol, and restore it after the run.
"""

import shutil
import signal
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from ctrail_pipeline.core.exceptions import LedgerError
from ctrail_pipeline.core.listing.selection import Selection
from ctrail_pipeline.core.run import sync as sync_module
from ctrail_pipeline.core.run.sync import sync
from ctrail_pipeline.core.settings import Settings
from ctrail_pipeline_tests.support.oracle import Expectation
from ctrail_pipeline_tests.support.sync_process import (
    assert_exact,
    leave_all_to_workers,
    let_a_minute_pass,
    run_sync,
    sample_settings,
)
from ctrail_pipeline_tests.support.thorough import thorough

SAMPLE = {"log_files": 60, "days": 1}


def copy_of(ledger: Path, copy: Path) -> None:
    """Copy a ledger that a run is writing to, as a backup does."""
    with closing(sqlite3.connect(ledger)) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)


def committed_batches(ledger: Path) -> int:
    with closing(sqlite3.connect(ledger)) as connection:
        return int(
            connection.execute("SELECT count(*) FROM batch WHERE state IN (1, 2)").fetchone()[0]
        )


def restored(settings: Settings, copy: Path, folder: Path) -> Settings:
    """Copy the whole output, with an older copy of its ledger."""
    shutil.copytree(settings.state_db.parent, folder)
    for path in folder.glob(f"{settings.state_db.name}*"):
        path.unlink()
    shutil.copy(copy, folder / settings.state_db.name)
    return replace(
        settings,
        events_dir=folder / settings.events_dir.name,
        quarantine_dir=folder / settings.quarantine_dir.name,
        state_db=folder / settings.state_db.name,
    )


@pytest.mark.parametrize("processes", [1, *thorough(2)])
def test_a_copy_from_any_step_is_refused_or_doubles_nothing(
    sample: Path,
    expectation: Expectation,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    processes: int,
) -> None:
    settings = sample_settings(
        sample, tmp_path / "live", batch_log_files=20, process_workers=processes
    )
    if processes > 1:
        monkeypatch.setattr(sync_module._Run, "_process", leave_all_to_workers)
    copies: list[tuple[str, Path]] = []

    def copy_at(step: str) -> None:
        copy = tmp_path / f"copy-{len(copies)}.db"
        copy_of(settings.state_db, copy)
        copies.append((step, copy))

    assert sync(settings, observe=copy_at).ok
    assert_exact(settings, expectation)
    monkeypatch.undo()
    committed_at_last = committed_batches(settings.state_db)
    refused = []
    for at, (_, copy) in enumerate(copies):
        older = restored(settings, copy, tmp_path / f"restored-{at}")
        let_a_minute_pass(older)
        try:
            assert sync(older).ok
        except LedgerError as error:
            assert "is older than" in str(error)  # noqa: PT017 - either is right
            refused.append(at)
        else:
            assert_exact(older, expectation)
    assert len({step for step, _ in copies}) == 6
    assert refused == [
        at for at, (_, copy) in enumerate(copies) if committed_batches(copy) < committed_at_last
    ]


def test_a_copy_from_before_a_commit_that_recovery_published_is_refused(
    sample: Path, expectation: Expectation, tmp_path: Path
) -> None:
    """The run died right after its COMMIT, before it noted anything in the output folder."""
    settings = sample_settings(sample, tmp_path / "live", batch_log_files=1_000)
    assert sync(settings, Selection(regions=["eu-west-1"])).ok
    copy = tmp_path / "copy.db"
    copy_of(settings.state_db, copy)
    assert run_sync(settings, kill_at=("committed", 1)).returncode == -signal.SIGKILL
    let_a_minute_pass(settings)
    recovered = sync(settings)
    assert recovered.ok
    assert recovered.progress.log_files == 0
    assert_exact(settings, expectation)
    with pytest.raises(LedgerError, match="is older than"):
        sync(restored(settings, copy, tmp_path / "restored"))
