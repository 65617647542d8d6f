"""Comparing the listing of a bucket with the log files that the ledger knows.

Each source prefix is listed in the order of its keys, a page at a time. Each page is compared with
the ledger's rows of the same stretch of keys. Memory depends on pages and days, not on the number
of keys. A log file that the ledger lacks is noted in the ledger as found, so that the next sync
fetches it. Nothing is noted for a source prefix that was never synced: any sync lists all of it.
Log files that the bucket no longer holds belong to `compare_expired`.
"""

import logging
import time
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from datetime import UTC, datetime
from itertools import chain
from typing import Final

from ctrail_pipeline.core.bucket.interface import Listed, Page
from ctrail_pipeline.core.exceptions import StoreError
from ctrail_pipeline.core.keys.coverage import Range, cursor, whole_days
from ctrail_pipeline.core.keys.left_aside import (
    ListedFolders,
    Tally,
    add_to,
    folder_of,
    is_marker,
    summed,
)
from ctrail_pipeline.core.keys.log_file_key import KeyParts, is_log_file, key_of, parse_key
from ctrail_pipeline.core.keys.minutes import (
    FOREVER,
    MINUTES_PER_DAY,
    MINUTES_PER_HOUR,
    Minute,
    day_folder,
    minute_of,
)
from ctrail_pipeline.core.ledger.accepted import acceptance_of, acceptances_without_row
from ctrail_pipeline.core.ledger.ledger import Ledger
from ctrail_pipeline.core.ledger.left_aside import replace_left_aside
from ctrail_pipeline.core.ledger.log_files import put_found
from ctrail_pipeline.core.ledger.queries_compare import (
    KnownObject,
    OpenLogFile,
    first_days,
    known_by_name,
    newest_batch,
    open_log_files,
    quarantined_log_files,
)
from ctrail_pipeline.core.ledger.rows import FoundLogFile, LogFileState
from ctrail_pipeline.core.listing.new_log_files import is_wanted
from ctrail_pipeline.core.listing.problem import not_listed, without_address
from ctrail_pipeline.core.listing.sources import Source
from ctrail_pipeline.core.settings import Settings
from ctrail_pipeline.core.threads import DaemonThreads

from .compare_expired import ExpiredLogFiles, is_unbounded
from .compare_report import PrefixReport, Report
from .findings import Finding, FindingKind
from .listed_hours import listed_hours

log = logging.getLogger(__name__)

NEW_MINUTES: Final = 60
"""Minutes after which a log file in the bucket that is not committed counts as missing."""
_SIDE_BY_SIDE: Final = 16
"""Source prefixes that are listed at once: each holds two pages at most."""
_NOT_OPEN: Final = frozenset({LogFileState.COMMITTED, LogFileState.FOUND})
_LAST_DAY: Final = FOREVER // MINUTES_PER_DAY
_ALL_HOURS: Final = (1 << 24) - 1
_FOUND_AT_ONCE: Final = 1_000


class _PrefixWalk:
    """The listing of one source prefix, and how far it has got."""

    def __init__(self, source: Source, ledger: Ledger, newest: int) -> None:
        self.source = source
        self.report = PrefixReport(source.trail, source.source_prefix)
        self.days = whole_days(source.wanted)
        self.is_unbounded = is_unbounded(self.days)
        self.expired = ExpiredLogFiles(ledger, source.id, self.days, newest, self.report)
        first, end = self.days
        folder = source.source_prefix.folder
        self.after = folder + day_folder(first) if first > 0 else ""
        self.end_key = folder + day_folder(end) if end < _LAST_DAY else None
        self._expects_more = False
        self.left_aside: Tally = {}

    def next_page(self) -> Page:
        """Return the next page of keys. Raises StoreError."""
        self.source.requests += 1
        return self.source.bucket.list_page(
            self.source.source_prefix.folder, self.after, expected=self._expects_more
        )

    def advance(self, page: Page) -> bool:
        """Go behind a page; return False if nothing more is to be listed."""
        if page.last or not page.objects:
            return False
        self.after = page.objects[-1].key
        self._expects_more = True
        return self.end_key is None or self.after < self.end_key

    def log_files_of(self, page: Page) -> dict[int, list[tuple[KeyParts, Listed]]]:
        """Return the log files of a page that are to be compared, by day."""
        first, end = self.days
        by_day: dict[int, list[tuple[KeyParts, Listed]]] = {}
        for listed in page.objects:
            if not is_log_file(listed.key):
                self._leave_aside(listed)
                continue
            parts = parse_key(self.source.source_prefix, listed.key)
            if first <= parts.day < end if parts.day else self.is_unbounded:
                by_day.setdefault(parts.day, []).append((parts, listed))
        return by_day

    def _leave_aside(self, listed: Listed) -> None:
        if not is_marker(listed.key, listed.size):
            relative = listed.key[len(self.source.source_prefix.folder) :]
            add_to(self.left_aside, folder_of(relative), listed.key)

    @property
    def folders(self) -> ListedFolders:
        """The folders that are completely listed, once the listing is at its end."""
        return ListedFolders(*self.days, depth_from=1, folder="" if self.is_unbounded else None)


