"""Pieces of SQL that mean the same on SQLite and on PostgreSQL.

Statements are written once, for both. What is spelled differently is not used (`INSERT OR REPLACE`,
`iif`, GLOB, scalar `max`), nor what means something else on PostgreSQL: `substr(x, -13)` is all of
`x` there, and a sum of comparisons is an error. What no common spelling has is an attribute of
`Engine`.
"""

from typing import Final

_HOUR: Final = len("YYYY/MM/DD/HH")
_DATE: Final = len("YYYY-MM-DD")


def upsert(table: str, columns: str, key: str) -> str:
    """Return the statement that puts a row, in place of the row that has its key."""
    marks = ", ".join("?" for _ in columns.split(", "))
    return f"INSERT INTO {table} ({columns}) VALUES ({marks}) {replacing(columns, key)}"


def replacing(columns: str, key: str) -> str:
    """Return the clause of an INSERT that writes over the row that has the same key."""
    names = (name for name in columns.split(", ") if name not in key.split(", "))
    assignments = ", ".join(f"{name} = excluded.{name}" for name in names)
    return f"ON CONFLICT ({key}) DO UPDATE SET {assignments}"


def hour_of(name: str) -> str:
    """Return the expression for the hour, `YYYY/MM/DD/HH`, that a name ends in."""
    return f"substr({name}, length({name}) - {_HOUR - 1})"


def end_of_date(name: str) -> str:
    """Return the expression for a moment behind all hours of the date that a name ends in."""
    return f"replace(substr({name}, length({name}) - {_DATE - 1}), '-', '/') || '/99'"
