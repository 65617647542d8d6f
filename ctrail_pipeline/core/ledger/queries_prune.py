"""What pruning asks of the ledger and writes there: which output files are to be removed.

Functions over a `Ledger`. The ledger decides first, then the files are removed, and then their
removal is noted. Files that a compaction replaced are removed and noted in the same way. The files
themselves are removed in `core.upkeep.prune`.
"""

from collections.abc import Iterable
from typing import Final

from ctrail_pipeline.core.output_files import Compression, Kind, PublishedFile

from .batches import is_settled
from .indexed_conditions import IS_TO_REMOVE
from .ledger import Ledger
from .output_numbers import PARQUET_IS_PUBLISHED
from .portable_sql import end_of_date, hour_of
from .rows import BatchState, OutputSize, Pruned

_PRUNABLE: Final = (
    "FROM output_partition p JOIN output_file f ON f.output_partition = p.id"
    " JOIN batch b ON b.id = f.batch"
    f" WHERE f.pruned = {Pruned.NO:d} AND b.state = {BatchState.PUBLISHED:d}"
    f" AND {PARQUET_IS_PUBLISHED} AND CASE p.kind"
    f" WHEN {Kind.EVENTS:d} THEN {hour_of('p.folder')}"
    f" WHEN {Kind.PARQUET:d} THEN {end_of_date('p.folder')} END < ?"
)


def _prunable(ledger: Ledger, late_copy_seconds: int) -> str:
    """Return what chooses the files that may be pruned, but for the limit of their hours.

    Where files must stay for a while after they were published (`Output.late_copy_seconds`), old
    files of a compaction that is not published stay, too: the files that replace them would be
    pruned as soon as they are.
    """
    if not late_copy_seconds:
        return _PRUNABLE
    return f"{_PRUNABLE} AND f.replaced_by IS NULL AND {is_settled(ledger, late_copy_seconds)}"


def prunable(ledger: Ledger, before: str, late_copy_seconds: int = 0) -> OutputSize:
    """Return the size of all files that `decide_pruning` would take from hours before a moment.

    The moment is `YYYY/MM/DD/HH`. The lines are those of events: rows of Parquet are the same
    events again.
    """
    lines = f"sum(CASE p.kind WHEN {Kind.EVENTS:d} THEN f.lines ELSE 0 END)"
    chosen = _prunable(ledger, late_copy_seconds)
    row = ledger.row(f"SELECT count(*), {lines}, sum(f.bytes), 0 {chosen}", before)
    return OutputSize("", *(value or 0 for value in row))


def decide_pruning(
    ledger: Ledger,
    before: str,
    limit: int,
    from_partition: int = 0,
    late_copy_seconds: int = 0,
) -> tuple[list[PublishedFile], int]:
    """Decide that files of hours before `YYYY/MM/DD/HH` are removed, and return these files.

    Parquet has a folder for each date: its files count once their date is over.

    Begins at the output partition `from_partition`, and takes at most `limit` files. Also returns
    the output partition that they reach up to, where the next call begins.

    Takes published files only: a file that a living run, or a recovery, is about to link stays. So
    does a file that was published in the last `late_copy_seconds`.
    Inside a transaction. The ledger's generation grows: a copy from before the decision is then
    older than the output folder.
    """
    rows = ledger.rows(
        "SELECT p.id, f.number, p.kind, p.folder, f.lines, f.part, f.bytes, f.compression"
        f" {_prunable(ledger, late_copy_seconds)}"
        " AND p.id >= ?"
        " ORDER BY p.id, f.number LIMIT ?",
        before,
        from_partition,
        limit,
    )
    if rows:
        ledger.advance_generation()
    for id_, number, _, _, lines, *_ in rows:
        ledger.execute(
            "UPDATE output_file SET pruned = ? WHERE output_partition = ? AND number = ?",
            Pruned.DECIDED,
            id_,
            number,
        )
        ledger.execute("UPDATE output_partition SET lines = lines - ? WHERE id = ?", lines, id_)
    files = [
        PublishedFile(part, Kind(kind), folder, number, size, Compression(compression))
        for _, number, kind, folder, _, part, size, compression in rows
    ]
    return files, rows[-1][0] if rows else from_partition


def files_to_remove(ledger: Ledger, limit: int) -> list[PublishedFile]:
    """Return files whose removal was decided, and is not known to be done."""
    return [
        PublishedFile(part, Kind(kind), folder, number, size, Compression(compression))
        for part, kind, folder, number, size, compression in ledger.rows(
            "SELECT f.part, p.kind, p.folder, f.number, f.bytes, f.compression FROM output_file f"
            f" JOIN output_partition p ON p.id = f.output_partition WHERE {IS_TO_REMOVE} LIMIT ?",
            limit,
        )
    ]


def note_removed(ledger: Ledger, files: Iterable[PublishedFile]) -> None:
    """Note that these files are gone, durably. Inside a transaction.

    The rows of files that a compaction replaced go, too: the merged file's row says the same.
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
