"""The state of each hour of a source prefix, as the listing and the ledger tell it.

An hour is open if it is not covered, or if something of it is still to be brought in. What signed
digests say of an hour belongs to `hour_states`.
"""

from collections.abc import Sequence

from ctrail_pipeline.core.keys.coverage import (
    Range,
    cursor,
    intersection,
    merged,
    uncovered,
)
from ctrail_pipeline.core.keys.key_time import MINUTES_PER_DAY, MINUTES_PER_HOUR, Minute

from .compare_report import PartitionReport
from .findings import HourState
from .hour_states import HourRange, joined


def listed_hours(
    wanted: Range, covered: Sequence[Range], report: PartitionReport, first_day: int | None
) -> list[HourRange]:
    """The state of each hour by listing and ledger, from the first log file to the newest."""
    if first_day is None:
        return []
    reached = cursor(covered) or Minute(0)
    last_open = max(
        (
            day * MINUTES_PER_DAY + counts.open_hours.bit_length() * MINUTES_PER_HOUR
            for day, counts in report.days.items()
            if counts.open_hours
        ),
        default=0,
    )
    newest = max(reached, last_open)
    if report.is_listed:
        report.tail = max(reached // MINUTES_PER_HOUR, last_open // MINUTES_PER_HOUR)
    span = _in_hours(
        intersection(wanted, Range(Minute(first_day * MINUTES_PER_DAY), Minute(newest)))
    )
    if not span:
        return []
    open_ranges = [span] if not report.is_listed else []
    open_ranges += [_in_hours(gap) for gap in uncovered(span, covered)]
    for day, counts in report.days.items():
        for hour in range(24) if counts.open_hours and day else ():
            if counts.open_hours >> hour & 1:
                start = Minute(day * MINUTES_PER_DAY + hour * MINUTES_PER_HOUR)
                open_ranges.append(Range(start, Minute(start + MINUTES_PER_HOUR)))
    is_open = [intersection(span, one) for one in merged(open_ranges)]
    states = [
        *((one, HourState.OPEN) for one in is_open if one),
        *((one, HourState.LISTED_COMPLETE) for one in uncovered(span, is_open)),
    ]
    return joined(
        HourRange(one.start // MINUTES_PER_HOUR, one.end // MINUTES_PER_HOUR, state)
        for one, state in sorted(states, key=lambda item: item[0])
    )


def _in_hours(window: Range) -> Range:
    """The whole hours that a stretch touches."""
    start = window.start // MINUTES_PER_HOUR * MINUTES_PER_HOUR
    end = -(-window.end // MINUTES_PER_HOUR) * MINUTES_PER_HOUR
    return Range(Minute(start), Minute(end))
