"""Log files that are too large to be held: they are read twice, in pieces, and never whole.

The first reading proves that the file is in AWS's own form: sound gzip or zstd, and in it
`{"Records":[`, JSON values with nothing but a comma between them, `]}`. The second reading takes
the records, part by part. Any other file (damaged, indented, a record of 32 MB) is unpacked into a
file (`mapped_text`), so nothing here needs to read it.

Measured, a sync of one log file of 255 MB of usual records: 63 MB of memory in place of 442, and
1.6 to 1.7 times the CPU.
"""

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

from .decompress import format_of, size_claimed_by
from .fast_path import (
    BETWEEN_RECORDS,
    CANONICAL_HEAD,
    CANONICAL_TAIL,
    CHUNK,
    LARGEST_AT_ONCE,
    plain_elements,
)
from .json_scan import Scan, max_elements
from .lines import HeldBytes
from .members import Unsound, text_in_pieces
from .record import LogFileContent
from .split import PART_BYTES, CutLogFile
from .unzstd import STREAMED_WINDOW

STREAMED_FROM: Final = LARGEST_AT_ONCE
"""Uncompressed bytes of the smallest log file that is streamed."""
IN_HAND: Final = PART_BYTES + 2 * CHUNK
"""Bytes of text, about, that are held at once beside the compressed body."""


class _NotPlain(Exception):
    """The log file is not in AWS's own form, or too large."""


class _Chunk(NamedTuple):
    elements: int
    bytes: int


class StreamedLogFile:
    """A log file of which only the compressed body is held. It is used like a CutLogFile.

    Asking for the parts is cheap only in their order.
    """

    damage: Final = None

    def __init__(
        self, body: bytes, size: int, sha256: bytes | None, counts: Sequence[_Chunk]
    ) -> None:
        """`counts`: the elements and bytes of each chunk."""
        self._body = body
        self.size = size
        """Uncompressed bytes."""
        self.sha256 = sha256
        """The SHA-256 of the uncompressed bytes; None where it was not asked for."""
        self._counts = counts
        self._next = 0
        self._chunks: Iterator[bytes] = iter(())

    @property
    def held(self) -> int:
        """Bytes of memory that the log file takes."""
        return held_by(self._body)

    def part_count(self, limit: int) -> int:
        """Return how many parts there are, of at most `limit` elements if no chunk has more."""
        return len(self._parts(limit))

    def part(self, number: int, limit: int) -> LogFileContent:
        """Return the `number`-th part, counted from 0."""
        parts = self._parts(limit)
        if number == 0 or number != self._next:
            self._chunks = _chunks(self._body, self.size)
            for _ in range(sum(parts[:number])):
                next(self._chunks)
        self._next = number + 1
        begun = sum(parts[:number])
        elements: list[HeldBytes] = []
        has_breaks = False
        for count in self._counts[begun : begun + parts[number]]:
            chunk = next(self._chunks)
            has_breaks = has_breaks or b"\n" in chunk or b"\r" in chunk
            elements += _elements_again(chunk, count.elements)
        first = sum(count.elements for count in self._counts[:begun])
        cut = CutLogFile(elements, [], True, has_breaks, None, self.sha256, self.size, first)
        return cut.whole()

    def _parts(self, limit: int) -> list[int]:
        """Return how many chunks each part has."""
        parts: list[int] = []
        elements, size = 0, PART_BYTES
        for count in self._counts:
            if elements + count.elements > limit or size >= PART_BYTES:
                parts.append(0)
                elements = size = 0
            parts[-1] += 1
            elements += count.elements
            size += count.bytes
        return parts


def _elements_again(chunk: bytes, number: int) -> Sequence[HeldBytes]:
    """Return the elements of a chunk that is known to be a plain list of `number` elements.

    How deeply msgspec reads depends on how deep the stack is already. So it may refuse in the
    routing thread what it took in the fetching thread. The elements are then told apart without
    recursion.
    """
    elements: Sequence[HeldBytes] | None = plain_elements(chunk)
    if elements is None:
        text = CANONICAL_HEAD + chunk + CANONICAL_TAIL
        elements = Scan(text, limit=number + 1).elements  # one more for the document itself
    if len(elements) != number:
        raise AssertionError(f"{len(elements)} records where {number} were counted")
    return elements


def is_to_be_streamed(body: bytes) -> bool:
    """Whether streaming is worth a try, by the length that the body claims, which may be wrong."""
    return size_claimed_by(body) > STREAMED_FROM


def held_by(body: bytes) -> int:
    """Return the bytes of memory that the log file takes while it is streamed."""
    format_ = format_of(body, STREAMED_WINDOW)
    return len(body) + IN_HAND + (format_.window if format_ else 0)


def stream(body: bytes, limit: int, *, hashed: bool = True) -> StreamedLogFile | None:
    """Return a log file that is read in parts; None if that is not possible."""
    digest = hashlib.sha256() if hashed else None
    counts: list[_Chunk] = []
    size = 0
    try:
        for chunk in _chunks(body, limit, digest):
            elements = plain_elements(chunk)
            if elements is None:
                return None
            counts.append(_Chunk(len(elements), len(chunk)))
            size += len(chunk) + len(b",")
    except (_NotPlain, Unsound):
        return None
    size += len(CANONICAL_HEAD) + len(CANONICAL_TAIL) - len(b",")
    if sum(count.elements for count in counts) > max_elements(size):
        return None
    return StreamedLogFile(body, size, digest.digest() if digest else None, counts)


def _chunks(body: bytes, limit: int, digest: Any = None) -> Iterator[bytes]:
    """Yield the text between head and tail, cut where a record seems to begin, without its comma.

    If each chunk is a plain list of elements, then so are all together: a cut in the wrong place
    leaves a chunk that is not a plain list. Raises _NotPlain or Unsound.
    """
    format_ = format_of(body, STREAMED_WINDOW)
    if format_ is None:
        raise _NotPlain
    text = bytearray()
    size = 0
    searched = CHUNK
    for piece in text_in_pieces(format_, body):
        if digest is not None:
            digest.update(piece)
        is_first = size < len(CANONICAL_HEAD)
        size += len(piece)
        text += piece
        if size > limit or len(text) > LARGEST_AT_ONCE:
            raise _NotPlain
        if is_first and size >= len(CANONICAL_HEAD):
            if not text.startswith(CANONICAL_HEAD):
                raise _NotPlain
            del text[: len(CANONICAL_HEAD)]
        while (cut := text.find(BETWEEN_RECORDS, searched)) >= 0:
            yield bytes(text[: cut + 1])
            del text[: cut + 2]
            searched = CHUNK
        searched = max(CHUNK, len(text) - len(BETWEEN_RECORDS) + 1)
    if size < len(CANONICAL_HEAD) or not text.endswith(CANONICAL_TAIL):
        raise _NotPlain
    yield bytes(text[: -len(CANONICAL_TAIL)])
