"""The values that a comparison reports: days, source prefixes, findings and their counts.

`Report` names at most 1,000 findings of a kind and counts all of them. Here is also decided which
status a calendar shows for a day, and which kinds of findings mean that something is not complete.
Neither listing nor comparing belongs here.
"""

from bisect import bisect_right
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum
from typing import Final

from ctrail_pipeline.core.keys.source_prefix import SourcePrefix
from ctrail_pipeline.core.listing.problem import Problem

from .findings import EXPLANATIONS, Finding, FindingKind, HourState, Severity
from .hour_states import Evidence, HourRange, merge_hours

FINDINGS_NAMED: Final = 1_000
"""Findings of a kind that a report names; beyond, it counts them."""


@dataclass
class OutputCounts:
    """What was compared."""

    files: int = 0
    lines: int = 0
    """As the ledger has them; counted in the files, if `deep`."""
    bytes: int = 0
    missing: int = 0
    altered: int = 0
    foreign: int = 0
    """Files that a reader takes for events, and the ledger does not know."""
    others: int = 0
    """Other files that are not of this program; not touched, no harm."""
    seconds: float = 0.0


class DayStatus(Enum):
    """What a calendar shows of a day of a source partition, best first."""

    COMPLETE = "complete"
    LATE = "late"
    """Log files turned up after the day was called done, and are to be fetched."""
    GAP = "gap"
    """Log files of it were never brought in, or nobody looked yet whether there are any."""
    DAMAGED = "damaged"
    """Log files of it failed or are damaged, or evidence contradicts it."""


@dataclass(slots=True)
class Day:
    """The log files of one day (of their key time, UTC) of one source partition."""

    listed: int = 0
    """In the bucket, and wanted."""
    committed: int = 0
    """Of these, the ones whose records are in the output."""
    failed: int = 0
    """They could not be read, or were deleted before they were."""
    damaged: int = 0
    archived: int = 0
    """To be restored in S3 before they can be read."""
    missing: int = 0
    """In the bucket for more than an hour, and not brought in, or not in this version."""
    late: int = 0
    """Of the missing ones, those of a time that the ledger calls wholly done."""
    new: int = 0
    """In the bucket for less than an hour; the next sync brings them in."""
    expired: int = 0
    """Committed, and no longer in the bucket."""
    open_hours: int = 0
    """A bit for each hour that something is to be brought in for."""

    @property
    def is_complete(self) -> bool:
        """Whether nothing is wrong with it."""
        return not (self.failed or self.damaged or self.archived or self.missing)


COUNTS: Final = (
    *("listed", "committed", "failed", "damaged", "archived", "missing", "late", "new", "expired"),
)
"""The numbers of a `Day`."""


@dataclass
class PartitionReport:
    """What was found of one account and region of a trail."""

    trail: str
    place: SourcePrefix
    days: dict[int, Day] = field(default_factory=dict)
    """By days since 1970; 0: log files in no day's folder. A day without log files has none."""
    hours: list[HourRange] = field(default_factory=list)
    """The state of each hour from the first log file's day to the cursor."""
    is_listed: bool = True
    """Whether it could be listed to its end."""
    tail: int | None = None
    """From this hour (since 1970) on, all that was listed is in; None if it was not listed."""

    def total(self, name: str) -> int:
        """One of `COUNTS`, over all days."""
        return sum(getattr(day, name) for day in self.days.values())

    def hours_by_state(self) -> dict[HourState, int]:
        """How many hours are in each state."""
        counted: Counter[HourState] = Counter()
        for one in self.hours:
            counted[one.state] += one.end - one.start
        return dict(counted)

    def status_of(self, number: int) -> DayStatus | None:
        """What a calendar shows of a day; None where it says nothing."""
        day = self.days.get(number, Day())
        states = self._states_of(number)
        if day.failed or day.damaged or HourState.CONTRADICTED in states:
            return DayStatus.DAMAGED
        if day.missing > day.late or day.archived:
            return DayStatus.GAP
        if day.late:
            return DayStatus.LATE
        if not states and not day.listed:
            return None
        # Hours that are open for what came in lately are no gap.
        is_gap = HourState.OPEN in states and not day.new and not self._is_last(number)
        return DayStatus.GAP if is_gap else DayStatus.COMPLETE

    def _states_of(self, number: int) -> set[HourState]:
        first, end = number * 24, number * 24 + 24
        at = max(0, bisect_right(self.hours, first, key=lambda one: one.start) - 1)
        states = set()
        for one in self.hours[at:]:
            if one.start >= end:
                break
            if one.end > first:
                states.add(one.state)
        return states

    def _is_last(self, number: int) -> bool:
        """Whether the day is the one that its log files reach up to: it may not be over yet."""
        return not self.hours or (self.hours[-1].end - 1) // 24 <= number


@dataclass
class Report:
    """Everything that was found."""

    at: datetime = field(default_factory=lambda: datetime.now(UTC))
    partitions: list[PartitionReport] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    """At most 1,000 of a kind are named; `counts` has them all."""
    counts: Counter[FindingKind] = field(default_factory=Counter)
    trouble: Counter[tuple[str, FindingKind]] = field(default_factory=Counter)
    """The same by trail; "" for what is of several."""
    problems: list[Problem] = field(default_factory=list)
    """Trails and partitions that could not be listed."""
    output: OutputCounts = field(default_factory=OutputCounts)
    deep: bool = False
    digests: int = 0
    """Digests that were read, if there was a witness; and those that hold."""
    digests_sound: int = 0
    log_files_proved: int = 0
    """Log files whose hash is the one that a digest signs."""
    queued: int = 0
    """Log files that were noted for the next sync."""
    requests: int = 0
    """LIST requests for log files."""
    seconds: float = 0.0

    def note(self, finding: Finding) -> None:
        """Count a finding, and name it if not too many of its kind are."""
        self.counts[finding.kind] += 1
        self.trouble[finding.trail, finding.kind] += 1
        if self.counts[finding.kind] <= FINDINGS_NAMED:
            self.findings.append(finding)

    def add(self, evidence: Evidence) -> None:
        """Merge in what another witness found: the one place where digests come in."""
        for finding in evidence.findings:
            self.note(finding)
        for one in self.partitions:
            witnessed = evidence.hours.get(one.place)
            if witnessed is not None:
                one.hours = merge_hours(one.hours, witnessed, one.tail)

    def total(self, name: str) -> int:
        """One of `COUNTS`, over all partitions."""
        return sum(one.total(name) for one in self.partitions)

    @property
    def is_complete(self) -> bool:
        """Whether everything that the buckets hold is here, as it was written."""
        return not self.problems and not any(fails(kind) for kind in self.counts)


_INCOMPLETE: Final = frozenset(
    {FindingKind.LOG_FILE_MISSING, FindingKind.LOG_FILE_FAILED, FindingKind.LOG_FILE_DAMAGED}
)


def fails(kind: FindingKind) -> bool:
    """Whether a finding of this kind means that not everything is here as it should be."""
    return kind in _INCOMPLETE or EXPLANATIONS[kind].severity is Severity.ERROR
