"""The rows of log files: what is known of them, which visits are due, which ones a look found.

Functions over a `Ledger`, and `LedgerLogFiles`, which listing asks. A row is hot or cold; both are
read here. How a batch's outcomes become rows is here, too; whether they may is decided together
with the rest of the batch, in `batch_commit`.
"""

import json
from collections.abc import Iterable, Sequence
from typing import Final

from .accepted import keep_acceptances
from .bulk import rows_of_keys
from .cold_rows import (
    OF_DAY,
    bring_back,
    bring_back_from,
    hot_rows,
    hot_rows_of_keys,
    log_files_in,
)
from .indexed_conditions import IS_NOT_COMMITTED, IS_TO_VISIT
from .ledger import Ledger
from .portable_sql import replacing, upsert
from .rows import (
    LONGEST_PAUSE_SECONDS,
    FoundLogFile,
    Known,
    KnownLogFile,
    LogFileState,
    Outcome,
    StaleBatch,
    Visit,
    Waiting,
)

_IS_THE_LOG_FILE: Final = "source_prefix = ? AND day = ? AND name = ?"
_NO_LINES: Final = -1
"""As a log file's position in its batch: no line of the batch came from the log file."""
_SETTLED: Final = (0, None, None)
"""Attempts, next visit and reason of a committed log file that is not to be read again."""
_MAY_HAVE_LINES: Final = "position >= 0 AND records - duplicates + quarantined > 0"
"""What a log file's row says if lines came from it: it is kept when the log file is done again.

A damaged log file is done again every day, and brings nothing: its counts are the same each time.
Where an earlier version of this program wrote the row, only the counts can tell.
"""
_IS_DUE: Final = (
    f"{IS_TO_VISIT} AND (next_visit <= ? OR next_visit > ? OR state = {LogFileState.FOUND:d})"
)
"""What `KnownLogFile.is_due` says, in SQL; `_due_bounds` gives the two values."""
_KEY: Final = "source_prefix, day, name"
_OF_KEYS: Final = (
    ("l.source_prefix", "l.day", "l.name", "l.state", "l.etag", "l.next_visit"),
    "log_file l WHERE l.source_prefix = k.column1 AND l.day = k.column2 AND l.name = k.column3",
)
"""Columns of log files, and the tables and condition: what `rows_of_keys` takes."""
_COLUMNS: Final = (
    f"{_KEY}, etag, size, storage_class, sha256, records, duplicates, quarantined, conflicts,"
    " state, attempts, next_visit, reason, batch, position"
)
_SUPERSEDED_COLUMNS: Final = (
    f"{_KEY}, etag, size, sha256, records, duplicates, quarantined, state, reason, batch, position"
)


