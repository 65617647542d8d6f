"""Merging what a listing and what signed digests say of each hour of key time.

A comparison with the listing says which hours are wholly committed. Signed digests say what there
should be. This module is pure arithmetic over ranges of hours; `listed_hours` and `digest_hours`
find the states out.
"""

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple

from .findings import HourState


class HourRange(NamedTuple):
    """Hours of key time with one state, in hours since 1970, first and one past the last."""

    start: int
    end: int
    state: HourState


def agreed(listed: HourState, digests: HourState | None) -> HourState:
    """Return the state of an hour from what the listing and what the digests say of the hour.

    A contradiction stands, whether the listing or a digest says so. Only an hour that is listed
    complete can be proved. Digests that say nothing of an hour change nothing.
    """
    if HourState.CONTRADICTED in (listed, digests):
        return HourState.CONTRADICTED
    if listed is HourState.LISTED_COMPLETE and digests is HourState.PROVED:
        return HourState.PROVED
    return listed


def merge_hours(
    listed: Sequence[HourRange], digests: Sequence[HourRange], tail: int | None = None
) -> list[HourRange]:
    """Return the states of all hours that either side knows, in as few ranges as possible.

    Hours that were not listed are OPEN, unless digests contradict them. From the hour `tail` on,
    everything that is listed is in, and hours are open only because more log files might come.
    Digests that prove such an hour settle that no more come.
    """
    edges = sorted({edge for hours in (*listed, *digests) for edge in (hours.start, hours.end)})
    if tail is not None and edges and edges[0] < tail < edges[-1]:
        edges = sorted({*edges, tail})
    merged: list[HourRange] = []
    coming_listed, coming_digests = iter(listed), iter(digests)
    by_listing, by_digests = next(coming_listed, None), next(coming_digests, None)
    for start, end in pairwise(edges):
        while by_listing is not None and by_listing.end <= start:
            by_listing = next(coming_listed, None)
        while by_digests is not None and by_digests.end <= start:
            by_digests = next(coming_digests, None)
        listed_state = _state_at(by_listing, start)
        digest_state = _state_at(by_digests, start)
        if tail is not None and start >= tail and digest_state is HourState.PROVED:
            merged.append(HourRange(start, end, HourState.PROVED))
        elif listed_state is not None or digest_state is not None:
            state = agreed(listed_state or HourState.OPEN, digest_state)
            merged.append(HourRange(start, end, state))
    return joined(merged)


def _state_at(hours: HourRange | None, hour: int) -> HourState | None:
    """Return the state at an hour that does not lie behind the range."""
    return hours.state if hours is not None and hours.start <= hour else None


def joined(ranges: Iterable[HourRange]) -> list[HourRange]:
    """Return the same hours in as few ranges as possible; `ranges` are in order."""
    result: list[HourRange] = []
    for hours in ranges:
        if result and result[-1].end == hours.start and result[-1].state is hours.state:
            result[-1] = HourRange(result[-1].start, hours.end, hours.state)
        elif hours.start < hours.end:
            result.append(hours)
    return result
