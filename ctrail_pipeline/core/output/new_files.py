"""Files that are to be written: lines of JSON (events, quarantine) and Parquet.

A new file knows its folder and how to write its bytes. `staging` puts the bytes on the disk.
"""

from collections.abc import Callable, Sequence
from itertools import islice
from typing import Final, NamedTuple, Protocol

from ctrail_pipeline.core.log_file.lines import LARGEST_JOIN, HeldBytes, Line, LongLine
from ctrail_pipeline.core.log_file.mapped_text import pieces_of
from ctrail_pipeline.core.output_files import Compression, Kind

_LINES_A_WRITE: Final = 256
"""Lines that are joined for one write. Measured: joins of several MB are three times dearer."""


class NewFile(NamedTuple):
    """A new file of JSON lines: events or quarantine."""

    kind: Kind
    folder: str
    """Path relative to the kind's root; made of validated parts only."""
    lines: Sequence[Line]
    """The lines without their line feeds."""
    lineage: Sequence[tuple[int, int]]
    """Line runs: a log file's position in its batch, and how many consecutive lines are its."""
    compression: Compression = Compression.NONE

    @property
    def text_bytes(self) -> int | None:
        """Bytes of the text."""
        return sum(map(len, self.lines)) + len(self.lines)

    @property
    def is_merged(self) -> bool:
        """Its lines were in no other file before."""
        return False

    @property
    def line_count(self) -> int:
        """Number of lines."""
        return len(self.lines)

    def write_to(self, put: Callable[[HeldBytes], None]) -> None:
        """Write the file's bytes, in pieces."""
        lines = iter(self.lines)
        while chunk := list(islice(lines, _LINES_A_WRITE)):
            if sum(map(len, chunk)) > LARGEST_JOIN:
                for line in chunk:
                    for piece in line.pieces() if isinstance(line, LongLine) else pieces_of(line):
                        put(piece)
                    put(b"\n")
            else:
                chunk.append(b"")
                put(b"\n".join(chunk))  # type: ignore[arg-type] # lines that are so short are bytes


class NewParquetFile(NamedTuple):
    """A new Parquet file. Its rows themselves say which log files they came from."""

    folder: str
    content: bytes
    line_count: int
    """Number of rows."""
    kind: Kind = Kind.PARQUET
    lineage: Sequence[tuple[int, int]] = ()
    compression: Compression = Compression.NONE
    text_bytes: int | None = None

    @property
    def is_merged(self) -> bool:
        """Its rows were in no other file before."""
        return False

    def write_to(self, put: Callable[[HeldBytes], None]) -> None:
        """Write the file's bytes."""
        put(self.content)


class FileToWrite(Protocol):
    """A file that `Staging.write` can write."""

    @property
    def kind(self) -> Kind:
        """Kind of the file: says which root its folder is under."""

    @property
    def folder(self) -> str:
        """Path relative to the kind's root; made of validated parts only."""

    @property
    def line_count(self) -> int:
        """Number of lines, or rows."""

    @property
    def lineage(self) -> Sequence[Sequence[int]]:
        """Line runs, as `pack_lineage` takes them."""

    @property
    def compression(self) -> Compression:
        """How the file is to be compressed."""

    @property
    def is_merged(self) -> bool:
        """Whether the file takes the place of others, and holds nothing new."""

    @property
    def text_bytes(self) -> int | None:
        """Bytes that `write_to` will write, or None if that is not known."""

    def write_to(self, put: Callable[[HeldBytes], None]) -> None:
        """Write the file's text, in pieces. What `put` raises is raised."""
