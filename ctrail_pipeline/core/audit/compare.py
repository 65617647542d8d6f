"""Is everything here? What the buckets hold, against the ledger, against the output on disk.

Each source partition is listed whole (or some days of it) in key order, a page at a time, and each
page is compared with the ledger's rows of the same stretch: memory depends on pages and days, never
on how many keys there are. A log file that the ledger lacks is noted there as found, so that the
next sync fetches it (of a partition that was never synced, nothing is noted: any sync lists all of
it); nothing is called covered here. What other witnesses found (signed digests) is
merged in by `Report.add`.

What is delivered while nobody syncs is no loss: a log file that came into the bucket within the
last hour is `new`, not missing. One that the bucket no longer holds is normal where a lifecycle
rule expires them: it is counted.
"""

import logging
import time
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum
from typing import Final

from ctrail_pipeline.core.batch.recovery import recover
from ctrail_pipeline.core.bucket.interface import Listed, Page
from ctrail_pipeline.core.exceptions import ConfigurationError, StoreError
from ctrail_pipeline.core.keys.coverage import (
    EVERYTHING,
    Range,
    cursor,
    intersection,
    merged,
    uncovered,
    whole_days,
)
from ctrail_pipeline.core.keys.names import (
    FOREVER,
    MINUTES_PER_DAY,
    MINUTES_PER_HOUR,
    KeyParts,
    Minute,
    SourcePrefix,
    day_folder,
    is_log_file,
    key_of,
    minute_of,
    parse_key,
)
from ctrail_pipeline.core.ledger.ledger import Ledger
from ctrail_pipeline.core.ledger.log_files import put_found
from ctrail_pipeline.core.ledger.output_numbers import holds_output
from ctrail_pipeline.core.ledger.queries_compare import (
    COMPACT_FROM,
    KnownObject,
    committed_between,
    known_by_name,
    newest_batch,
    open_log_files,
)
from ctrail_pipeline.core.ledger.queries_explain import first_days
from ctrail_pipeline.core.ledger.rows import FoundLogFile, LogFileState
from ctrail_pipeline.core.ledger.source_prefixes import register_sources, source_ids
from ctrail_pipeline.core.listing.selection import (
    Problem,
    Selection,
    find_prefixes,
    known_prefixes,
    not_listed,
    sources_of,
)
from ctrail_pipeline.core.listing.walk import Source, is_wanted
from ctrail_pipeline.core.opening import open_ledger
from ctrail_pipeline.core.output.parquet import hours_of_date
from ctrail_pipeline.core.output.staging import OutputFolders
from ctrail_pipeline.core.output_files import Kind
from ctrail_pipeline.core.settings import Settings
from ctrail_pipeline.core.threads import DaemonThreads

from .compare_output import OutputCheck, OutputCounts
from .findings import EXPLANATIONS, Finding, FindingKind, HourState, Severity
from .hours import Evidence, HourRange, joined, merge_hours

log = logging.getLogger(__name__)

NEW_MINUTES: Final = 60
"""A log file that is not committed so long after it came into the bucket is missing."""
FINDINGS_NAMED: Final = 1_000
"""Findings of a kind that a report names; beyond, it counts them."""
_SIDE_BY_SIDE: Final = 16
"""Source partitions that are listed at once: each holds two pages at most."""
_LAST_DAY: Final = FOREVER // MINUTES_PER_DAY
_ALL_HOURS: Final = (1 << 24) - 1
_FOUND_AT_ONCE: Final = 1_000


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


def reconcile(
    settings: Settings,
    selection: Selection | None = None,
    *,
    deep: bool = False,
    witness: Callable[[Report, Sequence[Source]], Evidence] | None = None,
) -> Report:
    """Compare buckets, ledger and output; queue what is missing for the next sync.

    A window of the selection is widened to whole days. `deep` reads every output file. `witness` is
    asked at the end what else is known of the source partitions. A trail or a partition that cannot
    be listed is a problem of the report. Raises ConfigurationError if there is no ledger yet,
    LedgerError or OutputError where `sync` would.
    """
    selection = selection or Selection()
    narrowed = selection.narrow(settings)
    if not settings.state_db.exists():
        raise ConfigurationError(
            f"{settings.state_db}: there is no ledger, so nothing to compare: run a sync first"
        )
    folders = OutputFolders.of(settings)
    with (
        closing(folders),
        closing(open_ledger(settings.state_db, settings.events_dir, folders)) as ledger,
    ):
        recover(ledger, folders, lambda _step: None)
        report = Report(deep=deep)
        began = time.monotonic()
        sources = _sources(narrowed, selection, ledger, report)
        _Comparison(ledger, report, narrowed).compare(sources)
        _check_output(settings, selection, ledger, folders, report)
        if witness is not None:
            report.add(witness(report, sources))
        report.seconds = time.monotonic() - began
    return report


