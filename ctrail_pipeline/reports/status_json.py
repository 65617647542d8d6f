"""The status as JSON."""

from dataclasses import asdict
from typing import Any

from .left_aside import left_aside_as_json
from .status import Status


def as_json(status: Status) -> dict[str, Any]:
    """Return the status for machines. Keys are only ever added."""
    plain = asdict(status)
    for partition in plain["partitions"]:
        cursor, lag = partition["cursor"], partition["lag_seconds"]
        partition["cursor"] = cursor and cursor.strftime("%Y-%m-%dT%H:%MZ")
        partition["lag_seconds"] = lag and round(lag)
    plain["left_aside"] = left_aside_as_json(status.left_aside)
    return plain
