"""Comparing the listing of a bucket with the log files that the ledger knows.

Each source prefix is listed in the order of its keys, a page at a time. Each page is compared with
the ledger's rows of the same stretch of keys. Memory depends on pages and days, not on the number
of keys. A log file that the ledger lacks is noted in the ledger as found, so that the next sync
fetches it. Comparing the output files belongs to `compare_output`.
"""

import logging
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from datetime import UTC, datetime
from enum import Enum
from typing import Final

from ctrail_pipeline.core.bucket.interface import Listed, Page
from ctrail_pipeline.core.exceptions import StoreError
from ctrail_pipeline.core.keys.coverage import (
    EVERYTHING,
    cursor,
    whole_days,
)
from ctrail_pipeline.core.keys.key_time import (
    FOREVER,
    MINUTES_PER_DAY,
    MINUTES_PER_HOUR,
    Minute,
    day_folder,
    minute_of,
)
from ctrail_pipeline.core.keys.log_file_key import KeyParts, is_log_file, key_of, parse_key
from ctrail_pipeline.core.ledger.ledger import Ledger
from ctrail_pipeline.core.ledger.log_files import put_found
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
from ctrail_pipeline.core.listing.new_log_files import is_wanted
from ctrail_pipeline.core.listing.problem import not_listed
from ctrail_pipeline.core.listing.sources import Source
from ctrail_pipeline.core.settings import Settings
from ctrail_pipeline.core.threads import DaemonThreads

from .compare_report import Day, PartitionReport, Report
from .findings import Finding, FindingKind
from .listed_hours import listed_hours

log = logging.getLogger(__name__)
NEW_MINUTES: Final = 60
"""A log file that is not committed so long after it came into the bucket is missing."""
_SIDE_BY_SIDE: Final = 16
"""Source partitions that are listed at once: each holds two pages at most."""
_LAST_DAY: Final = FOREVER // MINUTES_PER_DAY
_ALL_HOURS: Final = (1 << 24) - 1
_FOUND_AT_ONCE: Final = 1_000


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


class BucketComparison:
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


def _sequence_of(place: KeyParts) -> _Sequence:
    if not place.day:
        return _Sequence.UNDATED
    return _Sequence.COMPACT if place.name >= COMPACT_FROM else _Sequence.WHOLE


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
