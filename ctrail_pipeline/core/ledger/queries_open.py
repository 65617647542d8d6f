"""Which log files stand open, and having them visited now: what a run asks to say how it went.

Only rows that are not committed are read. Which of them a run answers for is decided in
`core.run.open_log_files`.
"""

import json
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from .indexed_conditions import IS_NOT_COMMITTED, IS_TO_VISIT
from .ledger import Ledger
from .rows import LogFileState

IS_OPEN: Final = f"{IS_NOT_COMMITTED} AND state IN (2, 3, 5, 7) AND accepted = 0"
"""A log file stands open: it is damaged, failed, gone, or found and not fetched, and nobody has
accepted that. An archived log file does not: it waits for whoever restores it."""
_IS_TO_BE_READ_AGAIN: Final = f"state = 1 AND {IS_TO_VISIT}"
"""A committed log file is to be read again: an older version of this program rejected some of the
records."""
_ANY_TRIES: Final = 1 << 62


class OpenRow(NamedTuple):
    """The row of a log file that stands open."""

    source_id: int
    day: int
    name: str
    state: LogFileState
    reason: str


class ArchivedDay(NamedTuple):
    """The archived log files of a source prefix and day."""

    source_id: int
    day: int
    log_files: int
    name: str
    """The first of them by name."""


class TriesOfRuns(NamedTuple):
    """Tries of one run: Dagster may try it again, and people may execute it again."""

    run_ids: tuple[str, ...]
    tries: int | None = None
    """How many there were; None if nobody knows. A log file that was new to the first of these
    tries has failed no more often. A log file that failed before has."""

    def with_one_more(self, *run_ids: str) -> "TriesOfRuns":
        """Return these tries and one more, of one of these runs."""
        tries = None if self.tries is None else self.tries + 1
        return TriesOfRuns((*dict.fromkeys((*self.run_ids, *run_ids)),), tries)


def open_rows(ledger: Ledger, found_before: int) -> Iterator[OpenRow]:
    """Yield the log files that stand open, one after another: there may be too many for memory.

    A log file that a look found at `found_before` (seconds since 1970) or later is left out: a run
    that began then need not have seen it. A committed log file that is to be read again is among
    them: as found, or as failed if that was tried.
    """
    yield from _open_rows(ledger, "state != ? OR next_visit < ?", LogFileState.FOUND, found_before)
    for source_id, day, name, has_failed, reason in ledger.stream(
        "SELECT source_prefix, day, name, attempts > 0, coalesce(reason, '') FROM log_file"
        f" WHERE {_IS_TO_BE_READ_AGAIN} AND (attempts > 0 OR next_visit < ?)",
        found_before,
    ):
        state = LogFileState.FAILED if has_failed else LogFileState.FOUND
        yield OpenRow(source_id, day, name, state, reason)


def open_rows_of_tries(ledger: Ledger, of: TriesOfRuns, found_before: int) -> Iterator[OpenRow]:
    """Yield the log files that were handed to a run, new to it, and stand open after its tries.

    These are log files that a look found before and nobody fetched, and those that the tries
    failed at, unless they had failed earlier.
    """
    return _open_rows(
        ledger,
        f"state = ? AND next_visit < ? OR state != ? AND {_is_of_runs(of)}",
        LogFileState.FOUND,
        found_before,
        LogFileState.FOUND,
        *_values(of),
    )


def archived_days(ledger: Ledger) -> Iterator[ArchivedDay]:
    """Yield how many log files of each source prefix and day are archived."""
    for row in ledger.stream(
        "SELECT +source_prefix, +day, count(*), min(name) FROM log_file"
        f" WHERE state = ? AND {IS_NOT_COMMITTED} AND accepted = 0"
        " GROUP BY +source_prefix, +day",
        LogFileState.ARCHIVED,
    ):
        yield ArchivedDay(*row)


def sources_with_failed(ledger: Ledger) -> list[int]:
    """Return the source prefixes that have failed log files."""
    return [
        id_
        for (id_,) in ledger.rows(
            f"SELECT +source_prefix FROM log_file WHERE state = ? AND {IS_OPEN}"
            " UNION SELECT +source_prefix FROM log_file"
            f" WHERE {_IS_TO_BE_READ_AGAIN} AND attempts > 0",
            LogFileState.FAILED,
        )
    ]


def visit_failed(ledger: Ledger, source_ids: Sequence[int], days: tuple[int, int], now: int) -> int:
    """Have failed log files of these source prefixes visited now, not at their next visit.

    The days are those from the first to before the second, and day 0. Returns how many log files
    have become due. Inside a transaction.
    """
    failed = f"state = {LogFileState.FAILED:d} AND {IS_OPEN}"
    return sum(
        ledger.execute(
            f"UPDATE log_file SET next_visit = ? WHERE {condition} AND next_visit > ?"
            " AND (day = 0 OR day >= ? AND day < ?)"
            f" AND +source_prefix IN ({ledger.numbers})",
            now,
            now,
            *days,
            json.dumps(list(source_ids)),
        )
        for condition in (failed, f"{_IS_TO_BE_READ_AGAIN} AND attempts > 0")
    )


def visit_again(ledger: Ledger, of: TriesOfRuns, now: int) -> int:
    """Have visited now what these tries of a run failed at; return how many log files that is.

    Inside a transaction.
    """
    return ledger.execute(
        f"UPDATE log_file SET next_visit = ? WHERE {IS_OPEN} AND state != ?"
        f" AND (next_visit IS NULL OR next_visit > ?) AND {_is_of_runs(of)}",
        now,
        LogFileState.FOUND,
        now,
        *_values(of),
    )


def _is_of_runs(of: TriesOfRuns) -> str:
    """The condition that certain runs settled a log file, after at most so many tries."""
    marks = ", ".join("?" * len(of.run_ids)) or "NULL"
    return (
        "attempts <= ? AND EXISTS (SELECT 1 FROM batch b WHERE b.id = log_file.batch"
        f" AND b.run_id IN ({marks}))"
    )


def _values(of: TriesOfRuns) -> tuple[object, ...]:
    return _ANY_TRIES if of.tries is None else of.tries, *of.run_ids


def _open_rows(ledger: Ledger, condition: str, *values: object) -> Iterator[OpenRow]:
    for source_id, day, name, state, reason in ledger.stream(
        "SELECT source_prefix, day, name, state, coalesce(reason, '') FROM log_file"
        f" WHERE {IS_OPEN} AND ({condition})",
        *values,
    ):
        yield OpenRow(source_id, day, name, LogFileState(state), reason)
