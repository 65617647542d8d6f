"""Rows are copied between engines as they are: every table, hostile values, ids, a few at once."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from ctrail_pipeline.core.exceptions import LedgerError
from ctrail_pipeline.core.ledger import copying
from ctrail_pipeline.core.ledger.copying import (
    copy_facts,
    copy_rows,
    first_difference,
    remove_rows,
    replace_rows,
)
from ctrail_pipeline.core.ledger.engine import Row
from ctrail_pipeline.core.ledger.ledger import Ledger
from ctrail_pipeline.core.ledger.tables import Table, row_tables
from ctrail_pipeline_tests.support.engines import ENGINES, new_address

HOSTILE = [
    "",
    "\x00",
    "a\x00b",
    "\x01",
    "\\N",
    "\\",
    "\t\n\r",
    "é" * 512,
    "'; --",
    "%s ?",
    "\U0001f4a5",
]


def rows_of(table: Table, types: dict[str, str]) -> list[Row]:
    """Rows with hostile texts and bytes, in which no two values of a column are the same."""
    values = {
        "TEXT": HOSTILE,
        "BLOB": [
            text.encode() + bytes([0, 255, 92, number]) for number, text in enumerate(HOSTILE)
        ],
        "INTEGER": [*range(1, len(HOSTILE)), 2**40],
    }
    return list(zip(*(values[types[column]] for column in table.columns), strict=True))


def fill(ledger: Ledger) -> None:
    with ledger.transaction():
        for table in row_tables():
            types = {
                name: "BLOB" if name in table.blobs else "INTEGER" if is_number else "TEXT"
                for name, is_number in columns_of(table)
            }
            ledger.load(table.name, table.columns, rows_of(table, types))
        ledger.advance_generation()


def columns_of(table: Table) -> Iterator[tuple[str, bool]]:
    import sqlite3
    from importlib.resources import files

    with closing(sqlite3.connect(":memory:")) as db:
        db.executescript(files("ctrail_pipeline.core.ledger").joinpath("schema.sql").read_text())
        for name, type_ in db.execute("SELECT name, type FROM pragma_table_info(?)", (table.name,)):
            yield name, type_ == "INTEGER"


@pytest.fixture(params=ENGINES)
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ledger]:
    with closing(Ledger(new_address(request.param, tmp_path, "source.db"))) as ledger:
        yield ledger


@pytest.fixture(params=ENGINES)
def target(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ledger]:
    with closing(Ledger(new_address(request.param, tmp_path, "target.db"))) as ledger:
        yield ledger


def copy(source: Ledger, target: Ledger) -> int:
    rows = copy_rows(source, target, lambda _step: None)
    with target.transaction():
        copy_facts(source, target)
    return rows


@pytest.mark.parametrize("at_once", [3, 5_000])
def test_all_rows_are_copied_as_they_are(
    source: Ledger, target: Ledger, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copying, "_ROWS_AT_ONCE", at_once)
    fill(source)
    assert copy(source, target) == len(HOSTILE) * len(row_tables())
    assert first_difference(source, target) is None
    assert target.generation == 1
    assert target.uuid != source.uuid
    assert copy(source, target) == len(HOSTILE) * len(row_tables())  # nothing is copied twice


def test_every_difference_is_found(source: Ledger, target: Ledger) -> None:
    fill(source)
    copy(source, target)
    for table in row_tables():
        [first, *_] = table.key
        with target.transaction():
            target.execute(
                f"DELETE FROM {table.name} WHERE {first} IN (SELECT max({first}) FROM {table.name})"
            )
        assert first_difference(source, target) == f"the rows of the table {table.name}"
        copy(source, target)
    with target.transaction():
        target.advance_generation()
    assert first_difference(source, target) == "the value generation"


def test_no_id_is_used_twice(source: Ledger, target: Ledger) -> None:
    def add(ledger: Ledger, token: str) -> int:
        with ledger.transaction():
            sql = "INSERT INTO batch (token, state, run_id, created_at) VALUES (?, 0, '', 0)"
            return int(ledger.row(f"{sql} RETURNING id", token)[0])

    assert [add(source, token) for token in "abc"] == [1, 2, 3]
    with source.transaction():
        source.execute("DELETE FROM batch WHERE id > 1")
    copy(source, target)
    assert add(target, "d") == 4


def test_long_rows_are_few_at_once(
    source: Ledger, target: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copying, "_BYTES_AT_ONCE", 10_000)
    sql = (
        "INSERT INTO segment (dedup_partition, batch, count, identities, event_keys)"
        " VALUES (1, 1, 1, ?, ?)"
    )
    with source.transaction():
        source.execute_many(sql, [(bytes(3_000), b"")] * 6)
    pages: list[str] = []
    copy_rows(source, target, pages.append)
    assert len(pages) == 3


def test_rows_are_replaced_at_once_or_not_at_all(source: Ledger, target: Ledger) -> None:
    fill(target)
    with source.transaction():
        source.execute("INSERT INTO dedup_partition (name) VALUES ('one')")

    def fail() -> None:
        with target.transaction():
            replace_rows(source, target)
            target.execute("no statement")

    with pytest.raises(LedgerError):
        fail()
    assert target.row("SELECT count(*) FROM log_file") == (len(HOSTILE),)
    with target.transaction():
        replace_rows(source, target)
    assert first_difference(source, target) is None
    with target.transaction():
        remove_rows(target)
    assert target.rows("SELECT * FROM dedup_partition") == []
