"""The status as JSON."""

from dataclasses import asdict, replace
from typing import Any

from ctrail_pipeline.core.run.open_log_files import OpenLogFiles

from .left_aside import left_aside_as_json
from .status import Status


def as_json(status: Status) -> dict[str, Any]:
    """Return the status for machines. Keys are only ever added."""
    plain = asdict(replace(status, open_log_files=OpenLogFiles()))
    counts = status.open_log_files.counts
    plain["ok"] = not counts and not status.lost_files
    plain["open_log_files"] = {state.name.lower(): n for state, n in sorted(counts.items())}
    plain["open_reasons"] = [asdict(group) for group in status.open_log_files.reasons]
    lacking = status.not_in_parquet
    plain["not_in_parquet"] = None if lacking is None else lacking._asdict()
    for partition in plain["partitions"]:
        cursor, lag = partition["cursor"], partition["lag_seconds"]
        partition["cursor"] = cursor and cursor.strftime("%Y-%m-%dT%H:%MZ")
        partition["lag_seconds"] = lag and round(lag)
    plain["left_aside"] = left_aside_as_json(status.left_aside)
    return plain
