"""What making vanished files again asks of the ledger, and writes there.

Functions over a `Ledger`. A committed batch is never taken back. If a file of the batch vanished
before it was published, the file is made again from what it was made of, or it is lost until that
is possible. How files are made again is in `core.batch.restage` and `core.upkeep.restage_merged`.
"""

from collections.abc import Collection, Sequence
from typing import NamedTuple

from ctrail_pipeline.core.line_runs import LineRun, line_runs_of
from ctrail_pipeline.core.output_files import Compression, Kind, PublishedFile, StagedFile

from .batches import batch_state
from .indexed_conditions import IS_OPEN_BATCH
from .ledger import Ledger
from .queries_compaction import OLD_FILE, OldFile
from .rows import BatchState, Pruned


class CommittedFile(NamedTuple):
    """A file of a committed batch, as its row says that it was staged."""

    file: PublishedFile
    lines: int
    sha256: bytes
    line_runs: Sequence[LineRun]
    """Empty for Parquet."""


class LostFile(NamedTuple):
    """A file that vanished before it was published, and that could not be made again."""

    file: PublishedFile
    batch: int
    lines: int
    line_runs: Sequence[LineRun]


class ReplacedFile(NamedTuple):
    """A file that a compaction merged."""

    kind: Kind
    folder: str
    old: OldFile
    is_pruned: bool
    """Whether a prune has decided since that the file goes."""


def committed_files(ledger: Ledger, batch: int) -> list[CommittedFile]:
    """Return the files of a committed batch, in the order in which they were staged."""
    return [
        CommittedFile(
            PublishedFile(part, Kind(kind), folder, number, size, Compression(compression)),
            lines,
            sha256,
            line_runs_of(lineage, batch, merged=bool(merged)),
        )
        for part, kind, folder, number, size, compression, lines, sha256, lineage, merged in (
            ledger.rows(
                "SELECT f.part, p.kind, p.folder, f.number, f.bytes, f.compression, f.lines,"
                " f.sha256, f.lineage, f.merged FROM output_file f"
                " JOIN output_partition p ON p.id = f.output_partition"
                " WHERE f.batch = ? ORDER BY f.part",
                batch,
            )
        )
    ]


def identities_added(ledger: Ledger, batch: int, partition: str) -> list[bytes]:
    """Return the packed identities that a batch added to a dedup partition.

    Of a batch that is not published nothing was merged, and nothing is cold.
    """
    return [
        bytes(identities)
        for (identities,) in ledger.rows(
            "SELECT s.identities FROM segment s JOIN dedup_partition p"
            " ON p.id = s.dedup_partition WHERE p.name = ? AND s.batch = ?",
            partition,
            batch,
        )
    ]


def replaced_files(ledger: Ledger, batch: int) -> list[ReplacedFile]:
    """Return the files that a committed compaction merged, by folder and number."""
    return [
        ReplacedFile(
            Kind(kind),
            folder,
            OldFile.of_row(old),
            pruned != Pruned.NO,
        )
        for kind, folder, pruned, *old in ledger.rows(
            f"SELECT p.kind, p.folder, f.pruned, {OLD_FILE} FROM output_file f"
            " JOIN output_partition p ON p.id = f.output_partition"
            " WHERE f.replaced_by = ? ORDER BY p.kind, p.folder, f.number",
            batch,
        )
    ]


def note_restaged(
    ledger: Ledger, batch: int, restaged: Sequence[StagedFile], lost: Collection[int]
) -> bool:
    """Note the files of a batch that lie staged again, and the parts that are lost.

    Inside a transaction. Returns False, and changes nothing, if another run has published the batch
    meanwhile. A file that lies staged again may have other bytes than it had: a newer library
    compresses the same text in another way.
    """
    if batch_state(ledger, batch) is not BatchState.COMMITTED:
        return False
    ledger.execute_many(
        "UPDATE output_file SET bytes = ?, sha256 = ? WHERE batch = ? AND part = ?",
        [(file.size, file.sha256, batch, file.part) for file in restaged],
    )
    noted = {
        part: (id_, lines)
        for part, id_, lines in ledger.rows(
            "SELECT part, output_partition, CASE merged WHEN 0 THEN lines ELSE 0 END"
            " FROM output_file WHERE batch = ?",
            batch,
        )
    }
    before = {
        part
        for (part,) in ledger.rows(
            "SELECT part FROM output_file WHERE batch = ? AND pruned = ?", batch, Pruned.LOST
        )
    }
    for parts, pruned, sign in (
        (set(lost) - before, Pruned.LOST, -1),
        (before - set(lost), Pruned.NO, 1),
    ):
        ledger.execute_many(
            "UPDATE output_file SET pruned = ? WHERE batch = ? AND part = ?",
            [(pruned, batch, part) for part in sorted(parts)],
        )
        ledger.execute_many(
            "UPDATE output_partition SET lines = lines + ? WHERE id = ?",
            [(sign * noted[part][1], noted[part][0]) for part in sorted(parts)],
        )
    return True


def lost_files(ledger: Ledger) -> list[LostFile]:
    """Return the files that are lost, by batch."""
    return [
        LostFile(
            PublishedFile(part, Kind(kind), folder, number, size, Compression(compression)),
            batch,
            lines,
            line_runs_of(lineage, batch, merged=bool(merged)),
        )
        for batch, part, kind, folder, number, size, compression, lines, lineage, merged in (
            ledger.rows(
                "SELECT f.batch, f.part, p.kind, p.folder, f.number, f.bytes, f.compression,"
                " f.lines, f.lineage, f.merged"
                f" FROM (SELECT id FROM batch WHERE {IS_OPEN_BATCH}) b"
                " JOIN output_file f ON f.batch = b.id"
                " JOIN output_partition p ON p.id = f.output_partition"
                " WHERE f.pruned = ? ORDER BY f.batch, f.part",
                Pruned.LOST,
            )
        )
    ]
