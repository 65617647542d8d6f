"""Is this record new? Identities, segments and Bloom filters; exact, whatever the filters say.

An identity is the first 16 bytes of SHA-256 over the line as written: same bytes, same event. (Not
eventID, and no fast hash: whoever may write to a log bucket could plant a record that makes us drop
a real one.) The ledger keeps the identities that one batch added to one dedup partition as a
segment; a large one carries a Bloom filter, which says a certain "no" or a "maybe" that the sorted
identities then decide. Dedup partitions come from a record's own fields only, so that all copies of
a record meet in the same one. Beside the identities lie hashes of the eventIDs: they drop nothing,
they only show that two different records claim to be the same event.

Identities stay packed as they are stored, and a question goes to the packed bytes: sets of them
would take six times the memory (95 bytes an identity), and to build one takes as long as to ask.
"""

from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from functools import lru_cache
from struct import Struct
from typing import Final, NamedTuple, Protocol

from rbloom import Bloom
from xxhash import xxh3_64_intdigest

from ctrail_pipeline.core.log_file.identity import EVENT_KEY_BYTES, IDENTITY_BYTES

FILTERED_FROM: Final = 32_768
"""Identities from which on a segment has a filter: to make one takes as long as to hash the
records, and a batch that is about as large is compared with the identities faster."""
CACHED_BYTES: Final = 16 * 1024 * 1024
"""The bound of `KnownIdentities`; it forgets what was not asked for lately."""
SEGMENTS_A_READ: Final = 16
"""Segments read from the ledger at once: 12 MB of those without a filter."""
_PARTITION_BYTES: Final = 1_000
_SEGMENT_BYTES: Final = 300
_ITEMS_A_PIECE: Final = 1_024
_ITEMS_A_RANGE: Final = 50_000


class Segment(NamedTuple):
    """The identities that one batch added to one dedup partition, as the ledger keeps them."""

    id: int
    size: int
    """How many identities it holds."""
    identities: bytes
    """Sorted; empty for a segment with a filter, whose identities are read when a maybe asks."""
    filter_bytes: int
    """How long its filter is; 0 without one."""
    event_keys: bytes
    """Sorted hashes of the eventIDs; empty where `identities` are."""
    is_merged: bool
    """Whether it stands for older ones, which are gone; of one in an archive, that is not known."""


class NewSegment(NamedTuple):
    """A segment that a batch, or a merge, is about to add."""

    partition: str
    size: int
    identities: bytes
    filter: bytes | None
    event_keys: bytes


class SegmentGone(Exception):
    """A segment was removed: merged with others into a newer one, or its batch taken back."""


class SegmentReader(Protocol):
    """What this module asks of the ledger."""

    def segments(self, partition: str, after: int, most: int = SEGMENTS_A_READ) -> list[Segment]:
        """The first `most` segments of a dedup partition with an id above `after`, in order."""
        ...

    def segment_identities(self, segment_id: int) -> bytes:
        """The sorted identities of one segment. Raises SegmentGone; so do the next two."""
        ...

    def segment_filter(self, segment_id: int) -> bytes:
        """The filter of one segment that has one."""
        ...

    def segment_event_keys(self, segment_id: int) -> bytes:
        """The sorted hashes of eventIDs of one segment."""
        ...

    def segments_removed(self) -> int:
        """How often segments were taken out of the ledger (a batch that was un-committed)."""
        ...


def dedup_partition(account: str | None, region: str | None, hour: str) -> str:
    """The dedup partition of a record, from the record's own fields only."""
    return f"{account or '-'}/{region or '-'}/{hour}"


def build_segment(
    partition: str,
    identities: Collection[bytes],
    event_keys: Iterable[bytes],
    false_positive: float,
) -> NewSegment:
    """Pack identities into a segment, with a filter if there are many."""
    ordered = sorted(identities)
    packed_filter = None
    if len(ordered) >= FILTERED_FROM:
        bloom = Bloom(len(ordered), false_positive, xxh3_64_intdigest)
        bloom.update(ordered)
        packed_filter = bloom.save_bytes()
    return NewSegment(
        partition,
        len(ordered),
        b"".join(ordered),
        packed_filter,
        b"".join(sorted(set(event_keys))),
    )


