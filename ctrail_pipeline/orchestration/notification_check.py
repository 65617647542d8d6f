"""The check `notifications_arrive`: does the queue of a trail say what is new?

The ledger answers, so runs and the sensor note it, each when it has asked the queue. Not here: the
checks that every trail has (`checks`).
"""

import time
from collections.abc import Sequence
from contextlib import closing

from dagster import AssetCheckEvaluation, AssetKey, MetadataValue

from ctrail_pipeline.core.ledger.ledger import Ledger
from ctrail_pipeline.core.ledger.presence import ledger_exists
from ctrail_pipeline.core.ledger.queues import has_named, queue_rows, tallies_of_queues
from ctrail_pipeline.core.ledger.source_prefixes import missed_by_source, source_ids
from ctrail_pipeline.core.listing.selection import is_of
from ctrail_pipeline.core.settings import Trail
from ctrail_pipeline.reports.queue_status import WHAT_TO_LOOK_AT

from .check_evaluations import make_evaluation
from .partitions import asset_keys
from .resources import LedgerResource

NOTIFIED = "notifications_arrive"
DESCRIPTION = "The queue works, and its messages named every new log file of the last two days."
_MISSED_SECONDS = 2 * 86_400
_FIRST_SECONDS = 86_400
"""After so long a queue should have named a log file."""


def notification_evaluations(
    all_trails: Sequence[Trail], trails: Sequence[Trail], cursor: LedgerResource
) -> dict[AssetKey, AssetCheckEvaluation]:
    """Return the evaluations of those of these trails that have a queue."""
    keys = asset_keys(all_trails)
    with_queue = [trail for trail in trails if trail.queue is not None]
    if not (with_queue and ledger_exists(cursor.address)):
        return {}
    with closing(Ledger(cursor.address)) as ledger:
        return {
            keys[trail.name]: _evaluation(ledger, trail, keys[trail.name]) for trail in with_queue
        }


def _evaluation(ledger: Ledger, trail: Trail, key: AssetKey) -> AssetCheckEvaluation:
    troubles = []
    row = queue_rows(ledger).get(trail.queue or "")
    if row is not None and row.trouble:
        troubles.append(f"{row.trouble}; until it works, listing alone finds new log files")
    is_proved = has_named(tallies_of_queues(ledger).get(trail.queue or "", {}))
    is_old = row is not None and 0 < row.works_since < time.time() - _FIRST_SECONDS
    if is_old and not (is_proved or troubles):
        troubles.append(f"the queue has named no log file so far: {WHAT_TO_LOOK_AT}")
    by_source = missed_by_source(ledger)
    missed = [
        by_source[id_]
        for source_prefix, id_ in source_ids(ledger).items()
        if id_ in by_source and is_of(trail, source_prefix)
    ]
    log_files = sum(number for number, _ in missed)
    if any(at >= time.time() - _MISSED_SECONDS for _, at in missed):
        troubles.append(
            f"log files were found by listing, not by notification ({log_files} in all, some of"
            f" them in the last two days): {WHAT_TO_LOOK_AT}"
        )
    return make_evaluation(
        key,
        NOTIFIED,
        passed=not troubles,
        description="\n".join(troubles) or "they do",
        metadata={"found_by_listing": MetadataValue.int(log_files)},
    )
