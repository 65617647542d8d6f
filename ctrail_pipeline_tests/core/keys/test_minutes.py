"""Key time is counted in whole numbers: nothing is rounded up into the next minute, hour or day."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from ctrail_pipeline.core.keys.minutes import (
    MINUTES_PER_DAY,
    MINUTES_PER_HOUR,
    datetime_of,
    minute_of,
)

MICROSECOND = timedelta(microseconds=1)


@pytest.mark.parametrize(
    "boundary",
    [
        pytest.param(datetime(3059, 1, 1, 0, 1, tzinfo=UTC), id="minute"),
        pytest.param(datetime(3059, 1, 1, 1, tzinfo=UTC), id="hour"),
        pytest.param(datetime(3059, 1, 2, tzinfo=UTC), id="day"),
        pytest.param(datetime(9999, 12, 31, tzinfo=UTC), id="last day"),
        pytest.param(datetime(2026, 1, 10, tzinfo=UTC), id="our days"),
        pytest.param(datetime(1970, 1, 1, tzinfo=UTC), id="the first minute"),
    ],
)
def test_the_last_microsecond_belongs_to_the_minute_before(boundary: datetime) -> None:
    minute = minute_of(boundary)
    assert datetime_of(minute) == boundary
    assert minute_of(boundary - MICROSECOND) == minute - 1
    assert minute_of(boundary + MICROSECOND) == minute


def test_a_time_just_before_a_minute_far_in_the_future_lies_before_it() -> None:
    """A float has no room for the microseconds of that year, and rounds up."""
    moment = datetime(3059, 1, 1, 0, 0, 59, 999_997, tzinfo=UTC)
    assert datetime_of(minute_of(moment)) == datetime(3059, 1, 1, tzinfo=UTC)
    last = datetime(3059, 1, 1, 23, 59, 59, 999_999, tzinfo=UTC)
    first_day = minute_of(datetime(3059, 1, 1, tzinfo=UTC)) // MINUTES_PER_DAY
    assert minute_of(last) // MINUTES_PER_DAY == first_day
    assert minute_of(last) // MINUTES_PER_HOUR == first_day * 24 + 23


def test_a_minute_is_utc_whatever_the_zone_of_the_time() -> None:
    moment = datetime(3059, 1, 1, 1, 59, 59, 999_999, tzinfo=timezone(timedelta(hours=2)))
    assert datetime_of(minute_of(moment)) == datetime(3058, 12, 31, 23, 59, tzinfo=UTC)
