"""Fetching log files to tell where in them an event lies, and which others hold a copy of it.

Log files are fetched only if somebody asks for it. Which log files may hold copies, the ledger says
without a fetch.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from ctrail_pipeline.core.bucket.interface import Bucket
from ctrail_pipeline.core.bucket.open_bucket import open_bucket
from ctrail_pipeline.core.exceptions import StoreError
from ctrail_pipeline.core.keys.log_file_key import address_of, key_of, parse_key
from ctrail_pipeline.core.keys.minutes import MINUTES_PER_DAY, minute_of
from ctrail_pipeline.core.keys.source_prefix import SourcePrefix
from ctrail_pipeline.core.ledger.ledger import Ledger
from ctrail_pipeline.core.ledger.queries_explain import with_duplicates
from ctrail_pipeline.core.ledger.queries_lineage import LogFileOrigin
from ctrail_pipeline.core.listing.selection import trail_finder
from ctrail_pipeline.core.log_file.event_time import moment_of
from ctrail_pipeline.core.log_file.record import LogFileContent, Record
from ctrail_pipeline.core.log_file.split import read_log_file
from ctrail_pipeline.core.settings import Settings

COPIES_LOOKED_AT: Final = 100
"""Log files that are fetched to look for copies of one event."""
_COPY_MINUTES: Final = (-10, 180)
"""Key time of a copy, relative to the event's own: delivery takes minutes, redelivery longer."""


@dataclass(frozen=True)
class Copies:
    """Other log files that hold the same bytes."""

    candidates: int
    """Log files of the account around that time which held duplicates of something."""
    looked_at: int = 0
    """Candidates that were fetched."""
    found: tuple[str, ...] = ()
    """`s3://bucket/key` and the record's index in the log file."""


class LogFileFetch:
    """Fetches log files of the configured trails, and looks for a line in them."""

    def __init__(
        self,
        settings: Settings,
        ledger: Ledger,
        source_prefixes: Mapping[int, SourcePrefix],
        *,
        fetch: bool,
    ) -> None:
        """`source_prefixes` are the ledger's, by id. Nothing is fetched unless `fetch`."""
        self._settings = settings
        self._ledger = ledger
        self._source_prefixes = source_prefixes
        self._fetch = fetch
        self._trail_of = trail_finder(settings.trails)
        self._buckets: dict[str, Bucket] = {}

    def index_of(
        self, source_prefix: SourcePrefix, log_file: LogFileOrigin, line: bytes
    ) -> tuple[int | None, str]:
        """Return a line's index in its log file, and a note; (None, "") if nothing is fetched."""
        if not self._fetch:
            return None, ""
        content = self._content_of(source_prefix, log_file)
        if isinstance(content, str):
            return None, content
        index = _index_in(content, line)
        if log_file.sha256 not in (None, content.sha256):
            return index, "the bucket holds another version of the log file by now"
        return index, "" if index is not None else "the log file does not hold it"

    def copies_of(
        self, source_prefix: SourcePrefix, origin: LogFileOrigin, record: Record, line: bytes
    ) -> Copies:
        """Return the log files that held duplicates around then, and which of them hold this line.

        The log files are only searched for the line if fetching is asked for.
        """
        minute = minute_of(moment_of(record.time))
        first, last = minute + _COPY_MINUTES[0], minute + _COPY_MINUTES[1]
        days = first // MINUTES_PER_DAY, last // MINUTES_PER_DAY + 1
        candidates = [
            (other, log_file)
            for id_, other in self._source_prefixes.items()
            if other.account in (source_prefix.account, record.routing.dedup_account)
            for log_file in with_duplicates(self._ledger, id_, days)
            if log_file.row != origin.row
            and _is_between(
                parse_key(other, key_of(other, log_file.day, log_file.name)).minute, first, last
            )
        ]
        looked_at, found = 0, []
        for other, log_file in candidates[:COPIES_LOOKED_AT] if self._fetch else ():
            content = self._content_of(other, log_file)
            if isinstance(content, str):
                continue
            looked_at += 1
            index = _index_in(content, line)
            if index is not None:
                found.append(f"{address_of(other, log_file.day, log_file.name)} index {index}")
        return Copies(len(candidates), looked_at, tuple(found))

    def _content_of(
        self, source_prefix: SourcePrefix, log_file: LogFileOrigin
    ) -> LogFileContent | str:
        """Return what a log file holds by now, or why it cannot be fetched."""
        trail = self._trail_of(source_prefix)
        if trail is None:
            return "its trail is no longer configured"
        try:
            if trail.name not in self._buckets:
                self._buckets[trail.name] = open_bucket(trail, self._settings)
            key = key_of(source_prefix, log_file.day, log_file.name)
            body = self._buckets[trail.name].get(key, None).body
        except StoreError as error:
            return str(error)
        return read_log_file(body, self._settings.max_log_file_bytes)


def _index_in(content: LogFileContent, line: bytes) -> int | None:
    return next((record.index for record in content.records if bytes(record.line) == line), None)


def _is_between(minute: int | None, first: int, last: int) -> bool:
    return minute is None or first <= minute <= last
