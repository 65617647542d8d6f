"""What a run did: counts for each account and region, problems, and totals of all runs.

Not here: how far a run is while it goes on (`progress`), or how people are told (`reports`).
"""

from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from ctrail_pipeline.core.batch.commit import BatchResult
from ctrail_pipeline.core.keys.left_aside import LeftAside
from ctrail_pipeline.core.ledger.ledger import Ledger
from ctrail_pipeline.core.ledger.rows import LogFileState, Outcome
from ctrail_pipeline.core.ledger.source_prefixes import source_totals
from ctrail_pipeline.core.listing.problem import Problem, not_committed
from ctrail_pipeline.core.listing.sources import LogFileRef, Source

from .open_log_files import Archived, OpenLogFiles
from .progress import Progress

_PROBLEMS_NAMED: Final = 1_000
"""Problems that a summary names. It counts those beyond."""
_KEYS_COUNTED: Final = 10_000
"""Hours or names that a summary tells apart: memory must not depend on the data."""


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
    """Bytes of the new lines."""
    total_events: int = 0
    """New lines of all runs together, as of the end of this one."""
    newest_event: str | None = None
    """The latest eventTime of all runs."""
    reported_at: int = 0
    """When Dagster was last told of new events (seconds since 1970; 0: never)."""
    first_event: str | None = None
    """The eventTime of the oldest record in these log files, new or not."""
    last_event: str | None = None
    source_ids: set[int] = field(default_factory=set)
    """The ledger's ids of the source prefixes that these counts are about."""

    def count(self, outcome: Outcome) -> None:
        """Add the outcome of a log file."""
        self.log_files += 1
        self.events += outcome.records - outcome.duplicates
        self.duplicates += outcome.duplicates
        self.quarantined += outcome.quarantined
        self.conflicts += outcome.conflicts
        self.bytes_out += outcome.bytes_out
        self.bytes_in += outcome.size
        self.source_ids.add(outcome.source_id)
        if outcome.times is not None:
            first, last = outcome.times
            self.first_event = min(self.first_event or first, first)
            self.last_event = max(self.last_event or last, last)
        if outcome.state is LogFileState.DAMAGED:
            self.damaged += 1
        elif outcome.state is not LogFileState.COMMITTED:
            self.failed += 1


@dataclass
class Summary:
    """What a run did, and what stands open after it."""

    progress: Progress
    trails: tuple[str, ...] = ()
    """The trails that the run was about."""
    partitions: dict[tuple[str, str], PartitionCounts] = field(default_factory=dict)
    """By trail and `account/region`, where there were new log files."""
    problems: list[Problem] = field(default_factory=list)
    """What this run could not bring in. At most 1,000 problems are named."""
    problem_count: int = 0
    troubles: int = 0
    """Problems of trails and source prefixes. Those of log files stand in the ledger, too."""
    passing_failures: int = 0
    """Problems of this try that may pass by themselves."""
    lasting_failures: int = 0
    """Problems of this try that will not pass by themselves."""
    brought_in: int = 0
    """Log files that are committed by this run."""
    output_files: int = 0
    bytes_out: int = 0
    newlines_replaced: int = 0
    """Line breaks between the tokens of pretty-printed log files that became spaces."""
    misfits: int = 0
    """Rows of its Parquet files of which something is in `_other`."""
    events_by_hour: Counter[str] = field(default_factory=Counter)
    """New events by the hour of their eventTime. Hours beyond 10,000 are not told apart."""
    events_by_name: Counter[str] = field(default_factory=Counter)
    """New events by eventName. Names beyond 10,000 are not told apart."""
    not_yet: list[str] = field(default_factory=list)
    """Trails that have not delivered a log file yet."""
    left_aside: dict[str, LeftAside] = field(default_factory=dict)
    """By trail: what runs saw and did not bring in. It does not fail a run."""
    interrupted: bool = False
    answers_for: OpenLogFiles = field(default_factory=OpenLogFiles)
    """What stands open after this run of all that it answers for."""
    open_log_files: OpenLogFiles = field(default_factory=OpenLogFiles)
    """What stands open of the whole selection, whichever run it was new to."""
    archived: Archived = field(default_factory=Archived)
    """Log files of the selection that must be restored in S3. They do not fail a run."""

    @property
    def failures(self) -> int:
        """What makes the run a failed one: troubles, and log files that stand open."""
        return self.troubles + self.answers_for.counts.total()

    @property
    def ok(self) -> bool:
        """Whether everything that was asked for was brought in."""
        return not self.failures and not self.interrupted

    @property
    def may_pass(self) -> bool:
        """Whether something failed in this try, and all of it may pass by itself."""
        return self.passing_failures > 0 and not self.lasting_failures

    @property
    def quarantined(self) -> int:
        """Records of this run's log files that are in quarantine."""
        return sum(counts.quarantined for counts in self.partitions.values())

    def note(self, problem: Problem) -> None:
        """Count a problem, and name it if not too many are named already."""
        self.problem_count += 1
        fails = problem.state != LogFileState.ARCHIVED.name.lower()
        self.troubles += not problem.is_of_log_file
        self.passing_failures += fails and problem.may_pass
        self.lasting_failures += fails and not problem.may_pass
        if len(self.problems) < _PROBLEMS_NAMED:
            self.problems.append(problem)
        if problem.trail in self.progress.trails:
            self.progress.trails[problem.trail].problems += 1

    def counts_of(self, source: Source) -> PartitionCounts:
        """The counts of a source prefix's account and region in its trail."""
        key = (source.trail, source.source_prefix.partition_key)
        return self.partitions.setdefault(key, PartitionCounts())

    def count_batch(self, result: BatchResult) -> None:
        """Add what a batch brought, apart from its log files."""
        self.progress.bytes += result.bytes_in
        self.output_files += result.files
        self.bytes_out += result.bytes_out
        self.misfits += result.misfits
        self.newlines_replaced += result.newlines_replaced
        _add_bounded(self.events_by_hour, result.events_by_hour)
        _add_bounded(self.events_by_name, result.events_by_name)

    def count_log_file(self, ref: LogFileRef, outcome: Outcome | None) -> Problem | None:
        """Add a settled log file, and return its problem if its records were not brought in.

        Without an outcome, another run has settled it meanwhile.
        """
        trail = self.progress.trails[ref.source.trail]
        self.progress.log_files += 1
        trail.log_files += 1
        if outcome is None:
            return None
        self.counts_of(ref.source).count(outcome)
        new_events = outcome.records - outcome.duplicates
        self.progress.events += new_events
        trail.events += new_events
        self.progress.duplicates += outcome.duplicates
        if outcome.state is LogFileState.COMMITTED:
            self.brought_in += 1
            return None
        if outcome.leaves_committed and outcome.state is not LogFileState.FAILED:
            return None  # what the log file held is in the output, and the object expired since
        self.progress.failed += 1
        return not_committed(ref, outcome)

    def add_totals(self, ledger: Ledger) -> None:
        """Add to each account and region what all runs together brought in."""
        totals = source_totals(ledger)
        for counts in self.partitions.values():
            of_sources = [totals[source_id] for source_id in counts.source_ids]
            counts.total_events = sum(total.events for total in of_sources)
            counts.newest_event = max((total.last_event or "" for total in of_sources), default="")
            counts.reported_at = max((total.reported_at for total in of_sources), default=0)


def _add_bounded(counts: Counter[str], new_counts: Counter[str]) -> None:
    for key, number in new_counts.items():
        is_told_apart = key in counts or len(counts) < _KEYS_COUNTED
        counts[key if is_told_apart else "other"] += number
