"""A dry run: what a sync would do and cost, from listings alone. No GET, and nothing is written.

Partitions with more than 100,000 new log files are listed that far and the rest is reckoned by
their days. Prices are S3's list prices; times and sizes are measurements of this project, so all of
it is "about".
"""

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Final

from ctrail_pipeline.core.keys.coverage import Lookback
from ctrail_pipeline.core.ledger.ledger import Ledger
from ctrail_pipeline.core.ledger.log_files import LedgerLogFiles
from ctrail_pipeline.core.listing.found_prefixes import find_prefixes, sources_of
from ctrail_pipeline.core.listing.known_log_files import NothingKnown
from ctrail_pipeline.core.listing.problem import Problem, not_listed
from ctrail_pipeline.core.listing.selection import Selection
from ctrail_pipeline.core.listing.sources import Source
from ctrail_pipeline.core.listing.walk import FEW_AT_ONCE, Listing
from ctrail_pipeline.core.settings import Settings

LISTED_A_SOURCE_PREFIX: Final = 100_000
DOLLARS_A_LIST: Final = 0.005 / 1000
"""AWS, "Amazon S3 pricing", S3 Standard in us-east-1: PUT, COPY, POST, LIST requests."""
DOLLARS_A_GET: Final = 0.0004 / 1000
"""The same page: GET and all other requests. Transfer out of the region comes on top."""
_KEYS_A_LIST: Final = 1000
_JSON_BYTES_A_STORED_BYTE: Final = 7
"""Real log files compress 5.6 to 8.6 times (FACTS: a six-day set of one organization)."""
_SECONDS_A_LOG_FILE: Final = 0.0005
_SECONDS_A_JSON_BYTE: Final = 1 / 100e6
"""Measured on one core of a small machine, everything on loopback."""
_LEDGER_BYTES_A_LOG_FILE: Final = 500
"""Measured on the sample: log file row, lineage, and 16 bytes and a little for each event."""


@dataclass
class TrailEstimate:
    """What a sync of one trail would come to."""

    trail: str
    partitions: int = 0
    log_files: int = 0
    """That are new, by listing, or due to be tried again."""
    bytes: int = 0
    """Stored, as LIST shows them."""
    list_requests: int = 0
    """Of log files (finding the accounts and regions comes on top), that this dry run made; a sync
    makes as many, and one for each further 1,000 log files."""
    is_sampled: bool = False
    """Whether the numbers are reckoned from a part of a partition's log files."""

    @property
    def requests(self) -> int:
        """LIST and GET requests of the sync."""
        return self._lists + self.log_files

    @property
    def dollars(self) -> float:
        """Price of the requests."""
        return self._lists * DOLLARS_A_LIST + self.log_files * DOLLARS_A_GET

    @property
    def disk_bytes(self) -> int:
        """Output and ledger; less by whatever is a duplicate."""
        return self.bytes * _JSON_BYTES_A_STORED_BYTE + self.log_files * _LEDGER_BYTES_A_LOG_FILE

    @property
    def _lists(self) -> int:
        return max(self.list_requests, self.log_files // _KEYS_A_LIST)

    @property
    def seconds(self) -> float:
        """How long the sync would take where the network does not hold it up."""
        json = self.bytes * _JSON_BYTES_A_STORED_BYTE
        return self.log_files * _SECONDS_A_LOG_FILE + json * _SECONDS_A_JSON_BYTE


def estimate(
    settings: Settings, selection: Selection, note: Callable[[Problem], None]
) -> list[TrailEstimate]:
    """What a sync of the selection would find and cost, by trail with a source partition in it.

    Trails and partitions that cannot be read are noted. Raises ConfigurationError or LedgerError.
    """
    settings = selection.narrow(settings)
    with _ledger_if_any(settings) as ledger:
        places = find_prefixes(settings, selection, note, may_get=False)
        sources = sources_of(places, settings, ledger)
        lookback = Lookback(settings.lookback_hours, settings.horizon_days)
        listing = Listing(sources, lookback, at_once=FEW_AT_ONCE, hold=settings.list_batch_size)
        log_files, size = dict.fromkeys(map(id, sources), 0), dict.fromkeys(map(id, sources), 0)
        for refs in listing.log_files(LedgerLogFiles(ledger) if ledger else NothingKnown()):
            source = refs[0].source
            log_files[id(source)] += len(refs)
            size[id(source)] += sum(ref.size for ref in refs)
            source.is_enough = log_files[id(source)] >= LISTED_A_SOURCE_PREFIX
    estimates = {trail.name: TrailEstimate(trail.name) for trail in settings.trails}
    for source in sources:
        if source.failure:
            note(not_listed(source))
        whole = _times_listed(source)
        one = estimates[source.trail]
        one.partitions += 1
        one.list_requests += source.requests
        one.log_files += round(log_files[id(source)] * whole)
        one.bytes += round(size[id(source)] * whole)
        one.is_sampled |= whole > 1
    return [one for one in estimates.values() if one.partitions]


def _times_listed(source: Source) -> float:
    """How many times what was listed of a partition there is, by days."""
    left_out = source.days_left_out
    partly = sum(left_out.get(day, 0) for day in source.days_listed)
    return 1 + sum(left_out.values()) / max(1 / 24, len(source.days_listed) - partly)


@contextmanager
def _ledger_if_any(settings: Settings) -> Iterator[Ledger | None]:
    if not settings.state_db.exists():
        yield None
        return
    with closing(Ledger(settings.state_db)) as ledger:
        yield ledger
