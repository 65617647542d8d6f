"""A dry run: what a sync would bring in and cost, from listings alone. No GET, nothing is written.

A source prefix with more than 100,000 new log files is listed that far. The rest is reckoned by its
days. Not here: what so many log files cost (`estimate`), or the sentence for people (`reports`).
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import replace
from typing import Final

from ctrail_pipeline.core.keys.coverage import Lookback
from ctrail_pipeline.core.ledger.ledger import Ledger
from ctrail_pipeline.core.ledger.left_aside import left_aside_by_source
from ctrail_pipeline.core.ledger.log_files import LedgerLogFiles
from ctrail_pipeline.core.ledger.presence import ledger_exists
from ctrail_pipeline.core.ledger.rows import LogFileState
from ctrail_pipeline.core.listing.folder_walk import FEW_AT_ONCE, Listing
from ctrail_pipeline.core.listing.found_prefixes import (
    find_prefixes,
    partition_count,
    remembered_prefixes,
    sources_of,
)
from ctrail_pipeline.core.listing.known_log_files import NothingKnown
from ctrail_pipeline.core.listing.left_aside import outside_once_listed, sum_by_trail
from ctrail_pipeline.core.listing.problem import Problem, not_listed
from ctrail_pipeline.core.listing.selection import Selection
from ctrail_pipeline.core.listing.sources import Source
from ctrail_pipeline.core.settings import Settings, Trail

from .estimate import TrailEstimate
from .open_log_files import SelectedLogFiles

LISTED_A_SOURCE_PREFIX: Final = 100_000
"""New log files of a source prefix after which no more of it is listed."""


def estimate(
    settings: Settings, selection: Selection, note: Callable[[Problem], None]
) -> list[TrailEstimate]:
    """What a sync of the selection would find and cost, for each trail with a source prefix in it.

    Trails and source prefixes that cannot be read are noted. Raises ConfigurationError or
    LedgerError.
    """
    settings = selection.narrow(settings)
    with _ledger_if_any(settings) as ledger:
        remembered = remembered_prefixes(settings, ledger) if ledger else {}
        found = find_prefixes(settings, selection, note, remembered, may_get=False)
        sources = sources_of(found.selected, settings, ledger)
        tallies = left_aside_by_source(ledger) if ledger else {}
        for source in sources:
            source.left_aside = tallies.get(source.id, {})
        lookback = Lookback(settings.lookback_hours, settings.horizon_days)
        listing = Listing(sources, lookback, at_once=FEW_AT_ONCE, hold=settings.list_batch_size)
        log_files, size = dict.fromkeys(map(id, sources), 0), dict.fromkeys(map(id, sources), 0)
        for refs in listing.log_files(LedgerLogFiles(ledger) if ledger else NothingKnown()):
            source = refs[0].source
            log_files[id(source)] += len(refs)
            size[id(source)] += sum(ref.size for ref in refs)
            source.is_enough = log_files[id(source)] >= LISTED_A_SOURCE_PREFIX
        outside = {
            trail.name: outside_once_listed(ledger, trail, found.discoveries[trail.name])
            for trail in settings.trails
            if trail.name in found.discoveries
        }
        still_open = {
            trail.name: _open_counts(ledger, settings, trail, selection)
            for trail in settings.trails
        }
    left_aside = sum_by_trail(
        settings,
        selection,
        {source.source_prefix: source.left_aside for source in sources},
        lambda trail: outside.get(trail.name, {}),
    )
    estimates = {trail.name: TrailEstimate(trail.name) for trail in settings.trails}
    for source in sources:
        if source.failure:
            note(not_listed(source))
        factor = _days_by_days_listed(source)
        trail = estimates[source.trail]
        trail.list_requests += source.requests
        trail.list_requests_once_more += source.requests if source.formerly_covered else 0
        trail.log_files += round(log_files[id(source)] * factor)
        trail.bytes += round(size[id(source)] * factor)
        trail.is_sampled |= factor > 1
    for trail in estimates.values():
        trail.partitions = partition_count(
            source.source_prefix for source in sources if source.trail == trail.trail
        )
        trail.open_log_files = still_open[trail.trail]
        trail.left_aside = left_aside.get(trail.trail)
        trail.is_not_yet = trail.trail in found.not_yet
    return [trail for trail in estimates.values() if trail.partitions or trail.is_not_yet]


def _open_counts(
    ledger: Ledger | None, settings: Settings, trail: Trail, selection: Selection
) -> Mapping[LogFileState, int]:
    """Count the log files of a trail that stand open, by state."""
    if ledger is None:
        return {}
    of_trail = replace(settings, trails=(trail,))
    return SelectedLogFiles(ledger, of_trail, selection).open(int(time.time())).counts


def _days_by_days_listed(source: Source) -> float:
    """All days of a source prefix, divided by its listed days. Parts of days count as parts."""
    left_out = source.days_left_out
    partly = sum(left_out.get(day, 0) for day in source.days_listed)
    return 1 + sum(left_out.values()) / max(1 / 24, len(source.days_listed) - partly)


@contextmanager
def _ledger_if_any(settings: Settings) -> Iterator[Ledger | None]:
    if not ledger_exists(settings.ledger):
        yield None
        return
    with closing(Ledger(settings.ledger)) as ledger:
        yield ledger
