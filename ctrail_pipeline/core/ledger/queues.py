"""The rows of queues: what their messages named, and whether they work.

Functions over a `Ledger`. A queue is known by its URL, whichever trails it is configured for. What
is counted counts over all runs. Nothing of a message's text is kept but names of objects.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple

from .ledger import Ledger
from .portable_sql import upsert


class Notified(StrEnum):
    """What a message named, or why the message stays in its queue."""

    NEW = "new"
    """A log file that the ledger did not have."""
    KNOWN = "known"
    """A log file that a listing or another message brought before."""
    NOT_SELECTED = "not_selected"
    """A log file that the configuration leaves out."""
    DIGEST = "digest"
    NO_LOG_FILE = "no_log_file"
    """Another object of a bucket that is configured."""
    OTHER_EVENT = "other_event"
    """A test, or an event that is about no new object."""
    OTHER_BUCKET = "other_bucket"
    """An object in a bucket that is not configured. The message stays: another deployment may
    share the queue."""
    NOT_UNDERSTOOD = "not_understood"
    """The message stays, for the queue's own dead-letter queue."""


class Tally(NamedTuple):
    """How many objects or messages of one sort there were, and one of them."""

    number: int
    example: str


class QueueRow(NamedTuple):
    """What is known of a queue."""

    works_since: int
    """When it was first asked with success (seconds since 1970); 0: never."""
    asked_at: int
    """When it was last asked."""
    drained_at: int
    """When it was last found empty; 0: never."""
    trouble: str
    """Why it could not be asked last time; empty if it could."""
    depth: "Depth"


class Depth(NamedTuple):
    """How full a queue was when it was last asked. None where that is not known."""

    waiting: int | None = None
    """Messages that were still in it, those that stay in it among them."""
    dead_letters: int | None = None
    """Messages in its dead-letter queue."""
    oldest_seconds: int | None = None
    """Age of the oldest message that was received; None if none was."""


def has_named(tallies: Mapping[Notified, Tally]) -> bool:
    """Whether a message of a queue ever named a log file of ours."""
    return Notified.NEW in tallies or Notified.KNOWN in tallies


def note_asked(
    ledger: Ledger, url: str, now: int, trouble: str, depth: Depth, *, is_drained: bool
) -> None:
    """Note that a queue was asked, and how that went. Inside a transaction.

    How many messages there are stays as it was where `depth` does not say.
    """
    works = 0 if trouble else now
    ledger.execute(
        "INSERT INTO queue (url, works_since, asked_at, drained_at, trouble, waiting,"
        " dead_letters, oldest_seconds)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (url) DO UPDATE"
        " SET asked_at = excluded.asked_at, trouble = excluded.trouble,"
        " waiting = coalesce(excluded.waiting, queue.waiting),"
        " dead_letters = coalesce(excluded.dead_letters, queue.dead_letters),"
        " oldest_seconds = excluded.oldest_seconds, works_since = CASE WHEN queue.works_since = 0"
        " THEN excluded.works_since ELSE queue.works_since END, drained_at = CASE"
        " WHEN excluded.drained_at = 0 THEN queue.drained_at ELSE excluded.drained_at END",
        url,
        works,
        now,
        works if is_drained else 0,
        trouble,
        *depth,
    )


def note_notified(ledger: Ledger, url: str, tallies: Mapping[Notified, Tally]) -> None:
    """Add to what the messages of a queue named. Inside a transaction."""
    known = tallies_of_queues(ledger).get(url, {})
    ledger.execute_many(
        upsert("queue_tally", "url, sort, number, example", "url, sort"),
        [
            (url, sort, tally.number + (known[sort].number if sort in known else 0), tally.example)
            for sort, tally in tallies.items()
        ],
    )


def queue_rows(ledger: Ledger) -> dict[str, QueueRow]:
    """Return what is known of each queue that was ever asked."""
    return {
        url: QueueRow(works_since, asked_at, drained_at, trouble, Depth(*depth))
        for url, works_since, asked_at, drained_at, trouble, *depth in ledger.rows(
            "SELECT url, works_since, asked_at, drained_at, trouble, waiting, dead_letters,"
            " oldest_seconds FROM queue"
        )
    }


def tallies_of_queues(ledger: Ledger) -> dict[str, dict[Notified, Tally]]:
    """Return what the messages of each queue named, over all runs."""
    tallies: dict[str, dict[Notified, Tally]] = {}
    for url, sort, number, example in ledger.rows(
        "SELECT url, sort, number, example FROM queue_tally ORDER BY url, sort"
    ):
        tallies.setdefault(url, {})[Notified(sort)] = Tally(number, example)
    return tallies
