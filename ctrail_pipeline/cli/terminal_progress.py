"""The live display of a sync on a terminal: a line for each trail, and a line for all.

The display draws what it is told and decides nothing. Not here: log lines, which are shown where
there is no terminal, and the outcome of a run (`reports`).
"""

import logging
import time
from collections import deque
from types import TracebackType
from typing import Final

from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from ctrail_pipeline.core.run.progress import Progress, TrailProgress
from ctrail_pipeline.reports.units import duration

REPORTS_A_SECOND: Final = 4
_RATE_SECONDS: Final = 15
"""Seconds that a rate looks back. Batches are committed some seconds apart."""
_TRAILS_SHOWN: Final = 20
"""Most trails that have a line of their own."""
_BAR_WIDTH: Final = 24


class _Rate:
    """A count's growth for each second, lately."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, int]] = deque()

    def of(self, now: float, total: int) -> float:
        """Take the count of this moment and return the rate."""
        if not self._samples or self._samples[-1] != (now, total):
            self._samples.append((now, total))
        while len(self._samples) > 2 and now - self._samples[1][0] > _RATE_SECONDS:
            self._samples.popleft()
        (first_time, first_total), (_, last_total) = self._samples[0], self._samples[-1]
        return (last_total - first_total) / max(now - first_time, 0.001)


class LiveProgress:
    """Shows a run on a terminal while the `with` block lasts. Call it with the run's progress.

    Meanwhile log lines go through the display's console and stand above the display.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._started = time.monotonic()
        self._progress: Progress | None = None
        self._done_rates: dict[str, _Rate] = {}
        self._event_rates: dict[str, _Rate] = {}
        self._spinner = Spinner("dots")
        self._live = Live(
            get_renderable=self._draw, console=console, refresh_per_second=8, transient=False
        )

    def __enter__(self) -> "LiveProgress":
        """Begin to draw."""
        self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Draw the last state, which stays on the screen."""
        self._spinner = Spinner("dots", style="dim")
        self._live.stop()

    def __call__(self, progress: Progress) -> None:
        """Take the run's progress. The next frame shows it."""
        self._progress = progress

    def _draw(self) -> RenderableType:
        progress = self._progress
        if progress is None:
            self._spinner.update(text=Text("looking for accounts and regions …"))
            return self._spinner
        return draw(progress, self._rates(progress), time.monotonic() - self._started)

    def _rates(self, progress: Progress) -> dict[str, tuple[float, float]]:
        """Return log files and events a second, for each trail and for all trails ("")."""
        now = time.monotonic()
        counts = {name: (trail.log_files, trail.events) for name, trail in progress.trails.items()}
        counts[""] = progress.log_files, progress.events
        return {
            name: (
                self._done_rates.setdefault(name, _Rate()).of(now, log_files),
                self._event_rates.setdefault(name, _Rate()).of(now, events),
            )
            for name, (log_files, events) in counts.items()
        }


def draw(
    progress: Progress, rates: dict[str, tuple[float, float]], seconds: float
) -> RenderableType:
    """Return the display of a moment."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("trail", no_wrap=True, overflow="ellipsis", max_width=32)
    table.add_column("", width=_BAR_WIDTH, no_wrap=True)
    for name in ("listed", "done", "events", "events/s", "ETA", "failures"):
        table.add_column(name, justify="right", no_wrap=True)
    # If there is no room for all trails, those with the most pending log files are shown.
    names = sorted(
        progress.trails,
        key=lambda name: progress.trails[name].log_files - progress.trails[name].listed,
    )
    shown = set(names[:_TRAILS_SHOWN])
    for name, trail in progress.trails.items():
        if name in shown:
            table.add_row(Text(name), *_row(trail, rates[name], progress.listing_done))
    if len(progress.trails) > 1:
        whole = TrailProgress(
            progress.listed,
            progress.log_files,
            progress.events,
            sum(trail.problems for trail in progress.trails.values()),
        )
        table.add_section()
        name = f"all {len(progress.trails)} trails"
        table.add_row(Text(name, style="bold"), *_row(whole, rates[""], progress.listing_done))
    rate = progress.bytes / 1e6 / max(seconds, 0.001)
    state = "listed" if progress.listing_done else "listing …"
    line = Text(
        f"{state}  {duration(seconds)}  {progress.duplicates:,} duplicates"
        f"  {rate:.1f} MB/s of JSON",
        style="dim",
    )
    return Group(table, line)


def _row(
    trail: TrailProgress, rates: tuple[float, float], listing_done: bool
) -> list[RenderableType]:
    """Return the cells of a line. A `+` marks numbers that grow while the listing goes on."""
    plus = "" if listing_done else "+"
    done_rate, event_rate = rates
    pending = trail.listed - trail.log_files
    if listing_done and pending <= 0:
        eta = "done"
    elif done_rate <= 0:
        eta = "…"
    else:
        eta = f"{duration(pending / done_rate)}{plus}"
    return [
        ProgressBar(
            total=max(trail.listed, 1),
            completed=trail.log_files if trail.listed else int(listing_done),
            width=_BAR_WIDTH,
        ),
        f"{trail.listed:,}{plus}",
        f"{trail.log_files:,}",
        f"{trail.events:,}",
        f"{event_rate:,.0f}",
        eta,
        Text(f"{trail.problems:,}", style="bold red" if trail.problems else ""),
    ]


class LogAbove(logging.Handler):
    """Prints log lines above a live display, as they are: nothing in them is markup."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        """Print a line."""
        style = "yellow" if record.levelno >= logging.WARNING else "dim"
        self._console.print(Text(self.format(record), style=style), soft_wrap=True)
