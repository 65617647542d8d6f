"""Is this record new? Identities, segments and Bloom filters; exact, whatever the filters say.

An identity is the first 16 bytes of SHA-256 over the line as written: same bytes, same event. (Not
eventID, and no fast hash: whoever may write to a log bucket could plant a record that makes us drop
a real one.) The ledger keeps the identities that one batch added to one dedup partition as a
segment; a large one carries a Bloom filter, which says a certain "no" or a "maybe" that the sorted
identities then decide. Dedup partitions come from a record's own fields only, so that all copies of
a record meet in the same one. Beside the identities lie hashes of the eventIDs: they drop nothing,
they only show that two different records claim to be the same event.
"""

from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Collection, Iterable, Sequence
from hashlib import sha256
from typing import Final, NamedTuple, Protocol

from rbloom import Bloom
from xxhash import xxh3_64_digest, xxh3_64_intdigest

IDENTITY_BYTES: Final = 16
EVENT_KEY_BYTES: Final = 6
"""Of the hash of an eventID. In an hour of a million events one false alarm in 280 such hours."""
FILTERED_FROM: Final = 4096
"""Identities from which on a segment has a filter: below, building a set is as cheap."""
_CACHED_BYTES: Final = 48 * 1024 * 1024
"""The bound of `KnownIdentities`; it forgets what was not asked for lately."""
_BYTES_IN_SET: Final = 95
"""Measured: an identity in a set."""
_PARTITION_BYTES: Final = 1_000


class Segment(NamedTuple):
    """The identities that one batch added to one dedup partition, as the ledger keeps them."""

    id: int
    size: int
    """How many identities it holds."""
    identities: bytes
    """Sorted; empty for a segment with a filter, whose identities are read when a maybe asks."""
    filter: bytes | None
    event_keys: bytes
    """Sorted hashes of the eventIDs; empty where `identities` are."""


class NewSegment(NamedTuple):
    """A segment that a batch is about to add."""

    partition: str
    size: int
    identities: bytes
    filter: bytes | None
    event_keys: bytes


class SegmentReader(Protocol):
    """What this module asks of the ledger."""

    def segments(self, partition: str, after: int) -> list[Segment]:
        """Segments of a dedup partition with an id above `after`, in order."""
        ...

    def segment_identities(self, segment_id: int) -> bytes:
        """The sorted identities of one segment."""
        ...

    def segment_event_keys(self, segment_id: int) -> bytes:
        """The sorted hashes of eventIDs of one segment."""
        ...

    def segments_removed(self) -> int:
        """How often segments were taken out of the ledger (a batch that was un-committed)."""
        ...


def identity_of(line: bytes) -> bytes:
    """The identity of a record by the line as it is written."""
    return sha256(line).digest()[:IDENTITY_BYTES]


def event_key_of(event_id: str) -> bytes:
    """What is kept of an eventID: a fast hash will do, since it decides nothing."""
    return xxh3_64_digest(event_id.encode(errors="replace"))[:EVENT_KEY_BYTES]


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


def split_identities(packed: bytes, width: int = IDENTITY_BYTES) -> list[bytes]:
    """The single identities (or others of a `width`) of a segment's blob."""
    return [packed[at : at + width] for at in range(0, len(packed), width)]


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


class _Partition:
    """What is known of one dedup partition up to one segment id."""

    def __init__(self) -> None:
        self.version = 0
        self.exact: set[bytes] = set()
        self.event_keys: set[bytes] = set()
        self.filtered: list[tuple[Bloom, int]] = []

    def take(self, segment: Segment) -> None:
        if segment.filter is None:
            self.exact.update(split_identities(segment.identities))
            self.event_keys.update(split_identities(segment.event_keys, EVENT_KEY_BYTES))
        else:
            bloom = Bloom.load_bytes(segment.filter, xxh3_64_intdigest)
            self.filtered.append((bloom, segment.id))
        self.version = segment.id

    @property
    def held_bytes(self) -> int:
        filters = sum(bloom.size_in_bits // 8 for bloom, _ in self.filtered)
        items = len(self.exact) + len(self.event_keys)
        return _PARTITION_BYTES + items * _BYTES_IN_SET + filters


class KnownIdentities:
    """The identities that the ledger holds, read as needed and kept for the next batch.

    `refresh` before asking; what it says then is true of the ledger at that moment, and `versions`
    tells the commit which segments were seen, so that newer ones can be checked there.
    """

    def __init__(self, ledger: SegmentReader) -> None:
        self._ledger = ledger
        self._partitions: OrderedDict[str, _Partition] = OrderedDict()
        self.removed = -1
        """The ledger's count of removals that this view is of."""

    def refresh(self, names: Iterable[str]) -> None:
        """Bring the named dedup partitions up to date with the ledger."""
        removed = self._ledger.segments_removed()
        if removed != self.removed:
            self._partitions.clear()
            self.removed = removed
        for name in names:
            partition = self._partitions.setdefault(name, _Partition())
            self._partitions.move_to_end(name)
            for segment in self._ledger.segments(name, partition.version):
                partition.take(segment)

    def versions(self, names: Iterable[str]) -> dict[str, int]:
        """The newest segment seen of each dedup partition."""
        return {name: self._partitions[name].version for name in names}

    def known_among(self, name: str, identities: Collection[bytes]) -> set[bytes]:
        """Those of `identities` that the ledger already holds in this dedup partition."""
        partition = self._partitions[name]
        known = partition.exact.intersection(identities)
        for bloom, segment_id in partition.filtered:
            maybe = [item for item in identities if item not in known and item in bloom]
            if maybe:
                blob = _Sorted(self._ledger.segment_identities(segment_id), IDENTITY_BYTES)
                known.update(item for item in maybe if blob.holds(item))
        return known

    def event_keys_among(self, name: str, event_keys: Collection[bytes]) -> set[bytes]:
        """Those of `event_keys` that records of this dedup partition have already.

        Asked of new records only: such a one shares an eventID with another, but not its bytes.
        """
        partition = self._partitions[name]
        known = partition.event_keys.intersection(event_keys)
        for _, segment_id in partition.filtered:
            blob = _Sorted(self._ledger.segment_event_keys(segment_id), EVENT_KEY_BYTES)
            known.update(key for key in event_keys if blob.holds(key))
        return known

    def trim(self) -> None:
        """Forget what was not asked for lately, down to the bound."""
        held = sum(partition.held_bytes for partition in self._partitions.values())
        while held > _CACHED_BYTES and self._partitions:
            _, oldest = self._partitions.popitem(last=False)
            held -= oldest.held_bytes
