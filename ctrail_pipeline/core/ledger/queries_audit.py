"""What a proof asks of the ledger: is every log file and every output file where it should be?

Functions over a `Ledger`, with the SQL that only `compare`, `explain` and `manifest` need; reads
are paged, so that no answer grows with the data. Nothing is changed here: what `compare` finds
is noted with `Ledger.put_found`. Of log files and segments the archive is asked, too: after the
ledger, as what moves there meanwhile is seen there.
"""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final, NamedTuple

from ctrail_pipeline.core.line_runs import LineRun, runs_of
from ctrail_pipeline.core.output_files import Kind, PublishedFile

from .cold_file import ColdFile
from .dedup import SEGMENTS_A_READ
from .ledger import REBUILD_RUN, Ledger
from .rows import BatchState, LogFileState, Pruned

_ROWS_A_READ: Final = 2_000
_UNDATED: Final = 0
COMPACT_FROM: Final = "0"
"""Names from here on are compact (they begin with the time), names before it are whole keys."""


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


class OutputFile(NamedTuple):
    """A file of the output as the ledger says it was written."""

    kind: Kind
    folder: str
    number: int
    batch: int
    part: int
    lines: int
    size: int
    """Bytes."""
    sha256: bytes
    merged: bool
    """Whether a compaction wrote it: its lines are of log files of several batches."""
    is_expected: bool
    """Whether it must be there: published, and not pruned."""

    @property
    def published(self) -> PublishedFile:
        """What its name is made of."""
        return PublishedFile(self.part, self.kind, self.folder, self.number, self.size)


class LogFileOrigin(NamedTuple):
    """A version of a log file that lines came from, and which run brought it in."""

    superseded: bool
    """Whether a later version of it was processed since."""
    state: LogFileState
    source_id: int
    day: int
    name: str
    etag: bytes
    size: int
    """Stored bytes."""
    sha256: bytes | None
    """Of the uncompressed bytes."""
    records: int
    duplicates: int

    @property
    def row(self) -> tuple[int, int, str]:
        """What tells log files apart, whatever their version."""
        return self.source_id, self.day, self.name


class BatchOrigin(NamedTuple):
    """A batch: which run committed it, when, and, by position, the log files that it has lines of.

    Of one that a rebuild made nobody knows the log files.
    """

    id: int
    run_id: str
    committed_at: int
    """Seconds since 1970."""
    log_files: dict[int, LogFileOrigin]

    @property
    def is_rebuilt(self) -> bool:
        """Whether its files were there before the ledger."""
        return self.run_id == REBUILD_RUN


@contextmanager
def snapshot(ledger: Ledger) -> Iterator[None]:
    """All reads inside see one moment, whatever runs commit meanwhile. For short work only.

    As long as it lasts, SQLite's write-ahead log cannot be taken over into the ledger.
    """
    ledger._db.execute("BEGIN")
    try:
        yield
    finally:
        ledger._db.execute("ROLLBACK")


def newest_batch(ledger: Ledger) -> int:
    """The id of the newest batch; 0 if there is none."""
    return int(ledger._row("SELECT coalesce(max(id), 0) FROM batch")[0])


# --- log files ------------------------------------------------------------------------------------


