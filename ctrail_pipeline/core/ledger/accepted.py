"""Accepted log files: a person has settled them as they are, though they could not be brought in.

An acceptance is about one version of a log file in one state: who settled the log file, when, and
why. The table `accepted_log_file` holds one for each log file. While the log file's row says the
same, `log_file.accepted` is 1, and the log file no longer stands open. Functions over a `Ledger`.
What may be accepted, and how people ask for it, is in `core.upkeep.accept`.
"""

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Final, NamedTuple

from .indexed_conditions import IS_NOT_COMMITTED
from .ledger import Ledger
from .portable_sql import upsert
from .rows import ROWS_A_READ, LogFileState, Outcome

ACCEPTABLE: Final = frozenset({LogFileState.FAILED, LogFileState.DAMAGED, LogFileState.GONE})
"""The states of log files that stand open after they were tried."""
_IS_THE_LOG_FILE: Final = "source_prefix = ? AND day = ? AND name = ?"
_OF_ITS_ROW: Final = (
    "SELECT 1 FROM log_file l WHERE l.source_prefix = accepted_log_file.source_prefix"
    " AND l.day = accepted_log_file.day AND l.name = accepted_log_file.name"
)
_COUNTS: Final = f"NOT EXISTS ({_OF_ITS_ROW} AND l.accepted = 0)"
"""An acceptance counts. A rebuilt ledger may lack the log file's row: it counts there, too."""
_COLUMNS: Final = "source_prefix, day, name, etag, state, reason, accepted_by, accepted_at"


class Acceptance(NamedTuple):
    """A log file that a person settled as it was."""

    source_id: int
    day: int
    name: str
    etag: bytes
    state: LogFileState
    reason: str
    """Why it was settled, in the person's words."""
    by: str
    at: int
    """Seconds since 1970."""

    def __str__(self) -> str:
        """As what the log file was settled, by whom, when and why."""
        when = datetime.fromtimestamp(self.at, UTC)
        return (
            f"accepted as {self.state.name.lower()} by {self.by} on {when:%Y-%m-%d %H:%M} UTC:"
            f" {self.reason}"
        )

    @property
    def as_json(self) -> dict[str, str]:
        """The same for machines."""
        return {
            "state": self.state.name.lower(),
            "reason": self.reason,
            "by": self.by,
            "at": datetime.fromtimestamp(self.at, UTC).isoformat(),
        }

    @property
    def row(self) -> tuple[int, int, str]:
        """The key of the log file's row."""
        return self.source_id, self.day, self.name


class UnsettledLogFile(NamedTuple):
    """A log file that is not committed."""

    source_id: int
    day: int
    name: str
    state: LogFileState
    etag: bytes
    reason: str
    """Why it is not committed."""
    is_accepted: bool


def unsettled_log_files(ledger: Ledger) -> Iterator[UnsettledLogFile]:
    """Yield the log files that are not committed, by state, page by page."""
    for state in LogFileState:
        after = (0, 0, "")
        while state is not LogFileState.COMMITTED and (
            rows := ledger.rows(
                "SELECT source_prefix, day, name, etag, coalesce(reason, ''), accepted"
                f" FROM log_file WHERE state = ? AND {IS_NOT_COMMITTED}"
                " AND (source_prefix, day, name) > (?, ?, ?)"
                " ORDER BY source_prefix, day, name LIMIT ?",
                state,
                *after,
                ROWS_A_READ,
            )
        ):
            after = rows[-1][:3]
            for id_, day, name, etag, reason, accepted in rows:
                yield UnsettledLogFile(id_, day, name, state, etag, reason, bool(accepted))


def accept_log_files(ledger: Ledger, acceptances: Iterable[Acceptance]) -> list[Acceptance]:
    """Accept log files, and return those that still were as their acceptances say.

    Inside a transaction. Another run may have settled a log file since, or another person.
    """
    accepted = [
        acceptance
        for acceptance in acceptances
        if ledger.execute(
            "UPDATE log_file SET accepted = 1, next_visit = NULL"
            f" WHERE {_IS_THE_LOG_FILE} AND etag = ? AND state = ? AND accepted = 0",
            *acceptance.row,
            acceptance.etag,
            acceptance.state,
        )
    ]
    put_acceptances(ledger, accepted)
    return accepted


