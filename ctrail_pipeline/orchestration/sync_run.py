"""One sync inside a Dagster run, whether the job, an asset, the UI or a sensor started it.

Here is what a run owes to Dagster: its log, its failure, its interruption. Not here: what is synced
(`jobs`, `assets`), how the outcome is shown (`metadata`), and what a sync does (`core`).
"""

import logging
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import unquote, urlsplit

from dagster import (
    DagsterExecutionInterruptedError,
    Failure,
    MetadataValue,
    OpExecutionContext,
    RetryRequested,
)

from ctrail_pipeline.config.file import Config
from ctrail_pipeline.core.exceptions import ConfigurationError, CtrailError
from ctrail_pipeline.core.interrupts import stop_on_signals
from ctrail_pipeline.core.ledger.batches import log_files_of_run
from ctrail_pipeline.core.ledger.ledger import Ledger
from ctrail_pipeline.core.ledger.presence import ledger_exists
from ctrail_pipeline.core.ledger.queries_open import TriesOfRuns
from ctrail_pipeline.core.listing.selection import Selection
from ctrail_pipeline.core.run.summary import Summary
from ctrail_pipeline.core.run.sync import sync
from ctrail_pipeline.core.settings import Settings
from ctrail_pipeline.reports.sentences import failure_message, summary_line

from .living_runs import mark_as_living
from .metadata import of_sync
from .resources import LedgerResource

RETRIES = 2
RETRY_SECONDS = 30


def settings_of(configuration: Config, cursor: LedgerResource) -> Settings:
    """Return the configured settings, with the ledger where the resource says it is."""
    return configuration.settings.with_ledger(cursor.address)


def run_sync(
    context: OpExecutionContext,
    configuration: Config,
    cursor: LedgerResource,
    selection: Selection,
) -> Summary:
    """Sync a selection, with the core's log lines in the run's log.

    Raises Failure with one sentence if nothing could be done. Single failures are in the summary:
    `finish` raises them when everything else is noted.
    """
    mark_as_living(context.instance, context.run_id)
    with (
        failures_without_traceback(),
        core_logs_in(context.log),
        stop_on_signals() as stop,
    ):
        check_sample(configuration)
        _log_what_is_resumed(context, cursor)
        summary = sync(
            settings_of(configuration, cursor),
            selection,
            run_id=context.run_id,
            earlier_tries=_earlier_tries(context),
            # The sensor's runs try failed log files at their next visit.
            tries_failed=not selection.listed,
            stop=stop,
        )
    context.log.info("%s", summary_line(summary))
    return summary


def finish(context: OpExecutionContext, summary: Summary) -> dict[str, MetadataValue]:
    """Return the run's totals; raises if the run was interrupted, or something stands open.

    Trouble that may pass by itself (throttling, a network) is tried again, other trouble is not.
    The op has no retry policy: with a policy, Dagster starts an interrupted run again instead of
    ending it.
    """
    if summary.interrupted:
        raise DagsterExecutionInterruptedError
    if not summary.ok:
        failure = Failure(failure_message(summary), metadata=of_sync(summary), allow_retries=False)
        if summary.may_pass and context.retry_number < RETRIES:
            raise RetryRequested(RETRIES, RETRY_SECONDS) from failure
        raise failure
    return of_sync(summary)


def check_sample(configuration: Config) -> None:
    """Raise ConfigurationError if there is neither a configuration nor the sample bucket."""
    if configuration.source is not None:
        return
    for trail in configuration.settings.trails:
        if not Path(unquote(urlsplit(trail.bucket).path)).is_dir():
            raise ConfigurationError(
                f"there is no config.json and no sample bucket ({trail.bucket}): name your trails"
                " in config.json, or write the sample with `python -m ctrail_pipeline.sample`"
            )


def _earlier_tries(context: OpExecutionContext) -> TriesOfRuns | None:
    """Return the tries that came before: of this run, and of the run that is executed again."""
    parents = context.run.root_run_id, context.run.parent_run_id
    if context.run.parent_run_id is not None:
        run_ids = filter(None, (*parents, context.run_id))
        return TriesOfRuns(tuple(dict.fromkeys(run_ids)))
    if context.retry_number:
        return TriesOfRuns((context.run_id,), context.retry_number)
    return None


def _log_what_is_resumed(context: OpExecutionContext, cursor: LedgerResource) -> None:
    """Log how far the earlier run came, if this run is executed again: it goes on from there."""
    parent = context.run.parent_run_id
    if parent is None or not ledger_exists(cursor.address):
        return
    with closing(Ledger(cursor.address)) as ledger:
        committed = log_files_of_run(ledger, parent)
    context.log.info("resumed run %s, %d log files already committed", parent, committed)


@contextmanager
def failures_without_traceback() -> Iterator[None]:
    """Let an error of ours fail the run with its sentence alone, without a traceback."""
    try:
        yield
    except CtrailError as error:
        raise Failure(str(error), allow_retries=False) from None


@contextmanager
def core_logs_in(run_log: logging.Logger) -> Iterator[None]:
    """Show the core's log lines in the run's log."""

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