def is_whole(selection: Selection) -> bool:
    """Whether a selection leaves out no part of the trails that it chooses."""
    return selection.partitions is None and not (
        selection.start
        or selection.end
        or selection.accounts
        or selection.exclude_accounts
        or selection.regions
        or selection.exclude_regions
    )


def _sources(
    settings: Settings, selection: Selection, ledger: Ledger, report: Report
) -> list[Source]:
    """The source partitions that the buckets hold, and those of them that they held once."""
    places = find_prefixes(settings, selection, report.problems.append, may_get=False)
    present = {place.source_prefix for place in places}
    for trail, bucket in {
        place.trail.name: (place.trail, place.bucket) for place in places
    }.values():
        places += [
            place
            for place in known_prefixes(settings, ledger, trail, bucket)
            if place.source_prefix not in present and selection.holds(place.source_prefix)
        ]
    register_sources(ledger, [place.source_prefix for place in places])
    return sources_of(places, settings, ledger)


# --- buckets against the ledger -------------------------------------------------------------------


class _Sequence(Enum):
    """What names of log files are like: those of a kind sort by (day, name) as their keys do."""

    COMPACT = "compact"
    """By the book, kept as time and suffix."""
    WHOLE = "whole"
    """In a day's folder, with another name."""
    UNDATED = "undated"


class _Walk:
    """The listing of one source partition, and how far it has been compared."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.report = PartitionReport(source.trail, source.source_prefix)
        self.days = whole_days(source.wanted)
        first, end = self.days
        self.is_unbounded = (first, end) == whole_days(EVERYTHING)
        """Whether what lies in no day's folder is compared, too."""
        self.after = source.source_prefix.folder + day_folder(first) if first > 0 else ""
        self.end_key = source.source_prefix.folder + day_folder(end) if end < _LAST_DAY else None
        self.reached = {
            _Sequence.COMPACT: (first, ""),
            _Sequence.WHOLE: (max(1, first), ""),
            _Sequence.UNDATED: (0, ""),
        }
        """Up to which (day, name) the ledger's rows have been compared."""

    def next_page(self) -> Page:
        """The next page of keys. Raises StoreError."""
        self.source.requests += 1
        return self.source.bucket.list_page(self.source.source_prefix.folder, self.after)

    def advance(self, page: Page) -> bool:
        """Go behind a page; False if there is nothing more to be listed."""
        if page.last or not page.objects:
            return False
        self.after = page.objects[-1].key
        return self.end_key is None or self.after < self.end_key

    def of_page(self, page: Page) -> dict[int, list[tuple[KeyParts, Listed]]]:
        """The log files of a page that are to be compared, by day."""
        first, end = self.days
        groups: dict[int, list[tuple[KeyParts, Listed]]] = {}
        for listed in page.objects:
            if not is_log_file(listed.key):
                continue
            place = parse_key(self.source.source_prefix, listed.key)
            if first <= place.day < end if place.day else self.is_unbounded:
                groups.setdefault(place.day, []).append((place, listed))
        return groups

    def day(self, number: int) -> Day:
        """The counts of a day."""
        return self.report.days.setdefault(number, Day())