def merge_identities(
    partition: str, blobs: list[bytes], event_keys: bytes, false_positive: float
) -> NewSegment:
    """One segment of the sorted identities of several; no identity is in two. Empties `blobs`."""
    number = sum(map(len, blobs)) // IDENTITY_BYTES
    bloom = Bloom(number, false_positive, xxh3_64_intdigest) if number >= FILTERED_FROM else None
    identities = merge_sorted(blobs, IDENTITY_BYTES, bloom)
    packed_filter = bloom.save_bytes() if bloom is not None else None
    return NewSegment(partition, number, identities, packed_filter, event_keys)


def merge_sorted(blobs: list[bytes], width: int, bloom: Bloom | None = None) -> bytes:
    """The items of sorted blobs, each once and sorted, and put into `bloom`. Empties `blobs`."""
    pieces = []
    for some in _ranges(blobs, width):
        items = list(dict.fromkeys(sorted(some)))
        pieces.append(b"".join(items))
        if bloom is not None:
            bloom.update(items)
    blobs.clear()
    return b"".join(pieces)


def _ranges(blobs: Sequence[bytes], width: int) -> Iterator[list[bytes]]:
    """The items of sorted blobs, a range of their values at a time: objects of few at once."""
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
    """The single identities (or others of a `width`) of a segment's blob."""
    return [packed[at : at + width] for at in range(0, len(packed), width)]


def held_among(items: Collection[bytes], packed: bytes, width: int = IDENTITY_BYTES) -> set[bytes]:
    """Those of `items` that a segment's blob holds."""
    return _Wanted(items, width).held_by(packed)


class _Wanted:
    """Identities (or others of a `width`) to be looked for in one blob after the other.

    Measured, where to compare with one that a blob holds takes 1: to compare their beginnings only,
    as numbers, takes 0.3, and a step of a binary search 4.
    """

    def __init__(self, items: Collection[bytes], width: int) -> None:
        self._items = items if isinstance(items, set) else set(items)
        self._width = width
        self._beginnings: set[int] | None = None

    def __len__(self) -> int:
        return len(self._items)

    def held_by(self, packed: bytes) -> set[bytes]:
        """Those that a blob holds."""
        items, width = self._items, self._width
        length = len(packed) // width
        if length >= _ONE_BY_ONE_FROM * len(items) * length.bit_length():
            blob = _Sorted(packed, width)
            return {item for item in items if blob.holds(item)}
        held: set[bytes] = set()
        numbers, piece = _beginning(width), _piece(width)
        whole = len(packed) // piece.size * piece.size
        if whole and self._beginnings is None:
            self._beginnings = {item for some in self._numbered() for item in some}
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


_ONE_BY_ONE_FROM: Final = 12
"""How many times dearer a step of a binary search is than one through the blob's beginnings."""
_FILTER_COST: Final = 10
"""How many identities of a blob are read and compared while a filter is asked once."""


@lru_cache(8)
def _piece(width: int) -> Struct:
    """Some items: to unpack them is three times as fast as a slice for each."""
    return Struct(f"{width}s" * _ITEMS_A_PIECE)


@lru_cache(8)
def _beginning(width: int) -> Struct:
    """The first bytes of some items, as numbers: cheaper to make, and to look for, than bytes."""
    return Struct("<" + f"I{width - 4}x" * _ITEMS_A_PIECE)


class _Sorted(Sequence[bytes]):
    """A segment's blob as a sorted sequence, for bisect; no copy of the whole is made."""

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


class _Held(NamedTuple):
    """What is kept of a segment; what is not kept is read when a question needs it."""

    id: int
    size: int
    has_filter: bool
    filter: Bloom | None
    identities: bytes
    event_keys: bytes


