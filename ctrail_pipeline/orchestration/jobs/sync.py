"""The job `sync`: bring in what is new, of all trails or of those that the run config selects.

The job is one op that calls `core.run.sync`. Downloading, decompressing, dedup and writing are
steps inside that call: four ops would pickle every event three times. Not here: the assets of
single trails (`orchestration.assets`), and what a sync does (`core`).
"""

import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace

from dagster import (
    AssetCheckEvaluation,
    AssetMaterialization,
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
from pydantic import Field

from ctrail_pipeline.config.file import Config as Configuration
from ctrail_pipeline.core.ledger.ledger import Ledger
from ctrail_pipeline.core.ledger.source_prefixes import note_reported
from ctrail_pipeline.core.listing.problem import Problem
from ctrail_pipeline.core.listing.selection import Selection
from ctrail_pipeline.core.run.dry_run import estimate
from ctrail_pipeline.core.run.summary import Summary
from ctrail_pipeline.orchestration.assets import materializations
from ctrail_pipeline.orchestration.checks import evaluations_of_run
from ctrail_pipeline.orchestration.metadata import of_estimates
from ctrail_pipeline.orchestration.partitions import asset_keys, register_partitions
from ctrail_pipeline.orchestration.resources import LedgerResource
from ctrail_pipeline.orchestration.sync_run import (
    check_sample,
    core_logs_in,
    failures_without_traceback,
    finish,
    run_sync,
    settings_of,
)
from ctrail_pipeline.reports.sentences import estimate_line, problem_line

from .console import QUIET
from .selection_config import SelectionConfig


class SyncConfig(SelectionConfig):
    """Which log files a run of `sync` is about, and what it does with them."""

    dry_run: bool = Field(
        default=False,
        description="Only list: say what there is, and what bringing it in would cost. Reads no log"
        " file and writes nothing.",
    )
    listed: bool = Field(
        default=False,
        description="List nothing: fetch only log files that the sensor has found, or that are due"
        " for another try.",
    )

    def selection(self) -> Selection:
        """Return the selection for the core. Raises ConfigurationError for a bad time."""
        return replace(super().selection(), listed=self.listed)


def build_sync_job(configuration: Configuration) -> JobDefinition:
    """Return the job `sync` over the trails of a configuration."""
    keys = asset_keys(configuration.settings.trails)

    @op(
        name="sync_log_files",
        out=Out(Nothing),  # with a value, Dagster would keep a pickled None for each run
        description="Finds new log files and brings their events to disk, each exactly once.",
    )
    def sync_op(
        context: OpExecutionContext, config: SyncConfig, cursor: LedgerResource
    ) -> Iterator[AssetMaterialization | AssetCheckEvaluation | Output[None]]:
        if config.dry_run:
            yield _dry_run(context, configuration, cursor, config)
            return
        with failures_without_traceback():
            selection = config.selection()
        summary = run_sync(context, configuration, cursor, selection)
        for trail, key in keys.items():
            partitions = [partition for name, partition in summary.partitions if name == trail]
            register_partitions(context.instance, key, partitions)
        # These are yielded: what is logged through the context is lost when the op fails.
        is_due = _due(summary, configuration.dagster.materialization_interval)
        yield from materializations(summary, keys, configuration, is_due=is_due)
        _note_reported(cursor, summary, is_due)
        yield from evaluations_of_run(
            configuration, cursor, context.instance, summary, without_listing=config.listed
        )
        yield Output(None, metadata=finish(context, summary))

    @job(
        name="sync",
        description="Brings in everything that is new: of all trails, or of those that the run"
        " config selects.",
        executor_def=in_process_executor,
        config=QUIET,
    )
    def sync_job() -> None:
        sync_op.alias("sync")()

    return sync_job


def _dry_run(
    context: OpExecutionContext,
    configuration: Configuration,
    cursor: LedgerResource,
    config: SyncConfig,
) -> Output[None]:
    """Log what a sync would bring in and cost. Raises Failure if a trail could not be listed."""
    problems: list[Problem] = []
    with failures_without_traceback(), core_logs_in(context.log):
        check_sample(configuration)
        estimates = estimate(
            settings_of(configuration, cursor), config.selection(), problems.append
        )
    for trail_estimate in estimates:
        context.log.info("%s", estimate_line(trail_estimate))
    if problems:
        lines = "\n".join(map(problem_line, problems))
        raise Failure(
            f"Not everything could be listed:\n{lines}",
            metadata=of_estimates(estimates),
            allow_retries=False,
        )
    return Output(None, metadata=of_estimates(estimates))


def _due(summary: Summary, interval: float) -> dict[tuple[str, str], bool]:
    """Return which partitions are to be reported: each at most once in `interval` seconds.

    A materialization costs Dagster's database about a kilobyte and 12 to 39 ms.
    """
    now = time.time()
    return {
        key: abs(now - counts.reported_at) >= interval for key, counts in summary.partitions.items()
    }


def _note_reported(
    cursor: LedgerResource, summary: Summary, is_due: dict[tuple[str, str], bool]
) -> None:
    """Note in the ledger which source prefixes were reported to Dagster just now."""
    reported = [
        source_id
        for key, counts in summary.partitions.items()
        if is_due[key] and counts.log_files > counts.failed + counts.damaged
        for source_id in counts.source_ids
    ]
    if reported:
        with closing(Ledger(cursor.address)) as ledger:
            note_reported(ledger, reported, int(time.time()))
