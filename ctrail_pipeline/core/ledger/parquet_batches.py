"""Which lines of the JSONL are in Parquet, too, and noting that more of them are.

Functions over a `Ledger`. The row of each file of events names the batch that wrote its lines as
Parquet: its own batch, or one that filled Parquet later (`core.upkeep.parquet_fill`). Such a batch
has no log files. Its transaction adds the rows of the Parquet files, and notes the batch in the
rows of the files of events. So the ledger says at any instant which lines are in Parquet.
"""

import json
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

from ctrail_pipeline.core.output_files import Kind, PublishedFile, StagedFile

from .batches import batch_state
from .ledger import Ledger
from .output_numbers import put_output_files
from .queries_compaction import OLD_FILE, OldFile
from .rows import BatchState, Pruned, StaleBatch

_FOLDERS_A_READ: Final = 500
_LACKS_ROWS: Final = "(f.parquet_batch IS NULL OR f.parquet_batch = 0)"
_IS_THERE: Final = f"f.pruned = {Pruned.NO:d} AND b.state = {BatchState.PUBLISHED:d}"
"""Whether a file is there: published, and not to be removed. Its batch is `b`."""
_IS_ONLY_COPY: Final = f"{_IS_THERE} AND f.replaced_by IS NULL"
"""Whether a file is there, and no compaction has merged it."""
_LACKING: Final = (
    "FROM output_partition p JOIN output_file f ON f.output_partition = p.id"
    f" JOIN batch b ON b.id = f.batch WHERE p.kind = ? AND {_LACKS_ROWS} AND {_IS_THERE}"
)
_LACKING_SUMS: Final = (
    "count(*), coalesce(sum(f.lines), 0),"
    " coalesce(sum(f.lines) FILTER (WHERE f.parquet_batch = 0), 0)"
)


class EventsFile(NamedTuple):
    """A published file of events."""

    folder_id: int
    folder: str
    file: OldFile

    @property
    def published(self) -> PublishedFile:
        """The values that its name is made of."""
        file = self.file
        return PublishedFile(
            file.part, Kind.EVENTS, self.folder, file.number, file.size, file.compression
        )


class NotInParquet(NamedTuple):
    """How many events are in the JSONL and not in Parquet."""

    files: int
    events: int
    perhaps: int
    """Events that are among these, and of which some may be in Parquet: the ledger does not know.
    It was rebuilt, or an earlier version of this program wrote them."""


def not_in_parquet(ledger: Ledger) -> NotInParquet:
    """Return how many published events are not in Parquet."""
    row = ledger.row(f"SELECT {_LACKING_SUMS} {_LACKING}", Kind.EVENTS)
    return NotInParquet(*map(int, row))


def folders_not_in_parquet(ledger: Ledger) -> Iterator[tuple[str, NotInParquet]]:
    """Yield the folders of events that are not all in Parquet, in order, and what each lacks."""
    for folder, *sums in ledger.stream(
        f"SELECT p.folder, {_LACKING_SUMS} {_LACKING} GROUP BY p.folder ORDER BY p.folder",
        Kind.EVENTS,
    ):
        yield folder, NotInParquet(*map(int, sums))


def files_not_in_parquet(ledger: Ledger) -> Iterator[EventsFile]:
    """Yield the published files of events whose lines are not all in Parquet, in order of names.

    The folders are read page by page, so a file may be merged or removed since it was read.
    """
    after = ""
    while folders := ledger.rows(
        "SELECT p.id, p.folder FROM output_partition p WHERE p.kind = ? AND p.folder > ?"
        " AND EXISTS (SELECT 1 FROM output_file f JOIN batch b ON b.id = f.batch"
        f" WHERE f.output_partition = p.id AND {_LACKS_ROWS} AND {_IS_ONLY_COPY})"
        " ORDER BY p.folder LIMIT ?",
        Kind.EVENTS,
        after,
        _FOLDERS_A_READ,
    ):
        after = folders[-1][1]
        for id_, folder in folders:
            for row in ledger.rows(
                f"SELECT {OLD_FILE} FROM output_file f JOIN batch b ON b.id = f.batch"
                f" WHERE f.output_partition = ? AND {_LACKS_ROWS} AND {_IS_ONLY_COPY}"
                " ORDER BY f.number",
                id_,
            ):
                yield EventsFile(id_, folder, OldFile.of_row(row))


