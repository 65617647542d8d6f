"""The new files of a batch: lines of events and quarantine, and the events once more as Parquet."""

from collections.abc import Iterator, Sequence
from itertools import groupby, islice
from operator import attrgetter
from typing import TYPE_CHECKING, Final

from ctrail_pipeline.core.log_file.lines import HeldBytes, Line, LongLine
from ctrail_pipeline.core.output.new_files import NewFile
from ctrail_pipeline.core.output_files import Compression, Kind

from .content import LogFileInBatch
from .routed_batch import OutputLine, RoutedBatch

if TYPE_CHECKING:
    from ctrail_pipeline.core.output.parquet import ParquetFile

_POSITION: Final = attrgetter("position")
_PLACE: Final = attrgetter("position", "index")


def line_files_of(
    routed: RoutedBatch, lines_a_file: int, compression: Compression
) -> list[NewFile]:
    """Return the files that hold a round's lines: see `lines_by_folder` for their order.

    Notes the log files that have new lines, and counts the bytes of their new events.
    """
    files = []
    for (kind, folder), lines in lines_by_folder(routed).items():
        for first in range(0, len(lines), lines_a_file):
            chunk = lines[first : first + lines_a_file]
            texts = [line.text for line in chunk]
            runs = [(position, len(list(run))) for position, run in groupby(map(_POSITION, chunk))]
            files.append(NewFile(kind, folder, texts, runs, compression))
            routed.with_lines.update(position for position, _ in runs)
            if kind is Kind.EVENTS:
                _count_bytes(routed, texts, runs)
    return files


def lines_by_folder(routed: RoutedBatch) -> dict[tuple[Kind, str], list[OutputLine]]:
    """Return a round's lines by folder, in the order of their log files and of the records there.

    The order depends on nothing but the lines, so that a file can be made again (`restage`).
    """
    by_folder: dict[tuple[Kind, str], list[OutputLine]] = {}
    groups: dict[tuple[Kind, str], str] = {}
    mixed = set()
    for name, group in routed.groups.items():
        folder = None
        folder_lines: list[OutputLine] = []
        for line in group.values():
            if line.folder is not folder:
                folder = line.folder
                key = (line.kind, folder)
                folder_lines = by_folder.setdefault(key, [])
                if groups.setdefault(key, name) != name:
                    mixed.add(key)
            folder_lines.append(line)
    for key, lines in by_folder.items():
        # The lines of one group are in the order of their records already.
        lines.sort(key=_PLACE if key in mixed else _POSITION)
    return by_folder


def parquet_files_of(
    log_files: Sequence[LogFileInBatch], routed: RoutedBatch
) -> Iterator["ParquetFile"]:
    """Make Parquet files of the events among a round's lines."""
    # Imported here, since most runs write no Parquet: the import costs each process 5 ms.
    from ctrail_pipeline.core.output.parquet import ParquetRecord, parquet_files, parquet_folder

    events = [
        line
        for group in routed.groups.values()
        for line in group.values()
        if line.kind is Kind.EVENTS
    ]
    events.sort(key=_PLACE)  # rows of one time are in this order, which `restage` can repeat
    folders = {folder: parquet_folder(folder) for folder in {line.folder for line in events}}
    records = [
        ParquetRecord(
            folders[line.folder], line.time, _bytes_of(line.text), line.position, line.index
        )
        for line in events
    ]
    sources = [
        (log_file.ref.source.source_prefix.bucket, log_file.ref.key) for log_file in log_files
    ]
    return parquet_files(records, sources)


def _count_bytes(
    routed: RoutedBatch, texts: Sequence[Line], runs: Sequence[tuple[int, int]]
) -> None:
    sizes = map(len, texts)
    for position, lines in runs:
        size = sum(islice(sizes, lines)) + lines
        routed.bytes_out[position] = routed.bytes_out.get(position, 0) + size


def _bytes_of(text: Line) -> HeldBytes:
    return bytes(text) if isinstance(text, LongLine) else text
