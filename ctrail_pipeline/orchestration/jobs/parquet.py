"""The job `parquet`: rows for the events that came before Parquet was switched on.

There is no schedule: once is enough. Not here: which events these are, and how they become rows
(`core.upkeep.parquet_fill`).
"""

from dagster import (
    Failure,
    JobDefinition,
    Nothing,
    OpExecutionContext,
    Out,
    Output,
    in_process_executor,
    job,
    op,
)

from ctrail_pipeline.config.file import Config
from ctrail_pipeline.core.upkeep.parquet_fill import fill_parquet
from ctrail_pipeline.orchestration.metadata import of_fill
from ctrail_pipeline.orchestration.resources import LedgerResource
from ctrail_pipeline.orchestration.sync_run import (
    core_logs_in,
    failures_without_traceback,
    settings_of,
)
from ctrail_pipeline.reports.sentences import fill_failure, filled_line

from .console import QUIET


def build_parquet_job(configuration: Config) -> JobDefinition:
    """Return the job `parquet` over the output of a configuration."""

    @op(
        name="fill",
        out=Out(Nothing),  # with a value, Dagster would keep a pickled None for each run
        description="Writes the events that are in the JSONL and not in Parquet as Parquet, too.",
    )
    def fill_op(context: OpExecutionContext, cursor: LedgerResource) -> Output[None]:
        with failures_without_traceback(), core_logs_in(context.log):
            filled = fill_parquet(settings_of(configuration, cursor), run_id=context.run_id)
        context.log.info("%s", filled_line(filled))
        if filled.problems:
            raise Failure(fill_failure(filled), metadata=of_fill(filled), allow_retries=False)
        return Output(None, metadata=of_fill(filled))

    @job(
        name="parquet",
        description="Writes Parquet for the events that came before Parquet was switched on.",
        executor_def=in_process_executor,
        config=QUIET,
    )
    def parquet_job() -> None:
        fill_op.alias("parquet")()

    return parquet_job
