"""What is known of each hour of key time, from several witnesses: pure arithmetic over hour ranges.

A reconcile says what is listed and committed; signed digests say what there should be. Here the two
are brought together. Not here: how either of them is found out.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

from ctrail_pipeline.core.keys.source_prefix import SourcePrefix

from .findings import Finding, HourState


class HourRange(NamedTuple):
    """Hours of key time with one state, in hours since 1970, first and one past the last."""

    start: int
    end: int
    state: HourState


@dataclass(frozen=True)
class Evidence:
    """What another witness, such as the validation of digests, found out."""

    findings: Sequence[Finding] = ()
    hours: Mapping[SourcePrefix, Sequence[HourRange]] = field(default_factory=dict)
    """By source partition, in order and without overlap; PROVED, OPEN or CONTRADICTED."""


def agreed(listed: HourState, witness: HourState | None) -> HourState:
    """The state of an hour by what a listing says and what another witness says of it.

    A contradiction stands whoever says so; only what is listed complete can be proved; and a
    witness that has nothing to say of an hour takes nothing away from it.
    """
    if HourState.CONTRADICTED in (listed, witness):
        return HourState.CONTRADICTED
    if listed is HourState.LISTED_COMPLETE and witness is HourState.PROVED:
        return HourState.PROVED
    return listed


def merge_hours(
    listed: Sequence[HourRange], witness: Sequence[HourRange], tail: int | None = None
) -> list[HourRange]:
    """The states of all hours that either has something to say of, in as few ranges as possible.

    Hours that were not listed are OPEN, unless the witness contradicts them. From the hour `tail`
    on all that is listed is in, and they are open only as more might come: whoever can tell that
    nothing does proves them.
    """
    edges = sorted({edge for one in (*listed, *witness) for edge in (one.start, one.end)})
    if tail is not None and edges and edges[0] < tail < edges[-1]:
        edges = sorted({*edges, tail})
    merged: list[HourRange] = []
    left, right = iter(listed), iter(witness)
    at, other = next(left, None), next(right, None)
    for start, end in pairwise(edges):
        while at is not None and at.end <= start:
            at = next(left, None)
        while other is not None and other.end <= start:
            other = next(right, None)
        ours = at.state if at is not None and at.start <= start else None
        theirs = other.state if other is not None and other.start <= start else None
        if tail is not None and start >= tail and theirs is HourState.PROVED:
            merged.append(HourRange(start, end, HourState.PROVED))
        elif ours is not None or theirs is not None:
            merged.append(HourRange(start, end, agreed(ours or HourState.OPEN, theirs)))
    return joined(merged)


def joined(ranges: Iterable[HourRange]) -> list[HourRange]:
    """The same hours in as few ranges as possible; `ranges` are in order."""
    result: list[HourRange] = []
    for one in ranges:
        if result and result[-1].end == one.start and result[-1].state is one.state:
            result[-1] = HourRange(result[-1].start, one.end, one.state)
        elif one.start < one.end:
            result.append(one)
    return result