def known_by_name(
    ledger: Ledger, source_id: int, day: int, names: Sequence[str]
) -> dict[str, KnownObject]:
    """The rows of log files of one day by their names, each a look-up in the primary key.

    Names are bound one by one: in a JSON list a NUL would end them.
    """
    marks = ", ".join("?" * len(names))
    hot = {
        name: KnownObject(LogFileState(state), etag, batch)
        for name, state, etag, batch in ledger._rows(
            "SELECT name, state, etag, batch FROM log_file"
            f" WHERE source_partition = ? AND day = ? AND name IN ({marks})",
            source_id,
            day,
            *names,
        )
    }
    wanted = set(names)
    cold = {
        row.name: KnownObject(LogFileState.COMMITTED, row.etag, row.batch)
        for row in ledger.cold_log_files(source_id, day, min(names), max(names))
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
    """Committed log files by day, behind one (day, name) and up to another, by batches to `newest`.

    Those with compact names, or those with whole keys: each of the two is ordered as the bucket is.
    """
    chosen = (
        " FROM log_file WHERE source_partition = ? AND (day, name) > (?, ?)"
        " AND (day, name) <= (?, ?) AND (name >= ?) = ?"
    )
    values = (source_id, *after, *upto, COMPACT_FROM, compact)
    committed = Counter(
        dict(
            ledger._rows(
                f"SELECT day, count(*){chosen} AND state = ? AND batch <= ? GROUP BY day",
                *values,
                LogFileState.COMMITTED,
                newest,
            )
        )
    )
    days: dict[int, list[tuple[ColdFile, int]]] = {}
    for file in ledger._cold_files("first_day <= ? AND last_day >= ?", upto[0], after[0]):
        for day, count in ledger._cold_reader.ask(
            file, f"SELECT day, count(*){chosen} GROUP BY day", *values
        ):
            days.setdefault(day, []).append((file, count))
    for day, found in days.items():
        # What is here, or in a newer file, overrides: nearly always nothing is.
        names = {name for (name,) in ledger._rows(f"SELECT name{chosen} AND day = ?", *values, day)}
        if not names and len(found) == 1:
            committed[day] += found[0][1]
            continue
        cold = {
            name
            for file, _ in found
            for (name,) in ledger._cold_reader.ask(
                file, f"SELECT name{chosen} AND day = ?", *values, day
            )
        }
        committed[day] += len(cold - names)
    return committed


def open_log_files(ledger: Ledger, source_id: int, days: tuple[int, int]) -> Iterator[OpenLogFile]:
    """Log files of a source partition that are neither committed nor just found, page by page.

    Of the days from the first to before the second; and of no day, where the first is 0.
    """
    for state in LogFileState:
        if state in (LogFileState.COMMITTED, LogFileState.FOUND):
            continue
        after = (-1, "")
        while rows := ledger._rows(
            "SELECT day, name, coalesce(reason, '') FROM log_file WHERE state = ? AND state != 1"
            " AND source_partition = ? AND (day, name) > (?, ?) AND day >= ? AND day < ?"
            " ORDER BY day, name LIMIT ?",
            state,
            source_id,
            *after,
            *days,
            _ROWS_A_READ,
        ):
            after = rows[-1][0], rows[-1][1]
            for day, name, reason in rows:
                yield OpenLogFile(day, name, state, reason)


def first_days(ledger: Ledger) -> dict[int, int]:
    """The first day of which each source partition has a log file."""
    first: dict[int, int] = {}
    sql = "SELECT day FROM log_file WHERE source_partition = ? AND day > ? ORDER BY day LIMIT 1"
    archives = ledger._cold_files("last_day > ?", _UNDATED)
    for id_ in ledger.source_ids().values():
        days = [day for (day,) in ledger._rows(sql, id_, _UNDATED)]
        for file in archives:
            days += [day for (day,) in ledger._cold_reader.ask(file, sql, id_, _UNDATED)]
        if days:
            first[id_] = min(days)
    return first


# --- output ---------------------------------------------------------------------------------------


def output_folders(ledger: Ledger, kind: Kind, pattern: str = "*") -> Iterator[str]:
    """Folders of the output that ever had a file and fit a GLOB pattern, in order, page by page."""
    after = ""
    while rows := ledger._rows(
        "SELECT folder FROM output_partition WHERE kind = ? AND folder > ? AND folder GLOB ?"
        " ORDER BY folder LIMIT ?",
        kind,
        after,
        pattern,
        _ROWS_A_READ,
    ):
        after = rows[-1][0]
        for (folder,) in rows:
            yield folder


def output_files(ledger: Ledger, kind: Kind, folder: str) -> list[OutputFile]:
    """The files of one folder, in order; those of batches that are not published yet, too."""
    return [
        OutputFile(
            kind,
            folder,
            number,
            batch,
            part,
            lines,
            size,
            sha256,
            bool(merged),
            pruned == Pruned.NO and state == BatchState.PUBLISHED,
        )
        for number, batch, part, lines, size, sha256, merged, pruned, state in ledger._rows(
            "SELECT f.number, f.batch, f.part, f.lines, f.bytes, f.sha256, f.merged, f.pruned,"
            " b.state"
            " FROM output_partition p JOIN output_file f ON f.output_partition = p.id"
            " JOIN batch b ON b.id = f.batch WHERE p.kind = ? AND p.folder = ? ORDER BY f.number",
            kind,
            folder,
        )
    ]


def lines_of_folder(ledger: Ledger, kind: Kind, folder: str) -> tuple[int, int]:
    """How many lines a folder has by its own count, and by the sum over its files."""
    # The files of a compaction that is not published yet are there beside those they replace.
    own, summed = ledger._row(
        "SELECT p.lines, (SELECT coalesce(sum(f.lines), 0) FROM output_file f"
        " JOIN batch b ON b.id = f.batch WHERE f.output_partition = p.id AND f.pruned = 0"
        " AND (f.merged = 0 OR b.state = ?))"
        " FROM output_partition p WHERE p.kind = ? AND p.folder = ?",
        BatchState.PUBLISHED,
        kind,
        folder,
    )
    return own, summed


def runs_of_file(ledger: Ledger, file: OutputFile) -> list[LineRun]:
    """Which log files the lines of a file came from, in order."""
    lineage = ledger._row(
        "SELECT f.lineage FROM output_file f JOIN output_partition p"
        " ON p.id = f.output_partition WHERE p.kind = ? AND p.folder = ? AND f.number = ?",
        file.kind,
        file.folder,
        file.number,
    )[0]
    return runs_of(bytes(lineage), file.batch, merged=file.merged)


def sources_of_batch(ledger: Ledger, batch: int) -> set[int]:
    """The source partitions that a batch's log files are of."""
    rows = ledger._rows("SELECT sources FROM batch WHERE id = ?", batch)
    return {source_id for source_id, _ in json.loads(rows[0][0])} if rows else set()


def batch_origin(ledger: Ledger, batch: int) -> BatchOrigin:
    """A committed batch with its log files, those included that were processed again since."""
    run_id, committed_at, sources = ledger._row(
        "SELECT run_id, coalesce(committed_at, 0), sources FROM batch WHERE id = ?", batch
    )
    log_files: dict[int, LogFileOrigin] = {}
    for source_id, day in json.loads(sources):
        for file in ledger._cold_files("first_day <= ? AND last_day >= ?", day, day):
            for position, *values in ledger._cold_reader.ask(
                file,
                "SELECT position, source_partition, day, name, etag, size, sha256, records,"
                " duplicates FROM log_file WHERE source_partition = ? AND day = ? AND batch = ?"
                " AND position >= 0",
                source_id,
                day,
                batch,
            ):
                log_files[position] = LogFileOrigin(False, LogFileState.COMMITTED, *values)
    for table, superseded in (("superseded_log_file", True), ("log_file", False)):
        for position, state, *values in ledger._rows(
            "SELECT l.position, l.state, l.source_partition, l.day, l.name, l.etag, l.size,"
            " l.sha256, l.records, l.duplicates"
            f" FROM json_each(?) j CROSS JOIN {table} l"
            " ON l.source_partition = json_extract(j.value, '$[0]')"
            " AND l.day = json_extract(j.value, '$[1]') WHERE l.batch = ?"
            " AND l.position >= 0",
            sources,
            batch,
        ):
            log_files[position] = LogFileOrigin(superseded, LogFileState(state), *values)
    return BatchOrigin(batch, run_id, committed_at, log_files)


# --- finding events -------------------------------------------------------------------------------


def segments_by_partition(ledger: Ledger, pattern: str) -> Iterator[tuple[str, bytes]]:
    """Dedup partitions whose name fits a GLOB pattern, each segment's hashes of eventIDs."""
    after = ""
    while rows := ledger._rows(
        "SELECT id, name FROM dedup_partition WHERE name > ? AND name GLOB ? ORDER BY name LIMIT ?",
        after,
        pattern,
        _ROWS_A_READ,
    ):
        after = rows[-1][1]
        for id_, name in rows:
            segment = 0
            while rows_of_one := ledger._rows(  # one by one: a merged one is the newest
                "SELECT id, event_keys FROM segment WHERE dedup_partition = ? AND id > ?"
                " ORDER BY id LIMIT 1",
                id_,
                segment,
            ):
                [(segment, event_keys)] = rows_of_one
                yield name, event_keys
    for file in ledger._cold_files("last_hour > ''"):
        last = -1
        while found := ledger._cold_reader.ask(
            file,
            "SELECT id, partition, event_keys FROM segment WHERE id > ? AND partition GLOB ?"
            " ORDER BY id LIMIT ?",
            last,
            pattern,
            SEGMENTS_A_READ,
        ):
            last = found[-1][0]
            for _, name, event_keys in found:
                yield name, event_keys


def with_duplicates(
    ledger: Ledger, source_id: int, days: tuple[int, int]
) -> Iterator[LogFileOrigin]:
    """Log files of the days from the first to before the second that held duplicates."""
    columns = "source_partition, day, name, etag, size, sha256, records, duplicates"
    chosen = (
        " FROM log_file WHERE source_partition = ? AND (day, name) > (?, ?) AND day < ?"
        " AND duplicates > 0 ORDER BY day, name LIMIT ?"
    )
    after = (days[0], "")
    while rows := ledger._rows(
        f"SELECT state, {columns}{chosen}", source_id, *after, days[1], _ROWS_A_READ
    ):
        after = rows[-1][2], rows[-1][3]
        for state, *values in rows:
            yield LogFileOrigin(False, LogFileState(state), *values)
    for file in ledger._cold_files("first_day < ? AND last_day >= ?", days[1], days[0]):
        after = (days[0], "")
        while rows := ledger._cold_reader.ask(
            file, f"SELECT {columns}{chosen}", source_id, *after, days[1], _ROWS_A_READ
        ):
            after = rows[-1][1], rows[-1][2]
            for row in rows:
                yield LogFileOrigin(False, LogFileState.COMMITTED, *row)
