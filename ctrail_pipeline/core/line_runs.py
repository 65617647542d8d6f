"""Line runs: which consecutive lines of an output file came from which log file, in few bytes.

The ledger keeps the packed form for each output file: by it, any line leads back to its log file.
The output packs the line runs of the files that it stages. Log files are named by their batch and
their position in it; what they are is not known here.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple


class LineRun(NamedTuple):
    """Consecutive lines of an output file that come from the same log file."""

    batch: int
    """The batch that brought the log file in."""
    position: int
    """The position of the log file in that batch."""
    lines: int


def pack_lineage(runs: Iterable[Sequence[int]]) -> bytes:
    """Pack line runs in a few bytes each (LEB128).

    A line run is (position of a log file in its batch, lines). In a merged file it is
    (batch, position, lines), as the lines of a merged file come from several batches.
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
    """Return what `pack_lineage` packed for a file that is not merged."""
    numbers = _unpacked(packed)
    return list(zip(numbers[::2], numbers[1::2], strict=True))


def line_runs_of(packed: bytes, batch: int, *, merged: bool) -> list[LineRun]:
    """Return the line runs of any file; `batch` wrote the file."""
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
