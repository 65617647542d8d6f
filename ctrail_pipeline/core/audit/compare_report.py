"""The values that a comparison reports: days, source prefixes, findings and their counts.

`Report` names at most 1,000 findings of a kind and counts all of them. This module also decides
which status a calendar shows for a day, and which kinds of findings mean that something is missing
or wrong. Neither listing nor comparing belongs here.
"""

from bisect import bisect_right
from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import Enum
from typing import Final, NamedTuple

from ctrail_pipeline.core.keys.left_aside import LeftAside, summed
from ctrail_pipeline.core.keys.source_prefix import SourcePrefix
from ctrail_pipeline.core.listing.problem import Problem
from ctrail_pipeline.core.run.reason_groups import GROUPS_NAMED, without_numbers

from .digest_result import DigestResult
from .findings import EXPLANATIONS, Finding, FindingKind, HourState, Severity
from .hour_states import HourRange, merge_hours

FINDINGS_NAMED: Final = 1_000
"""A report names so many findings of a kind; it counts the rest."""


@dataclass
class OutputCounts:
    """What was compared in the output."""

    files: int = 0
    lines: int = 0
    """Lines by the ledger; lines counted in the files, if the comparison is deep."""
    bytes: int = 0
    missing: int = 0
    altered: int = 0
    foreign: int = 0
    """Files that a reader takes for events and the ledger does not know."""
    others: int = 0
    """Other files that this program did not write. They do no harm and are not touched."""
    not_in_parquet: int = 0
    """Events that are in the JSONL only, if Parquet is configured. Where the ledger does not know
    which events of a date are in Parquet, all of the date count."""
    seconds: float = 0.0


class DayStatus(Enum):
    """What a calendar shows for a day of a source prefix, best first."""

    COMPLETE = "complete"
    LATE = "late"
    """Log files turned up after the day was called done, and are to be fetched."""
    GAP = "gap"
    """Log files of the day were never brought in, or nobody looked yet whether there are any. Log
    files that people have accepted are such ones, too."""
    DAMAGED = "damaged"
    """Log files of the day failed or are damaged, or a digest or listing contradicts the day."""


@dataclass(slots=True)
class Day:
    """The log files of one source prefix whose key time lies on one day (UTC)."""

    listed: int = 0
    """Log files that are in the bucket and wanted."""
    committed: int = 0
    """Listed log files whose records are in the output."""
    failed: int = 0
    """Log files that could not be read, or were deleted before they were read."""
    damaged: int = 0
    archived: int = 0
    """Log files that must be restored in S3 before they can be read."""
    accepted: int = 0
    """Log files that failed, are damaged or gone, and that people have settled as they are. They
    count as nothing else but listed."""
    missing: int = 0
    """Log files in the bucket for more than an hour that were not brought in, or not in this
    version."""
    late: int = 0
    """Missing log files of a time that the ledger calls wholly done."""
    new: int = 0
    """Log files in the bucket for less than an hour; the next sync brings them in."""
    expired: int = 0
    """Committed log files that are no longer in the bucket."""
    open_hours: int = 0
    """A bit for each hour for which something is still to be brought in."""

    @property
    def is_complete(self) -> bool:
        """Whether nothing is wrong with the day."""
        return not (self.failed or self.damaged or self.archived or self.missing)


COUNTS: Final = (
    *("listed", "committed", "failed", "damaged", "archived", "missing", "late", "new", "expired"),
    "accepted",
)
"""The numbers of a `Day`."""


@dataclass
class PrefixReport:
    """What was found for one source prefix of a trail."""

    trail: str
    source_prefix: SourcePrefix
    days: dict[int, Day] = field(default_factory=dict)
    """By days since 1970; day 0 holds log files that lie in no day's folder. Days without log
    files have no entry."""
    hours: list[HourRange] = field(default_factory=list)
    """The state of each hour from the first log file's day to the cursor."""
    is_listed: bool = True
    """Whether the source prefix could be listed to its end."""
    tail: int | None = None
    """From this hour (since 1970) on, everything that was listed is in. None if not listed."""

    def day(self, number: int) -> Day:
        """Return the counts of a day, to be added to."""
        return self.days.setdefault(number, Day())

    def total(self, name: str) -> int:
        """Return the sum over all days of one of `COUNTS`."""
        return sum(getattr(day, name) for day in self.days.values())

    def hours_by_state(self) -> dict[HourState, int]:
        """Return how many hours are in each state."""
        counted: Counter[HourState] = Counter()
        for hours in self.hours:
            counted[hours.state] += hours.end - hours.start
        return dict(counted)

    def status_of(self, number: int) -> DayStatus | None:
        """Return what a calendar shows for a day; None where nothing is known of the day."""
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
        # Hours that are open only because log files came in lately are no gap.
        is_gap = HourState.OPEN in states and not day.new and not self._is_last(number)
        return DayStatus.GAP if is_gap else DayStatus.COMPLETE

    def _states_of(self, number: int) -> set[HourState]:
        first, end = number * 24, number * 24 + 24
        at = max(0, bisect_right(self.hours, first, key=lambda hours: hours.start) - 1)
        states = set()
        for hours in self.hours[at:]:
            if hours.start >= end:
                break
            if hours.end > first:
                states.add(hours.state)
        return states

    def _is_last(self, number: int) -> bool:
        """Whether the day is the last one with known hours: it may not be over yet."""
        return not self.hours or (self.hours[-1].end - 1) // 24 <= number


