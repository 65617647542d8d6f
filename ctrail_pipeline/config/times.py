"""Times and lengths of time: in the configuration file, in a run config, and in options.

A time without a zone is UTC, as the times in keys are.
"""

import re
from datetime import UTC, datetime, timedelta

from ctrail_pipeline.core.exceptions import ConfigurationError

from .checks import YEAR_SECONDS, Unfit, fit
from .location import ConfigLocation

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}


def parse_time(name: str, text: str) -> datetime:
    """Return a date or time of a run config or an option, in UTC.

    Raises:
        ConfigurationError: It is no date or time; the message begins with `name`.
    """
    moment: datetime = fit(ConfigLocation(name), text, check_moment)
    return moment


def parse_duration(name: str, text: str) -> timedelta:
    """Return a length of time such as `6h`, of a run config or an option.

    Raises:
        ConfigurationError: It is no length of time; the message begins with `name`.
    """
    return timedelta(seconds=fit(ConfigLocation(name), text, check_duration))


def window_start(start: str | None, since: str | None) -> datetime | None:
    """Return the begin of a run's window: `start`, or the time that was `since` ago."""
    if start is not None and since is not None:
        raise ConfigurationError("start and since: give one of the two")
    if since is not None:
        return datetime.now(UTC) - parse_duration("since", since)
    return None if start is None else parse_time("start", start)


def check_moment(value: object) -> datetime | None:
    """Return a date or time in UTC, or None. A time without a zone is UTC already."""
    if value is None:
        return None
    try:
        if isinstance(value, str):
            moment = datetime.fromisoformat(value)
            moment = moment.replace(tzinfo=moment.tzinfo or UTC).astimezone(UTC)
            if 2000 <= moment.year < 2100:  # arithmetic with such years cannot overflow
                return moment
    except (ValueError, OverflowError):
        pass
    raise Unfit('an ISO date or time, such as "2024-05-31" or "2024-05-31T18:00:00+02:00"')


def check_duration(value: object) -> float | None:
    """Return the seconds of a length of time such as `90m`, `6h`, `2d` or `1w`, or None."""
    if value is None:
        return None
    if isinstance(value, str):
        match = re.fullmatch(r"([0-9]{1,6})([smhdw])", value)
        if match and 0 < int(match[1]) * _UNITS[match[2]] <= 100 * YEAR_SECONDS:
            return float(int(match[1]) * _UNITS[match[2]])
    raise Unfit("a length of time such as 90m, 6h, 2d or 1w")