class DedupPartition:
    """What the ledger holds of one dedup partition, up to the segment `version`."""

    def __init__(self, ledger: SegmentReader, name: str) -> None:
        self._ledger = ledger
        self._name = name
        self._segments: list[_Held] = []
        self.version = 0
        """The newest segment seen: the commit checks those that are newer."""
        self.held_bytes = _PARTITION_BYTES
        self.counted_bytes = 0
        """Those of the held ones that `KnownIdentities` has counted."""

    def __len__(self) -> int:
        """How many segments are asked."""
        return len(self._segments)

    def look(self) -> None:
        """Look at the segments that were added since; keep what fits into `CACHED_BYTES`."""
        while True:
            try:
                self._look()
            except SegmentGone:
                self._forget()
            else:
                return

    def _look(self) -> None:
        is_new = not self._segments
        while segments := self._ledger.segments(self._name, self.version, SEGMENTS_A_READ):
            if not is_new and any(segment.is_merged for segment in segments):
                # What they were merged of would be asked on, in vain.
                self._forget()
                is_new = True
                continue
            for segment in segments:
                self._take(segment)
            self.version = segments[-1].id

    def known_among(self, identities: Collection[bytes]) -> set[bytes]:
        """Those of `identities` that the ledger already holds in this dedup partition."""
        wanted = set(identities) if self._segments else set()
        return self._asked_again_if_gone(lambda: self._known_among(wanted))

    def event_keys_among(self, event_keys: Collection[bytes]) -> set[bytes]:
        """Those of `event_keys` that records of this dedup partition have already.

        Asked of new records only: such a one shares an eventID with another, but not its bytes.
        """
        wanted = _Wanted(event_keys, EVENT_KEY_BYTES)
        return self._asked_again_if_gone(lambda: self._event_keys_among(wanted))

    def _asked_again_if_gone(self, ask: Callable[[], set[bytes]]) -> set[bytes]:
        """What was merged while it was asked is in a newer segment: look, and ask again.

        Of identities the commit would find out, but not of event keys.
        """
        while True:
            try:
                return ask()
            except SegmentGone:
                self._forget()
                self.look()

    def _known_among(self, wanted: set[bytes]) -> set[bytes]:
        known: set[bytes] = set()
        all_of_them = _Wanted(wanted, IDENTITY_BYTES)
        for held in self._segments if wanted else ():
            asked = all_of_them
            if held.has_filter and held.size > _FILTER_COST * len(wanted):
                bloom = held.filter if held.filter is not None else self._filter(held.id)
                maybe = [item for item in wanted if item in bloom]
                if not maybe:
                    continue
                asked = _Wanted(maybe, IDENTITY_BYTES)
            known |= asked.held_by(held.identities or self._ledger.segment_identities(held.id))
        return known

    def _event_keys_among(self, wanted: _Wanted) -> set[bytes]:
        known: set[bytes] = set()
        for held in self._segments if wanted else ():
            known |= wanted.held_by(held.event_keys or self._ledger.segment_event_keys(held.id))
        return known

    def _take(self, segment: Segment) -> None:
        size = segment.filter_bytes or len(segment.identities) + len(segment.event_keys)
        self.held_bytes += _SEGMENT_BYTES
        bloom, identities, event_keys = None, b"", b""
        if self.held_bytes + size <= CACHED_BYTES:
            self.held_bytes += size
            identities, event_keys = segment.identities, segment.event_keys
            bloom = self._filter(segment.id) if segment.filter_bytes else None
        has_filter = segment.filter_bytes > 0
        self._segments.append(
            _Held(segment.id, segment.size, has_filter, bloom, identities, event_keys)
        )

    def _forget(self) -> None:
        self._segments.clear()
        self.version, self.held_bytes = 0, _PARTITION_BYTES

    def _filter(self, segment_id: int) -> Bloom:
        return Bloom.load_bytes(self._ledger.segment_filter(segment_id), xxh3_64_intdigest)


class KnownIdentities:
    """The identities that the ledger holds, read as needed and kept for the next batch.

    A batch asks one dedup partition after the other, so what is held at once is bounded however
    many it touches and however full they are. `begin` before the first.
    """

    def __init__(self, ledger: SegmentReader) -> None:
        self._ledger = ledger
        self._partitions: OrderedDict[str, DedupPartition] = OrderedDict()
        self._held = 0
        self.removed = -1
        """The ledger's count of removals that this view is of."""

    def begin(self) -> None:
        """A batch begins: forget everything if segments were removed from the ledger."""
        removed = self._ledger.segments_removed()
        if removed != self.removed:
            self._partitions.clear()
            self._held = 0
            self.removed = removed

    def partition(self, name: str) -> DedupPartition:
        """One dedup partition as the ledger has it at this moment; of use until the next call.

        Its `version` tells the commit which segments were seen, so that newer ones can be checked.
        """
        partition = self._partitions.pop(name, None)
        if partition is None:
            partition = DedupPartition(self._ledger, name)
        self._held -= partition.counted_bytes
        partition.look()
        self._partitions[name] = partition
        partition.counted_bytes = partition.held_bytes
        self._held += partition.counted_bytes
        while self._held > CACHED_BYTES and len(self._partitions) > 1:
            _, oldest = self._partitions.popitem(last=False)
            self._held -= oldest.counted_bytes
        return partition
