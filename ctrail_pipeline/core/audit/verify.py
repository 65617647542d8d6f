"""Verifying: comparing buckets, ledger and output, and checking signed digests, together.

Comparing belongs to `compare`, checking digests to `check_digests`.
"""

from collections.abc import Callable, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from functools import lru_cache

from ctrail_pipeline.core.bucket.open_bucket import open_bucket
from ctrail_pipeline.core.keys.log_file_key import key_of
from ctrail_pipeline.core.keys.source_prefix import SourcePrefix
from ctrail_pipeline.core.ledger.ledger import Ledger
from ctrail_pipeline.core.ledger.queries_lineage import LogFileOrigin
from ctrail_pipeline.core.ledger.rows import LogFileState
from ctrail_pipeline.core.listing.found_prefixes import FoundPrefix, known_prefixes
from ctrail_pipeline.core.listing.selection import Selection, trail_finder
from ctrail_pipeline.core.listing.sources import Source
from ctrail_pipeline.core.settings import Settings

from .check_digests import check_digests
from .compare import compare
from .compare_report import Report
from .digest_result import DigestResult
from .findings import FindingKind

_OF_A_LOG_FILE = (FindingKind.LOG_FILE_ALTERED, FindingKind.LOG_FILE_DELETED)


def verify(settings: Settings, selection: Selection | None = None, *, deep: bool = False) -> Report:
    """Compare, and check digests. Raises what `compare` and `check_digests` raise."""
    selection = selection or Selection()
    trails = {trail.name: trail for trail in settings.trails}

    def digests(report: Report, sources: Sequence[Source]) -> DigestResult:
        found_prefixes = [
            FoundPrefix(trails[source.trail], source.bucket, source.source_prefix)
            for source in sources
        ]
        return check_digests(settings, selection, found_prefixes, report=report.note_unread)

    return compare(settings, selection, deep=deep, digests=digests)


def digest_of(settings: Settings) -> Callable[[SourcePrefix, LogFileOrigin], str | None]:
    """Return a function that says what digests say of a log file.

    The digests of each day of a source prefix are read once.
    """
    trail_of = trail_finder(settings.trails)

    @lru_cache(64)
    def checked(source_prefix: SourcePrefix, day: int) -> DigestResult | None:
        trail = trail_of(source_prefix)
        if trail is None:
            return None
        start = datetime.fromtimestamp(day * 86_400, UTC)
        selection = Selection(
            trails=[trail.name],
            partitions=[source_prefix.partition_key],
            start=start,
            end=start + timedelta(days=1),
        )
        with closing(Ledger(settings.ledger)) as ledger:
            bucket = open_bucket(trail, settings)
            found_prefixes = [
                known
                for known in known_prefixes(settings, ledger, trail, bucket)
                if known.source_prefix == source_prefix
            ]
        return check_digests(
            settings, selection, found_prefixes, report=lambda _problem: None, names_proved=True
        )

    def say(source_prefix: SourcePrefix, log_file: LogFileOrigin) -> str | None:
        if log_file.state is LogFileState.DAMAGED:
            return "the log file is damaged, so its hash proves nothing"
        result = checked(source_prefix, log_file.day) if log_file.day else None
        if result is None:
            return None
        key = key_of(source_prefix, log_file.day, log_file.name)
        for finding in result.findings:
            if finding.kind in _OF_A_LOG_FILE and finding.where.endswith(f"/{key}"):
                return f"{finding.kind.value}: {finding.detail}"
        if key in (result.proved or ()):
            return "proved: a digest that holds lists it with this SHA-256"
        return "no digest that holds lists it"

    return say
