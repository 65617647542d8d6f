"""The Bloom filters of large segments: making and loading them.

A filter says a certain "no" or a "maybe" about an identity, and only saves time: the identities
themselves decide. Which segments are asked is in `known_identities`.
"""

from typing import Final

from rbloom import Bloom
from xxhash import xxh3_64_intdigest

FILTERED_FROM: Final = 32_768
"""Identities from which on a segment has a filter.

To make a filter takes as long as to hash the records. A batch that is about as large as the segment
is compared with the identities faster.
"""


def new_filter(identities: int, false_positive: float) -> Bloom | None:
    """Return an empty filter for a segment of so many identities; None if they are too few."""
    if identities < FILTERED_FROM:
        return None
    return Bloom(identities, false_positive, xxh3_64_intdigest)


def load_filter(packed: bytes) -> Bloom:
    """Return the filter that a segment's row holds."""
    return Bloom.load_bytes(packed, xxh3_64_intdigest)
