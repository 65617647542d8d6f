"""The job `prune_runs` and its daily schedule: delete Dagster's record of old runs.

Only Dagster's own database and logs are touched. Not here: removing old events
(`core.upkeep.prune`).
"""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from dagster import (
    DagsterRunStatus,
    DefaultScheduleStatus,
    JobDefinition,
    MetadataValue,
    Nothing,
    OpExecutionContext,
    Out,
    Output,
    RunsFilter,
    ScheduleDefinition,
    in_process_executor,
    job,
    op,
)

from ctrail_pipeline.config.file import Config as Configuration

from .console import QUIET

_RUNS_A_BATCH = 100


def build_prune_runs_job(configuration: Configuration) -> JobDefinition:
    """Return the job that keeps Dagster's own database from growing for ever."""
    days = configuration.dagster.keep_runs_days

    @op(
        name="delete_runs",
        out=Out(Nothing),  # with a value, Dagster would keep a pickled None for each run
        description=f"Deletes Dagster's record of runs that ended more than {days} days ago. Does"
        " not touch events or the ledger.",
    )
    def prune_runs_op(context: OpExecutionContext) -> Output[None]:
        horizon = datetime.now(UTC) - timedelta(days=days)
        ended_before = RunsFilter(
            statuses=[
                DagsterRunStatus.SUCCESS,
                DagsterRunStatus.FAILURE,
                DagsterRunStatus.CANCELED,
            ],
            updated_before=horizon,
        )
        deleted = 0
        while runs := context.instance.get_runs(filters=ended_before, limit=_RUNS_A_BATCH):
            for run in runs:
                context.instance.delete_run(run.run_id)
                # What the run printed: three files a step, which Dagster would keep for ever.
                context.instance.compute_log_manager.delete_logs(prefix=[run.run_id])
            deleted += len(runs)
        size = _size_of(Path(context.instance.root_directory))
        context.log.info("%d runs deleted; the instance takes %d bytes", deleted, size)
        return Output(
            None,
            metadata={
                "runs_deleted": MetadataValue.int(deleted),
                "instance_bytes": MetadataValue.int(size),
            },
        )

    @job(
        name="prune_runs",
        description=f"Deletes Dagster's record of runs older than {days} days.",
        executor_def=in_process_executor,
        config=QUIET,
    )
    def prune_runs_job() -> None:
        prune_runs_op()

    return prune_runs_job


def prune_daily(prune_runs: JobDefinition) -> ScheduleDefinition:
    """Return the schedule that runs `prune_runs` every night, wherever there is a daemon."""
    return ScheduleDefinition(
        job=prune_runs,
        cron_schedule="17 3 * * *",
        default_status=DefaultScheduleStatus.RUNNING,
    )


def _size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
