"""The job `sync`: everything that is new, of all trails or of those its run config selects.

One op that calls `core.sync`: downloading, decompressing, dedup and writing are steps inside it, as
four ops would pickle every event three times. Not here: what a sync does, and where (`core`).
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from urllib.parse import unquote, urlsplit

from dagster import (
    AssetKey,
    AssetMaterialization,
    Config,
    DagsterExecutionInterruptedError,
    Failure,
    JobDefinition,
    MetadataValue,
    OpExecutionContext,
    Output,
    in_process_executor,
    job,
    op,
)
from pydantic import Field

from .config import Config as Configuration
from .config import parse_time
from .core.estimate import TrailEstimate, describe, estimate
from .core.exceptions import ConfigurationError, CtrailError
from .core.interrupts import stop_on_signals
from .core.selection import Problem, Selection
from .core.settings import Settings
from .core.sync import PartitionCounts, Summary, sync
from .reports import failure_message, problem_line, summary_line
from .resources import CursorResource
from .trails import asset_keys


class SyncConfig(Config):
    """What a run of `sync` is about; by default everything that is configured."""

    trails: list[str] | None = Field(
        default=None, description="Names of trails; default: all of them."
    )
    partitions: list[str] | None = Field(
        default=None,
        description="account/region keys, with * and ? as wildcards; default: all of them.",
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
    dry_run: bool = Field(
        default=False,
        description="Only list: what there is, and what bringing it in would cost. No log file is"
        " read, nothing is written.",
    )

    def selection(self) -> Selection:
        """The core's form of it. Raises ConfigurationError for a time that cannot be read."""
        return Selection(
            trails=self.trails,
            partitions=self.partitions,
            start=_time("start", self.start),
            end=_time("end", self.end),
        )


def build_sync_job(configuration: Configuration) -> JobDefinition:
    """The job over the trails of a configuration."""
    settings = configuration.settings
    keys = asset_keys(settings.trails)

    @op(
        name="sync",
        description="Finds new log files and brings their events to disk, each exactly once.",
    )
    def sync_op(
        context: OpExecutionContext, config: SyncConfig, cursor: CursorResource
    ) -> Iterator[AssetMaterialization | Output[None]]:
        here = replace(settings, state_db=cursor.path)
        if config.dry_run:
            yield _dry_run(context, configuration, here, config)
            return
        with _failures_said(), _core_logs_in(context.log), stop_on_signals() as stop:
            _check_sample(configuration)
            summary = sync(here, config.selection(), run_id=context.run_id, stop=stop)
        # Yielded, not logged through the context: those are lost when the op fails.
        yield from materializations(summary, keys)
        context.log.info("%s", summary_line(summary))
        if summary.interrupted:
            raise DagsterExecutionInterruptedError
        if not summary.ok:
            raise Failure(failure_message(summary), metadata=totals(summary), allow_retries=False)
        yield Output(None, metadata=totals(summary))

    @job(
        name="sync",
        description="Brings in everything that is new, of all trails or of those selected.",
        executor_def=in_process_executor,
        # Without it, `dagster job execute` prints Dagster's own steps too (a default: a run config
        # may say otherwise).
        config={"loggers": {"console": {"config": {"log_level": "INFO"}}}},
    )
    def sync_job() -> None:
        sync_op()

    return sync_job


def _dry_run(
    context: OpExecutionContext,
    configuration: Configuration,
    settings: Settings,
    config: SyncConfig,
) -> Output[None]:
    """Say what a sync would come to. Raises Failure if a trail could not be listed."""
    problems: list[Problem] = []
    with _failures_said(), _core_logs_in(context.log):
        _check_sample(configuration)
        estimates = estimate(settings, config.selection(), problems.append)
    for one in estimates:
        context.log.info("%s", describe(one))
    if problems:
        lines = "\n".join(map(problem_line, problems))
        raise Failure(
            f"Not everything could be listed:\n{lines}",
            metadata=_expected(estimates),
            allow_retries=False,
        )
    return Output(None, metadata=_expected(estimates))


def materializations(
    summary: Summary, keys: Mapping[str, AssetKey]
) -> Iterator[AssetMaterialization]:
    """One for each account/region of a trail that got data (if only what another trail has too)."""
    for (trail, partition), counts in sorted(summary.partitions.items()):
        if counts.log_files > counts.failed:
            yield AssetMaterialization(keys[trail], partition=partition, metadata=_numbers(counts))


def totals(summary: Summary) -> dict[str, MetadataValue]:
    """What the whole run did, as numbers."""
    progress = summary.progress
    return {
        "log_files": MetadataValue.int(progress.log_files),
        "events": MetadataValue.int(progress.events),
        "duplicates": MetadataValue.int(progress.duplicates),
        "problems": MetadataValue.int(summary.problem_count),
        "output_files": MetadataValue.int(summary.output_files),
        "bytes_out": MetadataValue.int(summary.bytes_out),
        "seconds": MetadataValue.float(progress.seconds),
    }


def _expected(estimates: Sequence[TrailEstimate]) -> dict[str, MetadataValue]:
    """What a sync of all these trails would come to, as numbers."""
    return {
        "log_files": MetadataValue.int(sum(one.log_files for one in estimates)),
        "bytes": MetadataValue.int(sum(one.bytes for one in estimates)),
        "requests": MetadataValue.int(sum(one.requests for one in estimates)),
        "dollars": MetadataValue.float(sum(one.dollars for one in estimates)),
        "disk_bytes": MetadataValue.int(sum(one.disk_bytes for one in estimates)),
        "seconds": MetadataValue.float(sum(one.seconds for one in estimates)),
    }


def _check_sample(configuration: Configuration) -> None:
    """Without a configuration the sample trails are used: say so, and how to get them."""
    if configuration.source is not None:
        return
    for trail in configuration.settings.trails:
        if not Path(unquote(urlsplit(trail.bucket).path)).is_dir():
            raise ConfigurationError(
                f"there is no config.json and no sample bucket ({trail.bucket}): name your trails"
                " in config.json, or write the sample with `python -m ctrail_pipeline.sample`"
            )


def _numbers(counts: PartitionCounts) -> dict[str, MetadataValue]:
    return {
        "log_files": MetadataValue.int(counts.log_files),
        "events": MetadataValue.int(counts.events),
        "duplicates": MetadataValue.int(counts.duplicates),
        "quarantined": MetadataValue.int(counts.quarantined),
        "failed": MetadataValue.int(counts.failed),
        "damaged": MetadataValue.int(counts.damaged),
        "bytes_in": MetadataValue.int(counts.bytes_in),
    }


def _time(key: str, text: str | None) -> datetime | None:
    return None if text is None else parse_time(key, text)


@contextmanager
def _failures_said() -> Iterator[None]:
    """An error of ours fails the run with its sentence, without a traceback."""
    try:
        yield
    except CtrailError as error:
        raise Failure(str(error), allow_retries=False) from None


@contextmanager
def _core_logs_in(run_log: logging.Logger) -> Iterator[None]:
    """Show what the core logs in the run's log."""

    class Forward(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            run_log.log(record.levelno, record.getMessage())

    logger = logging.getLogger("ctrail_pipeline.core")
    handler, level = Forward(), logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
