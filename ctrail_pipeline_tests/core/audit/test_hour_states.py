"""What a listing and digests say of hours is brought together: each hour has one state."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from ctrail_pipeline.core.audit.findings import HourState
from ctrail_pipeline.core.audit.hour_states import HourRange, agreed, joined, merge_hours

PROVED, LISTED = HourState.PROVED, HourState.LISTED_COMPLETE
OPEN, CONTRADICTED = HourState.OPEN, HourState.CONTRADICTED


def test_only_what_is_listed_complete_is_proved() -> None:
    assert agreed(LISTED, PROVED) is PROVED
    assert agreed(OPEN, PROVED) is OPEN


def test_a_contradiction_stands_whatever_was_listed() -> None:
    assert agreed(LISTED, CONTRADICTED) is agreed(OPEN, CONTRADICTED) is CONTRADICTED


def test_digests_that_say_nothing_take_nothing_away() -> None:
    assert agreed(LISTED, None) is agreed(LISTED, OPEN) is LISTED


def test_hours_that_only_digests_speak_of_are_open_unless_contradicted() -> None:
    listed = [HourRange(10, 20, LISTED)]
    digests = [HourRange(5, 12, PROVED), HourRange(12, 15, CONTRADICTED), HourRange(30, 31, OPEN)]
    assert merge_hours(listed, digests) == [
        HourRange(5, 10, OPEN),
        HourRange(10, 12, PROVED),
        HourRange(12, 15, CONTRADICTED),
        HourRange(15, 20, LISTED),
        HourRange(30, 31, OPEN),
    ]


@st.composite
def ranges(draw: st.DrawFn) -> list[HourRange]:
    edges = sorted(draw(st.sets(st.integers(0, 40), max_size=12)))
    states = st.sampled_from(HourState)
    found = [HourRange(start, end, draw(states)) for start, end in pairwise(edges)]
    return joined(hour_range for hour_range in found if draw(st.booleans()))


def by_hour(hour_ranges: list[HourRange]) -> dict[int, HourState]:
    return {
        hour: hour_range.state
        for hour_range in hour_ranges
        for hour in range(hour_range.start, hour_range.end)
    }


@given(ranges(), ranges())
def test_ranges_say_what_each_hour_by_itself_would(
    listed: list[HourRange], digests: list[HourRange]
) -> None:
    by_listing, by_digests = by_hour(listed), by_hour(digests)
    expected = {
        hour: agreed(by_listing.get(hour, OPEN), by_digests.get(hour))
        for hour in by_listing.keys() | by_digests.keys()
    }
    merged = merge_hours(listed, digests)
    assert by_hour(merged) == expected
    assert joined(merged) == merged


def test_hours_that_are_open_only_as_more_might_come_can_be_proved() -> None:
    listed = [HourRange(0, 5, LISTED), HourRange(5, 9, OPEN)]
    digests = [HourRange(0, 12, PROVED)]
    assert merge_hours(listed, digests, 8) == [
        HourRange(0, 5, PROVED),
        HourRange(5, 8, OPEN),
        HourRange(8, 12, PROVED),
    ]
    assert merge_hours(listed, digests)[-1] == HourRange(5, 12, OPEN)
    contradicted = merge_hours(listed, [HourRange(7, 10, CONTRADICTED)], 8)
    assert contradicted[-1] == HourRange(7, 10, CONTRADICTED)
