"""Times and lengths of time, as the configuration file, a run's config and the options have them.

Times are UTC where they name no zone, as the times in keys are.
"""

import re
from datetime import UTC, datetime, timedelta

from ctrail_pipeline.core.exceptions import ConfigurationError

from .checks import YEAR_SECONDS, Unfit, fit
from .location import ConfigLocation

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}


def parse_time(key: str, text: str) -> datetime:
    """A date or time of a run's config, as the configuration file has it: UTC without a zone.

    Raises:
        ConfigurationError: It cannot be read; the message names `key`.
    """
    moment: datetime = fit(ConfigLocation("run config").key(key), text, check_moment)
    return moment


def parse_duration(key: str, text: str) -> timedelta:
    """A length of time such as `6h`, of a run's config or the command line.

    Raises:
        ConfigurationError: It cannot be read; the message names `key`.
    """
    return timedelta(seconds=fit(ConfigLocation("run config").key(key), text, check_duration))


def window_start(start: str | None, since: str | None) -> datetime | None:
    """Where a run's window begins: at `start`, or `since` so long ago."""
    if start is not None and since is not None:
        raise ConfigurationError("start and since: give one of the two")
    if since is not None:
        return datetime.now(UTC) - parse_duration("since", since)
    return None if start is None else parse_time("start", start)


def check_moment(value: object) -> datetime | None:
    """A date or time as UTC; one without a zone is UTC already, as the times in keys are."""
    if value is None:
        return None
    try:
        if isinstance(value, str):
            moment = datetime.fromisoformat(value)
            moment = moment.replace(tzinfo=moment.tzinfo or UTC).astimezone(UTC)
            if 2000 <= moment.year < 2100:  # arithmetic around it cannot overflow
                return moment
    except (ValueError, OverflowError):
        pass
    raise Unfit('an ISO date or time, such as "2024-05-31" or "2024-05-31T18:00:00+02:00"')


def check_duration(value: object) -> float | None:
    """Seconds of `90m`, `6h`, `2d`, `1w`."""
    if value is None:
        return None
    if isinstance(value, str):
        match = re.fullmatch(r"([0-9]{1,6})([smhdw])", value)
        if match and 0 < int(match[1]) * _UNITS[match[2]] <= 100 * YEAR_SECONDS:
            return float(int(match[1]) * _UNITS[match[2]])
    raise Unfit("a length of time such as 90m, 6h, 2d or 1w")
