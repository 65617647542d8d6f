"""What compaction asks of the ledger and writes there: merged files in place of several old ones.

Functions over a `Ledger`. A compaction is a batch without log files. Its transaction adds the rows
of the merged files, and notes in the rows of the old files which batch replaces them. Old and
merged files are both in the ledger until the batch is published. Then one transaction decides that
the old files are removed. So the ledger says at any instant which files are the output, and which
are still to be removed. What is merged, and how, is decided in `core.upkeep`.
"""

import json
import time
from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

from ctrail_pipeline.core.output_files import Compression, Kind, PublishedFile, StagedFile

from .batches import batch_state, is_settled, mark_published
from .ledger import Ledger
from .output_numbers import PARQUET_IS_PUBLISHED, put_output_files
from .portable_sql import end_of_date, hour_of
from .rows import BatchState, InParquet, Pruned, StaleBatch

_FOLDERS_A_READ: Final = 500
_IS_CLOSED: Final = {
    Kind.EVENTS: f"{hour_of('p.folder')} < ?",
    Kind.PARQUET: f"{end_of_date('p.folder')} < ?",
}
_IS_OUTPUT: Final = f"f.pruned = {Pruned.NO:d} AND f.replaced_by IS NULL"
OLD_FILE: Final = (
    "f.number, f.part, f.batch, f.lines, f.bytes, f.sha256, f.lineage, f.merged, f.compression,"
    " f.parquet_batch"
)
"""The columns that `OldFile.of_row` takes."""


class OldFile(NamedTuple):
    """A published file, which may be merged with others of its folder."""

    number: int
    part: int
    batch: int
    lines: int
    size: int
    """Bytes."""
    sha256: bytes
    lineage: bytes
    merged: bool
    """Whether a compaction wrote it."""
    compression: Compression = Compression.NONE
    parquet_batch: int | None = None
    """As in the ledger."""

    @classmethod
    def of_row(cls, row: Sequence[Any]) -> "OldFile":
        """Return the file of a row of the columns OLD_FILE."""
        file = cls(*row)
        return file._replace(merged=bool(file.merged), compression=Compression(file.compression))

    @property
    def in_parquet(self) -> InParquet:
        """Which of its lines are in Parquet, too. Only files that have this in common are merged.

        So it stays known which lines are in Parquet.
        """
        return InParquet.of(self.parquet_batch)


class Folder(NamedTuple):
    """A folder of the output, of an hour or a day that is over, with two files or more."""

    id: int
    kind: Kind
    name: str
    files: tuple[OldFile, ...]
    """In the order of their numbers."""


class Replacement(NamedTuple):
    """Staged files of a folder, and the files that they are to replace."""

    folder_id: int
    old: Sequence[OldFile]
    new: Sequence[StagedFile]
    parquet_batches: Sequence[int | None]
    """For each new file: the newest of the batches that wrote its lines as Parquet, too."""


def folders_to_compact(
    ledger: Ledger, kind: Kind, before: str, late_copy_seconds: int = 0
) -> Iterator[Folder]:
    """Yield folders of hours before `YYYY/MM/DD/HH` that hold two published files or more.

    Parquet has a folder for each date: its folders count once their date is over. Files that were
    published in the last `late_copy_seconds` are left out: they must not go yet.
    """
    after = 0
    while rows := ledger.rows(
        "SELECT p.id, p.folder FROM output_partition p"
        f" WHERE p.kind = ? AND p.id > ? AND p.next_number > 2 AND {_IS_CLOSED[kind]}"
        " AND (SELECT count(*) FROM output_file f"
        f" WHERE f.output_partition = p.id AND {_IS_OUTPUT}) > 1 ORDER BY p.id LIMIT ?",
        kind,
        after,
        before,
        _FOLDERS_A_READ,
    ):
        after = rows[-1][0]
        for id_, name in rows:
            yield Folder(id_, kind, name, _published(ledger, id_, late_copy_seconds))


def _published(ledger: Ledger, folder_id: int, late_copy_seconds: int) -> tuple[OldFile, ...]:
    return tuple(
        OldFile.of_row(row)
        for row in ledger.rows(
            f"SELECT {OLD_FILE} FROM output_file f JOIN batch b ON b.id = f.batch"
            f" WHERE f.output_partition = ? AND {_IS_OUTPUT} AND b.state = ?"
            f" AND {PARQUET_IS_PUBLISHED} AND {is_settled(ledger, late_copy_seconds)}"
            " ORDER BY f.number",
            folder_id,
            BatchState.PUBLISHED,
        )
    )


def files_to_read(ledger: Ledger, kind: Kind) -> list[PublishedFile]:
    """Return the files that together hold each event once, at one moment, by folder and number.

    Files of a batch that is not known to be published are among them, unless the batch is a
    compaction: they may have their final names, or get them yet.
    """
    return [
        PublishedFile(part, kind, folder, number, size, Compression(compression))
        for part, folder, number, size, compression in ledger.rows(
            "SELECT f.part, p.folder, f.number, f.bytes, f.compression FROM output_partition p"
            " JOIN output_file f ON f.output_partition = p.id JOIN batch b ON b.id = f.batch"
            " WHERE p.kind = ? AND f.pruned = ? AND (b.state = ? OR b.state = ? AND f.merged = 0)"
            " ORDER BY p.folder, f.number",
            kind,
            Pruned.NO,
            BatchState.PUBLISHED,
            BatchState.COMMITTED,
        )
    ]


