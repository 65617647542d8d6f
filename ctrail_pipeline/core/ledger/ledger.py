"""The ledger: the one database that decides what has been done. SQL is in `ledger*.py` only.

Source partitions, log files, batches with their output, and segments. Everything that a commit must
be sure of (DESIGN §5) is checked here, inside its transaction. No file of the output is touched
here, and nothing is decided about log files beyond what the tables must keep true. The SQLite file
as such is `ledger_file`'s, the values that come and go are in `ledger_rows`, and what one part of
the program alone asks or writes has a file that is called after it: `ledger_compaction`, …
"""

import json
import time
from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path
from typing import Final

from ctrail_pipeline.core.keys.coverage import Range, merged
from ctrail_pipeline.core.keys.key_time import Minute
from ctrail_pipeline.core.keys.source_prefix import SourcePrefix
from ctrail_pipeline.core.line_runs import pack_lineage
from ctrail_pipeline.core.output_files import Kind, PublishedFile, StagedFile

from .cold_file import (
    LOG_FILE_COLUMNS,
    ColdFile,
    ColdFileReader,
    ColdLogFile,
)
from .dedup import (
    SEGMENTS_A_READ,
    NewSegment,
    Segment,
    SegmentGone,
    held_among,
    split_identities,
)
from .rows import (
    LONGEST_PAUSE_SECONDS,
    AdoptedFile,
    BatchRow,
    BatchState,
    FoundLogFile,
    Known,
    KnownLogFile,
    LogFileState,
    Outcome,
    SourceTotals,
    StaleBatch,
    Visit,
    Waiting,
)
from .sqlite import LedgerFile

REBUILD_RUN: Final = "rebuild"
"""The run that a batch of a rebuilt ledger names."""
_HOUR_LENGTH: Final = len("YYYY/MM/DD/HH")
_NO_LINES: Final = -1
"""As a log file's position in its batch: no line of the batch came from it."""
_MAY_HAVE_LINES: Final = "position >= 0 AND records - duplicates + quarantined > 0"
"""What a log file's row says if lines came from it: it is kept when the log file is done again.

A damaged one is done again every day, and brings nothing: its counts are the same each time. Where
an earlier version of this program wrote the row, only they can tell.
"""


