"""The output as the ledger says it was written: folders, files, and how many lines they have.

Functions over a `Ledger`, for `verify`, `explain` and `manifest`; they change nothing. Folders are
read page by page, so that no answer grows with the data.
"""

from collections.abc import Iterator
from typing import NamedTuple

from ctrail_pipeline.core.output_files import Compression, Kind, PublishedFile

from .ledger import Ledger
from .portable_sql import hour_of
from .rows import ROWS_A_READ, BatchState, Pruned


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
    """Whether a compaction wrote it: its lines came from log files of several batches."""
    is_expected: bool
    """Whether it must be there: published, and not pruned."""
    compression: Compression

    @property
    def published(self) -> PublishedFile:
        """The values that its name is made of."""
        return PublishedFile(
            self.part, self.kind, self.folder, self.number, self.size, self.compression
        )


def output_folders(ledger: Ledger, kind: Kind, hour: str = "") -> Iterator[str]:
    """Yield folders that ever had a file, in order, page by page; or those of `YYYY/MM/DD/HH`."""
    after = ""
    while rows := ledger.rows(
        "SELECT folder FROM output_partition WHERE kind = ? AND folder > ?"
        f" AND (? = '' OR {hour_of('folder')} = ?) ORDER BY folder LIMIT ?",
        kind,
        after,
        hour,
        hour,
        ROWS_A_READ,
    ):
        after = rows[-1][0]
        for (folder,) in rows:
            yield folder


def output_files(ledger: Ledger, kind: Kind, folder: str) -> list[OutputFile]:
    """Return the files of a folder, in order, even of batches that are not published yet."""
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
            Compression(compression),
        )
        for number, batch, part, lines, size, sha256, compression, merged, pruned, state in (
            ledger.rows(
                "SELECT f.number, f.batch, f.part, f.lines, f.bytes, f.sha256, f.compression,"
                " f.merged, f.pruned, b.state FROM output_partition p"
                " JOIN output_file f ON f.output_partition = p.id JOIN batch b ON b.id = f.batch"
                " WHERE p.kind = ? AND p.folder = ? ORDER BY f.number",
                kind,
                folder,
            )
        )
    ]


def lines_of_folder(ledger: Ledger, kind: Kind, folder: str) -> tuple[int, int]:
    """Return how many lines a folder has by its own count, and by the sum over its files."""
    # Merged files that are not published yet are there beside the files that they replace.
    own, summed = ledger.row(
        "SELECT p.lines, (SELECT coalesce(sum(f.lines), 0) FROM output_file f"
        " JOIN batch b ON b.id = f.batch WHERE f.output_partition = p.id AND f.pruned = ?"
        " AND (f.merged = 0 OR b.state = ?))"
        " FROM output_partition p WHERE p.kind = ? AND p.folder = ?",
        Pruned.NO,
        BatchState.PUBLISHED,
        kind,
        folder,
    )
    return own, summed
