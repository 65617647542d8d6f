"""Where lines of the output came from: the log files and batches behind a file's line runs.

Functions over a `Ledger`, for `explain`, `manifest` and `verify`; they change nothing. How line
runs are packed is in `core.line_runs`.
"""

import json
from typing import NamedTuple

from ctrail_pipeline.core.line_runs import LineRun, line_runs_of

from .cold_rows import cold_files_where
from .ledger import Ledger
from .queries_output import OutputFile
from .rows import REBUILD_RUN, LogFileState


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
    """SHA-256 of the uncompressed bytes."""
    records: int
    duplicates: int

    @property
    def row(self) -> tuple[int, int, str]:
        """The key of its row, which is the same for all versions of the log file."""
        return self.source_id, self.day, self.name


class BatchOrigin(NamedTuple):
    """A batch: which run committed it, when, and the log files that its lines came from.

    Nobody knows the log files of a batch that a rebuild made.
    """

    id: int
    run_id: str
    committed_at: int
    """Seconds since 1970."""
    log_files: dict[int, LogFileOrigin]
    """The log files by their position in the batch."""

    @property
    def is_rebuilt(self) -> bool:
        """Whether its files were there before the ledger."""
        return self.run_id == REBUILD_RUN


def line_runs_of_file(ledger: Ledger, file: OutputFile) -> list[LineRun]:
    """Return which log files the lines of a file came from, in order."""
    lineage = ledger.row(
        "SELECT f.lineage FROM output_file f JOIN output_partition p"
        " ON p.id = f.output_partition WHERE p.kind = ? AND p.folder = ? AND f.number = ?",
        file.kind,
        file.folder,
        file.number,
    )[0]
    return line_runs_of(bytes(lineage), file.batch, merged=file.merged)


def sources_of_batch(ledger: Ledger, batch: int) -> set[int]:
    """Return the source prefixes that a batch's log files are of."""
    rows = ledger.rows("SELECT sources FROM batch WHERE id = ?", batch)
    return {source_id for source_id, _ in json.loads(rows[0][0])} if rows else set()


def batch_origin(ledger: Ledger, batch: int) -> BatchOrigin:
    """Return a committed batch with its log files, even where they were processed again since."""
    run_id, committed_at, sources = ledger.row(
        "SELECT run_id, coalesce(committed_at, 0), sources FROM batch WHERE id = ?", batch
    )
    log_files: dict[int, LogFileOrigin] = {}
    # Rows move from the first table to the second one and to cold ones, meanwhile, too.
    for table, superseded in (("log_file", False), ("superseded_log_file", True)):
        for source_id, day in json.loads(sources):
            for position, state, *values in ledger.rows(
                "SELECT position, state, source_prefix, day, name, etag, size, sha256, records,"
                f" duplicates FROM {table} WHERE source_prefix = ? AND day = ? AND batch = ?"
                " AND position >= 0",
                source_id,
                day,
                batch,
            ):
                origin = LogFileOrigin(superseded, LogFileState(state), *values)
                log_files.setdefault(position, origin)
    for source_id, day in json.loads(sources):
        for file in cold_files_where(ledger, "first_day <= ? AND last_day >= ?", day, day):
            for position, *values in ledger.cold_reader.ask(
                file,
                "SELECT position, source_prefix, day, name, etag, size, sha256, records,"
                " duplicates FROM log_file WHERE source_prefix = ? AND day = ? AND batch = ?"
                " AND position >= 0",
                source_id,
                day,
                batch,
            ):
                origin = LogFileOrigin(False, LogFileState.COMMITTED, *values)
                log_files.setdefault(position, origin)
    return BatchOrigin(batch, run_id, committed_at, log_files)
