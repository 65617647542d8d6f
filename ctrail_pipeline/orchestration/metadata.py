"""What Dagster shows of a run and of a partition: numbers as numbers, so that it plots them.

Only counts, times, account, region and event names (G8): Dagster's database is no place for events.
"""

import time
from collections import Counter
from datetime import datetime
from pathlib import Path

from dagster import MetadataValue, TableColumn, TableRecord, TableSchema

from ctrail_pipeline.core.run.dry_run import TrailEstimate
from ctrail_pipeline.core.run.summary import PartitionCounts, Summary

_ROWS = 48
"""Rows of a table; the rest is summed up in the last one."""

Metadata = dict[str, MetadataValue]


def totals(summary: Summary) -> Metadata:
    """What the whole run did."""
    progress = summary.progress
    return {
        "log_files": MetadataValue.int(progress.log_files),
        "events": MetadataValue.int(progress.events),
        "duplicates": MetadataValue.int(progress.duplicates),
        "problems": MetadataValue.int(summary.problem_count),
        "output_files": MetadataValue.int(summary.output_files),
        "bytes_in": MetadataValue.int(sum(c.bytes_in for c in summary.partitions.values())),
        "bytes_out": MetadataValue.int(summary.bytes_out),
        "seconds": MetadataValue.float(round(progress.seconds, 3)),
        "events_by_hour": _table("hour", sorted(summary.events_by_hour.items(), reverse=True)),
        "events_by_name": _table("event", summary.events_by_name.most_common()),
    }


def of_partition(counts: PartitionCounts, events_dir: Path, partition: str) -> Metadata:
    """What a run did for one account/region, and what is there of it by now."""
    metadata: Metadata = {
        "log_files": MetadataValue.int(counts.log_files),
        "events": MetadataValue.int(counts.events),
        "duplicates": MetadataValue.int(counts.duplicates),
        "conflicts": MetadataValue.int(counts.conflicts),
        "quarantined": MetadataValue.int(counts.quarantined),
        "failed": MetadataValue.int(counts.failed),
        "damaged": MetadataValue.int(counts.damaged),
        "bytes_in": MetadataValue.int(counts.bytes_in),
        "bytes_out": MetadataValue.int(counts.bytes_out),
        "dagster/partition_row_count": MetadataValue.int(counts.total_events),
        "output_folder": MetadataValue.path(str(events_dir / partition)),
    }
    if counts.first_event and counts.last_event:
        metadata["first_event"] = MetadataValue.text(counts.first_event)
        metadata["last_event"] = MetadataValue.text(counts.last_event)
    if counts.newest_event:
        metadata["lag_seconds"] = MetadataValue.float(
            round(time.time() - _timestamp(counts.newest_event), 1)
        )
    return metadata


def of_estimates(estimates: list[TrailEstimate]) -> Metadata:
    """What a sync of all these trails would come to."""
    return {
        "log_files": MetadataValue.int(sum(one.log_files for one in estimates)),
        "bytes": MetadataValue.int(sum(one.bytes for one in estimates)),
        "requests": MetadataValue.int(sum(one.requests for one in estimates)),
        "dollars": MetadataValue.float(sum(one.dollars for one in estimates)),
        "disk_bytes": MetadataValue.int(sum(one.disk_bytes for one in estimates)),
        "seconds": MetadataValue.float(sum(one.seconds for one in estimates)),
    }


def _table(name: str, rows: list[tuple[str, int]]) -> MetadataValue:
    shown = Counter(dict(rows[:_ROWS]))
    rest = sum(number for _, number in rows[_ROWS:])
    if rest:
        shown[f"{len(rows) - _ROWS} more"] = rest
    return MetadataValue.table(
        records=[TableRecord({name: key, "events": number}) for key, number in shown.items()],
        schema=TableSchema([TableColumn(name, "string"), TableColumn("events", "int")]),
    )


def _timestamp(event_time: str) -> float:
    """Seconds since 1970 of a validated eventTime; a leap second counts as the one before it."""
    return datetime.fromisoformat(event_time.replace(":60", ":59")).timestamp()
