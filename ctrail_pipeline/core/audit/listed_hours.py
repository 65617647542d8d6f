"""The state of each hour of a source prefix, as the listing and the ledger tell it.

An hour is open if it is not covered, or if something of it is still to be brought in. What signed
digests say of an hour belongs to `digest_hours`; merging the two belongs to `hour_states`.
"""

from collections.abc import Iterator, Sequence

from ctrail_pipeline.core.keys.coverage import Range, cursor, intersection, merged, uncovered
from ctrail_pipeline.core.keys.minutes import MINUTES_PER_DAY, MINUTES_PER_HOUR, Minute

from .compare_report import PrefixReport
from .findings import HourState
from .hour_states import HourRange, joined


def listed_hours(
    wanted: Range, covered: Sequence[Range], report: PrefixReport, first_day: int | None
) -> list[HourRange]:
    """Return the state of each hour from the first log file's day to the newest log file.

    Sets the report's `tail`.
    """
    if first_day is None:
        return []
    reached = cursor(covered) or Minute(0)
    last_open = _end_of_open_hours(report)
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
    open_ranges += _open_hours(report)
    is_open = [intersection(span, open_range) for open_range in merged(open_ranges)]
    states = [
        *((hours, HourState.OPEN) for hours in is_open if hours),
        *((hours, HourState.LISTED_COMPLETE) for hours in uncovered(span, is_open)),
    ]
    return joined(
        HourRange(hours.start // MINUTES_PER_HOUR, hours.end // MINUTES_PER_HOUR, state)
        for hours, state in sorted(states, key=lambda item: item[0])
    )


def _open_hours(report: PrefixReport) -> Iterator[Range]:
    """Yield each hour for which something is still to be brought in."""
    for day, counts in report.days.items():
        for hour in range(24) if counts.open_hours and day else ():
            if counts.open_hours >> hour & 1:
                start = Minute(day * MINUTES_PER_DAY + hour * MINUTES_PER_HOUR)
                yield Range(start, Minute(start + MINUTES_PER_HOUR))


def _end_of_open_hours(report: PrefixReport) -> int:
    """Return the minute at which the last open hour ends; 0 if no hour is open."""
    ends = (
        day * MINUTES_PER_DAY + counts.open_hours.bit_length() * MINUTES_PER_HOUR
        for day, counts in report.days.items()
        if counts.open_hours
    )
    return max(ends, default=0)


def _in_hours(window: Range) -> Range:
    """Return the whole hours that a stretch of time touches."""
    start = window.start // MINUTES_PER_HOUR * MINUTES_PER_HOUR
    end = -(-window.end // MINUTES_PER_HOUR) * MINUTES_PER_HOUR
    return Range(Minute(start), Minute(end))
