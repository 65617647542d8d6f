"""The job `compact` and its daily schedule: few files instead of many, for hours that are over.

Not here: which files are merged, and how (`core.upkeep.compaction`).
"""

from dagster import (
    Failure,
    JobDefinition,
    Nothing,
    OpExecutionContext,
    Out,
    Output,
    ScheduleDefinition,
    in_process_executor,
    job,
    op,
)

from ctrail_pipeline.config.file import Config
from ctrail_pipeline.core.ledger.presence import ledger_exists
from ctrail_pipeline.core.upkeep.compaction import Compaction, compact
from ctrail_pipeline.orchestration.metadata import of_compaction
from ctrail_pipeline.orchestration.resources import LedgerResource
from ctrail_pipeline.orchestration.sync_run import (
    core_logs_in,
    failures_without_traceback,
    settings_of,
)
from ctrail_pipeline.reports.sentences import compaction_failure, compaction_line

from .console import QUIET


def build_compact_job(configuration: Config) -> JobDefinition:
    """Return the job `compact` over the output of a configuration."""

    @op(
        name="merge_files",
        out=Out(Nothing),  # with a value, Dagster would keep a pickled None for each run
        description="Merges the JSONL files of hours that are over, and the Parquet files of such"
        " days. No event is changed, added or removed.",
    )
    def compact_op(context: OpExecutionContext, cursor: LedgerResource) -> Output[None]:
        if not ledger_exists(cursor.address):
            context.log.info("nothing was synced yet, so there is nothing to merge")
            return Output(None, metadata=of_compaction(Compaction()))
        with failures_without_traceback(), core_logs_in(context.log):
            compaction = compact(settings_of(configuration, cursor), run_id=context.run_id)
        context.log.info("%s", compaction_line(compaction))
        if compaction.problems:
            raise Failure(
                compaction_failure(compaction),
                metadata=of_compaction(compaction),
                allow_retries=False,
            )
        return Output(None, metadata=of_compaction(compaction))

    @job(
        name="compact",
        description="Merges the many small files of hours and days that are over.",
        executor_def=in_process_executor,
        config=QUIET,
    )
    def compact_job() -> None:
        compact_op.alias("compact")()

    return compact_job


def compact_daily(compact_job: JobDefinition) -> ScheduleDefinition:
    """Return the schedule that runs `compact` every night."""
    return ScheduleDefinition(job=compact_job, cron_schedule="47 3 * * *")
