"""Building a segment of identities: the identities of a batch, or those of several older segments.

A segment's identities are sorted and packed; a large segment carries a Bloom filter. Writing
segments to the ledger is in `segments`; when older ones are merged is decided in `core.upkeep`.
"""

from collections.abc import Collection, Iterable

from ctrail_pipeline.core.log_file.identity import IDENTITY_BYTES

from .bloom_filter import new_filter
from .packed_identities import merge_sorted
from .rows import NewSegment


def build_segment(
    partition: str,
    identities: Collection[bytes],
    event_keys: Iterable[bytes],
    false_positive: float,
) -> NewSegment:
    """Pack identities into a segment, with a filter if there are many."""
    ordered = sorted(identities)
    bloom = new_filter(len(ordered), false_positive)
    if bloom is not None:
        bloom.update(ordered)
    return NewSegment(
        partition,
        len(ordered),
        b"".join(ordered),
        bloom.save_bytes() if bloom is not None else None,
        b"".join(sorted(set(event_keys))),
    )


def merge_identities(
    partition: str, blobs: list[bytes], event_keys: bytes, false_positive: float
) -> NewSegment:
    """Merge the sorted identities of several segments; no identity is in two. Empties `blobs`."""
    number = sum(map(len, blobs)) // IDENTITY_BYTES
    bloom = new_filter(number, false_positive)
    identities = merge_sorted(blobs, IDENTITY_BYTES, bloom)
    packed_filter = bloom.save_bytes() if bloom is not None else None
    return NewSegment(partition, number, identities, packed_filter, event_keys)
