"""Leases in PostgreSQL: a run that lives renews its lease, and one run claims a batch."""

import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from ctrail_pipeline.core.ledger import leases
from ctrail_pipeline.core.ledger.batches import open_batches, register_batch
from ctrail_pipeline.core.ledger.leases import claim, has_lapsed, leased
from ctrail_pipeline.core.ledger.ledger import Ledger
from ctrail_pipeline.core.ledger.rows import BatchRow
from ctrail_pipeline.core.ledger_address import LedgerAddress
from ctrail_pipeline_tests.support.engines import ENGINES, new_address

SECONDS = 20.0


@pytest.fixture
def address(tmp_path: Path) -> LedgerAddress:
    return new_address("postgres", tmp_path)


@pytest.fixture
def ledger(address: LedgerAddress) -> Iterator[Ledger]:
    with closing(Ledger(address)) as opened:
        yield opened


@pytest.fixture
def other(address: LedgerAddress) -> Iterator[Ledger]:
    """The ledger, as a run on another machine has it open."""
    with closing(Ledger(address)) as opened:
        yield opened


def batch_of(ledger: Ledger) -> BatchRow:
    """Register a batch."""
    register_batch(ledger, "token", "run", [])
    [batch] = open_batches(ledger)
    return batch


def let_lapse(ledger: Ledger, seconds: int = leases.LAPSES_AFTER_SECONDS + 1) -> None:
    ledger.execute("UPDATE lease SET renewed_at = renewed_at - ?", seconds)


def test_a_lease_ends_with_its_run(ledger: Ledger, other: Ledger) -> None:
    with leased(ledger):
        batch = batch_of(ledger)
        assert batch.owner == ledger.owner != ""
        assert not has_lapsed(other, batch)
    assert has_lapsed(other, batch)
    assert other.rows("SELECT * FROM lease") == []


def test_a_lease_lapses_ninety_seconds_after_its_last_renewal(
    ledger: Ledger, other: Ledger
) -> None:
    with leased(ledger):
        batch = batch_of(ledger)
        let_lapse(other, leases.LAPSES_AFTER_SECONDS - 30)
        assert not has_lapsed(other, batch)
        let_lapse(other, 31)
        assert has_lapsed(other, batch)


def test_a_lease_of_a_clock_that_was_wrong_holds_nobody_up(ledger: Ledger, other: Ledger) -> None:
    """It is the server's clock, which was corrected since."""
    with leased(ledger):
        batch = batch_of(ledger)
        let_lapse(other, -365 * 86_400)
        assert has_lapsed(other, batch)
    ledger.execute("INSERT INTO lease (name, renewed_at) VALUES (?, ?)", "odd", 2**40)
    with leased(other):
        assert ledger.rows("SELECT name FROM lease") == [(other.owner,)]


def test_an_owner_that_came_from_another_database_has_no_lease_in_sqlite(tmp_path: Path) -> None:
    with closing(Ledger(tmp_path / "state.db")) as ledger:
        ledger.owner = "a lease in PostgreSQL"
        batch = batch_of(ledger)
        assert not has_lapsed(ledger, batch)
        assert claim(ledger, batch)


def test_a_lease_is_renewed_and_comes_again_where_it_is_gone(
    ledger: Ledger, other: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also while a run of long transactions has the writer lock, or its connection is lost."""
    monkeypatch.setattr(leases, "RENEWED_EVERY_SECONDS", 0.02)
    with leased(ledger), other.transaction():
        for change in ("UPDATE lease SET renewed_at = 0", "DELETE FROM lease"):
            with closing(Ledger(ledger.path)) as third:
                third.execute(change)
            deadline = time.monotonic() + SECONDS
            while not ledger.rows("SELECT 1 FROM lease WHERE renewed_at > 0"):
                assert time.monotonic() < deadline, change
                time.sleep(0.01)


def test_one_of_two_runs_claims_a_batch(
    ledger: Ledger, other: Ledger, address: LedgerAddress
) -> None:
    with closing(Ledger(address)) as third, leased(ledger):
        batch = batch_of(ledger)
        with leased(other), leased(third):
            assert claim(other, batch)
            assert not claim(third, batch)
            [claimed] = open_batches(ledger)
            assert claimed.owner == other.owner
            assert not has_lapsed(third, claimed)


def test_a_batch_that_is_decided_is_not_claimed(ledger: Ledger, other: Ledger) -> None:
    batch = batch_of(ledger)
    with ledger.transaction():
        ledger.execute("UPDATE batch SET state = 2")
    assert not claim(other, batch)


def test_leases_of_long_ago_are_forgotten(ledger: Ledger, other: Ledger) -> None:
    ledger.execute("INSERT INTO lease (name, renewed_at) VALUES (?, ?)", "old", 0)
    with leased(other):
        assert ledger.rows("SELECT name FROM lease") == [(other.owner,)]


@pytest.mark.parametrize("engine", ENGINES)
def test_a_ledger_in_sqlite_has_no_leases(engine: str, tmp_path: Path) -> None:
    with closing(Ledger(new_address(engine, tmp_path))) as ledger, leased(ledger):
        assert len(ledger.rows("SELECT * FROM lease")) == (engine == "postgres")
        batch = batch_of(ledger)
        assert (batch.owner != "") == (engine == "postgres")
        assert not has_lapsed(ledger, batch)
        assert claim(ledger, batch)
