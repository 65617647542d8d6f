"""How the queues of the trails do: from the ledger, for `ctrail status` in all its forms.

Not here: what a queue is asked (`core.listing.notification_intake`), and the rest of the status.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ctrail_pipeline.core.ledger.ledger import Ledger
from ctrail_pipeline.core.ledger.queues import (
    Depth,
    Notified,
    QueueRow,
    queue_rows,
    tallies_of_queues,
)
from ctrail_pipeline.core.settings import Settings

from .units import duration

_SORTS = {
    Notified.NEW: "new log files",
    Notified.KNOWN: "known log files",
    Notified.NOT_SELECTED: "log files that are not selected",
    Notified.DIGEST: "digests",
    Notified.NO_LOG_FILE: "other objects",
    Notified.OTHER_EVENT: "tests and other events",
    Notified.OTHER_BUCKET: "objects of buckets that are not configured",
    Notified.NOT_UNDERSTOOD: "messages that are not understood",
}
WHAT_TO_LOOK_AT = (
    "look at the bucket's notifications (their prefix and events), the queue's policy, its"
    " retention and its dead letters"
)
"""What may be wrong where log files are found by listing, and not by notification."""


@dataclass(frozen=True)
class QueueStatus:
    """A configured queue, as it was last asked."""

    url: str
    trails: list[str]
    asked_at: int
    """Seconds since 1970; 0 if it was never asked."""
    drained_at: int
    """When it was last empty (seconds since 1970); 0 if it never was."""
    trouble: str
    """Why it could not be asked; empty if it could."""
    waiting: int | None
    """Messages that were in it then; None if nobody may ask."""
    dead_letters: int | None
    """Messages in its dead-letter queue then; None if that is not known."""
    oldest_seconds: int | None
    """Age of the oldest message that was received then; None if none was."""
    counts: dict[str, int]
    """What its messages named, over all runs, by `core.ledger.queues.Notified`."""
    examples: dict[str, str]


def read_queues(settings: Settings, ledger: Ledger) -> list[QueueStatus]:
    """Return the configured queues."""
    rows, tallies = queue_rows(ledger), tallies_of_queues(ledger)
    queues = []
    for url in dict.fromkeys(trail.queue for trail in settings.trails if trail.queue):
        row = rows.get(url, QueueRow(0, 0, 0, "", Depth()))
        of_queue = tallies.get(url, {})
        queues.append(
            QueueStatus(
                url,
                [trail.name for trail in settings.trails if trail.queue == url],
                row.asked_at,
                row.drained_at,
                row.trouble,
                *row.depth,
                {sort.value: of_queue[sort].number for sort in Notified if sort in of_queue},
                {sort.value: tally.example for sort, tally in of_queue.items() if tally.example},
            )
        )
    return queues


def queue_lines(queues: Sequence[QueueStatus], missed: int) -> Iterator[str]:
    """Yield how the queues do, and what stays in them.

    `missed`: log files that were found by listing, though a notification should have named them.
    """
    for queue in queues:
        if queue.trouble:
            yield f"{queue.trouble}; until it works, listing alone finds new log files"
        elif queue.asked_at:
            yield _asked_line(queue)
        else:
            yield f"{queue.url}: not asked yet"
        for sort in (Notified.OTHER_BUCKET, Notified.NOT_UNDERSTOOD):
            if sort in queue.counts:
                yield f"  {_SORTS[sort]} stay in the queue, such as {queue.examples[sort]}"
    if missed:
        yield (
            f"{missed:,} log files were found by listing, not by notification; if that grows,"
            f" {WHAT_TO_LOOK_AT}"
        )


def _asked_line(queue: QueueStatus) -> str:
    """Return what a queue that works held, and what it has named so far."""
    said = [f"asked {duration(max(0.0, time.time() - queue.asked_at))} ago"]
    if queue.waiting is not None:
        said.append(f"{queue.waiting:,} messages in it")
    if queue.oldest_seconds is not None:
        said.append(f"the oldest that came was {duration(queue.oldest_seconds)} old")
    if queue.dead_letters is not None:
        said.append(f"{queue.dead_letters:,} dead letters")
    named = [f"{number:,} {_SORTS[Notified(sort)]}" for sort, number in queue.counts.items()]
    return f"{queue.url}: {', '.join(said)}; named so far: {', '.join(named) or 'nothing'}"
