"""The live display of a sync on a terminal: a line for each trail, and one for all.

It draws what it is told and decides nothing. Not here: what is said where there is no terminal
(log lines), and what a run did in the end (`reports`).
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
"""How far back a rate looks: batches are committed some seconds apart."""
_MOST_TRAILS: Final = 20
_BAR_WIDTH: Final = 24


class _Rate:
    """So many a second, lately."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, int]] = deque()

    def of(self, now: float, total: int) -> float:
        if not self._samples or self._samples[-1] != (now, total):
            self._samples.append((now, total))
        while len(self._samples) > 2 and now - self._samples[1][0] > _RATE_SECONDS:
            self._samples.popleft()
        (before, then), (_, latest) = self._samples[0], self._samples[-1]
        return (latest - then) / max(now - before, 0.001)


class LiveProgress:
    """Shows a run on a terminal while the `with` block lasts; call it with the run's progress.

    Log lines go through its console meanwhile, above the display.
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
        """Take the run's progress; it is drawn with the next frame."""
        self._progress = progress

    def _draw(self) -> RenderableType:
        progress = self._progress
        if progress is None:
            self._spinner.update(text=Text("looking for accounts and regions …"))
            return self._spinner
        return draw(progress, self._rates(progress), time.monotonic() - self._started)

    def _rates(self, progress: Progress) -> dict[str, tuple[float, float]]:
        """Log files and events a second of each trail, and of all ("")."""
        now = time.monotonic()
        counts = {name: (one.log_files, one.events) for name, one in progress.trails.items()}
        counts[""] = progress.log_files, progress.events
        return {
            name: (
                self._done_rates.setdefault(name, _Rate()).of(now, done),
                self._event_rates.setdefault(name, _Rate()).of(now, events),
            )
            for name, (done, events) in counts.items()
        }


def draw(
    progress: Progress, rates: dict[str, tuple[float, float]], seconds: float
) -> RenderableType:
    """The display of one moment."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("trail", no_wrap=True, overflow="ellipsis", max_width=32)
    table.add_column("", width=_BAR_WIDTH, no_wrap=True)
    for name in ("listed", "done", "events", "events/s", "ETA", "failures"):
        table.add_column(name, justify="right", no_wrap=True)
    # Those that have most left come first, where not all have room.
    names = sorted(
        progress.trails,
        key=lambda name: progress.trails[name].log_files - progress.trails[name].listed,
    )
    shown = set(names[:_MOST_TRAILS])
    for name, one in progress.trails.items():
        if name in shown:
            table.add_row(Text(name), *_row(one, rates[name], progress.listing_done))
    if len(progress.trails) > 1:
        whole = TrailProgress(
            progress.listed,
            progress.log_files,
            progress.events,
            sum(one.problems for one in progress.trails.values()),
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
    one: TrailProgress, rates: tuple[float, float], listing_done: bool
) -> list[RenderableType]:
    more = "" if listing_done else "+"
    done, events = rates
    left = one.listed - one.log_files
    if listing_done and left <= 0:
        eta = "done"
    elif done <= 0:
        eta = "…"
    else:
        eta = f"{duration(left / done)}{more}"
    return [
        ProgressBar(
            total=max(one.listed, 1),
            completed=one.log_files if one.listed else int(listing_done),
            width=_BAR_WIDTH,
        ),
        f"{one.listed:,}{more}",
        f"{one.log_files:,}",
        f"{one.events:,}",
        f"{events:,.0f}",
        eta,
        Text(f"{one.problems:,}", style="bold red" if one.problems else ""),
    ]


class LogAbove(logging.Handler):
    """Log lines above a live display, as they are: nothing in them is markup."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        """Print one line."""
        style = "yellow" if record.levelno >= logging.WARNING else "dim"
        self._console.print(Text(self.format(record), style=style), soft_wrap=True)
