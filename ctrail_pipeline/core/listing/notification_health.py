"""Whether notifications say what is new: which listings they save, and which log files they missed.

A queue works while it could lately be asked and emptied, once it has named a log file: one that
nobody sends to is empty, too. Then listing is rare. What a listing finds although a message should
have named it is missed, and counted. Where something was missed, listing is frequent for a while.
Not here: asking a queue (`notification_intake`).
"""

from collections import Counter
from collections.abc import Iterable
from typing import Final

from ctrail_pipeline.core.keys.log_file_key import parse_key
from ctrail_pipeline.core.ledger.ledger import Ledger
from ctrail_pipeline.core.ledger.queues import has_named, queue_rows, tallies_of_queues
from ctrail_pipeline.core.ledger.source_prefixes import missed_by_source
from ctrail_pipeline.core.settings import Settings

from .sources import LogFileRef, Source, has_backlog

WORKING_SECONDS: Final = 900
"""A queue works if it was empty at a moment of the last so many seconds."""
HORIZON_FACTOR: Final = 7
"""Listing over the whole horizon is rarer by this factor than listing behind the cursor. For as
long, what missed a log file is listed as often as without a queue."""
_LATE_MINUTES: Final = 15
"""A message may be so late that it is no loss. S3 mostly takes seconds, rarely a minute or more
(Amazon S3 user guide, "Amazon S3 Event Notifications"); the time in a key is some minutes old."""


class NotificationHealth:
    """The queues of all trails, as they were when the ledger was asked."""

    def __init__(self, settings: Settings, ledger: Ledger | None, now: float) -> None:
        queues = [trail.queue for trail in settings.trails if trail.queue is not None]
        rows = queue_rows(ledger) if ledger and queues else {}
        tallies = tallies_of_queues(ledger) if ledger and queues else {}
        named = {url for url, of_queue in tallies.items() if has_named(of_queue)}
        self._missed = missed_by_source(ledger) if ledger and queues else {}
        self._interval = settings.listing_interval
        self._now = now
        self._works_since = {
            trail.name: row.works_since
            for trail in settings.trails
            if trail.queue is not None and (row := rows.get(trail.queue)) is not None
            if trail.queue in named and not row.trouble
            if abs(now - row.drained_at) <= WORKING_SECONDS
        }

    def works(self, trail: str) -> bool:
        """Whether messages say what is new of a trail."""
        return trail in self._works_since

    def is_deep(self, trail: str, deep_listed_at: float, usual_seconds: float) -> bool:
        """Whether a source prefix is to be listed back over the whole horizon."""
        pause = HORIZON_FACTOR * self._interval if self.works(trail) else usual_seconds
        return abs(self._now - deep_listed_at) >= pause

    def rests(self, source: Source, listed_at: float) -> bool:
        """Whether a source prefix need not be listed now, as messages say what is new of it."""
        is_due = source.deep or abs(self._now - listed_at) >= self._interval
        _, missed_at = self._missed.get(source.id, (0, 0))
        is_doubtful = abs(self._now - missed_at) < HORIZON_FACTOR * self._interval
        return (
            self.works(source.trail)
            and not is_due
            and not is_doubtful
            and bool(source.covered)
            and not has_backlog(source)
        )

    def missed(self, listed: Iterable[LogFileRef]) -> Counter[int]:
        """Count the new log files of a listing that a message should have named, by source."""
        return Counter(ref.source.id for ref in listed if self._is_missed(ref))

    def _is_missed(self, ref: LogFileRef) -> bool:
        since = self._works_since.get(ref.source.trail)
        if since is None or ref.expected is not None:
            return False
        minute = parse_key(ref.source.source_prefix, ref.key).minute
        return minute is not None and since <= minute * 60 <= self._now - _LATE_MINUTES * 60
