"""Writing one JSONL file from the lines of several old ones, with their lineage.

The text of a merged file is copied from the old files byte for byte, a piece at a time, while each
old file is compared with what the ledger says was written. Old files of any compression become one
of today's. Which files are merged belongs to `files_to_merge`, merging Parquet to
`parquet_merging`.
"""

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from ctrail_pipeline.core.ledger.queries_compaction import OldFile
from ctrail_pipeline.core.line_runs import LineRun, line_runs_of
from ctrail_pipeline.core.output.interface import Output
from ctrail_pipeline.core.output_files import Compression, Kind, NamedFile

from .checked_blocks import Altered, checked_blocks


class Slice(NamedTuple):
    """Consecutive lines of an old file; `first` counts from 0."""

    file: NamedFile
    old: OldFile
    first: int
    lines: int


@dataclass
class MergedFile:
    """A JSONL file to be written, from lines of several old files."""

    output: Output
    """Where the old files are."""
    folder: str
    slices: Sequence[Slice]
    compression: Compression = Compression.NONE
    kind: Kind = Kind.EVENTS
    text_bytes: int | None = None
    """The ledger knows how large the old files are, but not their text."""
    is_merged: bool = True
    problem: str = ""
    """Set while the file is written, if an old file is found altered: the file must not be used."""
    lineage: Sequence[LineRun] = field(init=False)

    def __post_init__(self) -> None:
        self.lineage = list(_lineage(self.slices))

    @property
    def parquet_batch(self) -> int | None:
        """The newest of the batches that wrote its lines as Parquet, too."""
        return max((part.old.parquet_batch for part in self.slices), key=lambda batch: batch or 0)

    @property
    def line_count(self) -> int:
        """How many lines the file has."""
        return sum(part.lines for part in self.slices)

    def write_to(self, put: Callable[[bytes], None]) -> None:
        """Write the file's bytes, in pieces; set `problem` if an old file is found altered."""
        try:
            for part in self.slices:
                for block in _lines_of(self.output, part):
                    put(block)
        except Altered as altered:
            self.problem = str(altered)


def slices_of(
    files: Sequence[tuple[NamedFile, OldFile]], lines_of_files: Iterable[int]
) -> list[list[Slice]]:
    """Divide the lines of old files, in order, into new files of so many lines each.

    Lines that no new file has room for are a slice of their own.
    """
    rooms = iter(lines_of_files)
    slices: list[list[Slice]] = [[]]
    room = next(rooms)
    for file, old in files:
        first = 0
        while first < old.lines:
            if not room:
                slices.append([])
                room = next(rooms, sys.maxsize)
            lines = min(room, old.lines - first)
            slices[-1].append(Slice(file, old, first, lines))
            first += lines
            room -= lines
    return slices


def _lines_of(output: Output, part: Slice) -> Iterator[bytes]:
    """Yield the lines of a slice, in pieces. The whole old file is read and checked."""
    at, end = 0, part.first + part.lines
    for block in checked_blocks(output, part.file, part.old):
        lines = block.count(b"\n")
        if at >= part.first and at + lines <= end and (at < end):
            yield block if at + lines < end else block[: block.rfind(b"\n") + 1]
        else:
            start = _behind(block, part.first - at)
            stop = _behind(block, end - at)
            if start < stop:
                yield block[start:stop]
        at += lines
    if at != part.old.lines:
        raise Altered(
            f"{output.address_of(part.file)} has {at} lines, and the ledger says"
            f" {part.old.lines}: its folder is not compacted; restore the ledger from a"
            " backup as new as the output"
        )


def _behind(block: bytes, line_ends: int) -> int:
    """Return the offset behind so many line ends; the block's length if it has fewer."""
    at = 0
    for _ in range(line_ends):
        at = block.find(b"\n", at) + 1
        if not at:
            return len(block)
    return at


def _lineage(slices: Sequence[Slice]) -> Iterator[LineRun]:
    """Yield the line runs of a merged file; neighbours from one log file become one run."""
    last: LineRun | None = None
    for part in slices:
        runs = line_runs_of(part.old.lineage, part.old.batch, merged=part.old.merged)
        for run in _runs_in(runs, part):
            if last is not None and last[:2] == run[:2]:
                last = last._replace(lines=last.lines + run.lines)
            else:
                if last is not None:
                    yield last
                last = run
    if last is not None:
        yield last


def _runs_in(runs: Sequence[LineRun], part: Slice) -> Iterator[LineRun]:
    """Yield the line runs of an old file that lie in a slice, cut at its ends."""
    at, end = 0, part.first + part.lines
    for run in runs:
        lines = min(at + run.lines, end) - max(at, part.first)
        if lines > 0:
            yield run._replace(lines=lines)
        at += run.lines
