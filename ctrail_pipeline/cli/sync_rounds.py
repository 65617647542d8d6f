"""The rounds of `ctrail sync`: one round or, with `--watch`, one after another, each shown.

A terminal gets a live display, everything else gets log lines. The outcome goes to the standard
output, as a sentence or as JSON. Not here: the options (`commands.sync`), and what a sync does
(`core.run.sync`).
"""

import json
import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from threading import Event

from ctrail_pipeline.core.exceptions import ConfigurationError, CtrailError
from ctrail_pipeline.core.interrupts import stop_on_signals
from ctrail_pipeline.core.listing.notification_watch import NotificationWatch
from ctrail_pipeline.core.listing.selection import Selection
from ctrail_pipeline.core.run.progress import Progress
from ctrail_pipeline.core.run.summary import Summary
from ctrail_pipeline.core.run.sync import sync
from ctrail_pipeline.core.settings import Settings
from ctrail_pipeline.reports.sentences import failure_message, summary_line
from ctrail_pipeline.reports.sync_json import as_json

from .exit_codes import EXIT_FAILED, EXIT_OK


@dataclass(frozen=True)
class OutcomeForm:
    """In which form the progress and the outcome of a sync are shown."""

    as_json: bool = False
    """Whether the outcome is a line of JSON."""
    live: bool = False
    """Whether the progress is drawn: the standard error is a terminal."""


def run_sync(
    settings: Settings,
    select: Callable[[], Selection],
    form: OutcomeForm,
    watch: timedelta | None = None,
) -> int:
    """Sync once, or again and again until a signal asks to stop; returns the exit code.

    `select` is called before each round, so that a window that goes back from now moves along.
    While watching, a failed round is reported, and the next round tries again. When a notification
    names a new log file between two rounds, a round that lists nothing fetches it at once.
    """
    with stop_on_signals() as stop, NotificationWatch(settings) as notifications:
        if watch is None:
            return _round(settings, select, form, stop, is_watching=False, tries_failed=True)
        is_first = True
        while True:
            started = time.monotonic()
            code = _round(settings, select, form, stop, is_watching=True, tries_failed=is_first)
            is_first = False
            next_round = started + watch.total_seconds()
            while _is_notified(notifications, next_round - time.monotonic(), stop):
                code = _round(
                    settings,
                    lambda: replace(select(), listed=True),
                    form,
                    stop,
                    is_watching=True,
                    tries_failed=False,
                )
            if stop.is_set():
                return code


def _is_notified(notifications: NotificationWatch, seconds: float, stop: Event) -> bool:
    """Wait for a new log file, at most so long; return whether a notification named one."""
    try:
        return notifications.wait(seconds, stop)
    except CtrailError as error:
        print(f"ctrail: {error}", file=sys.stderr)
        stop.wait(max(0.0, seconds))  # the next round says it, too
        return False


def _round(
    settings: Settings,
    select: Callable[[], Selection],
    form: OutcomeForm,
    stop: Event,
    *,
    is_watching: bool,
    tries_failed: bool,
) -> int:
    """Sync once and show the outcome; returns the exit code.

    `tries_failed`: log files that failed before are tried now. Whoever types `ctrail sync` again
    expects that; the later rounds of a watch try them at their next visit.
    """
    try:
        selection = select()
        with _display(settings, form) as (settings, on_progress):
            summary = sync(
                settings,
                selection,
                run_id="ctrail",
                tries_failed=tries_failed,
                stop=stop,
                on_progress=on_progress,
            )
    except CtrailError as error:
        if form.as_json:
            _print_json({"ok": False, "error": str(error)})
        if isinstance(error, ConfigurationError) or not is_watching:
            raise
        print(f"ctrail: {error}", file=sys.stderr)
        return EXIT_FAILED
    _report(summary, form)
    # People stop a watch by interrupting it: that is no failure.
    is_well = summary.ok or (is_watching and not summary.failures)
    return EXIT_OK if is_well else EXIT_FAILED


def _report(summary: Summary, form: OutcomeForm) -> None:
    if form.as_json:
        _print_json(as_json(summary))
    else:
        print(summary_line(summary), flush=True)
    if summary.failures:
        print(failure_message(summary), file=sys.stderr)


def _print_json(value: object) -> None:
    print(json.dumps(value), flush=True)


@contextmanager
def _display(
    settings: Settings, form: OutcomeForm
) -> Iterator[tuple[Settings, Callable[[Progress], None] | None]]:
    """Draw a live display, if there is a terminal.

    Yields the settings that report progress often enough, and the display to report to.
    """
    if not form.live:
        yield settings, None
        return
    from rich.console import Console

    from .terminal_progress import REPORTS_A_SECOND, LiveProgress, LogAbove

    console = Console(stderr=True)
    logger = logging.getLogger("ctrail_pipeline")
    handlers = logger.handlers[:]
    above = LogAbove(console)
    if handlers:
        above.setFormatter(handlers[0].formatter)
    logger.handlers[:] = [above]
    try:
        with LiveProgress(console) as display:
            interval = min(settings.progress_interval, 1 / REPORTS_A_SECOND)
            yield replace(settings, progress_interval=interval), display
    finally:
        logger.handlers[:] = handlers
