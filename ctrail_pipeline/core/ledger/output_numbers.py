"""The rows of output files: the number that makes a file's final name, and which files there are.

Functions over a `Ledger`. Numbers of a folder are handed out in order, and none is handed out
twice. The files themselves are in `core.output`.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Final

from ctrail_pipeline.core.output_files import Compression, Kind, PublishedFile, StagedFile

from .bulk import rows_of_keys
from .ledger import Ledger
from .rows import BatchState, Pruned

PARQUET_IS_PUBLISHED: Final = (
    f"coalesce((SELECT state FROM batch WHERE id = f.parquet_batch), {BatchState.PUBLISHED:d})"
    f" = {BatchState.PUBLISHED:d}"
)
"""Whether the Parquet of the lines of a file `f` has its final names. Until then the Parquet may
have to be made again of these lines, so they are neither merged nor pruned."""
_NEXT_NUMBERS: Final = (
    "INSERT INTO output_partition (kind, folder, next_number, lines) VALUES (?, ?, 1 + ?, ?)"
    " ON CONFLICT (kind, folder) DO UPDATE SET"
    " next_number = output_partition.next_number + excluded.next_number - 1,"
    " lines = output_partition.lines + excluded.lines"
)
"""Takes the next numbers of a folder, and adds lines to the folder."""


def holds_output(ledger: Ledger, kind: Kind) -> bool:
    """Whether there is output of a kind that was not pruned."""
    row = ledger.row(
        "SELECT EXISTS (SELECT 1 FROM output_partition p"
        " JOIN output_file f ON f.output_partition = p.id WHERE p.kind = ? AND f.pruned = ?)",
        kind,
        Pruned.NO,
    )
    return bool(row[0])


def published_files(ledger: Ledger, batch: int) -> list[PublishedFile]:
    """Return the files of a committed batch, with the names that they have or must get."""
    return [
        PublishedFile(part, Kind(kind), folder, number, size, Compression(compression))
        for part, kind, folder, number, size, compression in ledger.rows(
            "SELECT f.part, p.kind, p.folder, f.number, f.bytes, f.compression FROM output_file f"
            " JOIN output_partition p ON p.id = f.output_partition"
            " WHERE f.batch = ? ORDER BY f.part",
            batch,
        )
    ]


def put_output_files(
    ledger: Ledger, batch: int, files: Sequence[StagedFile]
) -> list[PublishedFile]:
    """Give staged files their numbers, in order. Inside a transaction.

    A batch writes Parquet for all its events or for none.
    """
    parquet_batch = batch if any(file.kind is Kind.PARQUET for file in files) else None
    in_folder = Counter((file.kind, file.folder) for file in files)
    lines: Counter[tuple[Kind, str]] = Counter()
    for file in files:
        lines[file.kind, file.folder] += file.lines
    ledger.execute_many(
        _NEXT_NUMBERS, [(*folder, count, lines[folder]) for folder, count in in_folder.items()]
    )
    following = {
        (Kind(kind), folder): (id_, next_number)
        for id_, kind, folder, next_number in rows_of_keys(
            ledger,
            "p.id, p.kind, p.folder, p.next_number",
            "output_partition p WHERE p.kind = k.column1 AND p.folder = k.column2",
            list(in_folder),
        )
    }
    published = []
    rows = []
    for file in files:
        folder = (file.kind, file.folder)
        id_, next_number = following[folder]
        number = next_number - in_folder[folder]
        in_folder[folder] -= 1
        published.append(
            PublishedFile(file.part, file.kind, file.folder, number, file.size, file.compression)
        )
        rows.append(
            (
                *(id_, number, batch, file.part),
                *(file.lines, file.size, file.sha256, file.lineage, file.compression),
                parquet_batch if file.kind is Kind.EVENTS else None,
            )
        )
    ledger.execute_many(
        "INSERT INTO output_file"
        " (output_partition, number, batch, part, lines, bytes, sha256, lineage, compression,"
        " parquet_batch) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        rows,
    )
    return published


def rename_output_file(ledger: Ledger, batch: int, file: PublishedFile) -> PublishedFile:
    """Give a file of a batch another number, as a file that is not ours has its name.

    If another run that publishes this batch has given it another number, return that number.
    """
    with ledger.transaction():
        present = next(f for f in published_files(ledger, batch) if f.part == file.part)
        if present.number != file.number:
            return present
        id_, number = next_number(ledger, file.kind, file.folder, 0)
        ledger.execute(
            "UPDATE output_file SET number = ? WHERE output_partition = ? AND number = ?",
            number,
            id_,
            file.number,
        )
    return file._replace(number=number)


def next_number(ledger: Ledger, kind: Kind, folder: str, lines: int) -> tuple[int, int]:
    """Add lines to a folder; return its id and the next free number. Inside a transaction."""
    id_, following = ledger.row(
        f"{_NEXT_NUMBERS} RETURNING id, next_number", kind, folder, 1, lines
    )
    return id_, following - 1
