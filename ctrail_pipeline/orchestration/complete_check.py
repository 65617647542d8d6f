"""The asset check `complete`: every log file is in, and the output is as it was written.

The job `verify` notes it for each trail, and in the UI it can be run by itself. Not here: the other
checks (`checks`), and what is compared (`core.audit`).
"""

from collections.abc import Mapping

from dagster import (
    AssetCheckEvaluation,
    AssetCheckExecutionContext,
    AssetCheckResult,
    AssetChecksDefinition,
    AssetKey,
    MetadataValue,
    asset_check,
)

from ctrail_pipeline.config.file import Config as Configuration
from ctrail_pipeline.core.audit.compare_report import COUNTS, Report, fails
from ctrail_pipeline.core.audit.findings import EXPLANATIONS, FindingKind, Severity
from ctrail_pipeline.core.audit.verify import verify
from ctrail_pipeline.core.ledger.presence import ledger_exists
from ctrail_pipeline.core.listing.selection import Selection
from ctrail_pipeline.core.settings import Trail
from ctrail_pipeline.orchestration.check_evaluations import error_if, make_evaluation
from ctrail_pipeline.orchestration.checks import COMPLETE
from ctrail_pipeline.orchestration.partitions import asset_keys
from ctrail_pipeline.orchestration.resources import LedgerResource
from ctrail_pipeline.orchestration.sync_run import (
    core_logs_in,
    failures_without_traceback,
    settings_of,
)
from ctrail_pipeline.reports.left_aside import left_aside_text
from ctrail_pipeline.reports.sentences import problem_line

from .metadata import finding_name

_DESCRIPTION = (
    "Every log file that the buckets hold is in, and the output is as it was written. An error if"
    " something was altered or deleted, a warning if log files are missing, failed or damaged, or"
    " events are not in Parquet."
)
_PROBLEMS_NAMED = 10
_FAILS_NOTHING = {
    "archived": "archived, to be restored in S3",
    "accepted": "accepted as they are",
    "new": "came in within the last hour: the next sync fetches them",
}
"""Counts of log files that are not in and do not fail the check, and what to say of them."""


def build_complete_checks(configuration: Configuration) -> list[AssetChecksDefinition]:
    """Return the check `complete` of every trail, so that the UI can run it by itself."""
    keys = asset_keys(configuration.settings.trails)
    return [
        _check_of(configuration, trail, keys[trail.name]) for trail in configuration.settings.trails
    ]


def complete_evaluation(key: AssetKey, trail: str, report: Report) -> AssetCheckEvaluation:
    """Return the check `complete` of a trail. A finding about several trails counts for each."""
    totals = {
        kind: report.counts_by_trail[trail, kind] + report.counts_by_trail["", kind]
        for kind in report.counts
        if fails(kind)
    }
    findings = {kind: count for kind, count in totals.items() if count}
    problems = [problem for problem in report.problems if problem.trail in (trail, "")]
    prefixes = [prefix for prefix in report.prefixes if prefix.trail == trail]
    counts = {name: sum(prefix.total(name) for prefix in prefixes) for name in COUNTS}
    lines = [
        f"{kind.value}: {count}; {EXPLANATIONS[kind].advice}" for kind, count in findings.items()
    ]
    lines += [problem_line(problem) for problem in problems[:_PROBLEMS_NAMED]]
    when = f"as of {report.at:%Y-%m-%d %H:%M} UTC"
    return make_evaluation(
        key,
        COMPLETE,
        passed=not lines,
        severity=error_if(any(EXPLANATIONS[kind].severity is Severity.ERROR for kind in findings)),
        description="\n".join([f"{when}:", *lines])
        if lines
        else f"{when}, {_what_is_in(counts)}{_in_quarantine(trail, report)}"
        f"{_left_aside(trail, report)}",
        metadata={
            **{name: MetadataValue.int(count) for name, count in counts.items()},
            **{finding_name(kind): MetadataValue.int(count) for kind, count in findings.items()},
        },
    )


def _what_is_in(counts: Mapping[str, int]) -> str:
    """Return how many log files are in, and what the others are that do not fail the check."""
    listed, committed = counts["listed"], counts["committed"]
    how_many = "all" if committed == listed else f"{committed}"
    text = f"{listed} log files listed, {how_many} of them in"
    for name, meaning in _FAILS_NOTHING.items():
        if counts[name]:
            text += f"; {counts[name]} {meaning}"
    return text


def _in_quarantine(trail: str, report: Report) -> str:
    log_files = report.counts_by_trail[trail, FindingKind.RECORDS_IN_QUARANTINE]
    return f"; {log_files} with records in quarantine" if log_files else ""


def _left_aside(trail: str, report: Report) -> str:
    """Return what is left aside. It does not fail the check: a person decides about it."""
    left_aside = report.left_aside.get(trail)
    return f"; {left_aside_text({trail: left_aside})}" if left_aside else ""


def _check_of(configuration: Configuration, trail: Trail, key: AssetKey) -> AssetChecksDefinition:
    @asset_check(name=COMPLETE, asset=key, description=_DESCRIPTION)
    def complete(context: AssetCheckExecutionContext, cursor: LedgerResource) -> AssetCheckResult:
        if not ledger_exists(cursor.address):
            return AssetCheckResult(
                passed=False,
                severity=error_if(False),
                description="nothing is synced yet: run the job `sync` first",
            )
        with failures_without_traceback(), core_logs_in(context.log):
            report = verify(settings_of(configuration, cursor), Selection(trails=[trail.name]))
        evaluation = complete_evaluation(key, trail.name, report)
        return AssetCheckResult(
            passed=evaluation.passed,
            severity=evaluation.severity,
            description=evaluation.description,
            metadata=evaluation.metadata,
        )

    return complete
