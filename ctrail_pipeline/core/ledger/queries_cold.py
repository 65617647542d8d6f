"""Which rows are cold, and moving them out of the hot tables.

Functions over a `Ledger`. In SQLite, a cold file is written first, durably; the transaction that
names the file takes the rows out that it holds. In PostgreSQL, one transaction moves rows into the
tables of their months. When rows are moved is decided in `core.upkeep.cold`; the two places are in
`cold_file` and `cold_months`; reading cold rows together with hot ones is in `cold_rows`.
"""

import json
import sqlite3
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from .cold_file import ColdFileWriter
from .cold_months import Month, tables_of
from .cold_reader import LOG_FILE_COLUMNS, SEGMENT_COLUMNS, ColdFile
from .cold_rows import cold_files_where
from .indexed_conditions import IS_OPEN_BATCH
from .ledger import Ledger
from .portable_sql import hour_of, replacing
from .rows import LONGEST_PAUSE_SECONDS, BatchState, LogFileState
from .sqlite_errors import ledger_error

_COLD_MOVED_AT: Final = "cold_moved_at"
"""The name in the table `meta`."""
_COLD: Final = (
    f"f.state = {LogFileState.COMMITTED:d} AND f.next_visit IS NULL"
    " AND f.quarantined + f.conflicts = 0 AND f.batch > 0 AND f.batch < ?"
)
"""What must be true of a log file's row before it may move."""
_NO_SEGMENT: Final = 2**63 - 1
"""As the lowest id of a month's segments, as long as it has none."""


class ColdDay(NamedTuple):
    """Log files of one source prefix and day that may move."""

    source_id: int
    day: int
    log_files: int


class ColdSegment(NamedTuple):
    """A segment that may move."""

    id: int
    dedup_partition: int
    hour: str
    """`YYYY/MM/DD/HH`."""
    size: int
    """How many identities it holds."""


class _Changed(Exception):
    """Rows that were to be moved have changed meanwhile."""


def cold_moved_at(ledger: Ledger) -> int:
    """Return when all cold rows were last moved (seconds since 1970; 0: never)."""
    return int(ledger.meta(_COLD_MOVED_AT))


def note_cold_moved(ledger: Ledger, at: int) -> None:
    """Note that all cold rows were moved."""
    with ledger.transaction():
        ledger.set_meta(_COLD_MOVED_AT, str(at))


def settled_before(ledger: Ledger, created_before: int) -> int:
    """Return a batch id: all batches below are published or aborted, and were made before a moment.

    A batch that was made long after the moment was made by a clock that was wrong: its state alone
    decides.
    """
    return int(
        ledger.row(
            "SELECT coalesce(min(id), (SELECT coalesce(max(id), 0) + 1 FROM batch)) FROM batch"
            f" WHERE {IS_OPEN_BATCH} OR created_at BETWEEN ? AND ?",
            created_before,
            created_before + 3 * LONGEST_PAUSE_SECONDS,
        )[0]
    )


def cold_days(ledger: Ledger, before_day: int, before_batch: int, limit: int) -> list[ColdDay]:
    """Return days with log files that may move, oldest first."""
    return [
        ColdDay(*row)
        for row in ledger.rows(
            "SELECT f.source_prefix, f.day, count(*)"
            " FROM source_prefix p JOIN log_file f ON f.source_prefix = p.id"
            f" WHERE f.day > 0 AND f.day < ? AND {_COLD}"
            " GROUP BY f.source_prefix, f.day ORDER BY f.day LIMIT ?",
            before_day,
            before_batch,
            limit,
        )
    ]


def cold_segments(
    ledger: Ledger, before_hour: str, before_batch: int, limit: int
) -> list[ColdSegment]:
    """Return segments of hours before `YYYY/MM/DD/HH` that may move, oldest first.

    Segments of quarantine stay: there are few, and the names of their partitions end in no hour.
    """
    return [
        ColdSegment(*row)
        for row in ledger.rows(
            f"SELECT s.id, p.id, {hour_of('p.name')}, s.count"
            " FROM dedup_partition p JOIN segment s ON s.dedup_partition = p.id"
            " LEFT JOIN batch b ON b.id = s.batch"
            f" WHERE {hour_of('p.name')} < ? AND (s.batch = 0 OR s.batch < ? AND b.state = ?)"
            " ORDER BY 3 LIMIT ?",
            before_hour,
            before_batch,
            BatchState.PUBLISHED,
            limit,
        )
    ]


def move_cold(
    ledger: Ledger, days: Sequence[ColdDay], segments: Sequence[ColdSegment], before_batch: int
) -> bool:
    """Move cold rows where they belong; return False, and move nothing, if a row has changed."""
    try:
        if ledger.cold_folder is None:
            _move_to_months(ledger, days, segments, before_batch)
        else:
            _move_to_file(ledger, ledger.cold_folder, days, segments, before_batch)
    except _Changed:
        return False
    return True


