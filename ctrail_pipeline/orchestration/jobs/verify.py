"""The job `verify`: is everything here, as it was written? And the check `complete` of each trail.

What is compared is `core.proof`'s, the words are `verify_report`'s. A run that finds something
notes the checks first, then fails, naming it. The schedule is off until somebody turns it on: a
full listing costs a LIST request for each 1,000 log files that the buckets hold.
"""

from collections.abc import Iterator
from pathlib import Path

from dagster import (
    AssetCheckEvaluation,
    AssetCheckExecutionContext,
    AssetCheckResult,
    AssetChecksDefinition,
    AssetKey,
    Failure,
    JobDefinition,
    MetadataValue,
    Nothing,
    OpExecutionContext,
    Out,
    Output,
    ScheduleDefinition,
    asset_check,
    in_process_executor,
    job,
    op,
)
from pydantic import Field

from ctrail_pipeline.config.file import Config as Configuration
from ctrail_pipeline.core.audit.compare_output import is_whole
from ctrail_pipeline.core.audit.compare_report import COUNTS, Report, fails
from ctrail_pipeline.core.audit.findings import EXPLANATIONS, FindingKind, Severity
from ctrail_pipeline.core.audit.verify import verify
from ctrail_pipeline.core.listing.selection import Selection
from ctrail_pipeline.core.settings import Trail
from ctrail_pipeline.orchestration.checks import COMPLETE, error_if, evaluation
from ctrail_pipeline.orchestration.living_runs import mark_as_living
from ctrail_pipeline.orchestration.metadata import Metadata
from ctrail_pipeline.orchestration.partitions import asset_keys
from ctrail_pipeline.orchestration.resources import LedgerResource
from ctrail_pipeline.orchestration.sync_run import (
    check_sample,
    core_logs_in,
    failures_said,
    settings_of,
)
from ctrail_pipeline.reports.private_files import write_private
from ctrail_pipeline.reports.sentences import problem_line
from ctrail_pipeline.reports.verify_html import as_html
from ctrail_pipeline.reports.verify_text import finding_lines, notes, summary_line

from .console import QUIET
from .selection_config import SelectionConfig

DESCRIPTION = (
    "Every log file that the buckets hold is in, and the output is as it was written. An error if"
    " something was altered or deleted, a warning if log files are missing, failed or damaged."
)
_PROBLEMS_NAMED = 10


class VerifyConfig(SelectionConfig):
    """What a run of `verify` compares; by default everything, files of the output by their size."""

    deep: bool = Field(
        default=False, description="Read every output file: its SHA-256 and its lines."
    )
    html: str | None = Field(
        default=None, description="A file for the page with the calendar of days."
    )


def build_verify_job(configuration: Configuration) -> JobDefinition:
    """The job over the trails of a configuration."""
    keys = asset_keys(configuration.settings.trails)

    @op(
        name="compare",
        out=Out(Nothing),  # with a value, Dagster would keep a pickled None of each run
        description="Compares buckets, ledger and output. Missing log files are queued for the next"
        " sync; nothing else is changed.",
    )
    def verify_op(
        context: OpExecutionContext, config: VerifyConfig, cursor: LedgerResource
    ) -> Iterator[AssetCheckEvaluation | Output[None]]:
        mark_as_living(context.instance, context.run_id)
        with failures_said(), core_logs_in(context.log):
            check_sample(configuration)
            selection = config.selection()
            settings = settings_of(configuration, cursor)
            report = verify(settings, selection, deep=config.deep)
            trails = [trail.name for trail in selection.narrow(settings).trails]
        metadata = of_report(report)
        if config.html is not None:
            page = Path(config.html).absolute()
            with failures_said():
                write_private(page, as_html(report), replace=True)
            metadata["page"] = MetadataValue.path(str(page))
        # A part of a trail says nothing of the whole: the check stays as it was.
        for trail in trails if is_whole(selection) else ():
            yield of_trail(keys[trail], trail, report)
        context.log.info("%s", summary_line(report))
        for line in notes(report):
            context.log.info("%s", line)
        if not report.is_complete:
            lines = [summary_line(report), *finding_lines(report), *notes(report)]
            raise Failure("\n".join(lines), metadata=metadata, allow_retries=False)
        yield Output(None, metadata=metadata)

    @job(
        name="verify",
        description="Compares what the buckets hold with the ledger, and the ledger with the output"
        " on disk; of all trails or of those selected.",
        executor_def=in_process_executor,
        config=QUIET,
    )
    def verify_job() -> None:
        verify_op.alias("verify")()

    return verify_job


def verify_daily(verify: JobDefinition) -> ScheduleDefinition:
    """`verify` every night, once it is turned on."""
    return ScheduleDefinition(job=verify, cron_schedule="43 4 * * *")


def build_verify_checks(configuration: Configuration) -> list[AssetChecksDefinition]:
    """The check `complete` of every trail, for the UI to run it by itself."""
    keys = asset_keys(configuration.settings.trails)
    return [
        _check_of(configuration, trail, keys[trail.name]) for trail in configuration.settings.trails
    ]


def of_trail(key: AssetKey, trail: str, report: Report) -> AssetCheckEvaluation:
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
            **{_name(kind): MetadataValue.int(count) for kind, count in found.items()},
        },
    )


def of_report(report: Report) -> Metadata:
    """What Dagster shows of a run: counts only."""
    output = report.output
    return {
        **{name: MetadataValue.int(report.total(name)) for name in COUNTS},
        **{_name(kind): MetadataValue.int(count) for kind, count in report.counts.items()},
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


def _check_of(configuration: Configuration, trail: Trail, key: AssetKey) -> AssetChecksDefinition:
    @asset_check(name=COMPLETE, asset=key, description=DESCRIPTION)
    def complete(context: AssetCheckExecutionContext, cursor: LedgerResource) -> AssetCheckResult:
        if not cursor.path.exists():
            return AssetCheckResult(
                passed=False,
                severity=error_if(False),
                description="nothing is synced yet: run `sync` first",
            )
        with failures_said(), core_logs_in(context.log):
            report = verify(settings_of(configuration, cursor), Selection(trails=[trail.name]))
        found = of_trail(key, trail.name, report)
        return AssetCheckResult(
            passed=found.passed,
            severity=found.severity,
            description=found.description,
            metadata=found.metadata,
        )

    return complete


def _name(kind: FindingKind) -> str:
    return kind.name.lower()
