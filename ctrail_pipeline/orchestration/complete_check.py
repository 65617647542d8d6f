"""The asset check `complete`: every log file is in, and the output is as it was written.

The job `verify` notes it for each trail, and in the UI it can be run by itself. Not here: the other
checks (`checks`), and what is compared (`core.audit`).
"""

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
from ctrail_pipeline.core.audit.findings import EXPLANATIONS, Severity
from ctrail_pipeline.core.audit.verify import verify
from ctrail_pipeline.core.listing.selection import Selection
from ctrail_pipeline.core.settings import Trail
from ctrail_pipeline.orchestration.check_evaluations import error_if, evaluation
from ctrail_pipeline.orchestration.checks import COMPLETE
from ctrail_pipeline.orchestration.partitions import asset_keys
from ctrail_pipeline.orchestration.resources import LedgerResource
from ctrail_pipeline.orchestration.sync_run import (
    core_logs_in,
    failures_said,
    settings_of,
)
from ctrail_pipeline.reports.sentences import problem_line

from .metadata import finding_name

_DESCRIPTION = (
    "Every log file that the buckets hold is in, and the output is as it was written. An error if"
    " something was altered or deleted, a warning if log files are missing, failed or damaged."
)
_PROBLEMS_NAMED = 10


def build_complete_checks(configuration: Configuration) -> list[AssetChecksDefinition]:
    """The check `complete` of every trail, for the UI to run it by itself."""
    keys = asset_keys(configuration.settings.trails)
    return [
        _check_of(configuration, trail, keys[trail.name]) for trail in configuration.settings.trails
    ]


def complete_of(key: AssetKey, trail: str, report: Report) -> AssetCheckEvaluation:
    """The check `complete` of a trail; what is of several trails is of each of them."""
    found = {
        kind: report.counts_by_trail[trail, kind] + report.counts_by_trail["", kind]
        for kind in report.counts
        if fails(kind) and report.counts_by_trail[trail, kind] + report.counts_by_trail["", kind]
    }
    problems = [problem for problem in report.problems if problem.trail in (trail, "")]
    partitions = [one for one in report.prefixes if one.trail == trail]
    listed = sum(one.total("listed") for one in partitions)
    lines = [f"{kind.value}: {count}; {EXPLANATIONS[kind].advice}" for kind, count in found.items()]
    lines += [problem_line(problem) for problem in problems[:_PROBLEMS_NAMED]]
    when = f"as of {report.at:%Y-%m-%d %H:%M} UTC"
    return evaluation(
        key,
        COMPLETE,
        passed=not lines,
        severity=error_if(any(EXPLANATIONS[kind].severity is Severity.ERROR for kind in found)),
        description="\n".join([f"{when}:", *lines])
        if lines
        else f"{when}, {listed} log files listed, all of them in",
        metadata={
            **{
                name: MetadataValue.int(sum(one.total(name) for one in partitions))
                for name in COUNTS
            },
            **{finding_name(kind): MetadataValue.int(count) for kind, count in found.items()},
        },
    )


def _check_of(configuration: Configuration, trail: Trail, key: AssetKey) -> AssetChecksDefinition:
    @asset_check(name=COMPLETE, asset=key, description=_DESCRIPTION)
    def complete(context: AssetCheckExecutionContext, cursor: LedgerResource) -> AssetCheckResult:
        if not cursor.path.exists():
            return AssetCheckResult(
                passed=False,
                severity=error_if(False),
                description="nothing is synced yet: run `sync` first",
            )
        with failures_said(), core_logs_in(context.log):
            report = verify(settings_of(configuration, cursor), Selection(trails=[trail.name]))
        found = complete_of(key, trail.name, report)
        return AssetCheckResult(
            passed=found.passed,
            severity=found.severity,
            description=found.description,
            metadata=found.metadata,
        )

    return complete