class _Comparison:
    """Compares listings with the ledger."""

    def __init__(self, ledger: Ledger, report: Report, settings: Settings) -> None:
        self._ledger = ledger
        self._report = report
        self._interval = settings.progress_interval
        self._horizon = settings.horizon_days * MINUTES_PER_DAY
        # What a run commits from here on is neither looked for nor counted as expired.
        self._newest = newest_batch(ledger)
        self._new_since = Minute(minute_of(datetime.now(UTC)) - NEW_MINUTES)
        self._found: list[FoundLogFile] = []
        self._compared = 0
        self._said = time.monotonic()

    def compare(self, sources: Sequence[Source]) -> None:
        """List source partitions side by side, and compare page by page."""
        first = first_days(self._ledger)
        walks = [_Walk(source) for source in sources]
        self._report.partitions = [walk.report for walk in walks]
        waiting = walks[::-1]
        pages: dict[Future[Page], _Walk] = {}
        with DaemonThreads(_SIDE_BY_SIDE, "ctrail-verify") as threads:
            while waiting or pages:
                while waiting and len(pages) < _SIDE_BY_SIDE:
                    walk = waiting.pop()
                    pages[threads.submit(walk.next_page)] = walk
                for done in wait(pages, return_when=FIRST_COMPLETED).done:
                    walk = pages.pop(done)
                    page = self._page_of(walk, done)
                    if page is not None and walk.advance(page):
                        pages[threads.submit(walk.next_page)] = walk
                        self._compare_page(walk, page)
                        continue
                    if page is not None:
                        self._compare_page(walk, page)
                        self._compare_rest(walk)
                    self._finish(walk, first.get(walk.source.id))
        self._queue()

    def _page_of(self, walk: _Walk, done: "Future[Page]") -> Page | None:
        try:
            return done.result()
        except StoreError as error:
            walk.source.failure = error
            walk.report.is_listed = False
            self._report.problems.append(not_listed(walk.source))
            return None

    def _compare_page(self, walk: _Walk, page: Page) -> None:
        groups = walk.of_page(page)
        source_id = walk.source.id
        matched: Counter[tuple[_Sequence, int]] = Counter()
        new: list[tuple[KeyParts, Listed, KnownObject | None]] = []
        with self._ledger.snapshot():
            for day, found in groups.items():
                names = [place.name for place, _ in found]
                known = known_by_name(self._ledger, source_id, day, names)
                for place, listed in found:
                    row = known.get(place.name)
                    if row is not None and row.state is LogFileState.COMMITTED:
                        matched[_sequence_of(place), day] += row.batch <= self._newest
                    if not self._is_settled(walk, place, listed, row):
                        new.append((place, listed, row))
            self._count_expired(walk, groups, matched)
        for place, listed, row in new:
            self._take_new(walk, place, listed, row)
        self._compared += len(page.objects)
        if time.monotonic() - self._said >= self._interval:
            self._said = time.monotonic()
            log.info("%d objects compared", self._compared)
        if len(self._found) >= _FOUND_AT_ONCE:
            self._queue()

    def _is_settled(
        self, walk: _Walk, place: KeyParts, listed: Listed, row: KnownObject | None
    ) -> bool:
        """Count a listed log file; whether there is nothing to be done about it."""
        if row is None:
            return not is_wanted(place, walk.source.wanted)
        day = walk.day(place.day)
        if row.state is LogFileState.COMMITTED and row.etag == listed.etag:
            day.listed += 1
            day.committed += 1
            return True
        # Open ones are counted from the ledger, where those are too that the bucket lacks by now.
        is_open = row.state in (LogFileState.FAILED, LogFileState.DAMAGED, LogFileState.ARCHIVED)
        if is_open and row.etag == listed.etag:
            day.listed += 1
            return True
        return False

    def _take_new(
        self, walk: _Walk, place: KeyParts, listed: Listed, row: KnownObject | None
    ) -> None:
        """A log file that is not committed, or not in this version: count, name and queue it."""
        day = walk.day(place.day)
        day.listed += 1
        # One that was never synced is listed by any sync: a row for each key of it is waste.
        if walk.source.covered and (row is None or row.state is not LogFileState.FOUND):
            self._found.append(
                FoundLogFile(
                    walk.source.id,
                    place.day,
                    place.name,
                    listed.etag,
                    listed.size,
                    listed.archived,
                )
            )
        if row is not None and row.state not in (LogFileState.COMMITTED, LogFileState.FOUND):
            return  # it is open, and counted as that
        day.open_hours |= _hours_of(place)
        if listed.modified > self._new_since:
            day.new += 1
            return
        day.missing += 1
        is_late = _is_covered(walk.source, place)
        day.late += is_late
        self._report.note(
            _finding(
                walk,
                FindingKind.LOG_FILE_MISSING,
                place,
                self._missing_detail(walk.source, place, row, is_late=is_late),
            )
        )

    def _missing_detail(
        self, source: Source, place: KeyParts, row: KnownObject | None, *, is_late: bool
    ) -> str:
        if row is not None and row.state is LogFileState.COMMITTED:
            return "it was written again: what was brought in is another version"
        if not is_late:
            return "no sync has covered its time yet"
        newest = cursor(source.covered) or Minute(0)
        if place.minute is not None and place.minute < newest - self._horizon:
            days = self._horizon // MINUTES_PER_DAY
            return f"it turned up in a time long done, more than {days} days behind the newest"
        return "it turned up in a time that was done"

    def _count_expired(
        self,
        walk: _Walk,
        groups: dict[int, list[tuple[KeyParts, Listed]]],
        matched: "Counter[tuple[_Sequence, int]]",
    ) -> None:
        """Committed log files between the keys of a page and the page before that are not listed.

        `matched` are those that are, by day.
        """
        newest: dict[_Sequence, tuple[int, str]] = {}
        for day, found in groups.items():  # in the order of the keys
            for place, _ in found:
                newest[_sequence_of(place)] = day, place.name
        for sequence, upto in newest.items():
            for day, committed in self._committed_upto(walk, sequence, upto).items():
                if committed > matched[sequence, day]:
                    walk.day(day).expired += committed - matched[sequence, day]

    def _compare_rest(self, walk: _Walk) -> None:
        """Behind the last key of the listing: whatever the ledger has there is expired."""
        _, end = walk.days
        last = {
            _Sequence.COMPACT: (end, ""),
            _Sequence.WHOLE: (end, ""),
            _Sequence.UNDATED: (0, COMPACT_FROM if walk.is_unbounded else ""),
        }
        with self._ledger.snapshot():
            for sequence, upto in last.items():
                for day, committed in self._committed_upto(walk, sequence, upto).items():
                    walk.day(day).expired += committed

    def _committed_upto(
        self, walk: _Walk, sequence: _Sequence, upto: tuple[int, str]
    ) -> dict[int, int]:
        """Committed log files by day, behind what has been compared and up to a (day, name)."""
        after, walk.reached[sequence] = walk.reached[sequence], upto
        return committed_between(
            self._ledger,
            walk.source.id,
            after,
            upto,
            self._newest,
            compact=sequence is _Sequence.COMPACT,
        )

    def _finish(self, walk: _Walk, first_day: int | None) -> None:
        """What the ledger alone knows of a partition, and the state of its hours."""
        source, (first, end) = walk.source, walk.days
        for row in open_log_files(self._ledger, source.id, walk.days):
            place = parse_key(source.source_prefix, key_of(source.source_prefix, row.day, row.name))
            if is_wanted(place, source.wanted) and (row.day or walk.is_unbounded):
                self._take_open(walk, place, row.state, row.reason)
        self._report.requests += source.requests
        days = [day for day in (*walk.report.days, first_day or 0) if first <= day < end and day]
        walk.report.hours = listed_hours(
            source.wanted, source.covered, walk.report, min(days, default=None)
        )

    def _take_open(self, walk: _Walk, place: KeyParts, state: LogFileState, reason: str) -> None:
        day = walk.day(place.day)
        day.open_hours |= _hours_of(place)
        kind = FindingKind.LOG_FILE_FAILED
        if state is LogFileState.DAMAGED:
            day.damaged += 1
            kind = FindingKind.LOG_FILE_DAMAGED
        elif state is LogFileState.ARCHIVED:
            day.archived += 1
        else:
            day.failed += 1
        detail = reason or state.name.lower()
        self._report.note(_finding(walk, kind, place, detail))

    def _queue(self) -> None:
        """Have what is missing fetched by the next sync."""
        if self._found:
            with self._ledger.transaction():
                put_found(self._ledger, self._found, int(time.time()))
            self._report.queued += len(self._found)
            self._found = []