class Ledger(LedgerFile):
    """One connection to the ledger. Not for use by two threads at once: open a second one."""

    def __init__(self, path: Path) -> None:
        """Open the ledger, making a new one where there is none.

        Raises LedgerError if the file is no ledger, damaged, too new, or locked for long.
        """
        super().__init__(path)
        self.cold_folder = path.with_name(f"{path.name}.archive")
        """Where its archive files are: parts of it, to be kept and copied together with it."""
        self._cold_reader = ColdFileReader(self.cold_folder)

    def close(self) -> None:
        """Close the connection; an open transaction is rolled back."""
        self._cold_reader.close()
        super().close()

    def is_unused(self) -> bool:
        """Whether no batch was ever committed."""
        row = self._row("SELECT EXISTS (SELECT 1 FROM batch WHERE committed_at IS NOT NULL)")
        return not row[0]

    # -- source partitions and coverage ---------------------------------------------------------

    def source_ids(self) -> dict[SourcePrefix, int]:
        """The ids of all source partitions that were ever seen."""
        return {source: id_ for id_, source in self._sources().items()}

    def register_sources(self, sources: Sequence[SourcePrefix]) -> dict[SourcePrefix, int]:
        """The ids of source partitions; those not seen before get one."""
        known = self.source_ids()
        missing = [source for source in sources if source not in known]
        if missing:
            with self.transaction():
                self._db.executemany(
                    "INSERT OR IGNORE INTO source_partition"
                    " (bucket, prefix, organization, account, region) VALUES (?, ?, ?, ?, ?)",
                    [(s.bucket, s.prefix, s.organization, s.account, s.region) for s in missing],
                )
            known = self.source_ids()
        return {source: known[source] for source in sources}

    def coverage(self) -> dict[int, list[Range]]:
        """The covered ranges of every source partition, in order."""
        result: dict[int, list[Range]] = {}
        for id_, start, end in self._rows(
            "SELECT source_partition, start_minute, end_minute FROM coverage ORDER BY 1, 2"
        ):
            result.setdefault(id_, []).append(Range(Minute(start), Minute(end)))
        return result

    def deep_listed_at(self) -> dict[int, int]:
        """When each source partition was last listed deeply (seconds since 1970; 0: never)."""
        return dict(self._rows("SELECT id, deep_listed_at FROM source_partition"))

    def totals(self) -> dict[int, SourceTotals]:
        """Totals of every source partition, by id."""
        return {
            id_: SourceTotals(*values)
            for id_, *values in self._rows(
                "SELECT id, log_files, events, first_event, last_event, reported_at"
                " FROM source_partition"
            )
        }

    def note_reported(self, source_ids: Iterable[int], at: int) -> None:
        """Dagster was told of new events of these source partitions."""
        with self.transaction():
            self._db.executemany(
                "UPDATE source_partition SET reported_at = ? WHERE id = ?",
                [(at, source_id) for source_id in source_ids],
            )

    def cover(self, source_id: int, ranges: Iterable[Range]) -> None:
        """Call stretches of key time done. Inside a transaction."""
        old = [
            Range(Minute(start), Minute(end))
            for start, end in self._rows(
                "SELECT start_minute, end_minute FROM coverage WHERE source_partition = ?",
                source_id,
            )
        ]
        new = merged([*old, *ranges])
        if new != old:
            self._db.execute("DELETE FROM coverage WHERE source_partition = ?", (source_id,))
            self._db.executemany(
                "INSERT INTO coverage VALUES (?, ?, ?)",
                [(source_id, item.start, item.end) for item in new],
            )

    def note_deep_listing(self, source_id: int, at: int) -> None:
        """A deep listing of this source partition is complete. Inside a transaction."""
        self._db.execute(
            "UPDATE source_partition SET deep_listed_at = ? WHERE id = ?", (at, source_id)
        )

    # -- log files ------------------------------------------------------------------------------

    def known_log_files(
        self, source_id: int, day: int, low: str, high: str
    ) -> dict[str, KnownLogFile]:
        """Log files of one day with a name from `low` to `high`, both included."""
        hot = {
            name: KnownLogFile(LogFileState(state), etag, next_visit)
            for name, state, etag, next_visit in self._rows(
                "SELECT name, state, etag, next_visit FROM log_file"
                " WHERE source_partition = ? AND day = ? AND name BETWEEN ? AND ?",
                source_id,
                day,
                low,
                high,
            )
        }
        # In this order: what moves into the archive meanwhile is seen there.
        cold = {
            row.name: KnownLogFile(LogFileState.COMMITTED, row.etag, None)
            for row in self.cold_log_files(source_id, day, low, high)
        }
        return {**cold, **hot} if cold else hot

    def cold_log_files(self, source_id: int, day: int, low: str, high: str) -> list[ColdLogFile]:
        """Log files of one day in archive files; a row that the ledger has too overrides them.

        By name, both ends included. Ask for them after those in the ledger.
        """
        found: dict[str, ColdLogFile] = {}
        for file in self._cold_files("first_day <= ? AND last_day >= ?", day, day):
            for row in self._cold_reader.log_files(file, source_id, day, low, high):
                found[row.name] = row
        return [found[name] for name in sorted(found)]

    def newest_due_day(self, now: int, before: int) -> int | None:
        """The newest day before another one of which a log file is due."""
        row = self._row(
            "SELECT max(day) FROM log_file"
            " WHERE next_visit IS NOT NULL AND (next_visit <= ? OR next_visit > ?) AND day < ?",
            *_due(now),
            before,
        )
        return None if row[0] is None else int(row[0])

    def due_visits(self, now: int, day: int, after: tuple[int, str], limit: int) -> list[Visit]:
        """Log files of a day that are due, by source partition and name, behind `after`."""
        return [
            Visit(id_, day, name, size, attempts, Known(LogFileState(state), etag), bool(archived))
            for id_, name, size, attempts, state, etag, archived in self._rows(
                "SELECT source_partition, name, size, attempts, state, etag,"
                " storage_class IS NOT NULL FROM log_file"
                " WHERE next_visit IS NOT NULL AND (next_visit <= ? OR next_visit > ?)"
                " AND day = ? AND (source_partition, name) > (?, ?)"
                " ORDER BY source_partition, name LIMIT ?",
                *_due(now),
                day,
                *after,
                limit,
            )
        ]

    def waiting(self, now: int) -> dict[int, Waiting]:
        """The source partitions of which log files are due."""
        return {
            id_: Waiting(log_files, oldest_found)
            for id_, log_files, oldest_found in self._rows(
                "SELECT source_partition, count(*), min(iif(state = ?, next_visit, NULL))"
                " FROM log_file"
                " WHERE next_visit IS NOT NULL AND (next_visit <= ? OR next_visit > ?)"
                " GROUP BY source_partition",
                LogFileState.FOUND,
                *_due(now),
            )
        }

    def put_found(self, found: Sequence[FoundLogFile], now: int) -> None:
        """Have log files that a look found visited by the next run. Inside a transaction.

        Of one that has a row (another version, or its output vanished) only the visit is noted.
        """
        self._bring_back((one.source_id, one.day, one.name) for one in found)
        self._db.executemany(
            "INSERT INTO log_file (source_partition, day, name, etag, size, storage_class,"
            " records, duplicates, quarantined, conflicts, state, attempts, next_visit, batch,"
            " position) VALUES (?, ?, ?, ?, ?, ?, 0, 0, 0, 0, ?, 0, ?, 0, 0)"
            " ON CONFLICT DO UPDATE SET next_visit = excluded.next_visit",
            [
                (
                    one.source_id,
                    one.day,
                    one.name,
                    one.etag,
                    one.size,
                    "archived" if one.archived else None,
                    LogFileState.FOUND,
                    now,
                )
                for one in found
            ],
        )

    def some_found(self, source_ids: Sequence[int], limit: int) -> list[tuple[int, int, str]]:
        """A few log files (source partition, day, name) that a look found, and nobody fetched."""
        return self._rows(
            "SELECT source_partition, day, name FROM log_file WHERE state = ?"
            " AND source_partition IN (SELECT value FROM json_each(?)) LIMIT ?",
            LogFileState.FOUND,
            json.dumps(list(source_ids)),
            limit,
        )

    # -- batches and their output ---------------------------------------------------------------

    def register_batch(self, token: str, run_id: str, published: Sequence[int]) -> tuple[int, int]:
        """A new batch, in state `staging`, and the ledger's generation by it.

        Earlier batches are marked published on the way.
        """
        with self.transaction():
            self.mark_published(published)
            return self.add_batch(token, run_id), self.generation

    def add_batch(self, token: str, run_id: str) -> int:
        """A new batch, in state `staging`. Inside a transaction."""
        self._db.execute(
            "UPDATE meta SET value = CAST(value AS INTEGER) + 1 WHERE name = 'generation'"
        )
        cursor = self._db.execute(
            "INSERT INTO batch (token, state, run_id, created_at) VALUES (?, ?, ?, ?)",
            (token, BatchState.STAGING, run_id, int(time.time())),
        )
        return int(cursor.lastrowid or 0)

    def mark_published(self, batches: Sequence[int]) -> None:
        """All files of these batches have their final names. Inside a transaction."""
        self._db.executemany(
            "UPDATE batch SET state = ? WHERE id = ? AND state = ?",
            [(BatchState.PUBLISHED, batch, BatchState.COMMITTED) for batch in batches],
        )

    def batch_state(self, batch: int) -> BatchState:
        """How far a batch came."""
        return BatchState(self._row("SELECT state FROM batch WHERE id = ?", batch)[0])

    def log_files_of_run(self, run_id: str) -> int:
        """How many log files the batches of a run settled."""
        return int(
            self._row(
                "SELECT coalesce(sum(log_files), 0) FROM batch"
                " WHERE run_id = ? AND state IN (?, ?)",
                run_id,
                BatchState.COMMITTED,
                BatchState.PUBLISHED,
            )[0]
        )

    def open_batches(self) -> list[BatchRow]:
        """Batches that are neither published nor aborted, in order."""
        return [
            BatchRow(id_, token, BatchState(state), created_at)
            for id_, token, state, created_at in self._rows(
                "SELECT id, token, state, created_at FROM batch WHERE state IN (0, 1) ORDER BY id"
            )
        ]

    def abort_batch(self, batch: int) -> bool:
        """Give up a batch that is still staging; False if it is not (any more)."""
        with self.transaction():
            changed = self._db.execute(
                "UPDATE batch SET state = ? WHERE id = ? AND state = ?",
                (BatchState.ABORTED, batch, BatchState.STAGING),
            )
            return changed.rowcount == 1

    def commit_batch(
        self,
        batch: int,
        outcomes: Sequence[Outcome],
        staged: Sequence[StagedFile],
        segments: Sequence[NewSegment],
        seen: dict[str, int],
        removed: int,
    ) -> list[PublishedFile]:
        """Make a batch true. Inside a transaction, whose COMMIT decides.

        `seen` and `removed` say which segments the batch's dedup knew of. Returns the final names.
        Raises StaleBatch if the batch was aborted, if another run settled one of its log files, or
        if a segment that it did not know of holds one of its records.
        """
        if self.batch_state(batch) is not BatchState.STAGING:
            raise StaleBatch("the batch is no longer staging")
        self._check_log_files(outcomes)
        self._check_segments(segments, seen, removed)
        self._count_by_source(outcomes)
        self._put_log_files(batch, outcomes)
        self._put_segments(batch, segments)
        published = [self._put_output_file(batch, file) for file in staged]
        sources = sorted({(outcome.source_id, outcome.day) for outcome in outcomes})
        self._db.execute(
            "UPDATE batch SET state = ?, committed_at = ?, log_files = ?, sources = ? WHERE id = ?",
            (BatchState.COMMITTED, int(time.time()), len(outcomes), json.dumps(sources), batch),
        )
        return published

    def adopt(
        self, token: str, files: Sequence[AdoptedFile], segments: Sequence[NewSegment]
    ) -> None:
        """Take in output that no batch of this ledger wrote: a published batch without log files.

        Nobody knows which log files its lines came from: its lineage is one run, of no log file.
        """
        with self.transaction():
            batch = self.add_batch(token, REBUILD_RUN)
            for file, lines, digest in files:
                id_, _ = self._next_number(file.kind, file.folder, lines)
                self._db.execute(
                    "UPDATE output_partition SET next_number = max(next_number, ?) WHERE id = ?",
                    (file.number + 1, id_),
                )
                self._db.execute(
                    "INSERT INTO output_file"
                    " (output_partition, number, batch, part, lines, bytes, sha256, lineage)"
                    " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                    (
                        *(id_, file.number, batch, file.part, lines, file.size, digest),
                        pack_lineage([(0, lines)]) if file.kind is not Kind.PARQUET else b"",
                    ),
                )
            self._put_segments(batch, segments)
            self._db.execute(
                "UPDATE batch SET state = ?, committed_at = ? WHERE id = ?",
                (BatchState.PUBLISHED, int(time.time()), batch),
            )

    def holds_files(self, kind: Kind) -> bool:
        """Whether there is output of a kind that was not pruned."""
        row = self._row(
            "SELECT EXISTS (SELECT 1 FROM output_partition p"
            " JOIN output_file f ON f.output_partition = p.id WHERE p.kind = ? AND f.pruned = 0)",
            kind,
        )
        return bool(row[0])

    def published_files(self, batch: int) -> list[PublishedFile]:
        """The files of a committed batch, with the names they have or must get."""
        return [
            PublishedFile(part, Kind(kind), folder, number, size)
            for part, kind, folder, number, size in self._rows(
                "SELECT f.part, p.kind, p.folder, f.number, f.bytes FROM output_file f"
                " JOIN output_partition p ON p.id = f.output_partition"
                " WHERE f.batch = ? ORDER BY f.part",
                batch,
            )
        ]

    def rename_output_file(self, batch: int, file: PublishedFile) -> PublishedFile:
        """Another number for a file of a batch whose name is taken by one that is not ours.

        If somebody else who publishes this batch gave it another number already, that one.
        """
        with self.transaction():
            present = next(f for f in self.published_files(batch) if f.part == file.part)
            if present.number != file.number:
                return present
            id_, number = self._next_number(file.kind, file.folder, 0)
            self._db.execute(
                "UPDATE output_file SET number = ? WHERE output_partition = ? AND number = ?",
                (number, id_, file.number),
            )
        return file._replace(number=number)

    def uncommit_batch(self, batch: int) -> None:
        """Take back a batch whose output vanished before it was published.

        Its log files are to be done again, and those of later batches that dropped something as a
        duplicate: what they dropped may have been this batch's. Its segments go, and with them
        every cached view. Inside a transaction.
        """
        self._redo_what_dropped(batch)
        for source_id, events in self._rows(
            "SELECT source_partition, sum(records - duplicates) FROM superseded_log_file"
            " WHERE batch = ? GROUP BY 1",
            batch,
        ):
            self._db.execute(
                "UPDATE source_partition SET events = events - ? WHERE id = ?",
                (events, source_id),
            )
        self._db.execute("DELETE FROM superseded_log_file WHERE batch = ?", (batch,))
        for source_id, log_files, events in self._rows(
            "SELECT source_partition, sum(state = ?), sum(records - duplicates) FROM log_file"
            " WHERE batch = ? AND state != ? GROUP BY 1",
            LogFileState.COMMITTED,
            batch,
            LogFileState.LOST,
        ):
            self._db.execute(
                "UPDATE source_partition SET log_files = log_files - ?, events = events - ?"
                " WHERE id = ?",
                (log_files, events, source_id),
            )
        self._db.execute(
            "UPDATE log_file SET state = ?, next_visit = 0, reason = ?"
            " WHERE batch = ? AND (source_partition, day) IN"
            " (SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]')"
            "  FROM json_each((SELECT sources FROM batch WHERE id = ?)))",
            (LogFileState.LOST, "its output vanished before it was published", batch, batch),
        )
        self._db.execute("DELETE FROM segment WHERE batch = ?", (batch,))
        self._db.execute(
            "UPDATE output_partition SET lines = lines -"
            " (SELECT sum(lines) FROM output_file f"
            " WHERE f.batch = ? AND f.output_partition = output_partition.id)"
            " WHERE id IN (SELECT output_partition FROM output_file WHERE batch = ?)",
            (batch, batch),
        )
        self._db.execute("DELETE FROM output_file WHERE batch = ?", (batch,))
        self._db.execute(
            "UPDATE meta SET value = CAST(value AS INTEGER) + 1 WHERE name = 'segments_removed'"
        )
        self._db.execute("UPDATE batch SET state = ? WHERE id = ?", (BatchState.ABORTED, batch))

    # -- dedup (dedup.SegmentReader) ------------------------------------------------------------

    def segments(self, partition: str, after: int, most: int = SEGMENTS_A_READ) -> list[Segment]:
        """The first `most` segments of a dedup partition with an id above `after`, in order."""
        hot = [
            Segment(*row)
            for row in self._rows(
                "SELECT s.id, s.count,"
                " CASE WHEN s.filter IS NULL THEN s.identities ELSE x'' END,"
                " coalesce(length(s.filter), 0),"
                " CASE WHEN s.filter IS NULL THEN s.event_keys ELSE x'' END, s.batch = 0"
                " FROM segment s JOIN dedup_partition p ON p.id = s.dedup_partition"
                " WHERE p.name = ? AND s.id > ? ORDER BY s.id LIMIT ?",
                partition,
                after,
                most,
            )
        ]
        hour = partition[-_HOUR_LENGTH:]
        # In this order: what moves into the archive meanwhile is seen there.
        archives = self._cold_files(
            "first_hour <= ? AND last_hour >= ? AND last_segment > ?", hour, hour, after
        )
        if not archives:
            return hot
        found = {segment.id: segment for segment in hot}
        for file in archives:
            for segment in self._cold_reader.segments(file, partition, after, most):
                found[segment.id] = segment
        return [found[id_] for id_ in sorted(found)[:most]]

    def segment_identities(self, segment_id: int) -> bytes:
        """The sorted identities of one segment. Raises SegmentGone; so do the next two."""
        return self._of_segment("identities", segment_id)

    def segment_filter(self, segment_id: int) -> bytes:
        """The filter of one segment that has one."""
        return self._of_segment("filter", segment_id)

    def segment_event_keys(self, segment_id: int) -> bytes:
        """The sorted hashes of eventIDs of one segment."""
        return self._of_segment("event_keys", segment_id)

    def newest_segment(self) -> int:
        """The id of the newest segment; 0 if there is none."""
        return int(self._row("SELECT coalesce(max(id), 0) FROM segment")[0])

    def partitions_with_segments(self, after: int, least: int = 1) -> list[str]:
        """Dedup partitions that have a segment of `least` identities with an id above `after`."""
        return [
            name
            for (name,) in self._rows(
                "SELECT name FROM dedup_partition WHERE id IN"
                " (SELECT dedup_partition FROM segment WHERE id > ? AND count >= ?)",
                after,
                least,
            )
        ]

    def mergeable_segments(self, partition: str) -> list[tuple[int, int]]:
        """Id and number of identities of a partition's segments that no batch may take back."""
        return self._rows(
            "SELECT s.id, s.count FROM segment s"
            " JOIN dedup_partition p ON p.id = s.dedup_partition"
            " LEFT JOIN batch b ON b.id = s.batch"
            " WHERE p.name = ? AND (s.batch = 0 OR b.state = ?)",
            partition,
            BatchState.PUBLISHED,
        )

    def replace_segments(self, ids: Sequence[int], merged: NewSegment) -> bool:
        """One segment in place of several of its partition. Inside a transaction.

        False, and nothing happens, if another run has merged some of them meanwhile.
        """
        marks = json.dumps(list(ids))
        present, identities = self._row(
            "SELECT count(*), coalesce(sum(count), 0) FROM segment"
            " WHERE id IN (SELECT value FROM json_each(?))",
            marks,
        )
        if (present, identities) != (len(ids), merged.size):
            return False
        self._db.execute(
            "DELETE FROM segment WHERE id IN (SELECT value FROM json_each(?))", (marks,)
        )
        self._put_segments(0, [merged])
        return True

    def segments_removed(self) -> int:
        """How often segments were taken out of the ledger."""
        return int(self._meta("segments_removed"))

    # -- the inside -----------------------------------------------------------------------------

    def _cold_files(self, condition: str, *values: object) -> list[ColdFile]:
        return [
            ColdFile(*row)
            for row in self._rows(
                "SELECT id, name, bytes, sha256, first_day, last_day, first_hour, last_hour,"
                f" first_segment, last_segment FROM archive_file WHERE {condition} ORDER BY id",
                *values,
            )
        ]

    def _of_segment(self, column: str, segment_id: int) -> bytes:
        """A blob of a segment, wherever it lies."""
        rows = self._rows(f"SELECT {column} FROM segment WHERE id = ?", segment_id)
        if rows:
            return bytes(rows[0][0])
        for file in self._cold_files(
            "first_segment <= ? AND last_segment >= ?", segment_id, segment_id
        ):
            found = self._cold_reader.segment(file, segment_id, column)
            if found is not None:
                return found
        raise SegmentGone(segment_id)

    def _bring_back(self, log_files: Iterable[tuple[int, int, str]]) -> None:
        """Have rows of archived log files (source, day, name) here again: they may change.

        Inside a transaction. What the archive says of them counts no more.
        """
        log_files = list(log_files)
        oldest = min((day for _, day, _ in log_files), default=0)
        if not self._cold_files("last_day >= ?", oldest):
            return  # nearly always
        for source_id, day, name in log_files:
            self._db.executemany(
                f"INSERT OR IGNORE INTO log_file ({LOG_FILE_COLUMNS},"
                " quarantined, conflicts, state, attempts)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0, 0, ?, 0)",
                [
                    (*row, LogFileState.COMMITTED)
                    for row in self.cold_log_files(source_id, day, name, name)
                ],
            )

    def _redo_what_dropped(self, batch: int) -> None:
        """Have log files of later batches done again if they held duplicates or quarantined text.

        The lines that are theirs stay, and so does where these came from: the redo drops them as
        duplicates, and brings back what was dropped for the batch that goes.
        """
        values = (batch, LogFileState.LOST)
        self._db.execute(
            "INSERT OR REPLACE INTO superseded_log_file"
            " SELECT source_partition, day, name, etag, size, sha256, records, duplicates,"
            " quarantined, state, reason, batch, position FROM log_file"
            " WHERE batch > ? AND duplicates + quarantined > 0 AND state != ?"
            f" AND {_MAY_HAVE_LINES}",
            values,
        )
        for source_id, log_files in self._rows(
            "SELECT source_partition, sum(state = 1) FROM log_file"
            " WHERE batch > ? AND duplicates + quarantined > 0 AND state != ? GROUP BY 1",
            *values,
        ):
            self._db.execute(
                "UPDATE source_partition SET log_files = log_files - ? WHERE id = ?",
                (log_files, source_id),
            )
        self._db.execute(
            "UPDATE log_file SET state = ?, next_visit = 0, reason = ?"
            " WHERE batch > ? AND duplicates + quarantined > 0 AND state != ?",
            (LogFileState.LOST, "it may have dropped what a vanished batch held", *values),
        )

    def _check_log_files(self, outcomes: Sequence[Outcome]) -> None:
        self._bring_back((one.source_id, one.day, one.name) for one in outcomes)
        taken = []
        for outcome in outcomes:
            row = self._db.execute(
                "SELECT state, etag FROM log_file"
                " WHERE source_partition = ? AND day = ? AND name = ?",
                (outcome.source_id, outcome.day, outcome.name),
            ).fetchone()
            if _as_settled(row) != _as_settled(outcome.expected):
                taken.append(outcome.position)
        if taken:
            raise StaleBatch("another run settled log files of this batch", taken)

    def _check_segments(
        self, segments: Sequence[NewSegment], seen: dict[str, int], removed: int
    ) -> None:
        if removed != self.segments_removed():
            raise StaleBatch("segments were removed")
        for new in segments:
            after = seen[new.partition]
            while newer := self.segments(new.partition, after):
                ours = set(split_identities(new.identities))
                for one in newer:
                    if held_among(ours, one.identities or self.segment_identities(one.id)):
                        raise StaleBatch("another batch wrote some of these events")
                after = newer[-1].id

    def _count_by_source(self, outcomes: Sequence[Outcome]) -> None:
        """Add a batch to the totals of its source partitions."""
        by_source = sorted(outcomes, key=lambda outcome: outcome.source_id)
        for source_id, group in groupby(by_source, key=lambda outcome: outcome.source_id):
            some = list(group)
            times = [outcome.times for outcome in some if outcome.times]
            committed = LogFileState.COMMITTED
            self._db.execute(
                "UPDATE source_partition SET log_files = log_files + ?, events = events + ?,"
                " first_event = coalesce(min(coalesce(first_event, ?), ?), first_event),"
                " last_event = coalesce(max(coalesce(last_event, ?), ?), last_event)"
                " WHERE id = ?",
                (
                    sum(o.state is committed for o in some)
                    - sum(o.expected is not None and o.expected.state is committed for o in some),
                    sum(outcome.records - outcome.duplicates for outcome in some),
                    *(min((first for first, _ in times), default=None),) * 2,
                    *(max((last for _, last in times), default=None),) * 2,
                    source_id,
                ),
            )

    def _put_log_files(self, batch: int, outcomes: Sequence[Outcome]) -> None:
        for outcome in outcomes:
            if outcome.expected is not None:
                self._db.execute(
                    "INSERT OR REPLACE INTO superseded_log_file"
                    " SELECT source_partition, day, name, etag, size, sha256, records, duplicates,"
                    " quarantined, state, reason, batch, position FROM log_file"
                    " WHERE source_partition = ? AND day = ? AND name = ? AND state != ?"
                    f" AND {_MAY_HAVE_LINES}",
                    (outcome.source_id, outcome.day, outcome.name, LogFileState.LOST),
                )
        self._db.executemany(
            "INSERT OR REPLACE INTO log_file"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [
                (
                    o.source_id,
                    o.day,
                    o.name,
                    o.etag,
                    o.size,
                    "archived" if o.state is LogFileState.ARCHIVED else None,
                    o.sha256,
                    o.records,
                    o.duplicates,
                    o.quarantined,
                    o.conflicts,
                    o.state,
                    o.attempts,
                    o.next_visit,
                    o.reason,
                    batch,
                    o.position if o.has_lines else _NO_LINES,
                )
                for o in outcomes
            ],
        )

    def _put_segments(self, batch: int, segments: Sequence[NewSegment]) -> None:
        for segment in segments:
            self._db.execute(
                "INSERT OR IGNORE INTO dedup_partition (name) VALUES (?)", (segment.partition,)
            )
            self._db.execute(
                "INSERT INTO segment"
                " (dedup_partition, batch, count, identities, filter, event_keys)"
                " SELECT id, ?, ?, ?, ?, ? FROM dedup_partition WHERE name = ?",
                (
                    batch,
                    segment.size,
                    segment.identities,
                    segment.filter,
                    segment.event_keys,
                    segment.partition,
                ),
            )

    def _put_output_file(self, batch: int, file: StagedFile) -> PublishedFile:
        id_, number = self._next_number(file.kind, file.folder, file.lines)
        self._db.execute(
            "INSERT INTO output_file"
            " (output_partition, number, batch, part, lines, bytes, sha256, lineage)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (id_, number, batch, file.part, file.lines, file.size, file.sha256, file.lineage),
        )
        return PublishedFile(file.part, file.kind, file.folder, number, file.size)

    def _next_number(self, kind: Kind, folder: str, lines: int) -> tuple[int, int]:
        id_, next_number = self._db.execute(
            "INSERT INTO output_partition (kind, folder, next_number, lines) VALUES (?, ?, 2, ?)"
            " ON CONFLICT (kind, folder) DO UPDATE SET"
            " next_number = next_number + 1, lines = lines + excluded.lines"
            " RETURNING id, next_number",
            (kind, folder, lines),
        ).fetchone()
        return id_, next_number - 1

    def _sources(self) -> dict[int, SourcePrefix]:
        return {
            row[0]: SourcePrefix(*row[1:])
            for row in self._rows(
                "SELECT id, bucket, prefix, organization, account, region FROM source_partition"
            )
        }


def _due(now: int) -> tuple[int, int]:
    """The bounds in SQL of what `KnownLogFile.is_due` is about."""
    return now, now + 2 * LONGEST_PAUSE_SECONDS


def _as_settled(row: "tuple[int, bytes] | None") -> "tuple[int, bytes] | None":
    """A row that only says that a log file was found says no more than no row."""
    return None if row is None or row[0] == LogFileState.FOUND else row
