"""What a rebuild does about Parquet: look for files, name dates that differ, repair them.

The comparison and the repair of one date belong to `parquet_repair`.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from functools import partial

from ctrail_pipeline.core.output.interface import Output
from ctrail_pipeline.core.output.parquet import ParquetRecord, hours_of_date, parquet_folder
from ctrail_pipeline.core.output_files import FileName, Kind, PublishedFile

from .parquet_repair import Repaired, repair
from .parquet_row_hashes import RowSums
from .rebuild_files import EVENTS_FILE, output_files
from .rebuild_lines import FileLines, WrittenLine, events_in
from .rebuild_result import Rebuilt


def has_parquet(output: Output, kinds: Sequence[Kind]) -> bool:
    """Whether Parquet of this ledger lies in the output."""
    return Kind.PARQUET in kinds and any(output_files(output, [Kind.PARQUET], Rebuilt()))


def note_parquet(sums: RowSums, output: Output, result: Rebuilt) -> None:
    """Name the dates whose rows are not those of the events, and change nothing.

    Parquet is not repaired where the configuration no longer writes it.
    """
    for folder in sums.differing():
        surplus = sums.surplus[folder]
        what = "not the rows" if not surplus else f"{abs(surplus):,} rows too "
        what += "" if not surplus else "many" if surplus > 0 else "few"
        where = f"{output.location(Kind.PARQUET)}/{folder}"
        result.note(
            f"{where}: {what} for the events of this date; with `parquet` in `output_formats`, a"
            " rebuild repairs it"
        )


def repair_parquet(output: Output, dates: Iterable[str]) -> Iterator[Repaired]:
    """Make the folders of these dates hold what the lines hold; yield what was done to each."""
    files: dict[str, list[PublishedFile]] = defaultdict(list)
    for file, number in output_files(output, [Kind.PARQUET], Rebuilt()):
        entry = output.entry(file)
        size = 0 if entry is None else entry.size
        files[file.folder].append(PublishedFile(0, file.kind, file.folder, number, size))
    for date in dates:
        yield repair(output, files[date], partial(_lines_of_date, output, date))


def _lines_of_date(output: Output, date: str) -> Iterator[list[ParquetRecord]]:
    """Yield the lines that a date's folder of Parquet must hold, about 4 MB at a time."""
    day = hours_of_date(date)[0].rpartition("/")[0]
    for folder, names in output.walk(Kind.EVENTS, day):
        entries = output.entries(Kind.EVENTS, folder)
        for name in names:
            if EVENTS_FILE.fullmatch(f"{folder}/{name}") and entries[name].is_file:
                for lines in FileLines(output, FileName(Kind.EVENTS, folder, name)):
                    yield parquet_records(events_in(lines, folder), folder)


def parquet_records(lines: Iterable["WrittenLine | None"], folder: str) -> list[ParquetRecord]:
    """Return the rows of the lines of an hour; nobody knows where in a log file they stood."""
    date = parquet_folder(folder)
    return [ParquetRecord(date, line.time, line.text, 0, None) for line in lines if line]
