"""Notifications: from the queues of the trails into the ledger, and only then out of the queues.

Receive, note the log files as found, COMMIT, delete. A message is held for milliseconds, not while
its log file is fetched; whoever dies in between gets the message again, and it changes nothing.
What is not understood, and what names a bucket that is not configured, is never deleted.
Notifications only discover: coverage grows by listing alone. Not here: what a message says
(`notifications`), and which log files are ours (`notified`).
"""

import logging
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, wait
from contextlib import closing
from dataclasses import dataclass, field
from threading import Event
from typing import Final, TypeVar

from ctrail_pipeline.core.bucket.queue import MESSAGES_AT_ONCE, Message, NotificationQueue
from ctrail_pipeline.core.exceptions import StoreError, StoreUnavailable
from ctrail_pipeline.core.ledger.ledger import Ledger
from ctrail_pipeline.core.ledger.log_files import put_found, rows_of_log_files
from ctrail_pipeline.core.ledger.queues import (
    Depth,
    Notified,
    Tally,
    note_asked,
    note_notified,
)
from ctrail_pipeline.core.ledger.rows import FoundLogFile
from ctrail_pipeline.core.ledger.source_prefixes import register_sources
from ctrail_pipeline.core.settings import Settings, Trail
from ctrail_pipeline.core.threads import DaemonThreads
from ctrail_pipeline.core.untrusted_text import printable

from .new_log_files import is_new
from .notifications import read_notification
from .notified import NamedLogFile, Sorter

log = logging.getLogger(__name__)

R = TypeVar("R")

_REQUESTS_AT_ONCE: Final = 8
"""Requests to one queue in flight, once a first answer was full."""
_QUEUES_AT_ONCE: Final = 16
_MOST_KEPT: Final = 50_000
"""Messages that stay in their queue, after which no more are taken this time: bounds memory."""
_SHORT_WAIT_SECONDS: Final = 1
"""How long an empty queue is waited for. Without a wait, SQS asks a few of its servers only, and
may say that a queue with messages is empty."""
_GRACE_SECONDS: Final = 10.0
"""How much longer than its time a request may take before it counts as hanging."""
_TICK_SECONDS: Final = 0.2
_EXAMPLE_LENGTH: Final = 300


@dataclass
class Taken:
    """What was taken out of one queue."""

    url: str
    messages: int = 0
    counts: Counter[Notified] = field(default_factory=Counter)
    trouble: str = ""
    """Why the queue could not be asked, or not to the end; empty if it could."""
    is_drained: bool = False
    """Whether nothing was left in it that could be taken."""
    depth: Depth = field(default_factory=Depth)

    def __str__(self) -> str:
        """What people read in the log."""
        counts = ", ".join(
            f"{self.counts[sort]} {sort.value}" for sort in Notified if self.counts[sort]
        )
        return f"{self.url}: {self.messages} messages{': ' if counts else ''}{counts}"


def queues_of(trails: Iterable[Trail]) -> dict[str, Trail]:
    """Return the queues of trails, each with the first trail that names it."""
    queues: dict[str, Trail] = {}
    for trail in trails:
        if trail.queue is not None:
            queues.setdefault(trail.queue, trail)
    return queues


def take_notifications(
    settings: Settings, queues: dict[str, Trail], seconds: float, stop: Event | None = None
) -> list[Taken]:
    """Take what is in these queues, for about so many seconds or until `stop` is set.

    The queues are asked side by side. One that cannot be asked has a `trouble`, and does not stop
    the others. `settings` are those of the whole configuration: a message may be about any trail.
    The ledger is there already. Raises LedgerError.
    """
    sorter = Sorter(settings)
    deadline = time.monotonic() + seconds

    def take(url: str) -> Taken:
        with closing(Ledger(settings.ledger)) as ledger:
            intake = Intake(ledger, sorter, url, deadline, stop or Event())
            intake.take_all(queues[url], settings)
            return intake.taken

    with DaemonThreads(_QUEUES_AT_ONCE, "ctrail-queues") as threads:
        return list(threads.map(take, queues))


@dataclass
class _Read:
    """What messages say, taken together."""

    named: list[NamedLogFile] = field(default_factory=list)
    tallies: dict[Notified, Tally] = field(default_factory=dict)
    kept: set[str] = field(default_factory=set)
    """Ids of messages that stay in the queue."""

    def add(self, message: Message, sorter: Sorter) -> None:
        """Take in one message. A message that stays comes again and again, and counts once."""
        notification = read_notification(message.body)
        for new_object in notification.objects:
            log_file = sorter.sort(new_object)
            if isinstance(log_file, NamedLogFile):
                self.named.append(log_file)
                continue
            is_kept = log_file is Notified.OTHER_BUCKET
            if is_kept:
                self.kept.add(message.id)
            if message.is_first_receipt or not is_kept:
                self.count(log_file, 1, f"s3://{new_object.bucket}/{new_object.key}")
        self.count(Notified.OTHER_EVENT, notification.other_events, f"message {message.id}")
        if notification.not_understood is not None:
            self.kept.add(message.id)
            if message.is_first_receipt:
                example = f"message {message.id}: {notification.not_understood}"
                self.count(Notified.NOT_UNDERSTOOD, 1, example)

    def count(self, sort: Notified, number: int, example: str = "") -> None:
        """Count so many objects or messages of one sort."""
        if number:
            known = self.tallies[sort].number if sort in self.tallies else 0
            self.tallies[sort] = Tally(known + number, printable(example)[:_EXAMPLE_LENGTH])


