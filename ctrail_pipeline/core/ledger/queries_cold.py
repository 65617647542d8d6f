"""What archiving asks of the ledger and writes there: which rows are cold, and their move.

Functions over a `Ledger`. An archive file is written first, durably; the transaction that names it
takes the rows out that it holds. Not here: when something is moved (`archive`), the files
themselves (`ledger_archive_file`), and reading them together with the ledger (`ledger`).
"""

import json
import sqlite3
import uuid
from collections.abc import Sequence
from typing import Final, NamedTuple

from .cold_file import LOG_FILE_COLUMNS, ColdFile, ColdFileWriter
from .cold_rows import cold_files_where
from .ledger import Ledger
from .rows import LONGEST_PAUSE_SECONDS, BatchState

_ARCHIVED_AT: Final = "archived_at"
"""The name in the table `meta`."""
_COLD: Final = (
    "f.state = 1 AND f.next_visit IS NULL AND f.quarantined + f.conflicts = 0"
    " AND f.batch > 0 AND f.batch < ?"
)
"""What of a log file's row must be so before it may be archived."""


class ColdDay(NamedTuple):
    """Log files of one day that may be archived."""

    source_id: int
    day: int
    log_files: int


class ColdSegment(NamedTuple):
    """A segment that may be archived."""

    id: int
    hour: str
    """`YYYY/MM/DD/HH`."""
    size: int
    """How many identities it holds."""


class _Moved(Exception):
    """Rows that were to be archived have changed meanwhile."""


def archived_at(ledger: Ledger) -> int:
    """When what is cold was last moved to the archive (seconds since 1970; 0: never)."""
    return int(ledger.meta(_ARCHIVED_AT))


def note_cold_moved(ledger: Ledger, at: int) -> None:
    """All that is cold was moved."""
    with ledger.transaction():
        ledger.set_meta(_ARCHIVED_AT, str(at))


def settled_before(ledger: Ledger, created_before: int) -> int:
    """A batch id: those below are published or aborted for good, and were made before then.

    One that was made far behind then was made by a clock that was wrong: its state alone says.
    """
    return int(
        ledger.row(
            "SELECT coalesce(min(id), (SELECT coalesce(max(id), 0) + 1 FROM batch)) FROM batch"
            " WHERE state IN (0, 1) OR created_at BETWEEN ? AND ?",
            created_before,
            created_before + 3 * LONGEST_PAUSE_SECONDS,
        )[0]
    )


def cold_days(ledger: Ledger, before_day: int, before_batch: int, most: int) -> list[ColdDay]:
    """Days with log files that may be archived: committed, settled; oldest first."""
    return [
        ColdDay(*row)
        for row in ledger.rows(
            "SELECT f.source_partition, f.day, count(*)"
            " FROM source_partition p JOIN log_file f ON f.source_partition = p.id"
            f" WHERE f.day > 0 AND f.day < ? AND {_COLD}"
            " GROUP BY f.source_partition, f.day ORDER BY f.day LIMIT ?",
            before_day,
            before_batch,
            most,
        )
    ]


def cold_segments(
    ledger: Ledger, before_hour: str, before_batch: int, most: int
) -> list[ColdSegment]:
    """Segments of hours before `YYYY/MM/DD/HH` that may be archived, oldest first.

    Those of quarantine stay: there are few, and their names end in no hour.
    """
    return [
        ColdSegment(*row)
        for row in ledger.rows(
            f"SELECT s.id, substr(p.name, -{len('YYYY/MM/DD/HH')}) AS hour, s.count"
            " FROM dedup_partition p JOIN segment s ON s.dedup_partition = p.id"
            " LEFT JOIN batch b ON b.id = s.batch"
            " WHERE hour < ? AND (s.batch = 0 OR s.batch < ? AND b.state = ?)"
            " ORDER BY hour LIMIT ?",
            before_hour,
            before_batch,
            BatchState.PUBLISHED,
            most,
        )
    ]


def move_to_cold_file(
    ledger: Ledger, days: Sequence[ColdDay], segments: Sequence[ColdSegment], before_batch: int
) -> bool:
    """Move rows into a new archive file; False, and nothing happens, if one of them changed.

    The file is there, durably, before the rows go.
    """
    try:
        with ColdFileWriter(ledger.cold_folder, f"{uuid.uuid4().hex}.db") as writer:
            _copy_to(ledger, writer, days, segments, before_batch)
            size, digest = writer.finish()
    except _Moved:
        return False
    except (OSError, sqlite3.Error) as error:
        raise ledger.error_from(error) from error
    file = ColdFile(
        0,
        writer.path.name,
        size,
        digest,
        min((day.day for day in days), default=0),
        max((day.day for day in days), default=-1),
        min((segment.hour for segment in segments), default=""),
        max((segment.hour for segment in segments), default=""),
        min((segment.id for segment in segments), default=0),
        max((segment.id for segment in segments), default=0),
    )
    try:
        with ledger.transaction():
            _name_archive_file(ledger, file, days, segments, before_batch)
    except _Moved:
        writer.path.unlink(missing_ok=True)
        return False
    return True


def _copy_to(
    ledger: Ledger,
    writer: ColdFileWriter,
    days: Sequence[ColdDay],
    segments: Sequence[ColdSegment],
    before_batch: int,
) -> None:
    for day in days:
        rows = ledger.stream(
            f"SELECT {LOG_FILE_COLUMNS} FROM log_file f"
            f" WHERE f.source_partition = ? AND f.day = ? AND {_COLD}",
            day.source_id,
            day.day,
            before_batch,
        )
        if writer.add_log_files(rows) != day.log_files:
            raise _Moved
    writer.add_segments(
        ledger.stream(
            "SELECT s.id, p.name, s.count, s.identities, s.filter, s.event_keys"
            " FROM segment s JOIN dedup_partition p ON p.id = s.dedup_partition"
            " WHERE s.id IN (SELECT value FROM json_each(?))",
            json.dumps([segment.id for segment in segments]),
        )
    )


def _name_archive_file(
    ledger: Ledger,
    file: ColdFile,
    days: Sequence[ColdDay],
    segments: Sequence[ColdSegment],
    before_batch: int,
) -> None:
    """Make an archive file a part of the ledger, in place of the rows that it holds."""
    # A run that took it for a leftover (the clock jumped, this machine slept) has removed it.
    if not (ledger.cold_folder / file.name).exists():
        raise _Moved
    ledger.execute(
        "INSERT INTO archive_file (name, bytes, sha256, first_day, last_day, first_hour,"
        " last_hour, first_segment, last_segment) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        *file[1:],
    )
    for day in days:
        gone = ledger.execute(
            f"DELETE FROM log_file AS f WHERE f.source_partition = ? AND f.day = ? AND {_COLD}",
            day.source_id,
            day.day,
            before_batch,
        )
        if gone != day.log_files:
            raise _Moved
    gone = ledger.execute(
        "DELETE FROM segment WHERE id IN (SELECT value FROM json_each(?))",
        json.dumps([segment.id for segment in segments]),
    )
    if gone != len(segments):
        raise _Moved
    ledger.execute(
        "DELETE FROM dedup_partition WHERE id NOT IN (SELECT dedup_partition FROM segment)"
    )


def cold_files(ledger: Ledger) -> list[ColdFile]:
    """All archive files, oldest first."""
    return cold_files_where(ledger, "1")
