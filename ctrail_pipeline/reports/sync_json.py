"""What a sync did, and what a sync would bring in and cost, as JSON. Keys are only ever added."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from ctrail_pipeline.core.ledger.rows import LogFileState
from ctrail_pipeline.core.listing.problem import Problem
from ctrail_pipeline.core.run.estimate import TrailEstimate
from ctrail_pipeline.core.run.summary import Summary

from .left_aside import left_aside_as_json
from .sentences import problem_line


def as_json(summary: Summary) -> dict[str, Any]:
    """Return what a sync did."""
    progress = summary.progress
    return {
        "ok": summary.ok,
        "interrupted": summary.interrupted,
        "seconds": round(progress.seconds, 3),
        "log_files": progress.log_files,
        "events": progress.events,
        "duplicates": progress.duplicates,
        "failed": progress.failed,
        "json_bytes": progress.bytes,
        "output_files": summary.output_files,
        "output_bytes": summary.bytes_out,
        "parquet_misfits": summary.misfits,
        "quarantined": summary.quarantined,
        "newlines_replaced": summary.newlines_replaced,
        "not_yet": summary.not_yet,
        "left_aside": left_aside_as_json(summary.left_aside),
        "trails": {name: asdict(trail) for name, trail in progress.trails.items()},
        "partitions": [
            {
                "trail": trail,
                "partition": partition,
                "log_files": counts.log_files,
                "events": counts.events,
                "duplicates": counts.duplicates,
                "quarantined": counts.quarantined,
                "failed": counts.failed,
                "damaged": counts.damaged,
                "first_event": counts.first_event,
                "last_event": counts.last_event,
            }
            for (trail, partition), counts in sorted(summary.partitions.items())
        ],
        "open_log_files": _by_name(summary.open_log_files.counts),
        "open_reasons": [asdict(group) for group in summary.open_log_files.reasons],
        "archived": asdict(summary.archived),
        "problem_count": summary.problem_count,
        "problems": [asdict(problem) for problem in summary.problems],
    }


def estimates_as_json(
    estimates: Sequence[TrailEstimate], problems: Sequence[Problem]
) -> dict[str, Any]:
    """Return what a sync would bring in and cost."""
    return {
        "ok": not problems,
        "estimates": [
            {
                "trail": estimate.trail,
                "partitions": estimate.partitions,
                "log_files": estimate.log_files,
                "stored_bytes": estimate.bytes,
                "requests": estimate.requests,
                "dollars": round(estimate.dollars, 4),
                "disk_bytes": estimate.disk_bytes,
                "is_sampled": estimate.is_sampled,
                "list_requests_once_more": estimate.list_requests_once_more,
                "is_not_yet": estimate.is_not_yet,
                "open_log_files": _by_name(estimate.open_log_files),
                "left_aside": left_aside_as_json(
                    {estimate.trail: estimate.left_aside} if estimate.left_aside else {}
                ),
            }
            for estimate in estimates
        ],
        "problems": [problem_line(problem) for problem in problems],
    }


def _by_name(counts: Mapping[LogFileState, int]) -> dict[str, int]:
    return {state.name.lower(): count for state, count in sorted(counts.items())}
