"""Ledgers that were closed, or made newer, while others have them open: refused on both engines."""

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from threading import Thread

import pytest

from ctrail_pipeline.core.exceptions import LedgerError
from ctrail_pipeline.core.ledger import migrations
from ctrail_pipeline.core.ledger.admission import BEING_COPIED, BEING_REBUILT
from ctrail_pipeline.core.ledger.ledger import Ledger
from ctrail_pipeline.core.ledger_address import LedgerAddress
from ctrail_pipeline_tests.support.engines import ENGINES, new_address

NEXT = migrations.SCHEMA_VERSION + 1
STEP = (
    "CREATE TABLE waiting (id INTEGER PRIMARY KEY AUTOINCREMENT, run TEXT NOT NULL, mark BLOB)",
    "CREATE TABLE place (name TEXT PRIMARY KEY, at INTEGER NOT NULL) WITHOUT ROWID",
    "ALTER TABLE batch ADD COLUMN machine TEXT NOT NULL DEFAULT 'here'",
    "INSERT INTO waiting (run) SELECT token FROM batch",
)


@pytest.fixture(params=ENGINES)
def address(request: pytest.FixtureRequest, tmp_path: Path) -> LedgerAddress:
    return new_address(request.param, tmp_path)


@contextmanager
def next_version(step: tuple[str, ...] = STEP) -> Iterator[None]:
    """A program of the next version."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(migrations, "SCHEMA_VERSION", NEXT)
        patch.setitem(migrations._MIGRATIONS, NEXT - 1, step)
        yield


def add_batch(ledger: Ledger, token: str) -> None:
    with ledger.transaction():
        ledger.execute(
            "INSERT INTO batch (token, state, run_id, created_at) VALUES (?, 0, 'run', 0)", token
        )


@pytest.mark.parametrize(
    ("closed", "says"),
    [
        ("postgresql://elsewhere/ctrail", "has moved to postgresql://elsewhere/ctrail: name that"),
        (f"{BEING_COPIED}old.db", "not whole: run `ctrail ledger copy old.db "),
        (BEING_REBUILT, "run `ctrail rebuild` again"),
    ],
)
def test_a_closed_ledger_is_refused_by_whoever_has_it_open_too(
    address: LedgerAddress, closed: str, says: str
) -> None:
    with closing(Ledger(address)) as ledger:
        add_batch(ledger, "before")
        with closing(Ledger(address)) as other, other.transaction():
            other.set_closed(closed)
        uses: list[Callable[[], object]] = [
            lambda: Ledger(address),
            lambda: add_batch(ledger, "after"),
            ledger.reopen,
        ]
        for use in uses:
            with pytest.raises(LedgerError, match=says):
                use()
        with closing(Ledger(address, closed="")) as mover:
            assert mover.closed == closed
            assert mover.rows("SELECT token FROM batch") == [("before",)]
            with mover.transaction():
                mover.set_closed("")
    with closing(Ledger(address)) as ledger:
        add_batch(ledger, "opened again")


def test_a_new_ledger_may_be_closed_from_the_first_moment(address: LedgerAddress) -> None:
    with closing(Ledger(address, closed=BEING_REBUILT)) as ledger:
        assert ledger.closed == BEING_REBUILT
    with pytest.raises(LedgerError, match="being rebuilt"):
        Ledger(address)


def test_a_newer_program_brings_the_ledger_up_to_date(address: LedgerAddress) -> None:
    with closing(Ledger(address)) as ledger:
        add_batch(ledger, "old")
        name = ledger.uuid
    with next_version(), closing(Ledger(address)) as ledger:
        assert ledger.uuid == name
        assert ledger.rows("SELECT token, machine FROM batch") == [("old", "here")]
        with ledger.transaction():
            ledger.execute("INSERT INTO waiting (run, mark) VALUES (?, ?)", "new", b"\x00")
        assert ledger.rows("SELECT id, run FROM waiting ORDER BY id") == [(1, "old"), (2, "new")]
    with next_version(("no statement at all",)), closing(Ledger(address)) as again:
        assert again.uuid == name  # no step is done twice


def test_an_older_program_that_has_the_ledger_open_is_refused(address: LedgerAddress) -> None:
    with closing(Ledger(address)) as older:
        add_batch(older, "before")
        with next_version():
            Ledger(address).close()
        with pytest.raises(LedgerError, match=f"of version {NEXT}; .* update ctrail-pipeline"):
            add_batch(older, "after")
        with pytest.raises(LedgerError, match=f"of version {NEXT}"):
            older.reopen()
    with next_version(), closing(Ledger(address)) as newer:
        assert newer.rows("SELECT token FROM batch") == [("before",)]
        add_batch(newer, "after")


def test_runs_that_begin_at_once_take_each_step_once(address: LedgerAddress) -> None:
    """A second try would fail: the step makes tables."""
    Ledger(address).close()
    opened: list[str] = []

    def open_it() -> None:
        with closing(Ledger(address)) as ledger:
            opened.append(ledger.uuid)

    with next_version():
        threads = [Thread(target=open_it) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(opened) == 6


def test_a_step_that_fails_changes_nothing(address: LedgerAddress) -> None:
    with closing(Ledger(address)) as ledger:
        add_batch(ledger, "before")
    with next_version((*STEP, "no statement")), pytest.raises(LedgerError, match="no"):
        Ledger(address)
    with closing(Ledger(address)) as ledger:
        add_batch(ledger, "after")
        assert ledger.rows("SELECT count(*) FROM batch") == [(2,)]