class BucketComparison:
    """Compares listings with the ledger, and has missing log files fetched by the next sync."""

    def __init__(self, ledger: Ledger, report: Report, settings: Settings) -> None:
        self._ledger = ledger
        self._report = report
        self._interval = settings.progress_interval
        self._horizon = settings.horizon_days * MINUTES_PER_DAY
        # A batch that a run commits from here on is neither looked for nor counted as expired.
        self._newest = newest_batch(ledger)
        now = minute_of(datetime.now(UTC))
        # A bucket's clock may be ahead, but what it dates later by more than a day is not new.
        self._new = Range(Minute(now - NEW_MINUTES + 1), Minute(now + MINUTES_PER_DAY))
        self._found: list[FoundLogFile] = []
        self._compared = 0
        self._said = time.monotonic()

    def compare(self, sources: Sequence[Source]) -> None:
        """List source prefixes side by side, and compare page by page."""
        first = first_days(self._ledger)
        walks = [_PrefixWalk(source, self._ledger, self._newest) for source in sources]
        self._report.prefixes = [walk.report for walk in walks]
        waiting = walks[::-1]
        pages: dict[Future[Page], _PrefixWalk] = {}
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
                        with self._ledger.snapshot():
                            walk.expired.count_rest()
                    self._finish(walk, first.get(walk.source.id))
        self._queue()
        self._note_quarantined({walk.source.id: walk for walk in walks})

    def _page_of(self, walk: _PrefixWalk, done: "Future[Page]") -> Page | None:
        try:
            return done.result()
        except StoreError as error:
            walk.source.failure = error
            walk.report.is_listed = False
            self._report.problems.append(not_listed(walk.source))
            return None

    def _compare_page(self, walk: _PrefixWalk, page: Page) -> None:
        by_day = walk.log_files_of(page)
        new: list[tuple[KeyParts, Listed, KnownObject | None]] = []
        with self._ledger.snapshot():
            for day, log_files in by_day.items():
                names = [parts.name for parts, _ in log_files]
                known = known_by_name(self._ledger, walk.source.id, day, names)
                for parts, listed in log_files:
                    row = known.get(parts.name)
                    walk.expired.note_listed(parts, row)
                    if not self._is_settled(walk, parts, listed, row):
                        new.append((parts, listed, row))
            walk.expired.count_page(
                {day: [parts for parts, _ in log_files] for day, log_files in by_day.items()}
            )
        for parts, listed, row in new:
            self._take_new(walk, parts, listed, row)
        self._compared += len(page.objects)
        if time.monotonic() - self._said >= self._interval:
            self._said = time.monotonic()
            log.info("%d objects compared", self._compared)
        if len(self._found) >= _FOUND_AT_ONCE:
            self._queue()

    def _is_settled(
        self, walk: _PrefixWalk, parts: KeyParts, listed: Listed, row: KnownObject | None
    ) -> bool:
        """Count a listed log file; return whether nothing is to be done about it."""
        if row is None:
            return not is_wanted(parts, walk.source.wanted)
        day = walk.report.day(parts.day)
        if row.state is LogFileState.COMMITTED and row.etag == listed.etag:
            day.listed += 1
            day.committed += 1
            return True
        # Open log files are counted from the ledger: it also has those that the bucket lost since.
        is_open = row.state in (LogFileState.FAILED, LogFileState.DAMAGED, LogFileState.ARCHIVED)
        if is_open and row.etag == listed.etag:
            day.listed += 1
            return True
        return False

    def _take_new(
        self, walk: _PrefixWalk, parts: KeyParts, listed: Listed, row: KnownObject | None
    ) -> None:
        """Count, name and queue a log file that is not committed, or not in this version."""
        day = walk.report.day(parts.day)
        day.listed += 1
        # Any sync lists a source prefix that was never synced: a row for each of its keys is waste.
        is_queued = walk.source.ever_covered if row is None else row.state is not LogFileState.FOUND
        if is_queued:
            self._found.append(
                FoundLogFile(
                    walk.source.id,
                    parts.day,
                    parts.name,
                    listed.etag,
                    listed.size,
                    listed.archived,
                )
            )
        if row is not None and row.state not in _NOT_OPEN and row.etag == listed.etag:
            return  # `_take_open` counts it
        day.open_hours |= _hours_of(parts)
        if self._new.start <= listed.modified < self._new.end:
            day.new += 1
            return
        day.missing += 1
        is_late = _is_covered(walk.source, parts)
        day.late += is_late
        detail = self._missing_detail(walk.source, parts, listed, row, is_late=is_late)
        self._report.note(_finding(walk, FindingKind.LOG_FILE_MISSING, parts, detail))

    def _missing_detail(
        self,
        source: Source,
        parts: KeyParts,
        listed: Listed,
        row: KnownObject | None,
        *,
        is_late: bool,
    ) -> str:
        if row is not None and row.state is LogFileState.COMMITTED:
            return "it was written again: what was brought in is another version"
        if row is not None and row.etag != listed.etag:
            return "it was written again, and this version was not fetched yet"
        if not is_late:
            return "no sync has covered its time yet"
        newest = cursor(source.ever_covered) or Minute(0)
        if parts.minute is not None and parts.minute < newest - self._horizon:
            days = self._horizon // MINUTES_PER_DAY
            return f"it turned up in a time long done, more than {days} days behind the newest"
        return "it turned up in a time that was done"

    def _finish(self, walk: _PrefixWalk, first_day: int | None) -> None:
        """Add what only the ledger knows of a source prefix, and the state of its hours."""
        source, (first, end) = walk.source, walk.days
        self._queue()  # what turned up again stands open, even if it was accepted
        rebuilt = (
            OpenLogFile(*acceptance.row[1:], acceptance.state, "not met since a rebuild")
            for acceptance in acceptances_without_row(self._ledger, source.id, walk.days)
        )
        for row in chain(open_log_files(self._ledger, source.id, walk.days), rebuilt):
            parts = parse_key(source.source_prefix, key_of(source.source_prefix, row.day, row.name))
            if is_wanted(parts, source.wanted) and (row.day or walk.is_unbounded):
                self._take_open(walk, parts, row)
        self._report.requests += source.requests
        if source.failure is None:
            self._note_left_aside(walk)
        days = [day for day in (*walk.report.days, first_day or 0) if first <= day < end and day]
        walk.report.hours = listed_hours(
            source.wanted, source.ever_covered, walk.report, min(days, default=None)
        )

    def _note_left_aside(self, walk: _PrefixWalk) -> None:
        """Name what is no log file in the window, and note it in the ledger."""
        held = [tally for name, tally in walk.left_aside.items() if walk.folders.holds(name)]
        with self._ledger.transaction():
            replace_left_aside(self._ledger, {walk.source.id: [(walk.folders, walk.left_aside)]})
        if held:
            source, total = walk.source, summed(held)
            where = f"{source.bucket.location}/{total.example}"
            self._report.leave_aside(
                source.trail, source.source_prefix.partition_key, total._replace(example=where)
            )

    def _take_open(self, walk: _PrefixWalk, parts: KeyParts, row: OpenLogFile) -> None:
        """Count and name a log file that failed, is damaged or accepted, or lies in Glacier."""
        day = walk.report.day(parts.day)
        day.open_hours |= _hours_of(parts)
        kind, state = FindingKind.LOG_FILE_FAILED, row.state
        detail = row.reason or state.name.lower()
        acceptance = acceptance_of(self._ledger, (walk.source.id, row.day, row.name))
        if acceptance is not None:
            day.accepted += 1
            kind = FindingKind.LOG_FILE_ACCEPTED
            detail = f"{detail}; {acceptance}"
        elif state is LogFileState.DAMAGED:
            day.damaged += 1
            kind = FindingKind.LOG_FILE_DAMAGED
        elif state is LogFileState.ARCHIVED:
            day.archived += 1
            kind = FindingKind.LOG_FILE_ARCHIVED
        else:
            day.failed += 1
        self._report.note(_finding(walk, kind, parts, detail))

    def _note_quarantined(self, walks: dict[int, _PrefixWalk]) -> None:
        """Name the committed log files of which records are in quarantine."""
        for source_id, day, name, records, quarantined in quarantined_log_files(self._ledger):
            walk = walks.get(source_id)
            if walk is None:
                continue
            first, end = walk.days
            source, source_prefix = walk.source, walk.source.source_prefix
            parts = parse_key(source_prefix, key_of(source_prefix, day, name))
            if is_wanted(parts, source.wanted) and (first <= day < end or walk.is_unbounded):
                detail = f"{quarantined:,} in quarantine, {records:,} became events"
                self._report.note(_finding(walk, FindingKind.RECORDS_IN_QUARANTINE, parts, detail))

    def _queue(self) -> None:
        """Have the next sync fetch what is missing."""
        if self._found:
            with self._ledger.transaction():
                put_found(self._ledger, self._found, int(time.time()))
            self._report.queued += len(self._found)
            self._found = []


def _hours_of(parts: KeyParts) -> int:
    """Return the bit of a log file's hour; all bits of its day if its time is not readable."""
    if parts.minute is None:
        return _ALL_HOURS if parts.day else 0
    return 1 << parts.minute % MINUTES_PER_DAY // MINUTES_PER_HOUR


def _is_covered(source: Source, parts: KeyParts) -> bool:
    minute = parts.minute if parts.minute is not None else parts.day * MINUTES_PER_DAY
    return any(covered.start <= minute < covered.end for covered in source.ever_covered)


def _finding(walk: _PrefixWalk, kind: FindingKind, parts: KeyParts, detail: str) -> Finding:
    source = walk.source
    hours = None
    if parts.minute is not None:
        hour = parts.minute // MINUTES_PER_HOUR
        hours = hour, hour + 1
    where = f"{source.bucket.location}/{key_of(source.source_prefix, parts.day, parts.name)}"
    return Finding(
        kind,
        where,
        without_address(detail, where),
        source.trail,
        source.source_prefix.partition_key,
        hours,
    )
