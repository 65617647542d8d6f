"""Coverage: which stretches of key time are done, and which must be listed. Pure.

Key order is not delivery order: a log file may turn up whose key sorts before keys that were
processed long ago. So the ledger keeps ranges instead of a "last key". Inside a covered range every
key that a listing returned has a row in the ledger. Nothing outside a range is ever assumed done.

The newest moment known is the time of a key, but never later than its object's LastModified. Some
buckets have a wrong clock, so this machine's clock plus a day is a further limit. These limits can
only make less key time covered.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from .minutes import FOREVER, MINUTES_PER_DAY, MINUTES_PER_HOUR, Minute


class Range(NamedTuple):
    """A stretch of key time, in UTC minutes since 1970: with its start, without its end."""

    start: Minute
    end: Minute

    def __bool__(self) -> bool:
        """Whether the range holds any minute."""
        return self.start < self.end


EVERYTHING = Range(Minute(0), FOREVER)


@dataclass(frozen=True, slots=True)
class Lookback:
    """How far behind the newest covered minute listing starts again."""

    hours: int
    """In every run, since log files may come hours late."""
    horizon_days: int
    """In a deep listing, once a day, since AWS redelivers for 30 days."""


def merged(ranges: Iterable[Range]) -> list[Range]:
    """Return the same minutes in as few ranges as possible, in order."""
    result: list[Range] = []
    for item in sorted(filter(None, ranges)):
        if result and item.start <= result[-1].end:
            result[-1] = Range(result[-1].start, max(result[-1].end, item.end))
        else:
            result.append(item)
    return result


def intersection(first: Range, second: Range) -> Range:
    """Return the minutes that both ranges hold; an empty range if there are no such minutes."""
    return Range(max(first.start, second.start), min(first.end, second.end))


def uncovered(wanted: Range, covered: Iterable[Range]) -> list[Range]:
    """Return the minutes of `wanted` that no range of `covered` holds."""
    gaps = []
    start = wanted.start
    for item in merged(covered):
        gap = Range(start, min(item.start, wanted.end))
        if gap:
            gaps.append(gap)
        start = max(start, item.end)
    rest = Range(start, wanted.end)
    if rest:
        gaps.append(rest)
    return gaps


def cursor(covered: Sequence[Range]) -> Minute | None:
    """Return the end of the newest covered range, which people see as the partition's cursor."""
    return max((item.end for item in covered), default=None)


def windows_to_list(
    wanted: Range,
    covered: Sequence[Range],
    lookback: Lookback,
    *,
    deep: bool,
    now: Minute = FOREVER,
) -> list[Range]:
    """Return the stretches of key time that a run has to list, newest first.

    These are the wanted minutes that are not covered, and a stretch behind the cursor, where late
    log files turn up: the last `hours`, or in a deep listing the last `horizon_days`. A cursor
    beyond `now` was moved there by a LastModified from the future. Late log files are then looked
    for behind `now`.
    """
    windows = uncovered(wanted, covered)
    newest = cursor(covered)
    if newest is not None:
        newest = min(newest, now)
        back = (
            lookback.horizon_days * MINUTES_PER_DAY if deep else lookback.hours * MINUTES_PER_HOUR
        )
        again = intersection(wanted, Range(Minute(max(0, newest - back)), FOREVER))
        windows.append(again)
    return merged(windows)[::-1]


def whole_days(window: Range) -> tuple[int, int]:
    """Return the first day whose folder a window touches, and the day after the last such day.

    Keys lie in day folders, so listing works in whole days.
    """
    return window.start // MINUTES_PER_DAY, -(-window.end // MINUTES_PER_DAY)


def settled(listed: Range, wanted: Range, newest_known: Minute) -> Range:
    """Return the part of a completely listed stretch that may be called covered.

    It ends at the time of the newest key known of the source prefix (`newest_known`, limited by
    LastModified). Log files of a later time may exist already and not be delivered yet.
    """
    part = intersection(listed, wanted)
    return Range(part.start, min(part.end, newest_known))
