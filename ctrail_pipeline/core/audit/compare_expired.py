"""Counting expired log files: committed ones that the listing of a bucket no longer shows.

The ledger's committed rows of each stretch of keys are counted against the listed log files of the
same stretch, page by page, so that memory does not depend on the number of keys.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from enum import Enum

from ctrail_pipeline.core.keys.coverage import EVERYTHING, whole_days
from ctrail_pipeline.core.keys.log_file_key import KeyParts
from ctrail_pipeline.core.ledger.ledger import Ledger
from ctrail_pipeline.core.ledger.queries_compare import COMPACT_FROM, KnownObject, committed_between
from ctrail_pipeline.core.ledger.rows import LogFileState

from .compare_report import PrefixReport


class _NameKind(Enum):
    """The kind of a log file's name. Names of one kind sort by (day, name) as their keys do."""

    COMPACT = "compact"
    """A name by the book, kept as time and suffix."""
    WHOLE = "whole"
    """Another name in a day's folder."""
    UNDATED = "undated"
    """A name that lies in no day's folder."""


class ExpiredLogFiles:
    """Counts the expired log files of one source prefix, in the order of its listing."""

    def __init__(
        self,
        ledger: Ledger,
        source_id: int,
        days: tuple[int, int],
        newest_batch: int,
        report: PrefixReport,
    ) -> None:
        """Take the first day and the day after the last. Batches after `newest_batch` are left out.

        A run at work may commit such a batch while the source prefix is being listed.
        """
        self._ledger = ledger
        self._source_id = source_id
        self._days = days
        self._newest_batch = newest_batch
        self._report = report
        self._listed: Counter[tuple[_NameKind, int]] = Counter()
        first, _ = days
        self._reached = {
            _NameKind.COMPACT: (first, ""),
            _NameKind.WHOLE: (max(1, first), ""),
            _NameKind.UNDATED: (0, ""),
        }
        """The (day, name) up to which the ledger's rows have been counted."""

    def note_listed(self, parts: KeyParts, row: KnownObject | None) -> None:
        """Note that the page in hand shows a log file with this row of the ledger."""
        if row is not None and row.state is LogFileState.COMMITTED:
            self._listed[_kind_of(parts), parts.day] += row.batch <= self._newest_batch

    def count_page(self, listed: Mapping[int, Iterable[KeyParts]]) -> None:
        """Count up to the last log file of each kind on a page; `listed` is in order of keys."""
        newest: dict[_NameKind, tuple[int, str]] = {}
        for day, log_files in listed.items():
            for parts in log_files:
                newest[_kind_of(parts)] = day, parts.name
        for kind, last in newest.items():
            for day, committed in self._committed_upto(kind, last).items():
                if committed > self._listed[kind, day]:
                    self._report.day(day).expired += committed - self._listed[kind, day]
        self._listed.clear()

    def count_rest(self) -> None:
        """Count behind the last page: whatever the ledger has there is expired."""
        _, end = self._days
        last = {
            _NameKind.COMPACT: (end, ""),
            _NameKind.WHOLE: (end, ""),
            _NameKind.UNDATED: (0, COMPACT_FROM if is_unbounded(self._days) else ""),
        }
        for kind, upto in last.items():
            for day, committed in self._committed_upto(kind, upto).items():
                self._report.day(day).expired += committed

    def _committed_upto(self, kind: _NameKind, upto: tuple[int, str]) -> dict[int, int]:
        """Return by day how many committed log files lie up to a (day, name), not counted yet."""
        after, self._reached[kind] = self._reached[kind], upto
        return committed_between(
            self._ledger,
            self._source_id,
            after,
            upto,
            self._newest_batch,
            compact=kind is _NameKind.COMPACT,
        )


def is_unbounded(days: tuple[int, int]) -> bool:
    """Whether all days are compared; only then log files that lie in no day's folder are, too."""
    return days == whole_days(EVERYTHING)


def _kind_of(parts: KeyParts) -> _NameKind:
    if not parts.day:
        return _NameKind.UNDATED
    return _NameKind.COMPACT if parts.name >= COMPACT_FROM else _NameKind.WHOLE
