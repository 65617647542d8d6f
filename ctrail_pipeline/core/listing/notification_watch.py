"""Waiting for notifications between two rounds of a sync that goes on for ever.

Each queue is asked by a request that waits for a message. Such a request may outlast the wait: what
it brings is taken by the next one. Else the queue would hide its messages until they come again.
Not here: what is done with messages (`notification_intake`).
"""

import logging
import time
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import closing
from dataclasses import dataclass
from threading import Event
from types import TracebackType
from typing import Final, Self, TypeAlias

from ctrail_pipeline.core.bucket.queue import LONGEST_WAIT_SECONDS, Message, NotificationQueue
from ctrail_pipeline.core.exceptions import StoreError
from ctrail_pipeline.core.ledger.queues import Notified
from ctrail_pipeline.core.matching_ledger import open_ledger
from ctrail_pipeline.core.output.open_output import open_output
from ctrail_pipeline.core.settings import Settings, Trail
from ctrail_pipeline.core.threads import DaemonThreads

from .notification_intake import Intake, queues_of
from .notified import Sorter

log = logging.getLogger(__name__)

_TICK_SECONDS: Final = 0.2
_RETRY_SECONDS: Final = 60.0
"""After so long, a queue in trouble is asked again."""


_Request: TypeAlias = "Future[tuple[NotificationQueue, list[Message]]]"
"""A request that waits for messages, and the queue that it asks."""


@dataclass
class _Asked:
    """A queue, and the request that waits for its next messages."""

    trail: Trail
    queue: NotificationQueue | None = None
    request: "_Request | None" = None
    not_before: float = 0.0


class NotificationWatch:
    """The queues of all trails, while somebody waits for what is new."""

    def __init__(self, settings: Settings) -> None:
        """`settings`: those of the whole configuration."""
        self._settings = settings
        self._sorter = Sorter(settings)
        self._queues = {url: _Asked(trail) for url, trail in queues_of(settings.trails).items()}
        # One more thread for each queue deletes, while the other one waits.
        self._threads = DaemonThreads(2 * len(self._queues), "ctrail-watch")

    def __enter__(self) -> Self:
        """Return the watch, which is closed at the end of the `with` block."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Let the threads end, without waiting."""
        self._threads.close()

    def wait(self, seconds: float, stop: Event) -> bool:
        """Wait until a message names a new log file, `stop` is set, or the time is over.

        Return whether there is a new log file. Raises LedgerError or OutputError.
        """
        deadline = time.monotonic() + seconds
        while not stop.is_set() and (left := deadline - time.monotonic()) > 0:
            requests = {
                request: url
                for url, asked in self._queues.items()
                if (request := self._request(url, asked)) is not None
            }
            tick = min(left, _TICK_SECONDS)
            if not requests:
                stop.wait(tick)
                continue
            answered = wait(requests, timeout=tick, return_when=FIRST_COMPLETED).done
            if answered and self._take({requests[request]: request for request in answered}, stop):
                return True
        return False

    def _request(self, url: str, asked: _Asked) -> "_Request | None":
        """Return the request that waits for messages of a queue; None while it is in trouble."""
        if asked.request is None and time.monotonic() >= asked.not_before:
            asked.request = self._threads.submit(
                _receive, url, asked.trail, self._settings, asked.queue
            )
        return asked.request

    def _take(self, answered: "dict[str, _Request]", stop: Event) -> bool:
        """Take the answers of queues; return whether there is a new log file."""
        is_new = False
        with (
            closing(open_output(self._settings)) as output,
            closing(open_ledger(self._settings.ledger, output)) as ledger,
        ):
            for url, request in answered.items():
                asked = self._queues[url]
                asked.request = None
                intake = Intake(ledger, self._sorter, url, time.monotonic(), stop)
                try:
                    asked.queue, messages = request.result()
                    intake.settle(messages, asked.queue, self._threads)
                except StoreError as error:
                    intake.taken.trouble = str(error)
                    asked.queue = None  # with other credentials, perhaps
                    asked.not_before = time.monotonic() + _RETRY_SECONDS
                intake.note_asked()
                is_new |= intake.taken.counts[Notified.NEW] > 0
        return is_new


def _receive(
    url: str, trail: Trail, settings: Settings, queue: NotificationQueue | None
) -> tuple[NotificationQueue, list[Message]]:
    queue = queue or NotificationQueue(url, trail, settings)
    return queue, queue.receive(LONGEST_WAIT_SECONDS)
