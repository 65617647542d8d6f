"""The status as JSON."""

from dataclasses import asdict
from typing import Any

from .status import Status


def as_json(status: Status) -> dict[str, Any]:
    """The status as JSON has it."""
    plain = asdict(status)
    for one in plain["partitions"]:
        one["cursor"] = one["cursor"] and one["cursor"].strftime("%Y-%m-%dT%H:%MZ")
        one["lag_seconds"] = one["lag_seconds"] and round(one["lag_seconds"])
    return plain
