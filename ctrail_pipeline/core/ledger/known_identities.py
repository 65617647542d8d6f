"""Is this record new? What the ledger holds of a dedup partition, kept in memory and asked.

The answers are exact, whatever the Bloom filters say. An identity is the first 16 bytes of SHA-256
over the line as written: same bytes, same event. (Not eventID, and no fast hash: whoever may write
to a log bucket could plant a record that makes us drop a real one.) Beside the identities lie
hashes of the eventIDs: they drop nothing, they only show that two different records claim to be
the same event. Segments are read through `SegmentReader`; no SQL is here.
"""

from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Final, NamedTuple, Protocol

from rbloom import Bloom

from ctrail_pipeline.core.log_file.identity import EVENT_KEY_BYTES, IDENTITY_BYTES

from .bloom_filter import load_filter
from .packed_identities import Wanted
from .rows import Segment, SegmentGone

CACHED_BYTES: Final = 16 * 1024 * 1024
"""The bound of `KnownIdentities`; it forgets what was not asked for lately."""
IDENTITIES_AHEAD: Final = 200_000
"""Identities that are read ahead for a batch at most: 4.4 MB with their event keys."""
SEGMENTS_A_READ: Final = 16
"""Segments read from the ledger at once: 12 MB of those without a filter."""
_PARTITION_BYTES: Final = 1_000
_SEGMENT_BYTES: Final = 300
_FILTER_COST: Final = 10
"""How many identities of a blob are read and compared while a filter is asked once."""


class SegmentReader(Protocol):
    """What this module asks of the ledger."""

    def segments(self, partition: str, after: int, limit: int = SEGMENTS_A_READ) -> list[Segment]:
        """Return segments of a dedup partition with an id above `after`, in order.

        They are fewer than `limit` only if there are no more.
        """
        ...

    def few_newer(self, seen: Mapping[str, int], limit: int) -> dict[str, list[Segment]]:
        """Return the segments with an id above the one given, by dedup partition, in order.

        Dedup partitions with many new segments are left out, so that all the blobs together have
        about `limit` identities at most.
        """
        ...

    def segment_identities(self, segment_id: int) -> bytes:
        """Return the sorted identities of a segment. Raises SegmentGone if it was removed."""
        ...

    def segment_filter(self, segment_id: int) -> bytes:
        """Return the filter of a segment that has one. Raises SegmentGone if it was removed."""
        ...

    def segment_event_keys(self, segment_id: int) -> bytes:
        """Return a segment's sorted hashes of eventIDs. Raises SegmentGone if it was removed."""
        ...


class _Held(NamedTuple):
    """The part of a segment that is kept; the rest is read when a question needs it."""

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
        """The newest segment seen: the commit checks segments that are newer."""
        self.held_bytes = _PARTITION_BYTES
        self.counted_bytes = 0
        """The part of `held_bytes` that `KnownIdentities` has counted."""

    def __len__(self) -> int:
        """Return how many segments are asked."""
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

    def add(self, segments: Sequence[Segment]) -> None:
        """Take segments that were read ahead: all that were added since."""
        if self._segments and any(segment.is_merged for segment in segments):
            self.look()
            return
        try:
            for segment in segments:
                self._take(segment)
                self.version = segment.id
        except SegmentGone:
            self._forget()
            self.look()

    def _look(self) -> None:
        is_new, more = not self._segments, True
        while more:
            segments = self._ledger.segments(self._name, self.version, SEGMENTS_A_READ)
            if not is_new and any(segment.is_merged for segment in segments):
                # The segments that they were merged of would be asked on, in vain.
                self._forget()
                is_new = True
                continue
            for segment in segments:
                self._take(segment)
                self.version = segment.id
            more = len(segments) == SEGMENTS_A_READ

    def known_among(self, identities: Collection[bytes]) -> set[bytes]:
        """Return the members of `identities` that this dedup partition already holds."""
        wanted = set(identities) if self._segments else set()
        return self._asked_again_if_gone(lambda: self._known_among(wanted))

    def event_keys_among(self, event_keys: Collection[bytes]) -> set[bytes]:
        """Return the members of `event_keys` that records of this dedup partition have already.

        Only new records are asked about: they share an eventID with another record, but not its
        bytes.
        """
        wanted = Wanted(event_keys, EVENT_KEY_BYTES)
        return self._asked_again_if_gone(lambda: self._event_keys_among(wanted))

    def _asked_again_if_gone(self, ask: Callable[[], set[bytes]]) -> set[bytes]:
        """Ask; look and ask again if segments were merged meanwhile: a newer one has what they had.

        The commit would find out about identities, but not about event keys.
        """
        while True:
            try:
                return ask()
            except SegmentGone:
                self._forget()
                self.look()

    def _known_among(self, wanted: set[bytes]) -> set[bytes]:
        known: set[bytes] = set()
        all_wanted = Wanted(wanted, IDENTITY_BYTES)
        for held in self._segments if wanted else ():
            asked = all_wanted
            if held.has_filter and held.size > _FILTER_COST * len(wanted):
                bloom = held.filter if held.filter is not None else self._filter(held.id)
                maybe = [item for item in wanted if item in bloom]
                if not maybe:
                    continue
                asked = Wanted(maybe, IDENTITY_BYTES)
            known |= asked.held_by(held.identities or self._ledger.segment_identities(held.id))
        return known

    def _event_keys_among(self, wanted: Wanted) -> set[bytes]:
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
        return load_filter(self._ledger.segment_filter(segment_id))


class KnownIdentities:
    """The identities that the ledger holds, read as needed and kept for the next batch.

    A batch asks one dedup partition after the other. So what is held at once is bounded, however
    many partitions a batch touches and however full they are. Call `begin` before the first.
    """

    def __init__(self, ledger: SegmentReader) -> None:
        self._ledger = ledger
        self._partitions: OrderedDict[str, DedupPartition] = OrderedDict()
        self._held = 0
        self._ahead: dict[str, tuple[int, list[Segment]]] = {}
        """What the last look ahead read of dedup partitions, behind the version that they had."""

    def begin(self) -> None:
        """Begin a batch: forget what the last one read ahead."""
        self._ahead.clear()

    def look_ahead(self, names: Collection[str]) -> None:
        """Read at once what is new of dedup partitions; those with much are read when asked."""
        seen = {
            name: self._partitions[name].version if name in self._partitions else 0
            for name in names
        }
        newer = self._ledger.few_newer(seen, IDENTITIES_AHEAD)
        self._ahead = {name: (seen[name], segments) for name, segments in newer.items()}

    def partition(self, name: str) -> DedupPartition:
        """Return a dedup partition as the ledger has it at this moment; use it until the next call.

        If `look_ahead` read what is new, the moment is that of the look ahead.

        Its `version` tells the commit which segments were seen, so that newer ones can be checked.
        """
        partition = self._partitions.pop(name, None)
        if partition is None:
            partition = DedupPartition(self._ledger, name)
        self._held -= partition.counted_bytes
        version, segments = self._ahead.pop(name, (None, []))
        if version == partition.version:
            partition.add(segments)
        else:
            partition.look()
        self._partitions[name] = partition
        partition.counted_bytes = partition.held_bytes
        self._held += partition.counted_bytes
        while self._held > CACHED_BYTES and len(self._partitions) > 1:
            _, oldest = self._partitions.popitem(last=False)
            self._held -= oldest.counted_bytes
        return partition