def is_output(ledger: Ledger, folder_id: int, numbers: Sequence[int]) -> bool:
    """Whether files are still the output: neither pruned nor merged by another run."""
    row = ledger.row(
        "SELECT count(*) FROM output_file f WHERE output_partition = ?"
        f" AND number IN ({ledger.numbers}) AND {_IS_OUTPUT}",
        folder_id,
        json.dumps(list(numbers)),
    )
    return bool(row[0] == len(numbers))


def commit_compaction(
    ledger: Ledger, batch: int, replacements: Sequence[Replacement]
) -> tuple[list[PublishedFile], set[int]]:
    """Make a compaction true. Inside a transaction, whose COMMIT decides.

    Returns the final names of the merged files, and the ids of folders that stay as they are,
    because another run has merged or pruned some of their files meanwhile. The ledger's generation
    grows: a copy from before the compaction is then older than the output folder. Raises StaleBatch
    if the batch was aborted, or if all of its folders have changed.
    """
    if batch_state(ledger, batch) is not BatchState.STAGING:
        raise StaleBatch("the batch is no longer staging")
    published: list[PublishedFile] = []
    unchanged = set()
    for replacement in replacements:
        changed = ledger.execute(
            "UPDATE output_file AS f SET replaced_by = ? WHERE output_partition = ?"
            f" AND number IN ({ledger.numbers}) AND {_IS_OUTPUT}"
            # A batch that writes lines as Parquet notes all of its files in one transaction.
            f" AND coalesce(f.parquet_batch, -1) IN ({ledger.numbers})"
            " AND (SELECT state FROM batch WHERE id = f.batch) = ?",
            batch,
            replacement.folder_id,
            json.dumps([file.number for file in replacement.old]),
            json.dumps(
                [-1 if (b := file.parquet_batch) is None else b for file in replacement.old]
            ),
            BatchState.PUBLISHED,
        )
        if changed == len(replacement.old):
            published += [
                _put_merged(ledger, batch, file, parquet_batch)
                for file, parquet_batch in zip(
                    replacement.new, replacement.parquet_batches, strict=True
                )
            ]
        else:
            unchanged.add(replacement.folder_id)
            ledger.execute(
                "UPDATE output_file SET replaced_by = NULL"
                " WHERE output_partition = ? AND replaced_by = ?",
                replacement.folder_id,
                batch,
            )
    if not published:
        raise StaleBatch("other runs have changed all of its folders")
    ledger.execute(
        "UPDATE batch SET state = ?, committed_at = ? WHERE id = ?",
        BatchState.COMMITTED,
        int(time.time()),
        batch,
    )
    ledger.advance_generation()
    return published, unchanged


def _put_merged(
    ledger: Ledger, batch: int, file: StagedFile, parquet_batch: int | None
) -> PublishedFile:
    [published] = put_output_files(ledger, batch, [file])
    ledger.execute(
        "UPDATE output_file SET merged = 1, parquet_batch = ? WHERE number = ?"
        " AND output_partition = (SELECT id FROM output_partition WHERE kind = ? AND folder = ?)",
        parquet_batch,
        published.number,
        published.kind,
        published.folder,
    )
    # The folder has as many lines as before.
    ledger.execute(
        "UPDATE output_partition SET lines = lines - ? WHERE kind = ? AND folder = ?",
        file.lines,
        published.kind,
        published.folder,
    )
    return published


def is_compaction(ledger: Ledger, batch: int) -> bool:
    """Whether a committed batch is a compaction."""
    row = ledger.row(
        "SELECT EXISTS (SELECT 1 FROM output_file WHERE batch = ? AND merged = 1)", batch
    )
    return bool(row[0])


def publish_compaction(ledger: Ledger, batch: int) -> None:
    """Note that all merged files have their final names, and decide that the old ones are removed.

    Inside a transaction. If some of a folder's old files were pruned meanwhile, the files that
    replace them are pruned, too.
    """
    if batch_state(ledger, batch) is not BatchState.COMMITTED:
        return  # another run did it
    mark_published(ledger, [batch])
    for (folder_id,) in ledger.rows(
        "SELECT DISTINCT output_partition FROM output_file WHERE replaced_by = ? AND pruned != ?",
        batch,
        Pruned.NO,
    ):
        ledger.execute(
            "UPDATE output_file SET pruned = ? WHERE batch = ? AND output_partition = ?",
            Pruned.DECIDED,
            batch,
            folder_id,
        )
        ledger.execute(  # lines of pruned old files are subtracted already
            "UPDATE output_partition SET lines = lines - (SELECT coalesce(sum(lines), 0)"
            " FROM output_file WHERE output_partition = ? AND replaced_by = ? AND pruned = ?)"
            " WHERE id = ?",
            folder_id,
            batch,
            Pruned.NO,
            folder_id,
        )
    ledger.execute(
        "DELETE FROM output_file WHERE replaced_by = ? AND pruned = ?", batch, Pruned.REMOVED
    )
    ledger.execute("UPDATE output_file SET pruned = ? WHERE replaced_by = ?", Pruned.DECIDED, batch)