def listed_hours(
    wanted: Range, covered: Sequence[Range], report: PartitionReport, first_day: int | None
) -> list[HourRange]:
    """The state of each hour by listing and ledger, from the first log file to the newest."""
    if first_day is None:
        return []
    reached = cursor(covered) or Minute(0)
    last_open = max(
        (
            day * MINUTES_PER_DAY + counts.open_hours.bit_length() * MINUTES_PER_HOUR
            for day, counts in report.days.items()
            if counts.open_hours
        ),
        default=0,
    )
    newest = max(reached, last_open)
    if report.is_listed:
        report.tail = max(reached // MINUTES_PER_HOUR, last_open // MINUTES_PER_HOUR)
    span = _in_hours(
        intersection(wanted, Range(Minute(first_day * MINUTES_PER_DAY), Minute(newest)))
    )
    if not span:
        return []
    open_ranges = [span] if not report.is_listed else []
    open_ranges += [_in_hours(gap) for gap in uncovered(span, covered)]
    for day, counts in report.days.items():
        for hour in range(24) if counts.open_hours and day else ():
            if counts.open_hours >> hour & 1:
                start = Minute(day * MINUTES_PER_DAY + hour * MINUTES_PER_HOUR)
                open_ranges.append(Range(start, Minute(start + MINUTES_PER_HOUR)))
    is_open = [intersection(span, one) for one in merged(open_ranges)]
    states = [
        *((one, HourState.OPEN) for one in is_open if one),
        *((one, HourState.LISTED_COMPLETE) for one in uncovered(span, is_open)),
    ]
    return joined(
        HourRange(one.start // MINUTES_PER_HOUR, one.end // MINUTES_PER_HOUR, state)
        for one, state in sorted(states, key=lambda item: item[0])
    )


def _sequence_of(place: KeyParts) -> _Sequence:
    if not place.day:
        return _Sequence.UNDATED
    return _Sequence.COMPACT if place.name >= COMPACT_FROM else _Sequence.WHOLE


def _in_hours(window: Range) -> Range:
    """The whole hours that a stretch touches."""
    start = window.start // MINUTES_PER_HOUR * MINUTES_PER_HOUR
    end = -(-window.end // MINUTES_PER_HOUR) * MINUTES_PER_HOUR
    return Range(Minute(start), Minute(end))


def _hours_of(place: KeyParts) -> int:
    """The bit of a log file's hour; of one without a readable time, all of its day."""
    if place.minute is None:
        return _ALL_HOURS if place.day else 0
    return 1 << place.minute % MINUTES_PER_DAY // MINUTES_PER_HOUR


def _is_covered(source: Source, place: KeyParts) -> bool:
    minute = place.minute if place.minute is not None else place.day * MINUTES_PER_DAY
    return any(one.start <= minute < one.end for one in source.covered)


def _finding(walk: _Walk, kind: FindingKind, place: KeyParts, detail: str) -> Finding:
    source = walk.source
    hours = None
    if place.minute is not None:
        hour = place.minute // MINUTES_PER_HOUR
        hours = hour, hour + 1
    where = f"{source.bucket.location}/{key_of(source.source_prefix, place.day, place.name)}"
    return Finding(kind, where, detail, source.trail, source.source_prefix.partition_key, hours)


# --- the ledger against the output ----------------------------------------------------------------


def _check_output(
    settings: Settings,
    selection: Selection,
    ledger: Ledger,
    folders: OutputFolders,
    report: Report,
) -> None:
    began = time.monotonic()
    names = {(trail.bucket, trail.prefix): trail.name for trail in settings.trails}
    trails = {
        id_: names.get((source.bucket, source.prefix), "")
        for source, id_ in source_ids(ledger).items()
    }

    def trail_of(source_ids: Iterable[int]) -> str:
        found = {trails.get(source_id, "") for source_id in source_ids}
        return found.pop() if len(found) == 1 else ""

    check = OutputCheck(ledger, folders, report.note, trail_of, deep=report.deep)
    days = _days_chosen(selection)
    is_all = is_whole(selection)
    check.check(Kind.EVENTS, lambda folder: _is_chosen(folder, selection, days), whole=is_all)
    if holds_output(ledger, Kind.PARQUET):
        check.check(
            Kind.PARQUET,
            lambda folder: _is_chosen(hours_of_date(folder)[0], selection, days),
            whole=is_all,
        )
    if is_all:
        check.check(Kind.QUARANTINE, lambda _folder: True, whole=True)
    check.counts.seconds = time.monotonic() - began
    report.output = check.counts


def _days_chosen(selection: Selection) -> tuple[str, str]:
    """First and last day of the selection, as their folders are called."""
    return (
        "" if selection.start is None else f"{selection.start.astimezone(UTC):%Y/%m/%d}",
        "~" if selection.end is None else f"{selection.end.astimezone(UTC):%Y/%m/%d}",
    )


def _is_chosen(folder: str, selection: Selection, days: tuple[str, str]) -> bool:
    """Whether a folder of the output, `account/region/YYYY/MM/DD/HH`, is of the selection."""
    account, region, *date = folder.split("/")
    place = SourcePrefix("", "", "", account, region)
    return selection.holds(place) and days[0] <= "/".join(date[:3]) <= days[1]
