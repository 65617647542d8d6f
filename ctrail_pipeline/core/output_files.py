"""Values about output files that the ledger and the output share: what makes a name, size.

The output stages a file, and the ledger gives it the number that makes its name. Neither files nor
rows are touched here.
"""

from enum import IntEnum
from typing import Final, NamedTuple, Protocol


class Kind(IntEnum):
    """What a file holds, and so which folder it belongs under."""

    EVENTS = 0
    QUARANTINE = 1
    PARQUET = 2
    """The events of `EVENTS` again, as rows."""


class Compression(IntEnum):
    """How a file of JSON Lines is compressed. Parquet is compressed inside."""

    NONE = 0
    GZIP = 1
    ZSTD = 2

    @property
    def ending(self) -> str:
        """What a name ends with."""
        return _ENDINGS[self]


_ENDINGS: Final = {Compression.NONE: "", Compression.GZIP: ".gz", Compression.ZSTD: ".zst"}
_FILE_NAME: Final = {
    Kind.EVENTS: "events_{:05d}.jsonl",
    Kind.QUARANTINE: "quarantine_{:05d}.jsonl",
    Kind.PARQUET: "part-{:05d}.parquet",
}


class StagedFile(NamedTuple):
    """A file that lies in the staging folder, durable and whole."""

    part: int
    kind: Kind
    folder: str
    lines: int
    size: int
    """Bytes."""
    sha256: bytes
    lineage: bytes
    compression: Compression = Compression.NONE


class PublishedFile(NamedTuple):
    """A file with the number that makes its final name."""

    part: int
    kind: Kind
    folder: str
    number: int
    size: int
    """Bytes."""
    compression: Compression = Compression.NONE

    @property
    def name(self) -> str:
        """The file's final name."""
        return _FILE_NAME[self.kind].format(self.number) + _ENDINGS[self.compression]


def compression_of(name: str) -> Compression:
    """Return the compression that a file's name says."""
    for compression, ending in _ENDINGS.items():
        if ending and name.endswith(ending):
            return compression
    return Compression.NONE


class FileName(NamedTuple):
    """The final name of a file, which may be a file of others."""

    kind: Kind
    folder: str
    """Path relative to the kind's root; empty for the root itself."""
    name: str


class NamedFile(Protocol):
    """A file by its final name: a `FileName`, a `PublishedFile`."""

    @property
    def kind(self) -> Kind:
        """Kind of the file: says which root its folder is under."""

    @property
    def folder(self) -> str:
        """Path relative to the kind's root; empty for the root itself."""

    @property
    def name(self) -> str:
        """Name in the folder."""
