"""Identities as a segment packs them: sorted, side by side in one blob of bytes.

They stay packed as they are stored, and a question goes to the packed bytes: sets of them would
take six times the memory (95 bytes an identity), and to build a set takes as long as to ask. The
same code serves the hashes of eventIDs, which are shorter.
"""

from bisect import bisect_left
from collections.abc import Collection, Iterable, Iterator, Sequence
from functools import lru_cache
from struct import Struct
from typing import Final

from rbloom import Bloom

from ctrail_pipeline.core.log_file.identity import IDENTITY_BYTES

_ITEMS_A_PIECE: Final = 1_024
_ITEMS_A_RANGE: Final = 50_000
_ONE_BY_ONE_FROM: Final = 12
"""How many times dearer a step of a binary search is than a step through the blob's beginnings."""


def merge_sorted(blobs: list[bytes], width: int, bloom: Bloom | None = None) -> bytes:
    """Return the items of sorted blobs, each once and sorted; empty `blobs`.

    The items are put into `bloom`, too.
    """
    pieces = []
    for group in _ranges(blobs, width):
        items = list(dict.fromkeys(sorted(group)))
        pieces.append(b"".join(items))
        if bloom is not None:
            bloom.update(items)
    blobs.clear()
    return b"".join(pieces)


def _ranges(blobs: Sequence[bytes], width: int) -> Iterator[list[bytes]]:
    """Yield the items of sorted blobs, a range of their values at a time, to hold few objects."""
    rounds = 1 + sum(map(len, blobs)) // width // _ITEMS_A_RANGE
    begins = [0] * len(blobs)
    for number in range(1, rounds + 1):
        items: list[bytes] = []
        for index, blob in enumerate(blobs):
            end = len(blob)
            if number < rounds:
                bound = (number * 2**16 // rounds).to_bytes(2, "big")
                end = bisect_left(_Sorted(blob, width), bound) * width
            items += split_identities(blob[begins[index] : end], width)
            begins[index] = end
        yield items


def split_identities(packed: bytes, width: int = IDENTITY_BYTES) -> list[bytes]:
    """Return the single identities (or other items of a `width`) of a segment's blob."""
    return [packed[at : at + width] for at in range(0, len(packed), width)]


def held_among(items: Collection[bytes], packed: bytes, width: int = IDENTITY_BYTES) -> set[bytes]:
    """Return the members of `items` that a segment's blob holds."""
    return Wanted(items, width).held_by(packed)


class Wanted:
    """Identities (or other items of a `width`) that are looked for in one blob after the other.

    Measured, in units of a comparison with one item of a blob: to compare only the beginnings, as
    numbers, takes 0.3, and a step of a binary search takes 4.
    """

    def __init__(self, items: Collection[bytes], width: int) -> None:
        self._items = items if isinstance(items, set) else set(items)
        self._width = width
        self._beginnings: set[int] | None = None

    def __len__(self) -> int:
        return len(self._items)

    def held_by(self, packed: bytes) -> set[bytes]:
        """Return the members that a blob holds."""
        items, width = self._items, self._width
        length = len(packed) // width
        if length >= _ONE_BY_ONE_FROM * len(items) * length.bit_length():
            blob = _Sorted(packed, width)
            return {item for item in items if blob.holds(item)}
        held: set[bytes] = set()
        numbers, piece = _beginning(width), _piece(width)
        whole = len(packed) // piece.size * piece.size
        if whole and self._beginnings is None:
            self._beginnings = {number for group in self._numbered() for number in group}
        beginnings = self._beginnings or set()
        for at in range(0, whole, piece.size):
            if not beginnings.isdisjoint(numbers.unpack_from(packed, at)):
                held.update(items.intersection(piece.unpack_from(packed, at)))
        held.update(items.intersection(split_identities(packed[whole:], width)))
        return held

    def _numbered(self) -> Iterator[Iterable[int]]:
        packed, numbers = b"".join(self._items), _beginning(self._width)
        whole = len(packed) // numbers.size * numbers.size
        for at in range(0, whole, numbers.size):
            yield numbers.unpack_from(packed, at)
        for at in range(whole, len(packed), self._width):
            yield (int.from_bytes(packed[at : at + 4], "little"),)


@lru_cache(8)
def _piece(width: int) -> Struct:
    """Return a Struct of many items: to unpack them is three times as fast as to slice each."""
    return Struct(f"{width}s" * _ITEMS_A_PIECE)


@lru_cache(8)
def _beginning(width: int) -> Struct:
    """Return a Struct of many items' first bytes, as numbers.

    Numbers are cheaper to make, and to look for, than bytes.
    """
    return Struct("<" + f"I{width - 4}x" * _ITEMS_A_PIECE)


class _Sorted(Sequence[bytes]):
    """A segment's blob as a sorted sequence, for bisect; the blob is not copied."""

    def __init__(self, packed: bytes, width: int) -> None:
        self._packed = packed
        self._width = width

    def __len__(self) -> int:
        return len(self._packed) // self._width

    def __getitem__(self, index: int) -> bytes:  # type: ignore[override]
        at = index * self._width
        return self._packed[at : at + self._width]

    def holds(self, item: bytes) -> bool:
        at = bisect_left(self, item)
        return at < len(self) and self[at] == item
