"""Key time: UTC minutes and days since 1970, which is how the times in key names are kept. Pure.

Whole numbers only: a time that goes through a float may be rounded up into the next minute.

Not here: the eventTime of a record (`core.log_file.event_time`).
"""

from datetime import UTC, date, datetime, timedelta
from typing import Final, NewType

Minute = NewType("Minute", int)
"""UTC minutes since 1970: the resolution of the time in a key."""

MINUTES_PER_HOUR: Final = 60
MINUTES_PER_DAY: Final = 1440

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_EPOCH_ORDINAL: Final = _EPOCH.toordinal()
FOREVER: Final = Minute((date.max.toordinal() + 1 - _EPOCH_ORDINAL) * MINUTES_PER_DAY)
"""The end of 9999-12-31, behind any key's time. A window without an end ends here."""


def day_number(year: int, month: int, day: int) -> int | None:
    """Days since 1970 of a calendar day, or None if there is no such day."""
    try:
        return date(year, month, day).toordinal() - _EPOCH_ORDINAL
    except ValueError:
        return None


def day_folder(day: int) -> str:
    """`YYYY/MM/DD/` for a number of days since 1970."""
    return date.fromordinal(day + _EPOCH_ORDINAL).strftime("%Y/%m/%d/")


def minute_of(moment: datetime) -> Minute:
    """The UTC minute in which an aware datetime lies."""
    return Minute((moment - _EPOCH) // timedelta(minutes=1))


def datetime_of(minute: int) -> datetime:
    """The aware UTC datetime at the start of a minute."""
    return _EPOCH + timedelta(minutes=minute)
