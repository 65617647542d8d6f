"""Files that are to be written: lines of JSON (events, quarantine) and Parquet.

A new file knows its folder and how to write its bytes. `staging` puts the bytes on the disk.
"""

from collections.abc import Callable, Sequence
from itertools import islice
from typing import Final, NamedTuple, Protocol

from ctrail_pipeline.core.log_file.lines import LARGEST_JOIN, HeldBytes, Line, LongLine
from ctrail_pipeline.core.log_file.mapped_text import pieces_of
from ctrail_pipeline.core.output_files import Kind

_LINES_A_WRITE: Final = 256
"""Measured: joins of about 256 records and one write; multi-MB joins are three times dearer."""


class NewFile(NamedTuple):
    """A file to be written."""

    kind: Kind
    folder: str
    """Relative to the kind's root; made of validated parts only."""
    lines: Sequence[Line]
    """Without their line feeds."""
    lineage: Sequence[tuple[int, int]]
    """Runs of lines: a log file's position in its batch, and how many lines in a row are its."""

    @property
    def line_count(self) -> int:
        """How many lines it has."""
        return len(self.lines)

    def write_to(self, put: Callable[[HeldBytes], None]) -> None:
        """Write its bytes, in pieces."""
        lines = iter(self.lines)
        while some := list(islice(lines, _LINES_A_WRITE)):
            if sum(map(len, some)) > LARGEST_JOIN:
                for line in some:
                    for piece in line.pieces() if isinstance(line, LongLine) else pieces_of(line):
                        put(piece)
                    put(b"\n")
            else:
                some.append(b"")
                put(b"\n".join(some))  # type: ignore[arg-type] # what is that short is bytes


class NewParquetFile(NamedTuple):
    """A Parquet file to be written. Its rows say themselves where they came from."""

    folder: str
    content: bytes
    line_count: int
    """Its rows."""
    kind: Kind = Kind.PARQUET
    lineage: Sequence[tuple[int, int]] = ()

    def write_to(self, put: Callable[[HeldBytes], None]) -> None:
        """Write its bytes."""
        put(self.content)


class FileToWrite(Protocol):
    """What `Staging.write` writes."""

    @property
    def kind(self) -> Kind:
        """Which folder it belongs under."""

    @property
    def folder(self) -> str:
        """Relative to the kind's root; made of validated parts only."""

    @property
    def line_count(self) -> int:
        """How many lines, or rows, it has."""

    @property
    def lineage(self) -> Sequence[Sequence[int]]:
        """As `pack_lineage` takes it."""

    def write_to(self, put: Callable[[HeldBytes], None]) -> None:
        """Write its bytes, in pieces; what `put` raises is raised."""