class Unread(NamedTuple):
    """Objects that could not be read for one reason."""

    first: Problem
    at: int
    """Where the problem stands in the report."""
    more: int = 0


@dataclass
class Report:
    """Everything that was found."""

    at: datetime = field(default_factory=lambda: datetime.now(UTC))
    prefixes: list[PrefixReport] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    """At most 1,000 findings of a kind are named here; `counts` counts all of them."""
    counts: Counter[FindingKind] = field(default_factory=Counter)
    counts_by_trail: Counter[tuple[str, FindingKind]] = field(default_factory=Counter)
    """Findings by trail and kind. The trail "" stands for findings of several trails."""
    problems: list[Problem] = field(default_factory=list)
    """Trails and source prefixes that could not be listed, and the first of objects that could not
    be read for one reason."""
    unread: dict[tuple[str, str, str], Unread] = field(default_factory=dict)
    """Problems that are told once, by trail, state and reason."""
    left_aside: dict[str, LeftAside] = field(default_factory=dict)
    """By trail: what the bucket holds and is not brought in."""
    not_yet: list[str] = field(default_factory=list)
    """Trails that have not delivered a log file yet."""
    output: OutputCounts = field(default_factory=OutputCounts)
    deep: bool = False
    digests: int = 0
    """Digests that were read, if digests were checked."""
    digests_sound: int = 0
    """Digests that were read and hold."""
    log_files_proved: int = 0
    """Log files whose hash is the one that a digest signs."""
    log_files_agreeing: int = 0
    """Log files with the hash that a digest lists, where the digest itself is not proved."""
    log_files_not_selected: int = 0
    """Entries of digests for log files of kinds that the configuration does not choose."""
    queued: int = 0
    """Log files that were noted for the next sync."""
    requests: int = 0
    """LIST requests for log files."""
    seconds: float = 0.0

    def note(self, finding: Finding) -> None:
        """Count a finding, and name it unless too many of its kind are named already."""
        self.counts[finding.kind] += 1
        self.counts_by_trail[finding.trail, finding.kind] += 1
        if self.counts[finding.kind] <= FINDINGS_NAMED:
            self.findings.append(finding)

    def note_unread(self, problem: Problem) -> None:
        """Name what could not be read for digests. What has a reason that is named is counted.

        A key of KMS that is disabled may concern a million log files. Beyond 100 reasons, all
        further ones are counted as one.
        """
        reason = without_numbers(problem.reason.replace(problem.where, ""))
        key = problem.trail, problem.state, reason
        if key not in self.unread and len(self.unread) >= GROUPS_NAMED:
            key = "", "", ""
        known = self.unread.get(key)
        if known is None:
            first = replace(problem, reason=problem.reason.removeprefix(f"{problem.where}: "))
            self.unread[key] = Unread(first, len(self.problems))
            self.problems.append(first)
            return
        known = self.unread[key] = known._replace(more=known.more + 1)
        told = f"{known.first.reason}; and {known.more:,} more"
        self.problems[known.at] = replace(known.first, reason=told)

    def leave_aside(
        self, trail: str, partition: str, left_aside: LeftAside, why: str = "no log file's name"
    ) -> None:
        """Count and name what is left aside in an account and region, or around them."""
        detail = f"{why}; the first of {left_aside.objects:,}"
        where = left_aside.example
        self.note(Finding(FindingKind.LEFT_ASIDE, where, detail, trail, partition))
        known = self.left_aside.get(trail)
        self.left_aside[trail] = left_aside if known is None else summed([known, left_aside])

    def add(self, checked: DigestResult) -> None:
        """Merge in what the check of digests found."""
        self.digests, self.digests_sound = checked.digests, checked.digests_sound
        self.log_files_proved = checked.log_files_proved
        self.log_files_agreeing = checked.log_files_agreeing
        self.log_files_not_selected = checked.log_files_not_selected
        for finding in checked.findings:
            self.note(finding)
        for prefix in self.prefixes:
            hours = checked.hours.get(prefix.source_prefix)
            if hours is not None:
                prefix.hours = merge_hours(prefix.hours, hours, prefix.tail)

    def total(self, name: str) -> int:
        """Return the sum over all source prefixes of one of `COUNTS`."""
        return sum(prefix.total(name) for prefix in self.prefixes)

    @property
    def is_complete(self) -> bool:
        """Whether everything that the buckets hold is here, as it was written."""
        return not self.problems and not any(fails(kind) for kind in self.counts)


_INCOMPLETE: Final = frozenset(
    {
        FindingKind.LOG_FILE_MISSING,
        FindingKind.LOG_FILE_FAILED,
        FindingKind.LOG_FILE_DAMAGED,
        FindingKind.DIGESTS_ELSEWHERE,
        FindingKind.NOT_IN_PARQUET,
    }
)


def fails(kind: FindingKind) -> bool:
    """Whether a finding of this kind means that not everything is here as it should be."""
    return kind in _INCOMPLETE or EXPLANATIONS[kind].severity is Severity.ERROR
