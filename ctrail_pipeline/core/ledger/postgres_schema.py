"""The tables of a ledger in PostgreSQL, made of the same `schema.sql` as those in SQLite."""

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
    """Return the statements that make the tables."""
    schema = files(__package__).joinpath("schema.sql").read_text()
    for pattern, replacement in _MEANT:
        schema = re.sub(pattern, replacement, schema)
    return schema
