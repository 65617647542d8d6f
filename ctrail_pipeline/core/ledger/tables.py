"""What tables a ledger has: their names, columns and keys, as `schema.sql` says."""

import sqlite3
from contextlib import closing
from functools import cache
from importlib.resources import files
from typing import NamedTuple


class Table(NamedTuple):
    """One table of the ledger."""

    name: str
    columns: tuple[str, ...]
    key: tuple[str, ...]
    """The columns of its primary key."""
    blobs: tuple[str, ...]
    """The columns of bytes, which may be long."""
    draws_ids: bool
    """Whether the database draws its ids."""


@cache
def row_tables() -> tuple[Table, ...]:
    """Return all tables but `meta`, which says what the ledger itself is, and `lease`."""
    schema = files(__package__).joinpath("schema.sql").read_text()
    with closing(sqlite3.connect(":memory:")) as db:
        db.executescript(schema)
        names = [
            name
            for (name,) in db.execute(
                "SELECT name FROM sqlite_master WHERE type = 'table'"
                " AND name NOT IN ('lease', 'meta', 'sqlite_sequence') ORDER BY name"
            )
        ]
        return tuple(_table(db, name) for name in names)


def _table(db: sqlite3.Connection, name: str) -> Table:
    columns = db.execute("SELECT name, type, pk FROM pragma_table_info(?)", (name,)).fetchall()
    key = sorted((pk, column) for column, _, pk in columns if pk)
    return Table(
        name,
        tuple(column for column, _, _ in columns),
        tuple(column for _, column in key),
        tuple(column for column, type_, _ in columns if type_ == "BLOB"),
        [column for _, column in key] == ["id"],
    )
