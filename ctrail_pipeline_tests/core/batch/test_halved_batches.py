"""A batch that other runs make stale again and again is halved; no run keeps the others out."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ctrail_pipeline.core.batch import commit as commit_module
from ctrail_pipeline.core.batch.stage import Staged, stage
from ctrail_pipeline.core.ledger.batch_commit import commit_batch
from ctrail_pipeline.core.ledger.ledger import Ledger
from ctrail_pipeline.core.ledger.rows import StaleBatch
from ctrail_pipeline.core.run import sync as sync_module
from ctrail_pipeline.core.run.sync import sync
from ctrail_pipeline_tests.support.sync_process import (
    assert_exact,
    leave_all_to_workers,
    sample_expectation,
    sample_settings,
)

SAMPLE = {"log_files": 60, "days": 1}
LARGEST = 7


@pytest.mark.parametrize("in_workers", [False, True])
def test_a_batch_that_is_stale_again_and_again_is_halved(
    sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_workers: bool
) -> None:
    settings = replace(sample_settings(sample, tmp_path), process_workers=2 if in_workers else 1)
    committed: list[int] = []
    stale: list[int] = []

    def commit_small(ledger: Any, batch: int, outcomes: list[Any], *values: Any) -> Any:
        if len(outcomes) > LARGEST:
            stale.append(len(outcomes))
            raise StaleBatch("another batch wrote some of these events")
        committed.append(len(outcomes))
        return commit_batch(ledger, batch, outcomes, *values)

    transaction, is_inside = Ledger.transaction, False

    @contextmanager
    def noted(ledger: Ledger) -> Iterator[None]:
        nonlocal is_inside
        with transaction(ledger):
            is_inside = True
            yield
        is_inside = False

    def stage_outside(*values: Any) -> Staged:
        assert not is_inside, "a transaction waits for a disk"
        return stage(*values)

    monkeypatch.setattr(commit_module, "commit_batch", commit_small)
    monkeypatch.setattr(Ledger, "transaction", noted)
    monkeypatch.setattr(commit_module, "stage", stage_outside)
    if in_workers:
        monkeypatch.setattr(sync_module._Run, "_process", leave_all_to_workers)
    summary = sync(settings)
    assert summary.ok
    expectation = sample_expectation(sample)
    assert summary.progress.log_files == sum(committed) == expectation.log_files
    assert stale.count(20) % commit_module.TRIES_WHOLE == 0
    assert len(stale) > 3
    assert_exact(settings, expectation)
