"""The job `sync`: everything that is new, of all trails or of those its run config selects.

One op that calls `core.sync`: downloading, decompressing, dedup and writing are steps inside it, as
four ops would pickle every event three times. Not here: what a sync does, and where (`core`).
"""

import logging
from collections.abc import Iterator, Mapping
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
from .core.exceptions import ConfigurationError, CtrailError
from .core.interrupts import stop_on_signals
from .core.sync import PartitionCounts, Problem, Selection, Summary, sync
from .resources import CursorResource
from .trails import asset_keys

_NAMED_PROBLEMS = 50
"""Problems that a failed run's message names; the run's log has up to 1,000."""


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
        with _core_logs_in(context.log), stop_on_signals() as stop:
            try:
                _check_sample(configuration)
                summary = sync(
                    replace(settings, state_db=cursor.path),
                    config.selection(),
                    run_id=context.run_id,
                    stop=stop,
                )
            except CtrailError as error:
                raise Failure(str(error), allow_retries=False) from None
        # Yielded, not logged through the context: those are lost when the op fails.
        yield from materializations(summary, keys)
        context.log.info("%s", describe(summary))
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


def describe(summary: Summary) -> str:
    """One sentence on what the run did, and one on what stands open from this and earlier runs."""
    progress = summary.progress
    text = (
        f"{progress.log_files} new log files, {progress.events} new events in"
        f" {summary.output_files} files, {progress.duplicates} duplicates"
    )
    if summary.interrupted:
        text += "; interrupted: what is committed stays, the next run goes on from there"
    if summary.standing:
        states = ", ".join(
            f"{count} {state.name.lower()}" for state, count in sorted(summary.standing.items())
        )
        text += f"; log files that stand open: {states}"
    return text


def failure_message(summary: Summary) -> str:
    """What failed, where, and what to do: the description of a failed run."""
    lines = [
        f"{summary.problem_count} problems; everything else was brought in. The next run tries"
        " again what failed."
    ]
    lines += [_line(problem) for problem in summary.problems[:_NAMED_PROBLEMS]]
    more = summary.problem_count - min(len(summary.problems), _NAMED_PROBLEMS)
    if more:
        lines.append(f"and {more} more, see the log")
    return "\n".join(lines)


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


def _line(problem: Problem) -> str:
    trail = f"trail {problem.trail}: " if problem.trail else ""
    return f"- {trail}{problem.where}: {problem.state}: {problem.reason}"


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
