"""Coverage arithmetic: which stretches of key time are done, and which must be listed. Pure.

Key order is not delivery order: a log file may turn up whose key sorts before ones that were
processed long ago. So no "last key" is kept, but ranges: inside a covered range every key that a
listing returned has a row in the ledger. Nothing outside a range is ever assumed done. The
newest moment known is a key's time, capped by its object's LastModified, and, since buckets exist
whose clock is wrong, by this machine's clock and a day: that only ever makes less of it covered.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from .key_time import FOREVER, MINUTES_PER_DAY, MINUTES_PER_HOUR, Minute


class Range(NamedTuple):
    """A half-open stretch of key time, in UTC minutes since 1970."""

    start: Minute
    end: Minute

    def __bool__(self) -> bool:
        """Whether it holds any minute."""
        return self.start < self.end


EVERYTHING = Range(Minute(0), FOREVER)


@dataclass(frozen=True, slots=True)
class Lookback:
    """How far behind the newest covered minute listing starts again."""

    hours: int
    """For every run: late log files of the last hours."""
    horizon_days: int
    """For a deep listing, once a day: AWS redelivers for 30 days."""


def merged(ranges: Iterable[Range]) -> list[Range]:
    """The same minutes in as few ranges as possible, in order."""
    result: list[Range] = []
    for item in sorted(filter(None, ranges)):
        if result and item.start <= result[-1].end:
            result[-1] = Range(result[-1].start, max(result[-1].end, item.end))
        else:
            result.append(item)
    return result


def intersection(first: Range, second: Range) -> Range:
    """The minutes that both hold; an empty range if there are none."""
    return Range(max(first.start, second.start), min(first.end, second.end))


def uncovered(wanted: Range, covered: Iterable[Range]) -> list[Range]:
    """The minutes of `wanted` that no range of `covered` holds."""
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
    """What people see as the partition's cursor: the end of the newest covered range."""
    return max((item.end for item in covered), default=None)


def windows_to_list(
    wanted: Range,
    covered: Sequence[Range],
    lookback: Lookback,
    *,
    deep: bool,
    now: Minute = FOREVER,
) -> list[Range]:
    """The stretches of key time that a run has to list, newest first.

    What is wanted and not covered; and behind the cursor, where late log files turn up, the last
    `hours`, or in a deep listing the last `horizon_days`. A cursor beyond `now` was moved there by
    a LastModified from the future: late log files are then looked for behind `now`.
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
    """First day and the day after the last of the day folders that a window touches.

    Keys lie in day folders, so listing works in whole days.
    """
    return window.start // MINUTES_PER_DAY, -(-window.end // MINUTES_PER_DAY)


def settled(listed: Range, wanted: Range, newest_known: Minute) -> Range:
    """The part of a completely listed stretch that may be called covered.

    It ends where the newest key known of the partition ends (`newest_known`, capped by
    LastModified): behind it, log files that exist already may not have been delivered.
    """
    part = intersection(listed, wanted)
    return Range(part.start, min(part.end, newest_known))