def _move_to_months(
    ledger: Ledger, days: Sequence[ColdDay], segments: Sequence[ColdSegment], before_batch: int
) -> None:
    """Move rows into the tables of their months. PostgreSQL finds the month of each row."""
    ids: dict[Month, list[int]] = {Month.of_day(day.day): [] for day in days}
    for segment in segments:
        ids.setdefault(Month.of_hour(segment.hour), []).append(segment.id)
    with ledger.transaction():
        for month, of_month in ids.items():
            name_month(ledger, month, of_month)
        if days:
            marks = ", ".join(["(?, ?)"] * len(days))
            columns = ", ".join(f"f.{name}" for name in LOG_FILE_COLUMNS.split(", "))
            moved = ledger.execute(
                f"WITH moved AS (DELETE FROM log_file f USING (VALUES {marks}) AS k"
                " WHERE f.source_prefix = k.column1 AND f.day = k.column2"
                f" AND {_COLD} RETURNING {columns})"
                f" INSERT INTO cold_log_file ({LOG_FILE_COLUMNS})"
                f" SELECT {LOG_FILE_COLUMNS} FROM moved"
                # A log file that came back since, as it had changed.
                f" {replacing(LOG_FILE_COLUMNS, 'source_prefix, day, name')}",
                *(value for day in days for value in (day.source_id, day.day)),
                before_batch,
            )
            if moved != sum(day.log_files for day in days):
                raise _Changed
        moved = ledger.execute(
            "WITH moved AS (DELETE FROM segment s USING dedup_partition p"
            f" WHERE p.id = s.dedup_partition AND s.id IN ({ledger.numbers})"
            " RETURNING s.id, p.name, s.count, s.identities, s.filter, s.event_keys)"
            f" INSERT INTO cold_segment ({SEGMENT_COLUMNS}) SELECT * FROM moved",
            json.dumps([segment.id for segment in segments]),
        )
        if moved != len(segments):
            raise _Changed
        _remove_empty_partitions(ledger, segments)


def name_month(ledger: Ledger, month: Month, segment_ids: Sequence[int]) -> None:
    """Have the ledger name a month that takes in these segments; make its tables if need be.

    The tables of a month that is named already are never made: if somebody dropped them, new ones
    would hide that its rows are gone. Inside a transaction of a ledger in PostgreSQL.
    """
    is_named = ledger.rows("SELECT 1 FROM cold_file WHERE name = ?", month.name)
    ledger.execute(
        "INSERT INTO cold_file (name, bytes, sha256, first_day, last_day, first_hour, last_hour,"
        " first_segment, last_segment) VALUES (?, 0, ?, ?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (name) DO UPDATE SET"
        " first_segment = least(cold_file.first_segment, excluded.first_segment),"
        " last_segment = greatest(cold_file.last_segment, excluded.last_segment)",
        month.name,
        b"",
        month.days[0],
        month.days[1] - 1,
        *month.hours,
        min(segment_ids, default=_NO_SEGMENT),
        max(segment_ids, default=0),
    )
    # Tables stay when a rebuild empties them.
    table = f"cold_log_file_{month.name}"
    if not is_named and ledger.row("SELECT to_regclass(?) IS NULL", table)[0]:
        for statement in tables_of(month):
            ledger.execute(statement)


def _move_to_file(
    ledger: Ledger,
    folder: Path,
    days: Sequence[ColdDay],
    segments: Sequence[ColdSegment],
    before_batch: int,
) -> None:
    """Move rows into a new cold file. The file is there, durably, before the rows go."""
    try:
        with ColdFileWriter(folder, f"{uuid.uuid4().hex}.db") as writer:
            _copy_to(ledger, writer, days, segments, before_batch)
            size, digest = writer.finish()
    except (OSError, sqlite3.Error) as error:
        raise ledger_error(folder, error) from error
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
            _name_cold_file(ledger, writer.path, file, days, segments, before_batch)
    except _Changed:
        writer.path.unlink(missing_ok=True)
        raise


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
            f" WHERE f.source_prefix = ? AND f.day = ? AND {_COLD}",
            day.source_id,
            day.day,
            before_batch,
        )
        if writer.add_log_files(rows) != day.log_files:
            raise _Changed
    writer.add_segments(
        ledger.stream(
            "SELECT s.id, p.name, s.count, s.identities, s.filter, s.event_keys"
            " FROM segment s JOIN dedup_partition p ON p.id = s.dedup_partition"
            f" WHERE s.id IN ({ledger.numbers})",
            json.dumps([segment.id for segment in segments]),
        )
    )


def _name_cold_file(
    ledger: Ledger,
    path: Path,
    file: ColdFile,
    days: Sequence[ColdDay],
    segments: Sequence[ColdSegment],
    before_batch: int,
) -> None:
    """Make a cold file a part of the ledger, in place of the rows that it holds."""
    # Another run has removed the file if it took it for a leftover: the clock jumped, or this
    # machine slept.
    if not path.exists():
        raise _Changed
    ledger.execute(
        "INSERT INTO cold_file (name, bytes, sha256, first_day, last_day, first_hour,"
        " last_hour, first_segment, last_segment) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        *file[1:],
    )
    for day in days:
        removed = ledger.execute(
            f"DELETE FROM log_file AS f WHERE f.source_prefix = ? AND f.day = ? AND {_COLD}",
            day.source_id,
            day.day,
            before_batch,
        )
        if removed != day.log_files:
            raise _Changed
    removed = ledger.execute(
        f"DELETE FROM segment WHERE id IN ({ledger.numbers})",
        json.dumps([segment.id for segment in segments]),
    )
    if removed != len(segments):
        raise _Changed
    _remove_empty_partitions(ledger, segments)


def _remove_empty_partitions(ledger: Ledger, moved: Sequence[ColdSegment]) -> None:
    """Remove the dedup partitions of these segments that have no other one."""
    ledger.execute(
        f"DELETE FROM dedup_partition WHERE id IN ({ledger.numbers}) AND NOT EXISTS"
        " (SELECT 1 FROM segment s WHERE s.dedup_partition = dedup_partition.id)",
        json.dumps([segment.dedup_partition for segment in moved]),
    )


def cold_files(ledger: Ledger) -> list[ColdFile]:
    """Return all cold files, oldest first."""
    return cold_files_where(ledger, "1 = 1")
