"""Coverage arithmetic, compared with plain sets of minutes."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from ctrail_pipeline.core.keys.coverage import (
    EVERYTHING,
    Lookback,
    Range,
    cursor,
    intersection,
    merged,
    settled,
    uncovered,
    whole_days,
    windows_to_list,
)
from ctrail_pipeline.core.keys.minutes import FOREVER, MINUTES_PER_DAY, MINUTES_PER_HOUR, Minute

MOST = 60
RANGE = st.builds(
    lambda start, end: Range(Minute(start), Minute(end)),
    st.integers(0, MOST),
    st.integers(0, MOST),
)
RANGES = st.lists(RANGE, max_size=6)
DAY = MINUTES_PER_DAY


def span(start: int, end: int) -> Range:
    return Range(Minute(start), Minute(end))


def minutes(*ranges: Range) -> set[int]:
    return {minute for item in ranges for minute in range(item.start, item.end)}


def are_apart_and_in_order(ranges: list[Range]) -> bool:
    return all(first.end < second.start for first, second in pairwise(ranges))


@given(RANGES)
def test_merged_holds_the_same_minutes_in_the_fewest_ranges(ranges: list[Range]) -> None:
    result = merged(ranges)
    assert minutes(*result) == minutes(*ranges)
    assert all(result)
    assert are_apart_and_in_order(result)


@given(RANGES)
def test_the_order_in_which_ranges_come_does_not_matter(ranges: list[Range]) -> None:
    assert merged(ranges[::-1]) == merged(ranges)
    one_by_one: list[Range] = []
    for item in ranges:
        one_by_one = merged([*one_by_one, item])
    assert one_by_one == merged(ranges)


@given(RANGE, RANGE)
def test_an_intersection_holds_the_common_minutes(first: Range, second: Range) -> None:
    assert minutes(intersection(first, second)) == minutes(first) & minutes(second)


@given(RANGE, RANGES)
def test_uncovered_is_what_is_wanted_and_not_covered(wanted: Range, covered: list[Range]) -> None:
    gaps = uncovered(wanted, covered)
    assert minutes(*gaps) == minutes(wanted) - minutes(*covered)
    assert all(gaps)
    assert are_apart_and_in_order(gaps)


@given(RANGE, RANGES)
def test_covering_the_gaps_leaves_none(wanted: Range, covered: list[Range]) -> None:
    assert uncovered(wanted, [*covered, *uncovered(wanted, covered)]) == []


DAYS_RANGE = st.builds(span, st.integers(0, 90 * DAY), st.integers(0, 90 * DAY))


@given(DAYS_RANGE, st.lists(DAYS_RANGE, max_size=4), st.integers(0, 72), st.booleans())
def test_windows_are_the_gaps_and_the_lookback_newest_first(
    wanted: Range, covered: list[Range], hours: int, deep: bool
) -> None:
    covered = merged(covered)
    windows = windows_to_list(wanted, covered, Lookback(hours, 35), deep=deep)
    back = 35 * DAY if deep else hours * MINUTES_PER_HOUR
    newest = cursor(covered)
    expected = uncovered(wanted, covered)
    if newest is not None:
        expected.append(intersection(wanted, span(max(0, newest - back), 200 * DAY)))
    assert windows == merged(expected)[::-1]
    assert are_apart_and_in_order(windows[::-1])
    for window in windows:
        assert intersection(window, wanted) == window


def test_the_first_run_lists_everything() -> None:
    assert windows_to_list(EVERYTHING, [], Lookback(24, 35), deep=False) == [EVERYTHING]


def test_a_later_run_lists_a_day_back_and_a_deep_one_the_horizon() -> None:
    covered = [span(0, 100 * DAY)]
    lookback = Lookback(24, 35)
    assert windows_to_list(EVERYTHING, covered, lookback, deep=False) == [span(99 * DAY, FOREVER)]
    assert windows_to_list(EVERYTHING, covered, lookback, deep=True) == [span(65 * DAY, FOREVER)]


def test_a_window_in_the_covered_past_is_not_listed_again() -> None:
    covered = [span(0, 100 * DAY)]
    window = span(10 * DAY, 20 * DAY)
    assert windows_to_list(window, covered, Lookback(24, 35), deep=True) == []


def test_a_wider_window_adds_only_what_is_new() -> None:
    covered = [span(90 * DAY, 100 * DAY)]
    assert windows_to_list(EVERYTHING, covered, Lookback(24, 35), deep=False) == [
        span(99 * DAY, FOREVER),
        span(0, 90 * DAY),
    ]


def test_a_run_without_lookback_still_lists_from_the_cursor() -> None:
    assert windows_to_list(EVERYTHING, [span(0, 50)], Lookback(0, 0), deep=False) == [
        span(50, FOREVER)
    ]


@given(DAYS_RANGE.filter(bool))
def test_whole_days_touch_every_minute_of_a_window_and_no_other_day(window: Range) -> None:
    first, end = whole_days(window)
    assert first * DAY <= window.start < (first + 1) * DAY
    assert (end - 1) * DAY < window.end <= end * DAY


@given(RANGE, RANGE, st.integers(0, MOST + 5))
def test_only_what_was_listed_wanted_and_delivered_is_settled(
    listed: Range, wanted: Range, newest: int
) -> None:
    part = settled(listed, wanted, Minute(newest))
    assert minutes(part) == minutes(listed) & minutes(wanted) & set(range(newest))


def test_nothing_is_settled_while_no_key_is_known() -> None:
    assert not settled(EVERYTHING, EVERYTHING, Minute(0))


def test_the_cursor_is_the_end_of_the_newest_range() -> None:
    assert cursor([]) is None
    assert cursor([span(1, 5), span(7, 9), span(10, 12)]) == 12
