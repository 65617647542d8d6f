"""The text of one log file -> its records: raw bytes plus the fields that route them.

There are two steps, because they may run in different places. `decompress` runs in the fetching
threads, `split` in the main thread (JSON holds the GIL). No content of the bytes raises an error.
Every byte of every record ends up in `records` or, with a reason, in `rejected`, and `damage` says
why a file is damaged. A reason holds offsets, lengths and kinds, never text of an event. Time and
memory are linear in the text, whatever it is.

Nearly every file takes the fast path (`fast_path`): msgspec cuts it, and the pieces add up to the
whole file. Any other file goes to `json_scan`, which also tells why top-level keys beside `Records`
are neither records nor damage.

Not here: where a record goes on disk, whether it is a duplicate, and what becomes of rejected
bytes.

Measured, records of 1.5 KB, MB of JSON per CPU-second for `split` alone: 400 in log files of 8
records, 440 of 600 (two passes of msgspec and nothing else: 640), 250 indented; by way of
`json_scan` 40.
"""

from collections.abc import Sequence
from typing import Final

import msgspec

from .decompress import Decompressed, compression_left_in, decompress
from .fast_path import CHUNK, plain_log_file_elements
from .json_scan import Scan, Slices
from .lines import HeldBytes
from .mapped_text import Text
from .record import LogFileContent, Rejected
from .record_fields import read_records

PART_BYTES: Final = 4 * CHUNK
"""Bytes of a large log file's text that are looked at together."""


def read_log_file(body: bytes, limit: int) -> LogFileContent:
    """Decompress and split: return what the object `body` of a bucket holds.

    >>> read_log_file(b'{"Records":[{"eventTime":"2023-07-10T11:42:58Z"}]}', 1000).records
    [Record(line=b'{"eventTime":"2023-07-10T11:42:58Z"}', routing=RoutingFields(recipient=None,
    caller=None, region=None, hour='2023/07/10/11'), index=0, time='2023-07-10T11:42:58Z', name='?',
    event_id='')]
    """
    return split(decompress(body, limit))


def split(log_file: Decompressed) -> LogFileContent:
    """Return the records of a log file.

    In damaged compressed data nothing counts as a record, however whole it looks. A flipped bit
    yields whole records with wrong bytes, long before the checksum at the end could tell.
    """
    return cut_up(log_file).whole()


class CutLogFile(msgspec.Struct, frozen=True):
    """A log file whose text is cut into pieces, which are read in parts of a limited number.

    A piece takes 16 to 64 bytes. A record that is routed and written takes a kilobyte, and a log
    file may hold a million small records.
    """

    elements: Sequence[HeldBytes]
    leftovers: list[Rejected]
    """Text that is no element."""
    is_verified: bool
    """Whether the compressed data is sound, so that the elements may be records."""
    has_breaks: bool
    """Whether there is a CR or LF somewhere."""
    damage: str | None
    sha256: bytes | None
    size: int
    first: int = 0
    """Position in the file's `Records` of the first element."""

    def whole(self) -> LogFileContent:
        """Return the whole content at once."""
        return self._content(0, len(self.elements), self.leftovers)

    def part_count(self, limit: int) -> int:
        """Return how many parts there are, of at most `limit` elements and leftovers each."""
        if self._is_small(limit):
            return 1
        return max(len(self._ends(limit)), len(self._leftover_ends(limit)))

    def part(self, number: int, limit: int) -> LogFileContent:
        """Return the `number`-th part, counted from 0."""
        if number == 0 and self._is_small(limit):  # as nearly all log files are
            return self.whole()
        first, end = _bounds(self._ends(limit), number)
        leftovers = slice(*_bounds(self._leftover_ends(limit), number))
        return self._content(first, end, self.leftovers[leftovers])

    def _is_small(self, limit: int) -> bool:
        return (
            len(self.elements) <= limit
            and not self.leftovers
            and not isinstance(self.elements, Slices)
        )

    def _ends(self, limit: int) -> list[int]:
        """The first element behind each part. A part of many bytes has fewer than `limit`."""
        number = len(self.elements)
        if not isinstance(self.elements, Slices):  # so the text is not very large
            return [*range(limit, number, limit), number]
        ends = [self.elements.reach(0, limit, PART_BYTES)] if number else [0]
        while ends[-1] < number:
            ends.append(self.elements.reach(ends[-1], limit, PART_BYTES))
        return ends

    def _leftover_ends(self, limit: int) -> list[int]:
        """The first leftover behind each part, as `_ends` has it for elements."""
        ends = []
        number = size = 0
        for at, leftover in enumerate(self.leftovers):
            if number == limit or (number and size + len(leftover.data) > PART_BYTES):
                ends.append(at)
                number = size = 0
            number += 1
            size += len(leftover.data)
        return [*ends, len(self.leftovers)]

    def _content(self, first: int, end: int, leftovers: Sequence[Rejected]) -> LogFileContent:
        """Read the elements from `first` up to before `end`, and add the leftovers."""
        elements = self.elements[first:end]
        if self.is_verified:
            records, rejected, newlines_replaced = read_records(
                elements, self.first + first, self.has_breaks
            )
        else:
            records, newlines_replaced = [], 0
            damage = self.damage or ""
            rejected = [
                Rejected(i, "unverified", damage, raw) for i, raw in enumerate(elements, first)
            ]
        rejected += leftovers
        return LogFileContent(
            records, rejected, self.damage, self.sha256, self.size, newlines_replaced
        )


def _bounds(ends: Sequence[int], number: int) -> tuple[int, int]:
    """Where the `number`-th part begins and ends. Parts behind the last are empty."""
    starts = [0, *ends]
    return starts[min(number, len(ends))], starts[min(number + 1, len(ends))]


def cut_up(log_file: Decompressed) -> CutLogFile:
    """Cut the text of a log file into pieces."""
    data = log_file.data
    damage = log_file.damage
    has_breaks = data.find(b"\n") >= 0 or data.find(b"\r") >= 0
    elements: Sequence[HeldBytes] | None
    if damage is not None:
        elements, leftovers = _unverified(data, damage)
    else:
        elements, leftovers = plain_log_file_elements(data, has_breaks), []
        if elements is None:
            elements, damage, leftovers = _scan(data)
    return CutLogFile(
        elements,
        leftovers,
        log_file.damage is None,
        has_breaks,
        damage,
        log_file.sha256,
        len(data),
    )


def _unverified(data: Text, damage: str) -> tuple[Sequence[HeldBytes], list[Rejected]]:
    if not data:
        return [], [Rejected(None, "unreadable", damage, b"")]
    scan = Scan(data)
    if not scan.elements:
        return [], [Rejected(None, "unverified", damage, memoryview(data))]
    texts = [Rejected(None, "unverified", damage, leftover.data) for leftover in scan.leftovers]
    return scan.elements, texts


def _scan(data: Text) -> tuple[Sequence[HeldBytes], str | None, list[Rejected]]:
    """Find the elements the slow, exact way: elements, damage, and text that is no element."""
    layer = compression_left_in(data)
    if layer is not None:
        return [], layer, [Rejected(None, "unreadable", layer, memoryview(data))]
    scan = Scan(data)
    if scan.damage is not None and not scan.elements:
        return [], scan.damage, [Rejected(None, "unreadable", scan.damage, memoryview(data))]
    leftovers = [
        Rejected(None, "remainder", leftover.reason, leftover.data) for leftover in scan.leftovers
    ]
    return scan.elements, scan.damage, leftovers
