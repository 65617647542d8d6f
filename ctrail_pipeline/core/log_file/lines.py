"""Lines of the output: held as bytes, or, where they are very long, made while they are written.

One record, or the part of a log file that cannot be told apart, may have 256 MB.
"""

import base64
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Final

import msgspec

from .mapped_text import pieces_of

LARGEST_JOIN: Final = 32 * 1024 * 1024
"""Bytes. Longer data is not copied."""
HeldBytes = bytes | memoryview
"""Bytes that are there as a whole: a copy, or a view of a log file's text. May also be a
`msgspec.Raw`, which to type checkers is bytes, and which is used like a view."""
HELD_LINES: Final = (bytes, msgspec.Raw, memoryview)
"""The classes of HeldBytes. To ask an ordinary line for these takes 0.05 µs, and to ask whether it
is a `LongLine` 0.4: an abstract class looks its subclasses up."""
_SPACES: Final = bytes.maketrans(b"\n\r", b"  ")


class LongLine(ABC):
    """A line that is made in pieces."""

    @abstractmethod
    def __len__(self) -> int:
        """Return how many bytes the line has."""

    @abstractmethod
    def pieces(self) -> Iterator[bytes]:
        """Yield the line."""

    def __bytes__(self) -> bytes:
        """Return the whole line."""
        return b"".join(self.pieces())


class EncodedLine(LongLine):
    """A line that holds bytes in base64."""

    def __init__(self, head: bytes, data: HeldBytes, tail: bytes) -> None:
        self._head = head
        self._data = memoryview(data)
        self._tail = tail

    def __len__(self) -> int:
        """Return how many bytes the line has."""
        return len(self._head) + -(-len(self._data) // 3) * 4 + len(self._tail)

    def pieces(self) -> Iterator[bytes]:
        """Yield the line."""
        yield self._head
        for piece in pieces_of(self._data):  # so long that base64 pads no piece but the last
            yield base64.b64encode(piece)
        yield self._tail


class UnbrokenLine(LongLine):
    """A record with spaces in place of CR and LF."""

    def __init__(self, record: HeldBytes) -> None:
        self.record = memoryview(record)
        """The record as it stands in the log file."""

    def __len__(self) -> int:
        """Return how many bytes the line has."""
        return len(self.record)

    def pieces(self) -> Iterator[bytes]:
        """Yield the line."""
        for piece in self._pieces():
            yield piece.translate(_SPACES)

    def count_breaks(self) -> int:
        """Return how many CR and LF the record has."""
        return sum(piece.count(b"\n") + piece.count(b"\r") for piece in self._pieces())

    def _pieces(self) -> Iterator[bytes]:
        return map(bytes, pieces_of(self.record))


Line = HeldBytes | LongLine


def without_breaks(raw: HeldBytes) -> tuple[Line, int]:
    """Return a record with spaces in place of CR and LF, and how many of these it had."""
    if len(raw) > LARGEST_JOIN:
        line = UnbrokenLine(raw)
        number = line.count_breaks()
        return (line if number else raw), number
    raw = bytes(raw)  # a view cannot be searched
    if b"\n" not in raw and b"\r" not in raw:
        return raw, 0
    # These calls are 2.4 times as fast as translate.
    number = raw.count(b"\n") + raw.count(b"\r")
    return raw.replace(b"\n", b" ").replace(b"\r", b" "), number
