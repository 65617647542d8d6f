"""Lines of the output that are too long to be made in memory: made while they are written.

One record, or what cannot be told apart of a log file, may have 256 MB.
"""

import base64
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Final

import msgspec

from .mapped_text import pieces_of

LARGEST_JOIN: Final = 32 * 1024 * 1024
"""Bytes; more is not copied."""
HELD_LINES: Final = (bytes, msgspec.Raw, memoryview)
"""What a line is that is there as a whole. Asked for this, in place of `LongLine`, an ordinary line
answers in 0.05 µs, not 0.4: an abstract class looks its subclasses up."""
_SPACES: Final = bytes.maketrans(b"\n\r", b"  ")


class LongLine(ABC):
    """A line in pieces."""

    @abstractmethod
    def __len__(self) -> int:
        """Its bytes."""

    @abstractmethod
    def pieces(self) -> Iterator[bytes]:
        """The line."""

    def __bytes__(self) -> bytes:
        """All of it, for who needs it."""
        return b"".join(self.pieces())


class EncodedLine(LongLine):
    """A line that holds bytes in base64."""

    def __init__(self, head: bytes, data: bytes | memoryview, tail: bytes) -> None:
        self._head = head
        self._data = memoryview(data)
        self._tail = tail

    def __len__(self) -> int:
        """Its bytes."""
        return len(self._head) + -(-len(self._data) // 3) * 4 + len(self._tail)

    def pieces(self) -> Iterator[bytes]:
        """The line."""
        yield self._head
        for piece in pieces_of(self._data):  # of a length that base64 does not pad
            yield base64.b64encode(piece)
        yield self._tail


class UnbrokenLine(LongLine):
    """A record with spaces in place of CR and LF."""

    def __init__(self, record: bytes) -> None:
        self.record = memoryview(record)
        """As it stands in the log file."""

    def __len__(self) -> int:
        """Its bytes."""
        return len(self.record)

    def pieces(self) -> Iterator[bytes]:
        """The line."""
        for piece in self._pieces():
            yield piece.translate(_SPACES)

    def count_breaks(self) -> int:
        """How many CR and LF there are."""
        return sum(piece.count(b"\n") + piece.count(b"\r") for piece in self._pieces())

    def _pieces(self) -> Iterator[bytes]:
        return map(bytes, pieces_of(self.record))
