"""Is everything here? What the buckets hold, against the ledger, against the output on disk.

Each source partition is listed whole (or some days of it) in key order, a page at a time, and each
page is compared with the ledger's rows of the same stretch: memory depends on pages and days, never
on how many keys there are. A log file that the ledger lacks is noted there as found, so that the
next sync fetches it (of a partition that was never synced, nothing is noted: any sync lists all of
it); nothing is called covered here. What other witnesses found (signed digests) is
merged in by `Report.add`.

What is delivered while nobody syncs is no loss: a log file that came into the bucket within the
last hour is `new`, not missing. One that the bucket no longer holds is normal where a lifecycle
rule expires them: it is counted.
"""

import time
from collections.abc import Callable, Sequence
from contextlib import closing

from ctrail_pipeline.core.batch.recovery import recover
from ctrail_pipeline.core.exceptions import ConfigurationError
from ctrail_pipeline.core.ledger.ledger import Ledger
from ctrail_pipeline.core.ledger.source_prefixes import register_sources
from ctrail_pipeline.core.listing.found_prefixes import find_prefixes, known_prefixes, sources_of
from ctrail_pipeline.core.listing.selection import Selection
from ctrail_pipeline.core.listing.sources import Source
from ctrail_pipeline.core.opening import open_ledger
from ctrail_pipeline.core.output.folders import OutputFolders
from ctrail_pipeline.core.settings import Settings

from .compare_bucket import BucketComparison
from .compare_output import check_output
from .compare_report import Report
from .hour_states import Evidence


def reconcile(
    settings: Settings,
    selection: Selection | None = None,
    *,
    deep: bool = False,
    witness: Callable[[Report, Sequence[Source]], Evidence] | None = None,
) -> Report:
    """Compare buckets, ledger and output; queue what is missing for the next sync.

    A window of the selection is widened to whole days. `deep` reads every output file. `witness` is
    asked at the end what else is known of the source partitions. A trail or a partition that cannot
    be listed is a problem of the report. Raises ConfigurationError if there is no ledger yet,
    LedgerError or OutputError where `sync` would.
    """
    selection = selection or Selection()
    narrowed = selection.narrow(settings)
    if not settings.state_db.exists():
        raise ConfigurationError(
            f"{settings.state_db}: there is no ledger, so nothing to compare: run a sync first"
        )
    folders = OutputFolders.of(settings)
    with (
        closing(folders),
        closing(open_ledger(settings.state_db, settings.events_dir, folders)) as ledger,
    ):
        recover(ledger, folders, lambda _step: None)
        report = Report(deep=deep)
        began = time.monotonic()
        sources = _sources(narrowed, selection, ledger, report)
        BucketComparison(ledger, report, narrowed).compare(sources)
        check_output(settings, selection, ledger, folders, report)
        if witness is not None:
            report.add(witness(report, sources))
        report.seconds = time.monotonic() - began
    return report


def _sources(
    settings: Settings, selection: Selection, ledger: Ledger, report: Report
) -> list[Source]:
    """The source partitions that the buckets hold, and those of them that they held once."""
    places = find_prefixes(settings, selection, report.problems.append, may_get=False)
    present = {place.source_prefix for place in places}
    for trail, bucket in {
        place.trail.name: (place.trail, place.bucket) for place in places
    }.values():
        places += [
            place
            for place in known_prefixes(settings, ledger, trail, bucket)
            if place.source_prefix not in present and selection.holds(place.source_prefix)
        ]
    register_sources(ledger, [place.source_prefix for place in places])
    return sources_of(places, settings, ledger)


# --- buckets against the ledger -------------------------------------------------------------------


# --- the ledger against the output ----------------------------------------------------------------