def put_acceptances(ledger: Ledger, acceptances: Iterable[Acceptance]) -> None:
    """Note who accepted which log files; an earlier acceptance is replaced. In a transaction."""
    ledger.execute_many(
        upsert("accepted_log_file", _COLUMNS, "source_prefix, day, name"),
        acceptances,
    )


def take_back(ledger: Ledger, acceptances: Iterable[Acceptance]) -> list[Acceptance]:
    """Have log files stand open again, and due at once; return the acceptances that were there.

    Inside a transaction.
    """
    found = [
        acceptance
        for acceptance in acceptances
        if ledger.execute(
            f"DELETE FROM accepted_log_file WHERE {_IS_THE_LOG_FILE}", *acceptance.row
        )
    ]
    ledger.execute_many(
        f"UPDATE log_file SET accepted = 0, next_visit = 0 WHERE {_IS_THE_LOG_FILE}"
        " AND accepted = 1",
        [acceptance.row for acceptance in found],
    )
    return found


def acceptances(ledger: Ledger) -> Iterator[Acceptance]:
    """Yield the acceptances that count, page by page."""
    after = (0, 0, "")
    while rows := ledger.rows(
        f"SELECT {_COLUMNS} FROM accepted_log_file"
        f" WHERE (source_prefix, day, name) > (?, ?, ?) AND {_COUNTS}"
        " ORDER BY source_prefix, day, name LIMIT ?",
        *after,
        ROWS_A_READ,
    ):
        after = rows[-1][:3]
        yield from map(_acceptance, rows)


def acceptance_of(
    ledger: Ledger, log_file: tuple[int, int, str], etag: bytes | None = None
) -> Acceptance | None:
    """Return the acceptance of a log file (source prefix, day, name), or of one version of it.

    Returns None if the log file, or this version, is not accepted now.
    """
    rows = ledger.rows(
        f"SELECT {_COLUMNS} FROM accepted_log_file WHERE {_IS_THE_LOG_FILE} AND {_COUNTS}",
        *log_file,
    )
    acceptance = _acceptance(rows[0]) if rows else None
    return acceptance if acceptance and etag in (None, acceptance.etag) else None


def accepted_by_source(ledger: Ledger) -> dict[int, int]:
    """Return how many log files of each source prefix are accepted."""
    return dict(
        ledger.rows(
            f"SELECT source_prefix, count(*) FROM accepted_log_file WHERE {_COUNTS} GROUP BY 1"
        )
    )


def acceptances_without_row(
    ledger: Ledger, source_id: int, days: tuple[int, int]
) -> Iterator[Acceptance]:
    """Yield acceptances of log files that a rebuilt ledger has not met again, page by page.

    The days are those from the first to before the second.
    """
    after = (-1, "")
    while rows := ledger.rows(
        f"SELECT {_COLUMNS} FROM accepted_log_file WHERE source_prefix = ? AND (day, name) > (?, ?)"
        f" AND day >= ? AND day < ? AND NOT EXISTS ({_OF_ITS_ROW}) ORDER BY day, name LIMIT ?",
        source_id,
        *after,
        *days,
        ROWS_A_READ,
    ):
        after = rows[-1][1:3]
        yield from map(_acceptance, rows)


def keep_acceptances(ledger: Ledger, outcomes: Sequence[Outcome]) -> None:
    """Have log files stay accepted that a batch found as they were accepted.

    Inside a transaction, once the rows say what the batch found. That happens after a rebuild of
    the ledger. Another version ends an acceptance, and so do records that came in after all.
    """
    for outcome in outcomes:
        log_file = (outcome.source_id, outcome.day, outcome.name)
        found = ledger.rows(
            f"SELECT etag, state FROM accepted_log_file WHERE {_IS_THE_LOG_FILE}", *log_file
        )
        if not found:
            continue
        etag, state = found[0]
        if outcome.state is LogFileState.COMMITTED or outcome.etag != etag:
            ledger.execute(f"DELETE FROM accepted_log_file WHERE {_IS_THE_LOG_FILE}", *log_file)
        elif outcome.state == state:
            ledger.execute(
                f"UPDATE log_file SET accepted = 1, next_visit = NULL WHERE {_IS_THE_LOG_FILE}",
                *log_file,
            )


def _acceptance(row: tuple[object, ...]) -> Acceptance:
    acceptance = Acceptance(*row)  # type: ignore[arg-type]
    return acceptance._replace(state=LogFileState(acceptance.state))
