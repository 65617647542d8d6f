"""The eventTime of a record: whether it is a UTC time, and in which hour it lies. Pure.

A UTC time ends with `Z`, as all of AWS's do, or with `+00:00`, as other writers have it. ISO 8601
has no `-00:00`, and no `+0000` behind a time with colons. An offset of the hour alone is refused.

Not here: the time in the name of a log file (`core.keys.log_file_key`).
"""

import re
from datetime import date, datetime
from functools import lru_cache
from typing import Final

HOUR_LENGTH: Final = len("2026-01-31T23")
"""Characters of an eventTime up to the end of its hour."""
HOUR_FOLDER_LENGTH: Final = len("2026/01/31/23")
_HOUR: Final = re.compile(r"([0-9]{4})-([0-9]{2})-([0-9]{2})T([01][0-9]|2[0-3])")
_REST: Final = re.compile(r":[0-5][0-9]:(?:[0-5][0-9]|60)(?:\.[0-9]+)?Z")
"""What follows the hour in an eventTime with `Z`; there are leap seconds."""
_UTC_OFFSET: Final = "+00:00"


def with_z(event_time: str) -> str:
    """Return an eventTime with `Z` in place of `+00:00`; other text is returned as it is.

    So all times can be compared as text.
    """
    rest = event_time.removesuffix(_UTC_OFFSET)
    return event_time if rest == event_time else f"{rest}Z"


def hour_of(event_time: str) -> str | None:
    """The hour of an eventTime as `YYYY/MM/DD/HH`; None where the text is not a UTC time."""
    event_time = with_z(event_time)
    if not _REST.fullmatch(event_time[HOUR_LENGTH:]):
        return None
    return hour_folder(event_time[:HOUR_LENGTH])


def moment_of(event_time: str) -> datetime:
    """An eventTime that is known to be a UTC time; a leap second counts as the second before it.

    Of a fraction of a second six digits are kept.
    """
    return datetime.fromisoformat(event_time.replace(":60", ":59"))


def hour_folder(hour: str) -> str | None:
    """`YYYY/MM/DD/HH` for the first HOUR_LENGTH characters of an eventTime; None for other text."""
    match = _HOUR.fullmatch(hour)
    if match is None:
        return None
    year, month, day, hour = match.groups()
    try:
        date(int(year), int(month), int(day))
    except ValueError:
        return None
    return f"{year}/{month}/{day}/{hour}"


@lru_cache(8192)
def may_follow_hour(rest: str) -> bool:
    """Whether a text is minute, second and `Z`. Results are kept, so only short texts may be asked.

    An hour has 3,600 seconds, so most answers are there already.
    """
    return _REST.fullmatch(rest) is not None
