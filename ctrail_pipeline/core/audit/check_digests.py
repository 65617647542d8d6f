"""Checking log files against CloudTrail's signed digests, for all selected source prefixes.

It reads, and it writes no output. What a digest says belongs to `digest_file`, how digests hang
together to `digest_chain`, the check of one source prefix to `digest_walk`.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from typing import Final

from ctrail_pipeline.core.exceptions import StoreError
from ctrail_pipeline.core.keys.coverage import EVERYTHING, Range
from ctrail_pipeline.core.keys.minutes import MINUTES_PER_DAY, MINUTES_PER_HOUR, Minute, minute_of
from ctrail_pipeline.core.ledger.ledger import Ledger
from ctrail_pipeline.core.ledger.source_prefixes import source_ids
from ctrail_pipeline.core.listing.discovery import discover_digests
from ctrail_pipeline.core.listing.found_prefixes import FoundPrefix
from ctrail_pipeline.core.listing.problem import Problem
from ctrail_pipeline.core.listing.selection import Selection, is_configured
from ctrail_pipeline.core.settings import Settings
from ctrail_pipeline.core.threads import DaemonThreads

from .digest_keys import KeysOfTrail
from .digest_metadata import object_metadata
from .digest_result import DigestResult
from .digest_task import DigestTask
from .digest_walk import PrefixCheck

_READERS: Final = 16
"""Digests and log files that are read at once."""


def check_digests(
    settings: Settings,
    selection: Selection,
    found_prefixes: Sequence[FoundPrefix],
    *,
    report: Callable[[Problem], None],
    names_proved: bool = False,
) -> DigestResult:
    """Compare what digests say of some source prefixes with the bucket and the ledger.

    `found_prefixes` have log files, or had some. Source prefixes of the selection that only have
    digests are found here. What cannot be read is told to `report`, once an object: it proves
    nothing, and it is no finding. The window (`start`, `end`) means times in keys, as everywhere.
    Raises ConfigurationError if a file that `public_keys` or `object_metadata` names cannot be
    used, LedgerError.
    """
    settings = selection.narrow(settings)
    result = DigestResult(proved=set() if names_proved else None)
    found_prefixes = [
        found for found in found_prefixes if found.trail.log_file_validation is not False
    ]
    keys_of = {trail.name: KeysOfTrail(trail) for trail in settings.trails}
    metadata_of = {trail.name: object_metadata(trail) for trail in settings.trails}
    window = _window(settings)
    with_digests_only = _with_digests_only(settings, selection, found_prefixes, report)
    found_prefixes = [*found_prefixes, *with_digests_only]
    with closing(Ledger(settings.state_db)) as ledger, DaemonThreads(_READERS, "ctrail") as threads:
        ids = source_ids(ledger)
        for found in found_prefixes:
            task = DigestTask(
                found=found,
                ledger=ledger,
                source_id=ids.get(found.source_prefix, 0),
                horizon_days=settings.horizon_days,
                max_bytes=settings.max_log_file_bytes,
                threads=threads,
                report=report,
                result=result,
            )
            trail = found.trail.name
            try:
                PrefixCheck(task, keys_of[trail], metadata_of[trail], window).check()
            except StoreError as error:
                where = found.source_prefix.partition_key
                task.report_problem(where, "not validated", str(error))
    return result


def _with_digests_only(
    settings: Settings,
    selection: Selection,
    found_prefixes: Sequence[FoundPrefix],
    report: Callable[[Problem], None],
) -> Iterator[FoundPrefix]:
    """Yield source prefixes that still have digests, but no folder of log files any more."""
    known = {found.source_prefix for found in found_prefixes}
    buckets = {found.trail.name: (found.trail, found.bucket) for found in found_prefixes}
    for trail, bucket in buckets.values():
        try:
            with_digests = discover_digests(trail, bucket)
        except StoreError as error:
            report(Problem(trail.name, trail.bucket, "digests not listed", str(error)))
            continue
        for source_prefix in with_digests:
            if (
                source_prefix not in known
                and is_configured(settings, trail, source_prefix)
                and selection.holds(source_prefix)
            ):
                yield FoundPrefix(trail, bucket, source_prefix)


def _window(settings: Settings) -> Range:
    """Return the key times whose log files are judged."""
    start = settings.start
    tomorrow = Minute(int(time.time() // 60) + MINUTES_PER_DAY)
    end = tomorrow if settings.end is None else minute_of(settings.end) + MINUTES_PER_HOUR
    return Range(
        EVERYTHING.start if start is None else minute_of(start), Minute(min(tomorrow, end))
    )
