"""Taking back a committed batch whose output vanished before it was published.

Its log files are to be done again, and so are log files of later batches that may have dropped
events as copies of this batch's. When a batch is taken back is decided in `core.batch.recovery`; a
compaction is taken back in `queries_compaction`.
"""

import json

from .ledger import SEGMENTS_REMOVED, Ledger
from .log_files import keep_superseded
from .rows import BatchState, LogFileState

_MAY_HAVE_DROPPED = "batch > ? AND duplicates + quarantined > 0 AND state != ?"
"""What a log file's row says if it is of a later batch, and dropped something."""


def uncommit_batch(ledger: Ledger, batch: int) -> None:
    """Take back a batch whose output vanished before it was published. Inside a transaction.

    Its log files are to be done again. So are log files of later batches that dropped something as
    a duplicate: they may have dropped copies of this batch's events. Its segments go, and with them
    every cached view.
    """
    _redo_log_files_that_dropped(ledger, batch)
    _take_from_totals(ledger, batch)
    ledger.execute_many(
        "UPDATE log_file SET state = ?, next_visit = 0, accepted = 0, reason = ?"
        " WHERE source_prefix = ? AND day = ? AND batch = ?",
        [
            (LogFileState.LOST, "its output vanished before it was published", id_, day, batch)
            for id_, day in json.loads(
                ledger.row("SELECT sources FROM batch WHERE id = ?", batch)[0]
            )
        ],
    )
    ledger.execute("DELETE FROM segment WHERE batch = ?", batch)
    ledger.execute(
        "UPDATE output_partition SET lines = lines -"
        " (SELECT sum(lines) FROM output_file f"
        " WHERE f.batch = ? AND f.output_partition = output_partition.id)"
        " WHERE id IN (SELECT output_partition FROM output_file WHERE batch = ?)",
        batch,
        batch,
    )
    ledger.execute("DELETE FROM output_file WHERE batch = ?", batch)
    ledger.count_up(SEGMENTS_REMOVED)
    ledger.execute("UPDATE batch SET state = ? WHERE id = ?", BatchState.ABORTED, batch)


def _take_from_totals(ledger: Ledger, batch: int) -> None:
    """Take a batch out of the totals of its source prefixes, and forget its earlier versions."""
    for source_id, events in ledger.rows(
        "SELECT source_prefix, sum(records - duplicates) FROM superseded_log_file"
        " WHERE batch = ? GROUP BY 1",
        batch,
    ):
        ledger.execute(
            "UPDATE source_prefix SET events = events - ? WHERE id = ?", events, source_id
        )
    ledger.execute("DELETE FROM superseded_log_file WHERE batch = ?", batch)
    for source_id, log_files, events in ledger.rows(
        "SELECT source_prefix, count(*) FILTER (WHERE state = ?), sum(records - duplicates)"
        " FROM log_file"
        " WHERE batch = ? AND state != ? GROUP BY 1",
        LogFileState.COMMITTED,
        batch,
        LogFileState.LOST,
    ):
        ledger.execute(
            "UPDATE source_prefix SET log_files = log_files - ?, events = events - ? WHERE id = ?",
            log_files,
            events,
            source_id,
        )


def _redo_log_files_that_dropped(ledger: Ledger, batch: int) -> None:
    """Have log files of later batches done again if they held duplicates or quarantined text.

    Their lines stay, and so does the note where these lines came from: the redo drops them as
    duplicates, and brings back what was dropped for the batch that goes.
    """
    values = (batch, LogFileState.LOST)
    keep_superseded(ledger, _MAY_HAVE_DROPPED, [values])
    for source_id, log_files in ledger.rows(
        "SELECT source_prefix, count(*) FILTER (WHERE state = ?) FROM log_file"
        f" WHERE {_MAY_HAVE_DROPPED} GROUP BY 1",
        LogFileState.COMMITTED,
        *values,
    ):
        ledger.execute(
            "UPDATE source_prefix SET log_files = log_files - ? WHERE id = ?",
            log_files,
            source_id,
        )
    ledger.execute(
        "UPDATE log_file SET state = ?, next_visit = 0, accepted = 0, reason = ?"
        f" WHERE {_MAY_HAVE_DROPPED}",
        LogFileState.LOST,
        "it may have dropped what a vanished batch held",
        *values,
    )
