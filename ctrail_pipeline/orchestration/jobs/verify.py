"""The job `verify` and its daily schedule: is everything here, as it was written?

A run that finds something notes the check `complete` first, then fails and names what it found. The
schedule is off until somebody turns it on: a full listing costs a LIST request for each 1,000 log
files that the buckets hold. Not here: what is compared (`core.audit`), its words (`reports`), and
the check (`orchestration.complete_check`).
"""

from collections.abc import Iterator
from pathlib import Path

from dagster import (
    AssetCheckEvaluation,
    Failure,
    JobDefinition,
    MetadataValue,
    Nothing,
    OpExecutionContext,
    Out,
    Output,
    ScheduleDefinition,
    in_process_executor,
    job,
    op,
)
from pydantic import Field

from ctrail_pipeline.config.file import Config as Configuration
from ctrail_pipeline.core.audit.compare_output import is_whole
from ctrail_pipeline.core.audit.verify import verify
from ctrail_pipeline.orchestration.complete_check import complete_evaluation
from ctrail_pipeline.orchestration.living_runs import mark_as_living
from ctrail_pipeline.orchestration.metadata import of_verify
from ctrail_pipeline.orchestration.partitions import asset_keys
from ctrail_pipeline.orchestration.resources import LedgerResource
from ctrail_pipeline.orchestration.sync_run import (
    check_sample,
    core_logs_in,
    failures_without_traceback,
    settings_of,
)
from ctrail_pipeline.reports.private_files import write_private
from ctrail_pipeline.reports.verify_html import as_html
from ctrail_pipeline.reports.verify_text import finding_lines, notes, summary_line

from .console import QUIET
from .selection_config import SelectionConfig


class VerifyConfig(SelectionConfig):
    """What a run of `verify` compares: by default everything, with output files by their size."""

    deep: bool = Field(
        default=False, description="Read every output file: its SHA-256 and its lines."
    )
    html: str | None = Field(
        default=None, description="The file to write a page with a calendar of days to."
    )


def build_verify_job(configuration: Configuration) -> JobDefinition:
    """Return the job `verify` over the trails of a configuration."""
    keys = asset_keys(configuration.settings.trails)

    @op(
        name="compare",
        out=Out(Nothing),  # with a value, Dagster would keep a pickled None for each run
        description="Compares buckets, ledger and output. Missing log files are queued for the next"
        " sync; nothing else is changed.",
    )
    def verify_op(
        context: OpExecutionContext, config: VerifyConfig, cursor: LedgerResource
    ) -> Iterator[AssetCheckEvaluation | Output[None]]:
        mark_as_living(context.instance, context.run_id)
        with failures_without_traceback(), core_logs_in(context.log):
            check_sample(configuration)
            selection = config.selection()
            settings = settings_of(configuration, cursor)
            report = verify(settings, selection, deep=config.deep)
            trails = [trail.name for trail in selection.narrow(settings).trails]
        metadata = of_verify(report)
        if config.html is not None:
            page = Path(config.html).absolute()
            with failures_without_traceback():
                write_private(page, as_html(report), replace=True)
            metadata["page"] = MetadataValue.path(str(page))
        # A part of a trail says nothing of the whole trail: the check stays as it was.
        for trail in trails if is_whole(selection) else ():
            yield complete_evaluation(keys[trail], trail, report)
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
        " on disk: for all trails, or for those that the run config selects.",
        executor_def=in_process_executor,
        config=QUIET,
    )
    def verify_job() -> None:
        verify_op.alias("verify")()

    return verify_job


def verify_daily(verify: JobDefinition) -> ScheduleDefinition:
    """Return the schedule that runs `verify` every night. It is off until somebody turns it on."""
    return ScheduleDefinition(job=verify, cron_schedule="43 4 * * *")
