"""The tables of a ledger in PostgreSQL, and changes of them, in the words that SQLite has too."""

import re
from collections.abc import Iterator
from importlib.resources import files
from typing import Final

from .cold_months import COLD_TABLES
from .migrations import steps_from

_ADDED: Final = {4: COLD_TABLES}
"""By version, what PostgreSQL alone has in the next one."""
_MEANT: Final = (
    (r"--[^\n]*", ""),
    # An id that is drawn under the writer lock: no smaller one appears later.
    (r"INTEGER PRIMARY KEY( AUTOINCREMENT)?", "BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY"),
    (r"\bINTEGER\b", "BIGINT"),
    # Names compare byte by byte, whatever the collation of the database is.
    (r"\bTEXT\b", 'TEXT COLLATE "C"'),
    (r"\bBLOB\b", "BYTEA"),
    (r"\bWITHOUT ROWID\b", ""),
)
"""What SQLite's words are called in PostgreSQL, in the order in which they are replaced."""


def postgres_schema() -> str:
    """Return the statements that make the tables: those of `schema.sql`, and cold tables."""
    tables = files(__package__).joinpath("schema.sql").read_text()
    return in_postgres(tables + ";".join(COLD_TABLES))


def postgres_steps(version: int) -> Iterator[tuple[int, list[str]]]:
    """Yield the next versions of an older ledger, each with the statements that make it."""
    for next_version, statements in steps_from(version):
        statements += _ADDED.get(next_version - 1, ())
        yield next_version, [in_postgres(statement) for statement in statements]


def in_postgres(statements: str) -> str:
    """Return what statements about tables, as SQLite has them, are in PostgreSQL."""
    for pattern, replacement in _MEANT:
        statements = re.sub(pattern, replacement, statements)
    return statements
