"""How far a run is, and reporting that now and then.

Not here: what a run did in the end (`summary`), or how progress is shown (`cli.terminal_progress`).
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass
class TrailProgress:
    """How far a run is with one trail."""

    listed: int = 0
    """New log files found so far, and due ones."""
    log_files: int = 0
    """Settled log files."""
    events: int = 0
    problems: int = 0


@dataclass
class Progress:
    """How far a run is."""

    started: float = field(default_factory=time.monotonic)
    listed: int = 0
    """New log files found so far, and due ones."""
    listing_done: bool = False
    log_files: int = 0
    """Settled log files: committed, or failed and recorded."""
    events: int = 0
    duplicates: int = 0
    bytes: int = 0
    """Uncompressed bytes of the settled log files."""
    failed: int = 0
    trails: dict[str, TrailProgress] = field(default_factory=dict)
    """By name: the trails that the run is about."""

    @property
    def seconds(self) -> float:
        """Seconds since the run began."""
        return time.monotonic() - self.started

    def __str__(self) -> str:
        """One line for people."""
        pending = self.listed - self.log_files
        return (
            f"{self.log_files} log files, {self.events} events, {self.duplicates} duplicates,"
            f" {self.failed} failed, {self.bytes / 1e6 / max(self.seconds, 0.001):.1f} MB/s of"
            f" JSON, {pending}{'' if self.listing_done else '+'} log files left"
        )


class ProgressReport:
    """Reports progress, at most once in an interval."""

    def __init__(
        self,
        on_progress: Callable[[Progress], None],
        progress: Callable[[], Progress],
        interval_seconds: float,
    ) -> None:
        self._on_progress = on_progress
        self._progress = progress
        self._interval_seconds = interval_seconds
        self._reported = time.monotonic()

    def if_due(self) -> None:
        """Report, if the interval has passed."""
        if time.monotonic() - self._reported >= self._interval_seconds:
            self.now()

    def now(self) -> None:
        """Report, whenever the last report was."""
        self._reported = time.monotonic()
        self._on_progress(self._progress())
