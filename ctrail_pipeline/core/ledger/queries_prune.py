"""What pruning asks of the ledger and writes there: which output files are to be removed.

Functions over a `Ledger`. The ledger decides first; then the files are removed, and that is noted.
Files that a compaction replaced take the second half of the same way.
"""

from collections.abc import Iterable
from typing import Final

from ctrail_pipeline.core.output_files import Kind, PublishedFile

from .ledger import Ledger
from .rows import BatchState, OutputSize, Pruned

_PRUNABLE: Final = (
    "FROM output_partition p JOIN output_file f ON f.output_partition = p.id"
    " JOIN batch b ON b.id = f.batch"
    " WHERE f.pruned = 0 AND b.state = 2 AND CASE p.kind"
    f" WHEN {Kind.EVENTS:d} THEN substr(p.folder, -{len('YYYY/MM/DD/HH')})"
    # A date is behind all of its hours.
    f" WHEN {Kind.PARQUET:d} THEN replace(substr(p.folder, -10), '-', '/') || '/99' END < ?"
)


def prunable(ledger: Ledger, before: str) -> OutputSize:
    """What `decide_pruning` would take in all, from hours before `YYYY/MM/DD/HH`.

    Its lines are events: rows of Parquet are the same ones again.
    """
    lines = f"sum(iif(p.kind = {Kind.EVENTS:d}, f.lines, 0))"
    row = ledger.row(f"SELECT count(*), {lines}, sum(f.bytes), 0 {_PRUNABLE}", before)
    return OutputSize("", *(value or 0 for value in row))


def decide_pruning(
    ledger: Ledger, before: str, most: int, from_partition: int = 0
) -> tuple[list[PublishedFile], int]:
    """Files of hours before `YYYY/MM/DD/HH` that are to be removed from now on.

    Of Parquet, which has a file for a date, those whose date is over by then.

    At most so many, from an output partition on; and the one that they reach up to, so that
    the next call need not look at what this one did.

    PublishedFile ones only: what a living run, or a recovery, is about to link stays. Inside a
    transaction. The ledger's generation grows: a copy from before it is older than the folder.
    """
    rows = ledger.rows(
        f"SELECT p.id, f.number, p.kind, p.folder, f.lines, f.part, f.bytes {_PRUNABLE}"
        " AND p.id >= ?"
        " ORDER BY p.id, f.number LIMIT ?",
        before,
        from_partition,
        most,
    )
    if rows:
        ledger.raise_generation()
    for id_, number, _, _, lines, _, _ in rows:
        ledger.execute(
            "UPDATE output_file SET pruned = ? WHERE output_partition = ? AND number = ?",
            Pruned.DECIDED,
            id_,
            number,
        )
        ledger.execute("UPDATE output_partition SET lines = lines - ? WHERE id = ?", lines, id_)
    files = [
        PublishedFile(part, Kind(kind), folder, number, size)
        for _, number, kind, folder, _, part, size in rows
    ]
    return files, rows[-1][0] if rows else from_partition


def files_to_remove(ledger: Ledger, most: int) -> list[PublishedFile]:
    """Files whose removal was decided, and is not known to be done."""
    return [
        PublishedFile(part, Kind(kind), folder, number, size)
        for part, kind, folder, number, size in ledger.rows(
            "SELECT f.part, p.kind, p.folder, f.number, f.bytes FROM output_file f"
            " JOIN output_partition p ON p.id = f.output_partition WHERE f.pruned = 1 LIMIT ?",
            most,
        )
    ]


def note_removed(ledger: Ledger, files: Iterable[PublishedFile]) -> None:
    """These files are gone, durably. Inside a transaction.

    The rows of those that a compaction replaced go: what they say, the merged file's says.
    """
    names = [(file.number, file.kind, file.folder) for file in files]
    ledger.execute_many(
        "DELETE FROM output_file WHERE number = ? AND output_partition ="
        " (SELECT id FROM output_partition WHERE kind = ? AND folder = ?)"
        f" AND replaced_by IN (SELECT id FROM batch WHERE state = {BatchState.PUBLISHED:d})",
        names,
    )
    ledger.execute_many(
        "UPDATE output_file SET pruned = ? WHERE number = ? AND output_partition ="
        " (SELECT id FROM output_partition WHERE kind = ? AND folder = ?)",
        [(Pruned.REMOVED, *name) for name in names],
    )
