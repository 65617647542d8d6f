"""What `verify` asks of the ledger to compare it with the buckets: which log files it has.

Functions over a `Ledger`; they change nothing, and what `verify` finds missing is noted with
`log_files.put_found`. Reads are paged, so that no answer grows with the data. Hot rows are read
before cold ones: see `cold_rows`.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from .cold_reader import ColdFile
from .cold_rows import cold_files_where, cold_log_files
from .indexed_conditions import IS_NOT_COMMITTED, IS_REMARKABLE
from .ledger import Ledger
from .rows import ROWS_A_READ, LogFileState
from .source_prefixes import source_ids

_UNDATED: Final = 0
COMPACT_FROM: Final = "0"
"""Names from here on are compact (they begin with the time); names before are whole keys."""


class KnownObject(NamedTuple):
    """What the ledger says of a log file that a listing shows."""

    state: LogFileState
    etag: bytes
    batch: int


class OpenLogFile(NamedTuple):
    """A log file that a run could not bring in, or not in full."""

    day: int
    name: str
    state: LogFileState
    reason: str


def newest_batch(ledger: Ledger) -> int:
    """Return the id of the newest batch; 0 if there is none."""
    return int(ledger.row("SELECT coalesce(max(id), 0) FROM batch")[0])


def known_by_name(
    ledger: Ledger, source_id: int, day: int, names: Sequence[str]
) -> dict[str, KnownObject]:
    """Return the rows of log files of one day by their names, each a look-up in the primary key.

    Every name is bound as a value of its own: in a JSON list a NUL would end it.
    """
    marks = ", ".join("?" * len(names))
    hot = {
        name: KnownObject(LogFileState(state), etag, batch)
        for name, state, etag, batch in ledger.rows(
            "SELECT name, state, etag, batch FROM log_file"
            f" WHERE source_prefix = ? AND day = ? AND name IN ({marks})",
            source_id,
            day,
            *names,
        )
    }
    wanted = set(names)
    cold = {
        row.name: KnownObject(LogFileState.COMMITTED, row.etag, row.batch)
        for row in cold_log_files(ledger, source_id, day, min(names), max(names))
        if row.name in wanted
    }
    return {**cold, **hot} if cold else hot


def committed_between(
    ledger: Ledger,
    source_id: int,
    after: tuple[int, str],
    upto: tuple[int, str],
    newest: int,
    *,
    compact: bool,
) -> dict[int, int]:
    """Count committed log files by day, behind one (day, name) and up to another.

    Counts what batches up to `newest` committed. Either log files with compact names are counted,
    or those with whole keys: each of the two is ordered as the bucket is.
    """
    chosen = (
        " FROM log_file WHERE source_prefix = ? AND (day, name) > (?, ?)"
        " AND (day, name) <= (?, ?) AND (name >= ?) = ?"
    )
    values = (source_id, *after, *upto, COMPACT_FROM, compact)
    committed: Counter[int] = Counter(
        dict(
            ledger.rows(
                f"SELECT day, count(*){chosen} AND state = ? AND batch <= ? GROUP BY day",
                *values,
                LogFileState.COMMITTED,
                newest,
            )
        )
    )
    days: dict[int, list[tuple[ColdFile, int]]] = {}
    for file in cold_files_where(ledger, "first_day <= ? AND last_day >= ?", upto[0], after[0]):
        for day, count in ledger.cold_reader.ask(
            file, f"SELECT day, count(*){chosen} GROUP BY day", *values
        ):
            days.setdefault(day, []).append((file, count))
    for day, found in days.items():
        # A hot row, or a row in a newer file, overrides: nearly always there is none.
        names = {name for (name,) in ledger.rows(f"SELECT name{chosen} AND day = ?", *values, day)}
        if not names and len(found) == 1:
            committed[day] += found[0][1]
            continue
        cold = {
            name
            for file, _ in found
            for (name,) in ledger.cold_reader.ask(
                file, f"SELECT name{chosen} AND day = ?", *values, day
            )
        }
        committed[day] += len(cold - names)
    return committed


def open_log_files(ledger: Ledger, source_id: int, days: tuple[int, int]) -> Iterator[OpenLogFile]:
    """Yield log files of a source prefix that are neither committed nor just found, page by page.

    The days are those from the first to before the second. Where the first is 0, log files without
    a day are among them.
    """
    for state in LogFileState:
        if state in (LogFileState.COMMITTED, LogFileState.FOUND):
            continue
        after = (-1, "")
        while rows := ledger.rows(
            "SELECT day, name, coalesce(reason, '') FROM log_file"
            f" WHERE state = ? AND {IS_NOT_COMMITTED}"
            " AND source_prefix = ? AND (day, name) > (?, ?) AND day >= ? AND day < ?"
            " ORDER BY day, name LIMIT ?",
            state,
            source_id,
            *after,
            *days,
            ROWS_A_READ,
        ):
            after = rows[-1][0], rows[-1][1]
            for day, name, reason in rows:
                yield OpenLogFile(day, name, state, reason)


def quarantined_log_files(ledger: Ledger) -> Iterator[tuple[int, int, str, int, int]]:
    """Yield committed log files of which something is in quarantine.

    Each with source prefix, day, name, the number of its events, and what is in quarantine. A row
    with quarantined records is never cold.
    """
    yield from ledger.stream(
        "SELECT source_prefix, day, name, records, quarantined FROM log_file"
        f" WHERE {IS_REMARKABLE} AND quarantined > 0 AND state = ?",
        LogFileState.COMMITTED,
    )


def first_days(ledger: Ledger) -> dict[int, int]:
    """Return the first day of which each source prefix has a log file."""
    first: dict[int, int] = {}
    sql = "SELECT day FROM log_file WHERE source_prefix = ? AND day > ? ORDER BY day LIMIT 1"
    hot = {id_: ledger.rows(sql, id_, _UNDATED) for id_ in source_ids(ledger).values()}
    cold_files = cold_files_where(ledger, "last_day > ?", _UNDATED)
    cold_files.sort(key=lambda file: file.first_day)
    for id_, rows in hot.items():
        days = [day for (day,) in rows]
        for file in cold_files:
            if file.first_day < min(days, default=file.last_day + 1):
                days += [day for (day,) in ledger.cold_reader.ask(file, sql, id_, _UNDATED)]
        if days:
            first[id_] = min(days)
    return first