def files_in_parquet(ledger: Ledger, hours: tuple[str, str]) -> list[EventsFile]:
    """Return the files of a date whose lines are all in Parquet files that are published.

    `hours` are the folders of the date's first and last hour.
    """
    return [
        EventsFile(id_, folder, OldFile.of_row(row))
        for id_, folder, *row in ledger.rows(
            f"SELECT p.id, p.folder, {OLD_FILE} FROM output_partition p"
            " JOIN output_file f ON f.output_partition = p.id JOIN batch b ON b.id = f.batch"
            f" WHERE p.kind = ? AND p.folder BETWEEN ? AND ? AND NOT {_LACKS_ROWS} AND {_IS_THERE}"
            " AND (SELECT state FROM batch WHERE id = f.parquet_batch) = ?"
            " ORDER BY p.folder, f.number",
            Kind.EVENTS,
            *hours,
            BatchState.PUBLISHED,
        )
    ]


def files_of_parquet_batch(ledger: Ledger, batch: int) -> list[EventsFile]:
    """Return the files of events whose lines a batch wrote as Parquet, in order of names."""
    return [
        EventsFile(id_, folder, OldFile.of_row(row))
        for id_, folder, *row in ledger.rows(
            f"SELECT p.id, p.folder, {OLD_FILE} FROM output_partition p"
            " JOIN output_file f ON f.output_partition = p.id"
            " WHERE p.kind = ? AND f.parquet_batch = ? ORDER BY p.folder, f.number",
            Kind.EVENTS,
            batch,
        )
    ]


def parquet_of_date(ledger: Ledger, folder: str) -> list[tuple[PublishedFile, OldFile]]:
    """Return the published Parquet files of a folder, in order."""
    files = (
        OldFile.of_row(row)
        for row in ledger.rows(
            f"SELECT {OLD_FILE} FROM output_partition p"
            " JOIN output_file f ON f.output_partition = p.id JOIN batch b ON b.id = f.batch"
            f" WHERE p.kind = ? AND p.folder = ? AND {_IS_THERE} ORDER BY f.number",
            Kind.PARQUET,
            folder,
        )
    )
    return [
        (PublishedFile(file.part, Kind.PARQUET, folder, file.number, file.size), file)
        for file in files
    ]


def commit_fill(
    ledger: Ledger, batch: int, files: Iterable[EventsFile], staged: Sequence[StagedFile]
) -> list[PublishedFile]:
    """Make Parquet of the lines of `files` true. Inside a transaction, whose COMMIT decides.

    Returns the final names. The ledger's generation grows. Raises StaleBatch if the batch was
    aborted, or if one of the files was pruned, merged, or written as Parquet by another run.
    """
    if batch_state(ledger, batch) is not BatchState.STAGING:
        raise StaleBatch("the batch is no longer staging")
    by_folder: dict[int, list[int]] = defaultdict(list)
    for file in files:
        by_folder[file.folder_id].append(file.file.number)
    for folder_id, numbers in by_folder.items():
        changed = ledger.execute(
            "UPDATE output_file AS f SET parquet_batch = ? WHERE output_partition = ?"
            f" AND number IN ({ledger.numbers}) AND {_LACKS_ROWS}"
            " AND f.pruned = ? AND f.replaced_by IS NULL",
            batch,
            folder_id,
            json.dumps(numbers),
            Pruned.NO,
        )
        if changed != len(numbers):
            raise StaleBatch("another run has changed some of these files")
    published = put_output_files(ledger, batch, staged)
    ledger.execute(
        "UPDATE batch SET state = ?, committed_at = ? WHERE id = ?",
        BatchState.COMMITTED,
        int(time.time()),
        batch,
    )
    ledger.advance_generation()
    return published


def doubt_parquet(ledger: Ledger, dates: Iterable[tuple[str, str]]) -> None:
    """Note that it is not known which lines of these dates are in Parquet.

    A date is the folders of its first and last hour.
    """
    with ledger.transaction():
        for first, last in dates:
            ledger.execute(
                "UPDATE output_file SET parquet_batch = 0 WHERE output_partition IN"
                " (SELECT id FROM output_partition WHERE kind = ? AND folder BETWEEN ? AND ?)",
                Kind.EVENTS,
                first,
                last,
            )
