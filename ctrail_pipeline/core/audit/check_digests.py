"""Checking log files against CloudTrail's signed digests, for all selected source prefixes.

It reads, and it writes no output. What a digest says belongs to `digest_file`, how digests hang
together to `digest_chain`, the check of one source prefix to `digest_walk`.
"""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing

from ctrail_pipeline.core.exceptions import StoreError
from ctrail_pipeline.core.keys.coverage import EVERYTHING, Range
from ctrail_pipeline.core.keys.key_time import MINUTES_PER_DAY, MINUTES_PER_HOUR, Minute, minute_of
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
from .digest_walk import READERS, PrefixCheck

log = logging.getLogger(__name__)


def check_digests(
    settings: Settings,
    selection: Selection,
    places: Sequence[FoundPrefix],
    *,
    report: Callable[[Problem], None],
    names_proved: bool = False,
) -> DigestResult:
    """Compare what digests say of some source partitions with the bucket and the ledger.

    `places` are those that have log files, or had some; accounts and regions of the selection that
    have digests only are found here. What cannot be read is told to `report` (once an object) and
    proves nothing; it is no finding. The window (`start`, `end`) means times in keys, as
    everywhere. Raises ConfigurationError for `public_keys` or `object_metadata` files that cannot
    be used, LedgerError.
    """
    settings = selection.narrow(settings)
    result = DigestResult(proved=set() if names_proved else None)
    places = [one for one in places if one.trail.log_file_validation is not False]
    keys_of = {trail.name: KeysOfTrail(trail) for trail in settings.trails}
    metadata_of = {trail.name: object_metadata(trail) for trail in settings.trails}
    places = [*places, *_with_digests_only(settings, selection, places, report)]
    with closing(Ledger(settings.state_db)) as ledger, DaemonThreads(READERS, "ctrail") as threads:
        ids = source_ids(ledger)
        window = _window(settings)
        for place in places:
            partition = PrefixCheck(
                place,
                ledger,
                ids.get(place.source_prefix, 0),
                keys_of[place.trail.name],
                metadata_of[place.trail.name],
                settings,
                window,
                threads,
                report,
                result,
            )
            try:
                partition.check()
            except StoreError as error:
                where = place.source_prefix.partition_key
                report(Problem(place.trail.name, where, "not validated", str(error)))
    return result


def _with_digests_only(
    settings: Settings,
    selection: Selection,
    places: Sequence[FoundPrefix],
    report: Callable[[Problem], None],
) -> Iterator[FoundPrefix]:
    """Source partitions whose log files are all gone, folder and all, but not their digests."""
    known = {place.source_prefix for place in places}
    for trail, bucket in {one.trail.name: (one.trail, one.bucket) for one in places}.values():
        try:
            found = discover_digests(trail, bucket)
        except StoreError as error:
            report(Problem(trail.name, trail.bucket, "digests not listed", str(error)))
            continue
        for source in found:
            if (
                source not in known
                and is_configured(settings, trail, source)
                and selection.holds(source)
            ):
                yield FoundPrefix(trail, bucket, source)


def _window(settings: Settings) -> Range:
    """The key times whose log files are judged."""
    start = settings.start
    now = Minute(int(time.time() // 60) + MINUTES_PER_DAY)
    end = now if settings.end is None else minute_of(settings.end) + MINUTES_PER_HOUR
    return Range(EVERYTHING.start if start is None else minute_of(start), Minute(min(now, end)))
