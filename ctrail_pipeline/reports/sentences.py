"""What a run did, in words: the same sentences in Dagster's run page and on a terminal."""

from ctrail_pipeline.core.listing.problem import Problem
from ctrail_pipeline.core.run.estimate import TrailEstimate
from ctrail_pipeline.core.run.summary import Summary
from ctrail_pipeline.core.upkeep.compaction import Compaction

from .units import duration, size

_NAMED_PROBLEMS = 50
"""Problems that a failed run's message names; the run's log has up to 1,000."""


def summary_line(summary: Summary) -> str:
    """One sentence on what the run did, and one on what stands open from this and earlier runs."""
    progress = summary.progress
    text = (
        f"{progress.log_files} new log files, {progress.events} new events in"
        f" {summary.output_files} files, {progress.duplicates} duplicates"
    )
    if summary.misfits:
        text += f", {summary.misfits} with fields that are in no Parquet column but in _other"
    if summary.interrupted:
        text += "; interrupted: what is committed stays, the next run goes on from there"
    if summary.standing:
        states = ", ".join(
            f"{count} {state.name.lower()}" for state, count in sorted(summary.standing.items())
        )
        text += f"; log files that stand open: {states}"
    return text


def failure_message(summary: Summary) -> str:
    """What failed, where, and what to do: the description of a failed run."""
    lines = [
        f"{summary.problem_count} problem{'' if summary.problem_count == 1 else 's'}. What else"
        " there was is brought in; the next run tries again what failed."
    ]
    lines += [problem_line(problem) for problem in summary.problems[:_NAMED_PROBLEMS]]
    more = summary.problem_count - min(len(summary.problems), _NAMED_PROBLEMS)
    if more:
        lines.append(f"and {more} more, see the log")
    return "\n".join(lines)


def compaction_line(done: Compaction, *, dry_run: bool = False) -> str:
    """One sentence on what a compaction did, or would do."""
    text = (
        f"{'would be ' if dry_run else ''}merged: {done.old_files:,} files into"
        f" {done.new_files:,}, in {done.folders:,} folders, {done.lines:,} events"
    )
    if done.problems:
        text += f"; {len(done.problems):,} folders were left as they are"
    return text


def compaction_failure(done: Compaction) -> str:
    """What could not be compacted, and what to do: the description of a failed run."""
    lines = ["Not all folders could be compacted:", *done.problems[:_NAMED_PROBLEMS]]
    if len(done.problems) > _NAMED_PROBLEMS:
        lines.append(f"and {len(done.problems) - _NAMED_PROBLEMS} more, see the log")
    return "\n".join(lines)


def problem_line(problem: Problem) -> str:
    """One line of such a message."""
    trail = f"trail {problem.trail}: " if problem.trail else ""
    return f"- {trail}{problem.where}: {problem.state}: {problem.reason}"


def estimate_line(estimate: TrailEstimate) -> str:
    """One line on what a sync of a trail would bring in and cost."""
    about = "about " if estimate.is_sampled else ""
    return (
        f"trail {estimate.trail}: {about}{estimate.log_files:,} new log files,"
        f" {size(estimate.bytes)} stored, in {estimate.partitions} accounts and regions;"
        f" {estimate.requests:,} requests (about ${estimate.dollars:.2f}),"
        f" {size(estimate.disk_bytes)} of disk or less,"
        f" {duration(max(1, estimate.seconds))} or more"
    )
