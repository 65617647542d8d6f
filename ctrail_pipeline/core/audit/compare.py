"""Comparing buckets, ledger and output: is everything here that the buckets hold?

`compare` runs the parts in order: it lists the buckets against the ledger (`compare_bucket`),
checks the output files against the ledger (`compare_output`), and merges in what signed digests
say. A comparison never extends coverage.

A log file that came into its bucket within the last hour is `new`, not missing: CloudTrail delivers
while nobody syncs. A committed log file that the bucket no longer holds is counted as expired: that
is normal where a lifecycle rule deletes log files.
"""

import time
from collections.abc import Callable, Sequence

from ctrail_pipeline.core.exceptions import ConfigurationError
from ctrail_pipeline.core.keys.source_prefix import bucket_address
from ctrail_pipeline.core.ledger.ledger import Ledger
from ctrail_pipeline.core.ledger.presence import ledger_exists
from ctrail_pipeline.core.ledger.source_prefixes import register_sources
from ctrail_pipeline.core.listing.found_prefixes import (
    find_prefixes,
    sources_of,
    vanished_prefixes,
)
from ctrail_pipeline.core.listing.left_aside import note_discovered
from ctrail_pipeline.core.listing.selection import Selection
from ctrail_pipeline.core.listing.sources import Source
from ctrail_pipeline.core.settings import Settings
from ctrail_pipeline.core.upkeep.opened_output import opened_output

from .compare_bucket import BucketComparison
from .compare_output import check_output
from .compare_report import Report
from .digest_result import DigestResult


def compare(
    settings: Settings,
    selection: Selection | None = None,
    *,
    deep: bool = False,
    digests: Callable[[Report, Sequence[Source]], DigestResult] | None = None,
) -> Report:
    """Compare buckets, ledger and output; queue what is missing for the next sync.

    The window of the selection is widened to whole days. `deep` reads every output file. `digests`
    is called at the end and says what signed digests say of the source prefixes. A trail or a
    source prefix that cannot be listed is a problem of the report. Raises ConfigurationError if
    there is no ledger yet, LedgerError or OutputError where `sync` would.
    """
    selection = selection or Selection()
    narrowed = selection.narrow(settings)
    if not ledger_exists(settings.ledger):
        raise ConfigurationError(
            f"{settings.ledger}: there is no ledger, so nothing to compare: run a sync first"
        )
    with opened_output(settings) as (ledger, output):
        report = Report(deep=deep)
        began = time.monotonic()
        sources = _sources(narrowed, selection, ledger, report)
        BucketComparison(ledger, report, narrowed).compare(sources)
        check_output(settings, selection, ledger, output, report)
        if digests is not None:
            report.add(digests(report, sources))
        report.seconds = time.monotonic() - began
    return report


def _sources(
    settings: Settings, selection: Selection, ledger: Ledger, report: Report
) -> list[Source]:
    """Return the source prefixes that the buckets hold, and those that they held once."""
    found = find_prefixes(settings, selection, report.problems.append, may_get=False)
    report.not_yet = found.not_yet
    for trail in settings.trails:
        if trail.name in found.discoveries:
            discovery = found.discoveries[trail.name]
            note_discovered(ledger, trail, discovery)
            for tallies in discovery.outside.values():
                for why, tally in tallies.items():
                    where = f"{bucket_address(trail.bucket)}/{tally.example}"
                    report.leave_aside(trail.name, "", tally._replace(example=where), why)
    found_prefixes = found.selected
    found_prefixes += vanished_prefixes(found_prefixes, settings, selection, ledger)
    register_sources(ledger, [found.source_prefix for found in found_prefixes])
    return sources_of(found_prefixes, settings, ledger)
