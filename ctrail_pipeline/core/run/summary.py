"""What a run did: counts for each account and region, problems, and totals of all runs.

Not here: how far a run is while it goes on (`progress`), or how people are told (`reports`).
"""

from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from ctrail_pipeline.core.ledger.rows import LogFileState
from ctrail_pipeline.core.listing.problem import Problem

from .progress import Progress

_PROBLEMS_NAMED: Final = 1_000
"""Problems that a summary names; beyond, it counts them."""


@dataclass
class PartitionCounts:
    """What a run did for one account and region of a trail."""

    log_files: int = 0
    events: int = 0
    """New lines."""
    duplicates: int = 0
    conflicts: int = 0
    """New events that share their eventID with another event, but not their bytes."""
    quarantined: int = 0
    failed: int = 0
    """Log files that failed, are archived or gone."""
    damaged: int = 0
    bytes_in: int = 0
    """Stored bytes of the log files."""
    bytes_out: int = 0
    """Of the new lines."""
    total_events: int = 0
    """New lines of all runs together, as of the end of this one."""
    newest_event: str | None = None
    """The latest eventTime of all runs."""
    reported_at: int = 0
    """When Dagster was last told of new events (seconds since 1970; 0: never)."""
    first_event: str | None = None
    """eventTime of the oldest record in these log files, new or not."""
    last_event: str | None = None
    source_ids: set[int] = field(default_factory=set)
    """The ledger's ids of the source partitions that these are the counts of."""

    def note_times(self, first: str, last: str) -> None:
        """Widen the span of event times."""
        self.first_event = min(self.first_event or first, first)
        self.last_event = max(self.last_event or last, last)


@dataclass
class Summary:
    """What a run did, and what stands open after it."""

    progress: Progress
    trails: tuple[str, ...] = ()
    """The trails that it was about."""
    partitions: dict[tuple[str, str], PartitionCounts] = field(default_factory=dict)
    """By trail and `account/region`; those that had new log files."""
    problems: list[Problem] = field(default_factory=list)
    """What could not be brought in by this run; at most 1,000 are named."""
    problem_count: int = 0
    failures: int = 0
    """Problems that make the run a failed one: all but archived log files."""
    lasting_failures: int = 0
    """Those that will not pass by themselves."""
    output_files: int = 0
    bytes_out: int = 0
    misfits: int = 0
    """Rows of its Parquet files of which something is in `_other`."""
    events_by_hour: Counter[str] = field(default_factory=Counter)
    """New events by the hour of their eventTime; hours beyond 10,000 are not told apart."""
    events_by_name: Counter[str] = field(default_factory=Counter)
    """New events by eventName; likewise."""
    interrupted: bool = False
    standing: dict[LogFileState, int] = field(default_factory=dict)
    """Log files of any run that are not committed, by state."""

    @property
    def ok(self) -> bool:
        """Whether everything that was asked for was brought in."""
        return not self.failures and not self.interrupted

    @property
    def may_pass(self) -> bool:
        """Whether all that failed may pass by itself."""
        return not self.lasting_failures

    def note(self, problem: Problem) -> None:
        """Count a problem, and name it if not too many are named already."""
        self.problem_count += 1
        fails = problem.state != LogFileState.ARCHIVED.name.lower()
        self.failures += fails
        self.lasting_failures += fails and not problem.may_pass
        if len(self.problems) < _PROBLEMS_NAMED:
            self.problems.append(problem)
