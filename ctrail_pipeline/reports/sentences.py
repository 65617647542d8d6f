"""What a run did, in words: the same sentences on Dagster's run page and on a terminal.

Sync, its estimate, and compaction are here. Not here: verify (`verify_text`), explain (`explain`),
and JSON (`sync_json`).
"""

import json
from collections.abc import Mapping, Sequence

from ctrail_pipeline.core.bucket.prices import DOLLARS_A_LIST
from ctrail_pipeline.core.ledger.rows import LogFileState
from ctrail_pipeline.core.ledger_address import LedgerAddress
from ctrail_pipeline.core.listing.discovery import NOT_YET
from ctrail_pipeline.core.listing.problem import Problem
from ctrail_pipeline.core.run.estimate import TrailEstimate
from ctrail_pipeline.core.run.open_log_files import OpenLogFiles
from ctrail_pipeline.core.run.reason_groups import ReasonGroup
from ctrail_pipeline.core.run.summary import Summary
from ctrail_pipeline.core.untrusted_text import printable
from ctrail_pipeline.core.upkeep.compaction import Compaction
from ctrail_pipeline.core.upkeep.fill_result import Filled
from ctrail_pipeline.core.upkeep.ledger_copy import Copied

from .left_aside import left_aside_text
from .units import duration, size

_NAMED_PROBLEMS = 50
"""Problems that the message of a failed run names. The run's log has up to 1,000."""
_FOUND = LogFileState.FOUND.name.lower()


def summary_line(summary: Summary) -> str:
    """Return a sentence on what the run did and which log files of its selection are not in."""
    progress = summary.progress
    text = (
        f"{summary.brought_in} new log files, {progress.events} new events in"
        f" {summary.output_files} files, {progress.duplicates} duplicates"
    )
    if summary.quarantined:
        text += f", {summary.quarantined} records in quarantine"
    if summary.misfits:
        text += f", {summary.misfits} with fields that are in no Parquet column but in _other"
    if summary.left_aside:
        text += f"; {left_aside_text(summary.left_aside)}"
    for trail in summary.not_yet:
        text += f"; trail {trail}: {NOT_YET}"
    if summary.interrupted:
        text += "; interrupted: what is committed stays, and the next run goes on from there"
    if summary.troubles:
        text += f"; problems with trails, accounts or regions: {summary.troubles}"
    if summary.open_log_files.counts:
        text += f"; log files still open: {states_text(summary.open_log_files.counts)}"
    if summary.archived.log_files:
        text += (
            f"; {summary.archived.log_files} archived, to be restored in S3, such as"
            f" {printable(summary.archived.example)}"
        )
    return text


def failure_message(summary: Summary) -> str:
    """Return what failed, where, and what to do: the description of a failed run."""
    troubles = [problem for problem in summary.problems if not problem.is_of_log_file]
    open_log_files = summary.answers_for.counts.total()
    what = []
    if summary.troubles:
        what.append(f"{summary.troubles} problem{'' if summary.troubles == 1 else 's'}")
    if open_log_files:
        stand = "log file stands" if open_log_files == 1 else "log files stand"
        what.append(f"{open_log_files} {stand} open")
    rest = "The run was interrupted" if summary.interrupted else "Everything else is brought in"
    lines = [f"{' and '.join(what)}. {rest}; the next run tries again what failed."]
    lines += map(problem_line, troubles[:_NAMED_PROBLEMS])
    unnamed = summary.troubles - min(len(troubles), _NAMED_PROBLEMS)
    if unnamed > 0:
        lines.append(f"and {unnamed} more, see the log")
    return "\n".join(lines + open_lines(summary.answers_for, _NAMED_PROBLEMS))


def open_lines(open_log_files: OpenLogFiles, limit: int) -> list[str]:
    """Return lines on log files that stand open: how many, why, and what settles them.

    At most `limit` reasons are told, each with one of its log files.
    """
    if not open_log_files.counts:
        return []
    groups = list(open_log_files.reasons)[:limit]
    lines = [f"log files open: {states_text(open_log_files.counts)}", *map(_reason_line, groups)]
    unnamed = open_log_files.counts.total() - sum(group.log_files for group in groups)
    if unnamed:
        lines.append(f"and {unnamed} more, for other reasons")
    if open_log_files.counts[LogFileState.FOUND]:
        lines.append("The next sync fetches the log files that were found.")
    to_settle = [group.where for group in groups if group.state != _FOUND]
    if to_settle:
        lines.append(
            "`ctrail sync` tries failed log files again at once. For a damaged or deleted one,"
            " restore a sound version in the bucket. If there is none, settle it:"
            f" `ctrail accept '{to_settle[0]}' --reason TEXT`"
        )
    return lines


