"""Which days the folders of a source prefix hold: `2026/`, `2026/01/` and `2026/01/15/`. Pure.

A day is a number of days since 1970. A folder's days are the first one, and the one behind the
last. Not here: how folders are listed (`folder_walk`).
"""

from collections.abc import Sequence
from typing import Final

from ctrail_pipeline.core.keys.coverage import Lookback, whole_days, windows_to_list
from ctrail_pipeline.core.keys.minutes import FOREVER, MINUTES_PER_DAY, Minute, day_number

from .sources import Source

DAY_DEPTH: Final = 3
"""Folders on the way from a source prefix's folder to a day's: the year, the month, the day."""
_WIDTHS: Final = (4, 2, 2)
_LAST_DAY: Final = FOREVER // MINUTES_PER_DAY


def day_windows(source: Source, lookback: Lookback, now: Minute) -> list[tuple[int, int]]:
    """The days to list, newest first, as few stretches as possible.

    No day folder is in two of them, so that none is listed twice.
    """
    days: list[tuple[int, int]] = []
    for window in windows_to_list(
        source.wanted, source.covered, lookback, deep=source.deep, now=now
    )[::-1]:
        first, end = whole_days(window)
        if days and first <= days[-1][1]:
            days[-1] = (days[-1][0], max(days[-1][1], end))
        else:
            days.append((first, end))
    return days[::-1]


def days_of_folder(names: Sequence[str]) -> tuple[int, int] | None:
    """The days of a year's, month's or day's folder; None if its name is no date.

    `names` are the folders on the way from the source prefix's folder, such as `2026`, `01`.
    """
    if any(
        len(name) != width or not (name.isascii() and name.isdigit())
        for name, width in zip(names, _WIDTHS, strict=False)
    ):
        return None
    year, month, day = (*map(int, names), *(1,) * (DAY_DEPTH - len(names)))
    first = day_number(year, month, day)
    if first is None or first <= 0:
        return None
    if len(names) == 1:
        end = day_number(year + 1, 1, 1)
    elif len(names) == 2:
        end = day_number(year + month // 12, month % 12 + 1, 1)
    else:
        end = first + 1
    return first, end or _LAST_DAY


def first_day_from(minute: Minute) -> int:
    """The first day that begins at or after a minute."""
    return -(-minute // MINUTES_PER_DAY)
