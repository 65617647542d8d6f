"""A COMMIT to PostgreSQL that is lost, or whose answer is: the output is exact all the same.

The run aborts the batch by a conditional update, which waits for a COMMIT that the server is still
at work on. Reading the batch's state instead would tell such a run that nothing was committed.
"""

from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ctrail_pipeline.core.exceptions import LedgerError
from ctrail_pipeline.core.ledger.ledger import Ledger
from ctrail_pipeline.core.output.marker import replace_marker
from ctrail_pipeline.core.output.open_output import open_output
from ctrail_pipeline.core.output_files import Kind
from ctrail_pipeline.core.run import sync as sync_module
from ctrail_pipeline.core.run.sync import sync
from ctrail_pipeline.core.settings import Settings
from ctrail_pipeline.core.upkeep.compaction import compact
from ctrail_pipeline_tests.support.engines import with_ledger_in
from ctrail_pipeline_tests.support.oracle import Expectation
from ctrail_pipeline_tests.support.postgres_proxy import Loss, proxy_to
from ctrail_pipeline_tests.support.sync_process import (
    assert_exact,
    leave_all_to_workers,
    sample_settings,
)
from ctrail_pipeline_tests.support.thorough import thorough

SAMPLE = {"log_files": 60, "days": 1}
LATER = datetime(2099, 1, 1, tzinfo=UTC)

LOSSES = [
    "sent in vain",
    *thorough("answered in vain", "half-closed", "unsent"),
    *thorough("unsent, half-closed"),  # the server ends the transaction after 20 s
]
SLOW_COMMIT = """
    CREATE FUNCTION sleep() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN PERFORM pg_sleep(0.3); RETURN NULL; END $$;
    CREATE CONSTRAINT TRIGGER slow AFTER UPDATE ON batch DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW WHEN (new.state = 1) EXECUTE FUNCTION sleep()
"""


@pytest.fixture
def settings(sample: Path, tmp_path: Path) -> Settings:
    return with_ledger_in("postgres", sample_settings(sample, tmp_path))


def make_commits_slow(settings: Settings) -> None:
    """Have the server work on the COMMIT of a batch for a while."""
    with closing(Ledger(settings.ledger)) as ledger, ledger.transaction():
        ledger.execute(SLOW_COMMIT)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("in_workers", [False, *thorough(True)])
def test_a_commit_of_a_sync_is_lost(
    settings: Settings,
    expectation: Expectation,
    monkeypatch: pytest.MonkeyPatch,
    loss: Loss,
    in_workers: bool,
) -> None:
    if in_workers:
        settings = replace(settings, process_workers=2)
        monkeypatch.setattr(sync_module._Run, "_process", leave_all_to_workers)
    if loss == "sent in vain":
        make_commits_slow(settings)
    assert settings.postgres is not None
    with proxy_to(settings.postgres) as proxy:
        steps: list[str] = []

        def observe(step: str) -> None:
            steps.append(step)
            if step == "staged" and steps.count("staged") == 2:
                proxy.lose(loss)

        through_proxy = replace(settings, postgres=proxy.address)
        if loss.startswith("unsent"):
            with pytest.raises(LedgerError, match="run again; nothing is lost"):
                sync(through_proxy, observe=observe)
        else:
            assert sync(through_proxy, observe=observe).ok
            assert_exact(settings, expectation)
        assert proxy.lost == 1
    monkeypatch.undo()
    assert sync(settings).ok
    assert_exact(settings, expectation)


@pytest.mark.parametrize("loss", LOSSES)
def test_a_commit_of_a_compaction_is_lost(
    settings: Settings, expectation: Expectation, loss: Loss
) -> None:
    assert sync(replace(settings, batch_log_files=5)).ok
    if loss == "sent in vain":
        make_commits_slow(settings)
    assert settings.postgres is not None
    with proxy_to(settings.postgres) as proxy:

        def observe(step: str) -> None:
            if step == "staged":
                proxy.lose(loss)

        through_proxy = replace(settings, postgres=proxy.address)
        if loss.startswith("unsent"):
            with pytest.raises(LedgerError, match="run again; nothing is lost"):
                compact(through_proxy, now=LATER, observe=observe)
        else:
            assert compact(through_proxy, now=LATER, observe=observe).old_files > 0
        assert proxy.lost == 1
    compact(settings, now=LATER)
    assert_exact(settings, expectation)
    assert compact(settings, now=LATER).old_files == 0


def test_an_older_ledger_is_refused_by_a_run_that_connects_again(
    settings: Settings, expectation: Expectation
) -> None:
    """The server may have been restored from a backup while the run had no connection."""
    assert settings.postgres is not None
    marker = settings.events_dir / ".ctrail"
    with proxy_to(settings.postgres) as proxy:

        def observe(step: str) -> None:
            if step == "staged":
                proxy.lose("answered in vain")
                output = open_output(settings)
                name, generation = output.read_marker(Kind.EVENTS) or ("", 0)
                replace_marker(output, Kind.EVENTS, name, generation + 5)

        through_proxy = replace(settings, postgres=proxy.address)
        with pytest.raises(LedgerError, match="an older copy was restored"):
            sync(through_proxy, observe=observe)
    with pytest.raises(LedgerError, match="an older copy was restored"):
        sync(settings)
    marker.unlink()
    assert sync(settings).ok
    assert_exact(settings, expectation)
