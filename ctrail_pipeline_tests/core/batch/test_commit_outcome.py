"""If a COMMIT ends with an error, only the ledger knows whether it took effect."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from ctrail_pipeline.core.exceptions import LedgerError
from ctrail_pipeline.core.ledger.ledger import Ledger
from ctrail_pipeline.core.run import sync as sync_module
from ctrail_pipeline.core.run.sync import sync
from ctrail_pipeline_tests.support.engines import with_ledger_in
from ctrail_pipeline_tests.support.sync_process import (
    assert_exact,
    leave_all_to_workers,
    sample_expectation,
    sample_settings,
)
from ctrail_pipeline_tests.support.thorough import thorough

SAMPLE = {"log_files": 100, "days": 1}


@pytest.mark.parametrize("engine", ["sqlite", *thorough("postgres")])
@pytest.mark.parametrize("in_workers", [False, True])
@pytest.mark.parametrize("took_effect", [True, False])
def test_a_commit_that_ends_with_an_error(
    sample: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    engine: str,
    in_workers: bool,
    took_effect: bool,
) -> None:
    settings = with_ledger_in(engine, sample_settings(sample, tmp_path))
    settings = replace(settings, process_workers=2 if in_workers else 1)
    transaction = Ledger.transaction
    fails = False
    failures: list[bool] = []

    @contextmanager
    def failing(ledger: Ledger) -> Iterator[None]:
        nonlocal fails
        fails_now, fails = fails, False
        with transaction(ledger):
            yield
            if fails_now and not took_effect:
                failures.append(took_effect)
                raise LedgerError("the disk fails")
        if fails_now:
            failures.append(took_effect)
            raise LedgerError("the disk fails")

    def fail_once(step: str) -> None:
        nonlocal fails
        fails = step == "staged" and not failures

    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "transaction", failing)
        if in_workers:
            patch.setattr(sync_module._Run, "_process", leave_all_to_workers)
        if took_effect:
            sync(settings, observe=fail_once)
            assert_exact(settings, sample_expectation(sample))
        else:
            with pytest.raises(LedgerError, match="the disk fails"):
                sync(settings, observe=fail_once)
    assert failures == [took_effect]
    sync(settings)
    assert_exact(settings, sample_expectation(sample))
