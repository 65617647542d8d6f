"""What a run did, in words: the same sentences on Dagster's run page and on a terminal.

Sync, its estimate, and compaction are here. Not here: verify (`verify_text`), explain (`explain`),
and JSON (`sync_json`).
"""

from ctrail_pipeline.core.listing.discovery import NOT_YET
from ctrail_pipeline.core.listing.problem import Problem
from ctrail_pipeline.core.run.estimate import TrailEstimate
from ctrail_pipeline.core.run.summary import Summary
from ctrail_pipeline.core.upkeep.compaction import Compaction

from .units import duration, size

_NAMED_PROBLEMS = 50
"""Problems that the message of a failed run names. The run's log has up to 1,000."""


def summary_line(summary: Summary) -> str:
    """Return a sentence on what the run did and which log files are still open after all runs."""
    progress = summary.progress
    text = (
        f"{progress.log_files} new log files, {progress.events} new events in"
        f" {summary.output_files} files, {progress.duplicates} duplicates"
    )
    if summary.misfits:
        text += f", {summary.misfits} with fields that are in no Parquet column but in _other"
    for trail in summary.not_yet:
        text += f"; trail {trail}: {NOT_YET}"
    if summary.interrupted:
        text += "; interrupted: what is committed stays, and the next run goes on from there"
    if summary.standing:
        states = ", ".join(
            f"{count} {state.name.lower()}" for state, count in sorted(summary.standing.items())
        )
        text += f"; log files still open: {states}"
    return text


def failure_message(summary: Summary) -> str:
    """Return what failed, where, and what to do: the description of a failed run."""
    lines = [
        f"{summary.problem_count} problem{'' if summary.problem_count == 1 else 's'}. Everything"
        " else is brought in; the next run tries again what failed."
    ]
    lines += [problem_line(problem) for problem in summary.problems[:_NAMED_PROBLEMS]]
    unnamed = summary.problem_count - min(len(summary.problems), _NAMED_PROBLEMS)
    if unnamed:
        lines.append(f"and {unnamed} more, see the log")
    return "\n".join(lines)


def compaction_line(compaction: Compaction, *, dry_run: bool = False) -> str:
    """Return a sentence on what a compaction did, or would do."""
    text = (
        f"{'would be ' if dry_run else ''}merged: {compaction.old_files:,} files into"
        f" {compaction.new_files:,}, in {compaction.folders:,} folders, {compaction.lines:,} events"
    )
    if compaction.problems:
        text += f"; {len(compaction.problems):,} folders were left as they are"
    return text


def compaction_failure(compaction: Compaction) -> str:
    """Return what could not be compacted, and why: the description of a failed run."""
    lines = ["Not all folders could be compacted:", *compaction.problems[:_NAMED_PROBLEMS]]
    if len(compaction.problems) > _NAMED_PROBLEMS:
        lines.append(f"and {len(compaction.problems) - _NAMED_PROBLEMS} more, see the log")
    return "\n".join(lines)


def problem_line(problem: Problem) -> str:
    """Return a line on one problem: where, what, why and what to do."""
    trail = f"trail {problem.trail}: " if problem.trail else ""
    return f"- {trail}{problem.where}: {problem.state}: {problem.reason}"


def estimate_line(estimate: TrailEstimate) -> str:
    """Return a line on what a sync of a trail would bring in and cost."""
    if estimate.is_not_yet:
        return f"trail {estimate.trail}: {NOT_YET}"
    about = "about " if estimate.is_sampled else ""
    return (
        f"trail {estimate.trail}: {about}{estimate.log_files:,} new log files,"
        f" {size(estimate.bytes)} stored, in {estimate.partitions} accounts and regions;"
        f" {estimate.requests:,} requests (about ${estimate.dollars:.2f}),"
        f" {size(estimate.disk_bytes)} of disk or less,"
        f" {duration(max(1, estimate.seconds))} or more"
    )
