"""The eventTime of a record is read: whether it is a UTC time, its hour and its moment."""

from datetime import UTC, datetime, timedelta

import pytest

from ctrail_pipeline.core.keys.minutes import datetime_of, minute_of
from ctrail_pipeline.core.log_file.event_time import hour_of, moment_of, with_z

LEAP_SECOND = "2016-12-31T23:59:60Z"


@pytest.mark.parametrize(
    ("event_time", "hour"),
    [
        ("2026-01-31T23:59:59Z", "2026/01/31/23"),
        ("2026-01-31T23:59:59.9999999Z", "2026/01/31/23"),
        ("3059-01-01T00:59:59.999999Z", "3059/01/01/00"),
        ("9999-12-31T23:59:59.999999999Z", "9999/12/31/23"),
        (LEAP_SECOND, "2016/12/31/23"),
        ("2026-01-31T23:59:59+00:00", "2026/01/31/23"),
        ("2026-01-31T23:59:59.999999+00:00", "2026/01/31/23"),
    ],
)
def test_a_time_just_before_the_next_hour_lies_in_its_own(event_time: str, hour: str) -> None:
    assert hour_of(event_time) == hour
    moment = moment_of(event_time)
    assert f"{moment:%Y/%m/%d/%H}" == hour
    assert f"{datetime_of(minute_of(moment)):%Y/%m/%d/%H:%M}" == f"{hour}:{event_time[14:16]}"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2026-01-31",
        "2026-01-31T23:59:59",
        "2026-01-31T23:59:61Z",
        "2026-01-31T24:00:00Z",
        "2026-02-29T12:00:00Z",
        "2026-01-31T23:59:59+01:00",
        "2026-01-31T23:59:59-00:00",
        "2026-01-31T23:59:59+0000",
        "2026-01-31T23:59:59+00",
        "2026-01-31T23:59:59+00:00:00",
        "2026-01-31T23:59:59Z+00:00",
        "2026-01-31T23:59:59 +00:00",
        "2026-01-31T23:59:59+00:00Z",
        "+00:00",
        "2026-01-31T23:59:59Z\n",
        "../../../../etc",
    ],
)
def test_what_is_no_utc_time_has_no_hour(text: str) -> None:
    assert hour_of(text) is None


def test_a_leap_second_counts_as_the_second_before_it() -> None:
    assert moment_of(LEAP_SECOND) == datetime(2016, 12, 31, 23, 59, 59, tzinfo=UTC)
    assert moment_of("2016-12-31T23:59:60.5Z") == moment_of(LEAP_SECOND) + timedelta(seconds=0.5)


def test_a_time_with_an_offset_of_zero_is_the_time_with_z() -> None:
    assert with_z("2026-01-31T23:59:59.5+00:00") == "2026-01-31T23:59:59.5Z"
    for text in ("2026-01-31T23:59:59Z", "2026-01-31T23:59:59+01:00", "", "no time"):
        assert with_z(text) == text
