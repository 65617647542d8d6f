"""Drops the lines of a batch that the ledger knows, and counts events that share their eventID."""

from collections.abc import Sequence
from operator import attrgetter
from typing import Final

from ctrail_pipeline.core.ledger.known_identities import DedupPartition, KnownIdentities
from ctrail_pipeline.core.ledger.packed_identities import held_among
from ctrail_pipeline.core.log_file.identity import EVENT_KEY_BYTES
from ctrail_pipeline.core.output_files import Kind

from .routed_batch import OutputLine, RoutedBatch

_EVENT_KEY: Final = attrgetter("event_key")


def drop_known(routed: RoutedBatch, known: KnownIdentities, seen: dict[str, int]) -> None:
    """Drop the lines that the ledger or an earlier round has; count duplicates and conflicts.

    Notes in `seen` up to which segment each dedup partition was read, for the commit to check. The
    first round that reads a partition notes it.
    """
    known.look_ahead([name for name, group in routed.groups.items() if group])
    for name, group in routed.groups.items():
        if not group:
            continue
        partition = known.partition(name)
        seen.setdefault(name, partition.version)
        dropped = partition.known_among(group.keys())
        for segment in routed.earlier.get(name, ()):
            dropped |= held_among(group.keys(), segment.identities)
        for identity in dropped:
            line = group.pop(identity)
            if line.kind is Kind.EVENTS:
                routed.duplicates[line.position] = routed.duplicates.get(line.position, 0) + 1
        lines = [line for line in group.values() if line.event_key]
        event_keys = set(map(_EVENT_KEY, lines))
        _count_conflicts(routed, name, lines, event_keys, partition)
        routed.event_keys[name] = event_keys


def _count_conflicts(
    routed: RoutedBatch,
    name: str,
    lines: Sequence[OutputLine],
    event_keys: set[bytes],
    partition: DedupPartition,
) -> None:
    """Count new events that share their eventID with another event: a forgery, or AWS's mistake."""
    taken = partition.event_keys_among(event_keys)
    for segment in routed.earlier.get(name, ()):
        taken |= held_among(event_keys, segment.event_keys, EVENT_KEY_BYTES)
    if not taken and len(event_keys) == len(lines):
        return
    for line in lines:
        if line.event_key in taken:
            routed.conflicts[line.position] = routed.conflicts.get(line.position, 0) + 1
        taken.add(line.event_key)
