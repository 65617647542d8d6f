"""What a rebuild does about Parquet: look for files, name dates that differ, repair them.

The comparison and the repair of one date belong to `parquet_repair`.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from functools import partial

from ctrail_pipeline.core.output.folders import OutputFolders
from ctrail_pipeline.core.output.parquet import ParquetRecord, hours_of_date, parquet_folder
from ctrail_pipeline.core.output_files import Kind, PublishedFile

from .parquet_repair import Repaired, repair
from .parquet_row_hashes import RowSums
from .rebuild_files import EVENTS_FILE, output_files
from .rebuild_lines import WrittenLine, events_in, lines_of
from .rebuild_result import Rebuilt


def has_parquet(folders: OutputFolders, kinds: Sequence[Kind]) -> bool:
    """Whether Parquet of this ledger lies in the output."""
    return Kind.PARQUET in kinds and any(
        folders.roots[Kind.PARQUET].glob("account=*/region=*/date=*/*.parquet")
    )


def note_parquet(sums: RowSums, folders: OutputFolders, result: Rebuilt) -> None:
    """Name the dates whose rows are not those of the events, and change nothing.

    Parquet is not repaired where the configuration no longer writes it.
    """
    for folder in sums.differing():
        surplus = sums.surplus[folder]
        what = "not the rows" if not surplus else f"{abs(surplus):,} rows too "
        what += "" if not surplus else "many" if surplus > 0 else "few"
        where = folders.roots[Kind.PARQUET] / folder
        result.note(
            f"{where}: {what} for the events of this date; with `parquet` in `output_formats`, a"
            " rebuild repairs it"
        )


def repair_parquet(folders: OutputFolders, dates: Iterable[str]) -> Iterator[Repaired]:
    """Make the folders of these dates hold what the lines hold; yield what was done to each."""
    files: dict[str, list[PublishedFile]] = defaultdict(list)
    for kind, path, folder, number in output_files(folders, [Kind.PARQUET], Rebuilt()):
        files[folder].append(PublishedFile(0, kind, folder, number, path.stat().st_size))
    for date in dates:
        yield repair(folders, files[date], partial(_lines_of_date, folders, date))


def _lines_of_date(folders: OutputFolders, date: str) -> Iterator[list[ParquetRecord]]:
    """Yield the lines that a date's folder of Parquet must hold, about 4 MB at a time."""
    root = folders.roots[Kind.EVENTS]
    day = hours_of_date(date)[0].rpartition("/")[0]
    for path in sorted((root / day).glob("*/*")):
        relative = path.relative_to(root)
        match = EVENTS_FILE.fullmatch(relative.as_posix())
        # In this order: a link that leads to itself is no file, and cannot be resolved.
        if (
            match is not None
            and path.is_file()
            and path.resolve() == root.resolve() / relative  # it lies behind no link
        ):
            for lines in lines_of(path):
                yield parquet_records(events_in(lines, match[1]), match[1])


def parquet_records(lines: Iterable["WrittenLine | None"], folder: str) -> list[ParquetRecord]:
    """Return the rows of the lines of an hour; nobody knows where in a log file they stood."""
    date = parquet_folder(folder)
    return [ParquetRecord(date, line.time, line.text, 0, None) for line in lines if line]
