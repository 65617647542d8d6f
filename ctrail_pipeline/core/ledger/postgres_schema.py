"""The tables of a ledger in PostgreSQL, and changes of them, in the words that SQLite has too."""

import re
from importlib.resources import files
from typing import Final

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
    """Return the statements that make the tables: those of `schema.sql`."""
    return in_postgres(files(__package__).joinpath("schema.sql").read_text())


def in_postgres(statements: str) -> str:
    """Return what statements about tables, as SQLite has them, are in PostgreSQL."""
    for pattern, replacement in _MEANT:
        statements = re.sub(pattern, replacement, statements)
    return statements