class Intake:
    """Takes what is in one queue."""

    def __init__(
        self, ledger: Ledger, sorter: Sorter, url: str, deadline: float, stop: Event
    ) -> None:
        self._ledger = ledger
        self._sorter = sorter
        self._deadline = deadline
        self._stop = stop
        self._kept: set[str] = set()
        self.taken = Taken(url)

    def take_all(self, trail: Trail, settings: Settings) -> None:
        """Take messages until the queue is empty, or the time is over."""
        taken = self.taken
        with DaemonThreads(_REQUESTS_AT_ONCE, "ctrail-queue") as threads:
            try:
                opening = [threads.submit(NotificationQueue, taken.url, trail, settings)]
                opened = self._await(opening)
                at_once = 1
                while opened and not (taken.is_drained or self._is_over()):
                    [queue] = opened
                    answers = self._await(
                        [threads.submit(queue.receive, _SHORT_WAIT_SECONDS) for _ in range(at_once)]
                    )
                    messages = [message for answer in answers for message in answer]
                    self.settle(messages, queue, threads)
                    if len(messages) >= MESSAGES_AT_ONCE:
                        at_once = _REQUESTS_AT_ONCE
                if opened and not self._stop.is_set():
                    self._ask_depth(opened[0], threads)
            except StoreError as error:
                taken.trouble = str(error)
        self.note_asked()

    def settle(
        self, messages: Sequence[Message], queue: NotificationQueue, threads: DaemonThreads
    ) -> None:
        """Note what messages name, then delete those of which nothing is left to be done."""
        fresh = [message for message in messages if message.id not in self._kept]
        self.taken.is_drained = not fresh
        ages = [time.time() - message.sent_at for message in fresh if message.sent_at]
        if ages:
            oldest = max(0, round(max(ages)), self.taken.depth.oldest_seconds or 0)
            self.taken.depth = self.taken.depth._replace(oldest_seconds=oldest)
        self.taken.messages += len(fresh)
        done = self._note(fresh)
        self._await(
            [
                threads.submit(queue.delete, done[first : first + MESSAGES_AT_ONCE])
                for first in range(0, len(done), MESSAGES_AT_ONCE)
            ]
        )

    def _ask_depth(self, queue: NotificationQueue, threads: DaemonThreads) -> None:
        for waiting, dead_letters in self._await([threads.submit(queue.waiting)]):
            self.taken.depth = self.taken.depth._replace(waiting=waiting, dead_letters=dead_letters)

    def note_asked(self) -> None:
        """Note how asking the queue went, in the ledger and in the log."""
        taken = self.taken
        with self._ledger.transaction():
            note_asked(
                self._ledger,
                taken.url,
                int(time.time()),
                taken.trouble,
                taken.depth,
                is_drained=taken.is_drained and not self._stop.is_set(),
            )
        if taken.trouble:
            log.warning("%s; until it works, listing alone finds new log files", taken.trouble)
        elif taken.messages:
            log.info("%s", taken)

    def _note(self, messages: Sequence[Message]) -> list[Message]:
        """Note what messages name, in one transaction; return those that may be deleted."""
        read = _Read()
        for message in messages:
            read.add(message, self._sorter)
        self._kept |= read.kept
        found = self._found(read.named)
        if found or read.tallies:
            now = int(time.time())
            with self._ledger.transaction():
                rows = rows_of_log_files(self._ledger, list(found))
                new = [
                    log_file
                    for key, log_file in found.items()
                    if is_new(rows.get(key), log_file.etag, now)
                ]
                put_found(self._ledger, new, now)
                read.count(Notified.NEW, len(new))
                read.count(Notified.KNOWN, len(read.named) - len(new))
                note_notified(self._ledger, self.taken.url, read.tallies)
        self.taken.counts.update({sort: tally.number for sort, tally in read.tallies.items()})
        return [message for message in messages if message.id not in read.kept]

    def _found(self, named: Sequence[NamedLogFile]) -> dict[tuple[int, int, str], FoundLogFile]:
        """Return the log files as the ledger takes them, each once."""
        ids = (
            register_sources(
                self._ledger, list(dict.fromkeys(log_file.source_prefix for log_file in named))
            )
            if named
            else {}
        )
        found = {}
        for log_file in named:
            id_, parts = ids[log_file.source_prefix], log_file.parts
            found[id_, parts.day, parts.name] = FoundLogFile(
                id_, parts.day, parts.name, log_file.etag, log_file.size, archived=False
            )
        return found

    def _await(self, futures: "Sequence[Future[R]]") -> list[R]:
        """Return the results. Raises what they raise, and StoreUnavailable for requests that hang.

        If the run is stopped meanwhile, only what is there already is returned.
        """
        while pending := wait(futures, timeout=_TICK_SECONDS).not_done:
            if self._stop.is_set():
                break
            if time.monotonic() > self._deadline + _GRACE_SECONDS:
                raise StoreUnavailable(f"{self.taken.url}: the server answered too slowly")
        return [future.result() for future in futures if future not in pending]

    def _is_over(self) -> bool:
        is_late = time.monotonic() >= self._deadline
        return self._stop.is_set() or is_late or len(self._kept) >= _MOST_KEPT
