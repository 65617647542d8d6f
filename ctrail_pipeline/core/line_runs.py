"""Line runs: which consecutive lines of an output file came from which log file, in few bytes.

The ledger keeps the packed form for each output file; any line leads back to its log file by it.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple


class LineRun(NamedTuple):
    """Lines of a file that follow each other and come from one log file."""

    batch: int
    """The batch that brought the log file in."""
    position: int
    """The log file's, in that batch."""
    lines: int


def pack_lineage(runs: Iterable[Sequence[int]]) -> bytes:
    """Runs of (position of a log file in its batch, lines) in a few bytes each (LEB128).

    Of a merged file: (batch, position, lines), as its lines come from several.
    """
    packed = bytearray()
    for run in runs:
        for number in run:
            while number > 0x7F:
                packed.append(number & 0x7F | 0x80)
                number >>= 7
            packed.append(number)
    return bytes(packed)


def unpack_lineage(packed: bytes) -> list[tuple[int, int]]:
    """What `pack_lineage` packed, of a file that is not merged."""
    numbers = _unpacked(packed)
    return list(zip(numbers[::2], numbers[1::2], strict=True))


def runs_of(packed: bytes, batch: int, *, merged: bool) -> list[LineRun]:
    """The lineage of any file; `batch` is the one that wrote it."""
    if merged:
        numbers = iter(_unpacked(packed))
        return [LineRun(*run) for run in zip(numbers, numbers, numbers, strict=True)]
    return [LineRun(batch, position, lines) for position, lines in unpack_lineage(packed)]


def _unpacked(packed: bytes) -> list[int]:
    numbers = []
    number = shift = 0
    for byte in packed:
        number |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            numbers.append(number)
            number = shift = 0
    return numbers
