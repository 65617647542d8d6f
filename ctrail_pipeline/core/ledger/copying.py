"""Copying the rows of one ledger into another one, on any engine, and comparing the two.

Rows are read in the order of their keys, which is the same on every engine, and few at once. What
the ledger says of itself (`meta`) is copied last. Who may use either ledger meanwhile is decided in
`core.upkeep`.
"""

from collections.abc import Callable, Generator
from contextlib import closing
from itertools import islice, zip_longest
from typing import Final

from .engine import Row
from .ledger import Ledger
from .migrations import FIRST_META
from .tables import Table, row_tables

_ROWS_AT_ONCE: Final = 5_000
_BYTES_AT_ONCE: Final = 32 * 1024 * 1024
_ALL: Final = 2**63 - 1
"""As a limit of rows; SQLite has no OFFSET without one."""
_BYTES_BESIDE: Final = 1_000
"""Bytes of a row that are not in its columns of bytes; more than nearly all rows have."""


def copy_rows(source: Ledger, target: Ledger, observe: Callable[[str], None]) -> int:
    """Copy all rows that the target does not have yet; return how many rows it has then.

    The target holds the first rows of each table, or none: a copy that was stopped goes on. The
    source must not change meanwhile. `observe` is told "copied" after each transaction.
    """
    total = 0
    for table in row_tables():
        copied = _count(target, table)
        with closing(_pages(source, table, copied)) as pages:
            for rows in pages:
                with target.transaction():
                    target.load(table.name, table.columns, rows)
                copied += len(rows)
                observe("copied")
        total += copied
    return total


def replace_rows(source: Ledger, target: Ledger) -> None:
    """Put all rows of a ledger in place of those of another. Inside a transaction of the target."""
    remove_rows(target)
    for table in row_tables():
        with closing(_pages(source, table)) as pages:
            for rows in pages:
                target.load(table.name, table.columns, rows)
    copy_facts(source, target)


def remove_rows(ledger: Ledger) -> None:
    """Remove all rows of all tables but `meta`, cold ones too. Inside a transaction."""
    ledger.cold_reader.clear()
    for table in row_tables():
        ledger.execute(f"DELETE FROM {table.name}")


def copy_facts(source: Ledger, target: Ledger) -> None:
    """Copy what a ledger says of itself, without its uuid, and its last ids: none is used twice.

    Inside a transaction of the target.
    """
    for name in FIRST_META:
        target.set_meta(name, source.meta(name))
    for table in row_tables():
        if table.draws_ids:
            target.set_last_id(table.name, source.last_id(table.name))


def first_difference(source: Ledger, target: Ledger) -> str | None:
    """Compare all rows of two ledgers; say where they differ first, or return None."""
    for table in row_tables():
        with closing(_pages(source, table)) as ours, closing(_pages(target, table)) as theirs:
            if any(page != copied for page, copied in zip_longest(ours, theirs)):
                return f"the rows of the table {table.name}"
    names = [name for name in FIRST_META if source.meta(name) != target.meta(name)]
    return f"the value {names[0]}" if names else None


def _pages(ledger: Ledger, table: Table, skipped: int = 0) -> Generator[list[Row], None, None]:
    """Yield the rows of a table by key, a few at once; long rows fewer."""
    sql = (
        f"SELECT {', '.join(table.columns)} FROM {table.name} ORDER BY {', '.join(table.key)}"
        f" LIMIT {_ALL} OFFSET ?"
    )
    with ledger.snapshot():  # in a snapshot, PostgreSQL keeps no copy of all rows for the cursor
        at_once = _rows_at_once(ledger, table)
        with closing(ledger.stream(sql, skipped, at_once=at_once)) as rows:
            while page := list(islice(rows, at_once)):
                yield page


def _rows_at_once(ledger: Ledger, table: Table) -> int:
    longest = 0
    if table.blobs:
        lengths = " + ".join(f"coalesce(length({column}), 0)" for column in table.blobs)
        longest = int(ledger.row(f"SELECT coalesce(max({lengths}), 0) FROM {table.name}")[0])
    return max(1, min(_ROWS_AT_ONCE, _BYTES_AT_ONCE // (_BYTES_BESIDE + longest)))


def _count(ledger: Ledger, table: Table) -> int:
    return int(ledger.row(f"SELECT count(*) FROM {table.name}")[0])
