"""Which files of a folder are merged, and what a merged JSONL file consists of.

A merged file is copied from the old ones byte for byte, a piece at a time, while each old file is
compared with what the ledger says was written. Rows of Parquet are `parquet_merging`'s.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from ctrail_pipeline.core.ledger.queries_compaction import OldFile
from ctrail_pipeline.core.line_runs import LineRun, line_runs_of
from ctrail_pipeline.core.output_files import Kind

from .checked_blocks import Altered, checked_blocks


class Slice(NamedTuple):
    """Lines of an old file, from the `first` on."""

    path: Path
    old: OldFile
    first: int
    lines: int


@dataclass
class MergedFile:
    """A JSONL file to be written, of lines of several old ones."""

    folder: str
    slices: Sequence[Slice]
    kind: Kind = Kind.EVENTS
    problem: str = ""
    """Says, once it was written, if an old file was found altered: then it must not be used."""
    lineage: Sequence[LineRun] = field(init=False)

    def __post_init__(self) -> None:
        self.lineage = list(_lineage(self.slices))

    @property
    def line_count(self) -> int:
        """How many lines it has."""
        return sum(one.lines for one in self.slices)

    def write_to(self, put: Callable[[bytes], None]) -> None:
        """Write its bytes, in pieces; where an old file is found altered, that is its `problem`."""
        try:
            for one in self.slices:
                for block in _lines_of(one):
                    put(block)
        except Altered as altered:
            self.problem = str(altered)


def slices_of(files: Sequence[tuple[Path, OldFile]], lines_a_file: int) -> list[list[Slice]]:
    """The lines of old files, in order, as files of so many lines each."""
    slices: list[list[Slice]] = [[]]
    room = lines_a_file
    for path, old in files:
        first = 0
        while first < old.lines:
            if not room:
                slices.append([])
                room = lines_a_file
            some = min(room, old.lines - first)
            slices[-1].append(Slice(path, old, first, some))
            first += some
            room -= some
    return slices


def _lines_of(one: Slice) -> Iterator[bytes]:
    """Some lines of an old file, all of which is read and compared."""
    at, end = 0, one.first + one.lines
    for block in checked_blocks(one.path, one.old):
        lines = block.count(b"\n")
        if at >= one.first and at + lines <= end and (at < end):
            yield block if at + lines < end else block[: block.rfind(b"\n") + 1]
        else:
            start = _behind(block, one.first - at)
            stop = _behind(block, end - at)
            if start < stop:
                yield block[start:stop]
        at += lines
    if at != one.old.lines:
        raise Altered(
            f"{one.path} has {at} lines, and the ledger says {one.old.lines}: its folder is not"
            " compacted; restore the ledger from a backup as new as the output"
        )


def _behind(block: bytes, line_ends: int) -> int:
    """Where a block goes on behind so many line ends; its length, if it has fewer."""
    at = 0
    for _ in range(line_ends):
        at = block.find(b"\n", at) + 1
        if not at:
            return len(block)
    return at


def _lineage(slices: Sequence[Slice]) -> Iterator[LineRun]:
    last: LineRun | None = None
    for one in slices:
        for run in _part_of(
            line_runs_of(one.old.lineage, one.old.batch, merged=one.old.merged), one
        ):
            if last is not None and last[:2] == run[:2]:
                last = last._replace(lines=last.lines + run.lines)
            else:
                if last is not None:
                    yield last
                last = run
    if last is not None:
        yield last


def _part_of(runs: Sequence[LineRun], one: Slice) -> Iterator[LineRun]:
    """The runs that the lines of a slice are of."""
    at, end = 0, one.first + one.lines
    for run in runs:
        lines = min(at + run.lines, end) - max(at, one.first)
        if lines > 0:
            yield run._replace(lines=lines)
        at += run.lines
