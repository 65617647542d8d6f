"""Merging segments: eight segments of a size become one, as in a log-structured store.

A question to a dedup partition asks every segment of the partition, and every batch adds one. An
hour that came in over a day of small runs would have hundreds. A merge neither loses nor adds
identities, so it may happen beside any run: whoever asks a segment that is gone is told so, and
asks the merged segment, which is newer. The commit does the same. Only segments of published
batches are merged: a batch that may still be taken back keeps its identities apart.
"""

import time
from collections.abc import Iterable, Sequence
from typing import Final

from ctrail_pipeline.core.ledger.ledger import Ledger
from ctrail_pipeline.core.ledger.packed_identities import merge_sorted
from ctrail_pipeline.core.ledger.rows import SegmentGone
from ctrail_pipeline.core.ledger.segment_building import merge_identities
from ctrail_pipeline.core.ledger.segments import (
    LedgerSegments,
    mergeable_segments,
    newest_segment,
    partitions_with_segments,
    replace_segments,
)
from ctrail_pipeline.core.log_file.identity import EVENT_KEY_BYTES

MERGED_TOGETHER: Final = 8
LARGEST: Final = 1 << 20
"""The most identities of a merged segment: 16 MB. Making and writing one took 85 MB."""
_FILTERS_BETTER_BY: Final = 256
"""How much better a merged segment's filter is: a false "maybe" has up to 16 MB read, which takes
as long as 25,000 questions."""
_BATCHES_BETWEEN: Final = 64
"""Batches between two looks at all partitions that the run added to. At partitions with large
segments it looks every 8 batches."""
_LARGE: Final = 4_096
"""The fewest identities of a large segment."""


def segments_to_merge(sizes: Iterable[tuple[int, int]]) -> list[list[int]]:
    """Return the ids of segments of a partition that become one; `sizes` are (id, identities).

    Eight segments of about a size become one, in order; fewer where eight would be too large. A
    segment that has half of the most identities is left alone.
    """
    kinds: dict[int, list[tuple[int, int]]] = {}
    for id_, size in sorted(sizes):
        if size <= LARGEST // 2:
            kinds.setdefault((size.bit_length() + 2) // 3, []).append((id_, size))
    merges = []
    for kind in kinds.values():
        while len(kind) >= MERGED_TOGETHER:
            group, kind = kind[:MERGED_TOGETHER], kind[MERGED_TOGETHER:]
            while sum(size for _, size in group) > LARGEST:
                group.pop()
            merges.append([id_ for id_, _ in group])
    return merges


class SegmentMerger:
    """Merges the segments of the dedup partitions to which one run adds."""

    def __init__(self, ledger: Ledger, false_positive: float) -> None:
        self._ledger = ledger
        self._false_positive = false_positive / _FILTERS_BETTER_BY
        self._since = newest_segment(ledger)
        self._batches = 0

    def after_batch(self) -> None:
        """Merge now and then in a long run: its hours fill with segments while it lasts."""
        self._batches += 1
        if self._batches % _BATCHES_BETWEEN == 0:
            self.merge()
        elif self._batches % MERGED_TOGETHER == 0:
            self.merge(least=_LARGE)

    def merge(self, seconds: float = 30.0, least: int = 1) -> int:
        """Merge for about so many seconds; return by how many segments there are fewer.

        Only partitions that got a segment with at `least` so many identities are looked at.
        """
        deadline = time.monotonic() + seconds
        until, went = newest_segment(self._ledger), 0
        for partition in partitions_with_segments(
            self._ledger, self._since, least, MERGED_TOGETHER
        ):
            # A merged segment may be the eighth of its own size.
            while merged := sum(
                len(ids) - 1
                for ids in segments_to_merge(mergeable_segments(self._ledger, partition))
                if self._merge(partition, ids)
            ):
                went += merged
            if time.monotonic() > deadline:
                return went
        if least == 1:
            self._since = until
        return went

    def _merge(self, partition: str, ids: Sequence[int]) -> bool:
        ledger = self._ledger
        try:
            keys = merge_sorted(
                [LedgerSegments(ledger).segment_event_keys(id_) for id_ in ids], EVENT_KEY_BYTES
            )
            identities = [LedgerSegments(ledger).segment_identities(id_) for id_ in ids]
        except SegmentGone:
            return False  # another run has merged them
        merged = merge_identities(partition, identities, keys, self._false_positive)
        with self._ledger.transaction():
            return replace_segments(self._ledger, ids, merged)
