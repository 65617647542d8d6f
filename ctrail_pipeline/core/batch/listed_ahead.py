"""A listing that runs ahead in a thread of its own, while log files are fetched.

How far it runs ahead is limited. What is listed is decided in the room `listing`.
"""

from collections.abc import Iterator
from queue import Empty, Full, Queue
from threading import Event, Thread
from typing import Final

from ctrail_pipeline.core.listing.sources import LogFileRef

_TICK_SECONDS: Final = 0.2
"""Seconds between two looks whether the listing is still wanted, while the queue is full."""


class ListedAhead:
    """Lists of log files that a thread has made and nobody has taken yet."""

    def __init__(self, listing: Iterator[list[LogFileRef]], lists: int = 32) -> None:
        """Begin listing; hold at most `lists` lists that nobody took yet (0: any number)."""
        self._lists: Queue[list[LogFileRef] | BaseException | None] = Queue(maxsize=lists)
        self._closed = Event()
        self._done = False
        Thread(target=self._list, args=(listing,), name="ctrail-listing", daemon=True).start()

    @property
    def done(self) -> bool:
        """Whether everything has been listed and taken."""
        return self._done

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to take at this moment."""
        return self._lists.empty()

    def take(self, timeout: float) -> list[LogFileRef] | None:
        """Take the next log files; None if there are none yet, or no more.

        Raises what the listing raised.
        """
        if self._done:
            return None
        try:
            item = self._lists.get(timeout=timeout) if timeout else self._lists.get_nowait()
        except Empty:
            return None
        if isinstance(item, BaseException):
            raise item
        self._done = item is None
        return item

    def close(self) -> None:
        """Stop listing, without waiting for requests in flight."""
        self._closed.set()

    def _list(self, listing: Iterator[list[LogFileRef]]) -> None:
        try:
            for refs in listing:
                if not self._put(refs):
                    return
            self._put(None)
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that processes
            self._put(error)

    def _put(self, item: list[LogFileRef] | BaseException | None) -> bool:
        while not self._closed.is_set():
            try:
                self._lists.put(item, timeout=_TICK_SECONDS)
            except Full:
                continue
            return True
        return False
