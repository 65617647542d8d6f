"""Reconciling and signed digests together: is everything here that there should be?

Not here: what is listed and compared (`reconcile`), and what digests say (`validate`).
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
from ctrail_pipeline.core.listing.found_prefixes import FoundPrefix, known_prefixes
from ctrail_pipeline.core.listing.selection import Selection
from ctrail_pipeline.core.listing.sources import Source
from ctrail_pipeline.core.settings import Settings, Trail

from .check_digests import validate
from .compare import reconcile
from .compare_report import Report
from .digest_result import DigestResult
from .findings import FindingKind
from .hour_states import Evidence, HourRange

_OF_A_LOG_FILE = (FindingKind.LOG_FILE_ALTERED, FindingKind.LOG_FILE_DELETED)


def verify(settings: Settings, selection: Selection | None = None, *, deep: bool = False) -> Report:
    """`reconcile`, with what digests say as its witness. Raises what it and `validate` raise."""
    selection = selection or Selection()
    trails = {trail.name: trail for trail in settings.trails}

    def witness(report: Report, sources: Sequence[Source]) -> Evidence:
        places = [FoundPrefix(trails[one.trail], one.bucket, one.source_prefix) for one in sources]
        found = validate(settings, selection, places, report=report.problems.append)
        report.digests, report.digests_sound = found.digests, found.digests_sound
        report.log_files_proved = found.log_files_proved
        hours = {
            source: [HourRange(*one) for one in ranges] for source, ranges in found.hours.items()
        }
        return Evidence(found.findings, hours)

    return reconcile(settings, selection, deep=deep, witness=witness)


def digest_of(settings: Settings) -> Callable[[SourcePrefix, LogFileOrigin], str | None]:
    """What says what digests say of a log file; each day of a source partition is read once."""

    @lru_cache(64)
    def validation(source: SourcePrefix, day: int) -> DigestResult | None:
        trail = _trail_of(settings, source)
        if trail is None:
            return None
        start = datetime.fromtimestamp(day * 86_400, UTC)
        selection = Selection(
            trails=[trail.name],
            partitions=[source.partition_key],
            start=start,
            end=start + timedelta(days=1),
        )
        with closing(Ledger(settings.state_db)) as ledger:
            bucket = open_bucket(trail, settings)
            places = [
                one
                for one in known_prefixes(settings, ledger, trail, bucket)
                if one.source_prefix == source
            ]
        return validate(
            settings, selection, places, report=lambda _problem: None, names_proved=True
        )

    def say(source: SourcePrefix, log_file: LogFileOrigin) -> str | None:
        found = validation(source, log_file.day) if log_file.day else None
        if found is None:
            return None
        key = key_of(source, log_file.day, log_file.name)
        for finding in found.findings:
            if finding.kind in _OF_A_LOG_FILE and finding.where.endswith(f"/{key}"):
                return f"{finding.kind.value}: {finding.detail}"
        if key in (found.proved or ()):
            return "proved: a digest that holds lists it with this SHA-256"
        return "no digest that holds lists it"

    return say


def _trail_of(settings: Settings, source: SourcePrefix) -> Trail | None:
    for trail in settings.trails:
        if (trail.bucket, trail.prefix) == (source.bucket, source.prefix):
            return trail
    return None
