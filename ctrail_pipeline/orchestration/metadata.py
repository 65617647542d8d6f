"""Metadata of runs and partitions: numbers as numbers, so that Dagster plots them.

Metadata holds only counts, times, account, region and event names (docs/architecture.md, Promises,
G8): Dagster's database is no place for events.
"""

import time
from collections import Counter

from dagster import (
    MetadataValue,
    TableColumn,
    TableRecord,
    TableSchema,
)

from ctrail_pipeline.core.audit.compare_report import COUNTS, Report
from ctrail_pipeline.core.audit.findings import FindingKind
from ctrail_pipeline.core.log_file.event_time import moment_of
from ctrail_pipeline.core.output_address import OutputAddress
from ctrail_pipeline.core.run.estimate import TrailEstimate
from ctrail_pipeline.core.run.summary import PartitionCounts, Summary
from ctrail_pipeline.core.upkeep.compaction import Compaction
from ctrail_pipeline.core.upkeep.fill_result import Filled

_ROWS = 48
"""Rows that a table shows. The last row sums up all further rows."""

Metadata = dict[str, MetadataValue]


def of_sync(summary: Summary) -> Metadata:
    """Return what a run of sync did."""
    progress = summary.progress
    return {
        "log_files": MetadataValue.int(progress.log_files),
        "events": MetadataValue.int(progress.events),
        "duplicates": MetadataValue.int(progress.duplicates),
        "problems": MetadataValue.int(summary.problem_count),
        "left_aside": MetadataValue.int(
            sum(left_aside.objects for left_aside in summary.left_aside.values())
        ),
        "open_log_files": MetadataValue.int(summary.open_log_files.counts.total()),
        "archived_log_files": MetadataValue.int(summary.archived.log_files),
        "quarantined": MetadataValue.int(summary.quarantined),
        "newlines_replaced": MetadataValue.int(summary.newlines_replaced),
        "output_files": MetadataValue.int(summary.output_files),
        "bytes_in": MetadataValue.int(
            sum(counts.bytes_in for counts in summary.partitions.values())
        ),
        "bytes_out": MetadataValue.int(summary.bytes_out),
        "seconds": MetadataValue.float(round(progress.seconds, 3)),
        "events_by_hour": _table("hour", sorted(summary.events_by_hour.items(), reverse=True)),
        "events_by_name": _table("event", summary.events_by_name.most_common()),
    }


def of_partition(counts: PartitionCounts, events: OutputAddress, partition: str) -> Metadata:
    """Return what a run did for one account/region, and how many events are there by now."""
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
        "output_folder": MetadataValue.path(str(events / partition)),
    }
    if counts.first_event and counts.last_event:
        metadata["first_event"] = MetadataValue.text(counts.first_event)
        metadata["last_event"] = MetadataValue.text(counts.last_event)
    if counts.newest_event:
        metadata["lag_seconds"] = MetadataValue.float(
            round(time.time() - moment_of(counts.newest_event).timestamp(), 1)
        )
    return metadata


def of_estimates(estimates: list[TrailEstimate]) -> Metadata:
    """Return what a sync of all these trails would bring in and cost."""
    return {
        "log_files": MetadataValue.int(sum(estimate.log_files for estimate in estimates)),
        "bytes": MetadataValue.int(sum(estimate.bytes for estimate in estimates)),
        "requests": MetadataValue.int(sum(estimate.requests for estimate in estimates)),
        "dollars": MetadataValue.float(sum(estimate.dollars for estimate in estimates)),
        "disk_bytes": MetadataValue.int(sum(estimate.disk_bytes for estimate in estimates)),
        "seconds": MetadataValue.float(sum(estimate.seconds for estimate in estimates)),
    }


def finding_name(kind: FindingKind) -> str:
    """Return the metadata key of a kind of finding."""
    return kind.name.lower()


def of_verify(report: Report) -> Metadata:
    """Return what a run of verify compared and found."""
    output = report.output
    return {
        **{name: MetadataValue.int(report.total(name)) for name in COUNTS},
        **{finding_name(kind): MetadataValue.int(count) for kind, count in report.counts.items()},
        "digests": MetadataValue.int(report.digests),
        "digests_sound": MetadataValue.int(report.digests_sound),
        "log_files_proved": MetadataValue.int(report.log_files_proved),
        "queued": MetadataValue.int(report.queued),
        "list_requests": MetadataValue.int(report.requests),
        "output_files": MetadataValue.int(output.files),
        "output_lines": MetadataValue.int(output.lines),
        "output_bytes": MetadataValue.int(output.bytes),
        "seconds": MetadataValue.float(round(report.seconds, 3)),
    }


def of_compaction(compaction: Compaction) -> Metadata:
    """Return what a compaction did."""
    return {
        "folders": MetadataValue.int(compaction.folders),
        "files_before": MetadataValue.int(compaction.old_files),
        "files_after": MetadataValue.int(compaction.new_files),
        "events": MetadataValue.int(compaction.lines),
        "bytes": MetadataValue.int(compaction.bytes),
        "not_compacted": MetadataValue.int(len(compaction.problems)),
    }


def of_fill(filled: Filled) -> Metadata:
    """Return what a fill of Parquet did."""
    return {
        "files_of_events": MetadataValue.int(filled.files),
        "events": MetadataValue.int(filled.events),
        "parquet_files": MetadataValue.int(filled.parquet_files),
        "bytes": MetadataValue.int(filled.bytes),
        "parquet_misfits": MetadataValue.int(filled.misfits),
        "not_filled": MetadataValue.int(len(filled.problems)),
    }


def _table(name: str, rows: list[tuple[str, int]]) -> MetadataValue:
    shown = Counter(dict(rows[:_ROWS]))
    summed_up = sum(number for _, number in rows[_ROWS:])
    if summed_up:
        shown[f"{len(rows) - _ROWS} more"] = summed_up
    return MetadataValue.table(
        records=[TableRecord({name: key, "events": number}) for key, number in shown.items()],
        schema=TableSchema([TableColumn(name, "string"), TableColumn("events", "int")]),
    )