class LedgerLogFiles:
    """The log files in a ledger, as listing asks for them."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def known_log_files(
        self, source_id: int, day: int, low: str, high: str
    ) -> dict[str, KnownLogFile]:
        """Return log files of one day with a name from `low` to `high`, both included."""
        rows, cold_files = hot_rows(
            self._ledger,
            "SELECT name, state, etag, next_visit FROM log_file"
            " WHERE source_prefix = ? AND day = ? AND name BETWEEN ? AND ?",
            4,
            (source_id, day, low, high),
            OF_DAY,
            day,
            day,
        )
        known = {
            row.name: KnownLogFile(LogFileState.COMMITTED, row.etag, None)
            for row in log_files_in(self._ledger, cold_files, source_id, day, low, high)
        }
        for name, state, etag, next_visit in rows:
            known[name] = KnownLogFile(LogFileState(state), etag, next_visit)
        return known

    def newest_due_day(self, now: int, before: int) -> int | None:
        """Return the newest day before another one of which a log file is due."""
        row = self._ledger.row(
            f"SELECT max(day) FROM log_file WHERE {_IS_DUE} AND day < ?", *_due_bounds(now), before
        )
        return None if row[0] is None else int(row[0])

    def due_visits(self, now: int, day: int, after: tuple[int, str], limit: int) -> list[Visit]:
        """Return log files of a day that are due, by source prefix and name, behind `after`."""
        return [
            Visit(id_, day, name, size, attempts, Known(LogFileState(state), etag), bool(archived))
            for id_, name, size, attempts, state, etag, archived in self._ledger.rows(
                "SELECT source_prefix, name, size, attempts, state, etag,"
                f" storage_class IS NOT NULL FROM log_file WHERE {_IS_DUE}"
                " AND day = ? AND (source_prefix, name) > (?, ?)"
                " ORDER BY source_prefix, name LIMIT ?",
                *_due_bounds(now),
                day,
                *after,
                limit,
            )
        ]


def waiting_by_source(ledger: Ledger, now: int) -> dict[int, Waiting]:
    """Return the source prefixes of which log files are due."""
    return {
        id_: Waiting(log_files, oldest_found)
        for id_, log_files, oldest_found in ledger.rows(
            "SELECT +source_prefix, count(*), min(CASE WHEN state = ? THEN next_visit END)"
            f" FROM log_file WHERE {_IS_DUE} GROUP BY +source_prefix",
            LogFileState.FOUND,
            *_due_bounds(now),
        )
    }


def found_log_files(
    ledger: Ledger, source_ids: Sequence[int], limit: int
) -> list[tuple[int, int, str]]:
    """Return a few log files (source prefix, day, name) that a look found, and nobody fetched."""
    return ledger.rows(
        "SELECT source_prefix, day, name FROM log_file"
        f" WHERE state = ? AND {IS_NOT_COMMITTED}"
        f" AND source_prefix IN ({ledger.numbers}) LIMIT ?",
        LogFileState.FOUND,
        json.dumps(list(source_ids)),
        limit,
    )


def put_found(ledger: Ledger, found: Sequence[FoundLogFile], now: int) -> None:
    """Have log files that a look found visited by the next run. Inside a transaction.

    Where a log file has a row of this version (it was gone) only the visit is noted. A row of
    another version gives way: what is open now is the version that was found.
    The log file stands open either way, even if it was accepted as it was.
    """
    bring_back(ledger, ((file.source_id, file.day, file.name) for file in found))
    for file in found:
        _replace_other_version(ledger, file)
    ledger.execute_many(
        "INSERT INTO log_file (source_prefix, day, name, etag, size, storage_class,"
        " records, duplicates, quarantined, conflicts, state, attempts, next_visit, batch,"
        " position) VALUES (?, ?, ?, ?, ?, ?, 0, 0, 0, 0, ?, 0, ?, 0, 0)"
        f" ON CONFLICT ({_KEY}) DO UPDATE SET next_visit = excluded.next_visit, accepted = 0",
        [
            (
                file.source_id,
                file.day,
                file.name,
                file.etag,
                file.size,
                "archived" if file.archived else None,
                LogFileState.FOUND,
                now,
            )
            for file in found
        ],
    )


def rows_of_log_files(
    ledger: Ledger, keys: Sequence[tuple[int, int, str]]
) -> dict[tuple[int, int, str], KnownLogFile]:
    """Return the rows of log files (source prefix, day, name); cold ones become hot again.

    Inside a transaction.
    """
    days = [day for _, day, _ in keys] or [0]
    found, cold_files = hot_rows_of_keys(ledger, *_OF_KEYS, keys, OF_DAY, max(days), min(days))
    if cold_files:
        bring_back_from(ledger, cold_files, keys)
        columns, joined = _OF_KEYS
        found = list(rows_of_keys(ledger, ", ".join(columns), joined, keys))
    return {
        (source_id, day, name): KnownLogFile(LogFileState(state), etag, next_visit)
        for source_id, day, name, state, etag, next_visit in found
    }


def check_log_files(ledger: Ledger, outcomes: Sequence[Outcome]) -> set[int]:
    """Return the positions of a batch's log files whose rows say committed. In a transaction.

    Raises StaleBatch if another run has settled log files of the batch, or if a look has found
    another version of them than the batch has. A server that lists a key twice may bring a log file
    into a batch twice: the second one is settled, too.
    """
    rows = rows_of_log_files(
        ledger, [(outcome.source_id, outcome.day, outcome.name) for outcome in outcomes]
    )
    taken, committed = [], set()
    met: set[tuple[int, int, str]] = set()
    for outcome in outcomes:
        log_file = outcome.source_id, outcome.day, outcome.name
        row = rows[log_file].known if log_file in rows else None
        if log_file in met or _is_taken(row, outcome):
            taken.append(outcome.position)
        met.add(log_file)
        if row is not None and row.state is LogFileState.COMMITTED:
            committed.add(outcome.position)
    if taken:
        raise StaleBatch("log files of this batch are settled already", taken)
    return committed


def put_log_files(
    ledger: Ledger, batch: int, outcomes: Sequence[Outcome], *, any_accepted: bool
) -> None:
    """Write a batch's outcomes; earlier versions that have lines are kept. Inside a transaction.

    `any_accepted` says whether any log file at all is accepted.

    An outcome that leaves a log file as it is (`Outcome.leaves_committed`) changes its visit only:
    there is another one if the log file could not be read, and none if it is archived or gone.
    A log file is not accepted any more, unless it is as it was accepted.
    """
    ledger.execute_many(
        "UPDATE log_file SET attempts = ?, next_visit = ?, reason = ?"
        " WHERE source_prefix = ? AND day = ? AND name = ?",
        [
            (
                *((outcome.attempts, outcome.next_visit, outcome.reason) if failed else _SETTLED),
                outcome.source_id,
                outcome.day,
                outcome.name,
            )
            for outcome in outcomes
            if outcome.leaves_committed
            for failed in [outcome.state is LogFileState.FAILED]
        ],
    )
    outcomes = [outcome for outcome in outcomes if not outcome.leaves_committed]
    keep_superseded(
        ledger,
        _IS_THE_LOG_FILE,
        [
            (outcome.source_id, outcome.day, outcome.name)
            for outcome in outcomes
            if outcome.expected is not None
        ],
    )
    ledger.execute_many(
        f"{upsert('log_file', _COLUMNS, _KEY)}, accepted = 0",
        [
            (
                outcome.source_id,
                outcome.day,
                outcome.name,
                outcome.etag,
                outcome.size,
                "archived" if outcome.state is LogFileState.ARCHIVED else None,
                outcome.sha256,
                outcome.records,
                outcome.duplicates,
                outcome.quarantined,
                outcome.conflicts,
                outcome.state,
                outcome.attempts,
                outcome.next_visit,
                outcome.reason,
                batch,
                outcome.position if outcome.has_lines else _NO_LINES,
            )
            for outcome in outcomes
        ],
    )
    if any_accepted:
        keep_acceptances(ledger, outcomes)


def keep_superseded(ledger: Ledger, condition: str, values: Iterable[Sequence[object]]) -> None:
    """Keep the rows of log files that are about to be done again, where lines came from them.

    Inside a transaction. `condition` says in SQL which rows are meant, once for each of `values`.
    """
    ledger.execute_many(
        f"INSERT INTO superseded_log_file ({_SUPERSEDED_COLUMNS})"
        f" SELECT {_SUPERSEDED_COLUMNS} FROM log_file WHERE {condition} AND {_MAY_HAVE_LINES}"
        f" {replacing(_SUPERSEDED_COLUMNS, f'{_KEY}, batch')}",
        values,
    )


def _due_bounds(now: int) -> tuple[int, int]:
    return now, now + 2 * LONGEST_PAUSE_SECONDS


def _replace_other_version(ledger: Ledger, found: FoundLogFile) -> None:
    """Let the row of another version than the found one give way. Inside a transaction."""
    is_other_version = f"{_IS_THE_LOG_FILE} AND etag != ?"
    values = (found.source_id, found.day, found.name, found.etag)
    rows = ledger.rows(f"SELECT state FROM log_file WHERE {is_other_version}", *values)
    if not rows:
        return  # nearly always
    keep_superseded(ledger, is_other_version, [values])
    ledger.execute(f"DELETE FROM log_file WHERE {is_other_version}", *values)
    if rows[0][0] == LogFileState.COMMITTED:
        ledger.execute(
            "UPDATE source_prefix SET log_files = log_files - 1 WHERE id = ?", found.source_id
        )


def _is_taken(row: Known | None, outcome: Outcome) -> bool:
    """Whether a log file is not the batch's any more: its row is not as the batch expects it.

    A row that only says that a log file was found settles nothing. If it is about another version
    than the batch has, the batch leaves the log file to the next run.
    """
    if row is None:
        return outcome.expected is not None and outcome.expected.state is not LogFileState.FOUND
    if row.state is LogFileState.FOUND:
        return outcome.expected != row and outcome.etag != row.etag
    return outcome.expected != row
