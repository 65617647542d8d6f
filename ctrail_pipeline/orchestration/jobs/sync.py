"""Jobs over all trails: `sync` what is new, `discover` partitions, `prune_runs` from the history.

`sync` is one op that calls `core.sync`: downloading, decompressing, dedup and writing are steps
inside it, as four ops would pickle every event three times. Not here: the assets of single trails
(`trails`) and what a sync does (`core`).
"""

import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from dagster import (
    AssetCheckEvaluation,
    AssetMaterialization,
    Config,
    DagsterRunStatus,
    DefaultScheduleStatus,
    Failure,
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
from pydantic import Field

from ctrail_pipeline.config.file import Config as Configuration
from ctrail_pipeline.config.file import parse_time, window_start
from ctrail_pipeline.core.ledger.ledger import Ledger
from ctrail_pipeline.core.ledger.source_prefixes import note_reported
from ctrail_pipeline.core.listing.found_prefixes import find_prefixes
from ctrail_pipeline.core.listing.problem import Problem
from ctrail_pipeline.core.listing.selection import Selection
from ctrail_pipeline.core.run.dry_run import describe, estimate
from ctrail_pipeline.core.run.summary import Summary
from ctrail_pipeline.orchestration.assets import materializations
from ctrail_pipeline.orchestration.checks import evaluations
from ctrail_pipeline.orchestration.metadata import of_estimates
from ctrail_pipeline.orchestration.partitions import asset_keys, register_partitions
from ctrail_pipeline.orchestration.resources import LedgerResource
from ctrail_pipeline.orchestration.sync_run import (
    check_sample,
    core_logs_in,
    failures_said,
    finish,
    run_sync,
    settings_of,
)
from ctrail_pipeline.reports.sentences import problem_line

QUIET = {"loggers": {"console": {"config": {"log_level": "INFO"}}}}
"""Without it, `dagster job execute` prints Dagster's own steps too (a default, not a rule)."""
_RUNS_A_BATCH = 100


class SelectionConfig(Config):
    """What a run is about; by default everything that is configured."""

    trails: list[str] | None = Field(
        default=None,
        description="Names of trails, with * and ? as wildcards; default: all of them.",
    )
    partitions: list[str] | None = Field(
        default=None,
        description="account/region keys, any set of them, with * and ? as wildcards; default: all"
        " of them.",
    )
    start: str | None = Field(
        default=None,
        description="Log files from this time on (ISO 8601, UTC), by the time in their key;"
        " default: the configuration's.",
    )
    end: str | None = Field(
        default=None,
        description="Log files before this time (plus an hour, as a key's time is delivery's).",
    )
    since: str | None = Field(
        default=None,
        description="Instead of start: log files of so long ago or newer, such as 90m, 6h, 2d.",
    )
    exclude_trails: list[str] = Field(default=[], description="Trails that are left out.")
    accounts: list[str] = Field(
        default=[], description="Accounts, with * and ? as wildcards; default: all."
    )
    exclude_accounts: list[str] = Field(default=[], description="Accounts that are left out.")
    regions: list[str] = Field(
        default=[], description="Regions, with * and ? as wildcards; default: all."
    )
    exclude_regions: list[str] = Field(default=[], description="Regions that are left out.")

    def selection(self) -> Selection:
        """The core's form of it. Raises ConfigurationError for a time that cannot be read."""
        return Selection(
            trails=self.trails,
            partitions=self.partitions,
            start=window_start(self.start, self.since),
            end=_time("end", self.end),
            exclude_trails=self.exclude_trails,
            accounts=self.accounts,
            exclude_accounts=self.exclude_accounts,
            regions=self.regions,
            exclude_regions=self.exclude_regions,
        )


class SyncConfig(SelectionConfig):
    """What a run of `sync` is about, and what it does; by default all of it."""

    dry_run: bool = Field(
        default=False,
        description="Only list: what there is, and what bringing it in would cost. No log file is"
        " read, nothing is written.",
    )
    listed: bool = Field(
        default=False,
        description="List nothing: only fetch what the sensor has found, and what is due for"
        " another try.",
    )

    def selection(self) -> Selection:
        """The core's form of it. Raises ConfigurationError for a time that cannot be read."""
        return replace(super().selection(), listed=self.listed)


def build_sync_job(configuration: Configuration) -> JobDefinition:
    """The job over the trails of a configuration."""
    keys = asset_keys(configuration.settings.trails)

    @op(
        name="sync_log_files",
        out=Out(Nothing),  # with a value, Dagster would keep a pickled None of each run
        description="Finds new log files and brings their events to disk, each exactly once.",
    )
    def sync_op(
        context: OpExecutionContext, config: SyncConfig, cursor: LedgerResource
    ) -> Iterator[AssetMaterialization | AssetCheckEvaluation | Output[None]]:
        if config.dry_run:
            yield _dry_run(context, configuration, cursor, config)
            return
        with failures_said():
            selection = config.selection()
        summary = run_sync(context, configuration, cursor, selection)
        for trail, key in keys.items():
            partitions = [partition for name, partition in summary.partitions if name == trail]
            register_partitions(context.instance, key, partitions)
        # Yielded, not logged through the context: those are lost when the op fails.
        is_due = _due(summary, configuration.dagster.materialization_interval)
        yield from materializations(summary, keys, configuration, is_due=is_due)
        _note_reported(cursor, summary, is_due)
        yield from evaluations(
            configuration, cursor, context.instance, summary, is_listed=config.listed
        )
        yield Output(None, metadata=finish(context, summary))

    @job(
        name="sync",
        description="Brings in everything that is new, of all trails or of those selected.",
        executor_def=in_process_executor,
        config=QUIET,
    )
    def sync_job() -> None:
        sync_op.alias("sync")()

    return sync_job


def build_discover_job(configuration: Configuration) -> JobDefinition:
    """The job that lets Dagster know every account and region that the trails deliver."""
    keys = asset_keys(configuration.settings.trails)

    @op(
        name="register_partitions",
        out=Out(Nothing),  # with a value, Dagster would keep a pickled None of each run
        description="Lists the folders of each trail and registers accounts and regions as"
        " partitions. Reads no log file.",
    )
    def discover_op(context: OpExecutionContext, cursor: LedgerResource) -> Output[None]:
        problems: list[Problem] = []
        with failures_said(), core_logs_in(context.log):
            check_sample(configuration)
            settings = settings_of(configuration, cursor)
            places = find_prefixes(settings, Selection(), problems.append, may_get=False)
        new = {
            trail: register_partitions(
                context.instance,
                key,
                [
                    found.source_prefix.partition_key
                    for found in places
                    if found.trail.name == trail
                ],
            )
            for trail, key in keys.items()
        }
        context.log.info("%d accounts and regions, %d of them new", len(places), sum(new.values()))
        if problems:
            raise Failure("\n".join(map(problem_line, problems)), allow_retries=False)
        return Output(None, metadata={"partitions": len(places), "new": sum(new.values())})

    @job(
        name="discover",
        description="Registers the accounts and regions of every trail as partitions.",
        executor_def=in_process_executor,
        config=QUIET,
    )
    def discover_job() -> None:
        discover_op()

    return discover_job


def build_prune_runs_job(configuration: Configuration) -> JobDefinition:
    """The job that keeps Dagster's own database from growing for ever."""
    days = configuration.dagster.keep_runs_days

    @op(
        name="delete_runs",
        out=Out(Nothing),  # with a value, Dagster would keep a pickled None of each run
        description=f"Deletes Dagster's record of runs that ended more than {days} days ago. Events"
        " and the ledger are not touched.",
    )
    def prune_runs_op(context: OpExecutionContext) -> Output[None]:
        before = datetime.now(UTC) - timedelta(days=days)
        old = RunsFilter(
            statuses=[
                DagsterRunStatus.SUCCESS,
                DagsterRunStatus.FAILURE,
                DagsterRunStatus.CANCELED,
            ],
            updated_before=before,
        )
        deleted = 0
        while runs := context.instance.get_runs(filters=old, limit=_RUNS_A_BATCH):
            for run in runs:
                context.instance.delete_run(run.run_id)
                # What it printed: three files a step, which Dagster would keep for ever.
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
    """`prune_runs` every night, wherever there is a daemon: nobody has to think of it."""
    return ScheduleDefinition(
        job=prune_runs,
        cron_schedule="17 3 * * *",
        default_status=DefaultScheduleStatus.RUNNING,
    )


def _dry_run(
    context: OpExecutionContext,
    configuration: Configuration,
    cursor: LedgerResource,
    config: SyncConfig,
) -> Output[None]:
    """Say what a sync would come to. Raises Failure if a trail could not be listed."""
    problems: list[Problem] = []
    with failures_said(), core_logs_in(context.log):
        check_sample(configuration)
        estimates = estimate(
            settings_of(configuration, cursor), config.selection(), problems.append
        )
    for one in estimates:
        context.log.info("%s", describe(one))
    if problems:
        lines = "\n".join(map(problem_line, problems))
        raise Failure(
            f"Not everything could be listed:\n{lines}",
            metadata=of_estimates(estimates),
            allow_retries=False,
        )
    return Output(None, metadata=of_estimates(estimates))


def _due(summary: Summary, interval: float) -> dict[tuple[str, str], bool]:
    """Which partitions are to be reported: each at most once in `interval` seconds.

    A materialization costs Dagster's database about a kilobyte and 12 to 39 ms.
    """
    now = time.time()
    return {
        key: abs(now - counts.reported_at) >= interval for key, counts in summary.partitions.items()
    }


def _note_reported(
    cursor: LedgerResource, summary: Summary, is_due: dict[tuple[str, str], bool]
) -> None:
    reported = [
        source_id
        for key, counts in summary.partitions.items()
        if is_due[key] and counts.log_files > counts.failed
        for source_id in counts.source_ids
    ]
    if reported:
        with closing(Ledger(cursor.path)) as ledger:
            note_reported(ledger, reported, int(time.time()))


def _time(key: str, text: str | None) -> datetime | None:
    return None if text is None else parse_time(key, text)


def _size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