def states_text(counts: Mapping[LogFileState, int]) -> str:
    """Return counts of log files by state, as text."""
    return ", ".join(f"{count} {state.name.lower()}" for state, count in sorted(counts.items()))


def _reason_line(group: ReasonGroup) -> str:
    """Return a line on log files of one trail that stand open for one reason."""
    why = f"{group.state}: {group.reason}" if group.reason else group.state
    if group.log_files == 1:
        return f"- trail {group.trail}: {group.where}: {why}"
    return f"- trail {group.trail}: {group.log_files} log files are {why}; such as {group.where}"


def compaction_line(compaction: Compaction, *, dry_run: bool = False) -> str:
    """Return a sentence on what a compaction did, or would do."""
    text = (
        f"{'would be ' if dry_run else ''}merged: {compaction.old_files:,} files into"
        f" {compaction.new_files:,}, in {compaction.folders:,} folders, {compaction.lines:,} events"
    )
    if compaction.problems:
        text += f"; problems: {len(compaction.problems):,}"
    return text


def compaction_failure(compaction: Compaction) -> str:
    """Return what could not be compacted, and why: the description of a failed run."""
    return _failure("Not everything could be compacted:", compaction.problems)


def filled_line(filled: Filled, *, dry_run: bool = False) -> str:
    """Return a sentence on what a fill of Parquet did, or would do."""
    if dry_run:
        return f"would be written as Parquet: {filled.events:,} events of {filled.files:,} files"
    text = (
        f"written as Parquet: {filled.events:,} events of {filled.files:,} files, into"
        f" {filled.parquet_files:,} files, {size(filled.bytes)}"
    )
    if filled.misfits:
        text += f", {filled.misfits} with fields that are in no Parquet column but in _other"
    if filled.problems:
        text += f"; {len(filled.problems):,} files were left as they are"
    return text


def fill_failure(filled: Filled) -> str:
    """Return what could not be written as Parquet, and why: the description of a failed run."""
    return _failure("Not all events could be written as Parquet:", filled.problems)


def _failure(what: str, problems: Sequence[str]) -> str:
    lines = [what, *problems[:_NAMED_PROBLEMS]]
    if len(problems) > _NAMED_PROBLEMS:
        lines.append(f"and {len(problems) - _NAMED_PROBLEMS} more, see the log")
    return "\n".join(lines)


def copied_line(copied: Copied, old: LedgerAddress, new: LedgerAddress) -> str:
    """Return what became of a ledger that was copied, and what to configure now."""
    address = json.dumps(str(new), ensure_ascii=False)
    what = f"{copied.rows:,} rows, compared one by one" if copied.rows else "was copied before"
    return (
        f"{new}: {what}, {size(copied.size)}; the output belongs to this ledger now. Set"
        f' "state_db": {address} before the next run. {old} is closed for ever: remove it when you'
        " like"
    )


def problem_line(problem: Problem) -> str:
    """Return a line on one problem: where, what, why and what to do."""
    trail = f"trail {problem.trail}: " if problem.trail else ""
    return f"- {trail}{problem.where}: {problem.state}: {problem.reason}"


def estimate_line(estimate: TrailEstimate) -> str:
    """Return a line on what a sync of a trail would bring in and cost."""
    if estimate.is_not_yet:
        return f"trail {estimate.trail}: {NOT_YET}"
    about = "about " if estimate.is_sampled else ""
    text = (
        f"trail {estimate.trail}: {about}{estimate.log_files:,} new log files,"
        f" {size(estimate.bytes)} stored, in {estimate.partitions} accounts and regions;"
        f" {estimate.requests:,} requests (about ${estimate.dollars:.2f}),"
        f" {size(estimate.disk_bytes)} of disk or less,"
        f" {duration(max(1, estimate.seconds))} or more"
    )
    if estimate.list_requests_once_more:
        dollars = estimate.list_requests_once_more * DOLLARS_A_LIST
        text += (
            f"; {estimate.list_requests_once_more:,} of the requests (about ${dollars:.4f}) list"
            " once more what an older version listed, which left log files of some names aside"
        )
    if estimate.open_log_files:
        text += f"; log files still open: {states_text(estimate.open_log_files)}"
    if estimate.left_aside:
        text += f"; {left_aside_text({estimate.trail: estimate.left_aside})}"
    return text
