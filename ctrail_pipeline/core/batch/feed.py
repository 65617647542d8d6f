"""From a listing to fetched log files: many GETs at once, results in the order of the listing.

Threads fetch. They also gunzip large log files; whoever takes a small log file gunzips it.
What is on its way or waits to be taken is limited in number and in bytes, whatever the log files
hold. How one log file is fetched is in `fetch`.
"""

from collections import deque
from collections.abc import Iterator
from queue import Empty
from threading import Event
from typing import Final

from ctrail_pipeline.core.listing.sources import LogFileRef
from ctrail_pipeline.core.settings import Settings
from ctrail_pipeline.core.threads import DaemonThreads

from .cost import cost_of
from .fetch import CompressedLogFile, FetchedLogFile
from .fetch_task import KEYS_A_TASK, FetchResult, FetchTask
from .listed_ahead import ListedAhead
from .memory_budget import MemoryBudget

_SHARED_BY: Final = 4
"""Threads that few log files are shared out to, which gunzip them side by side."""
AHEAD: Final = 16
"""Small log files that are begun and not taken, for each GET in flight."""
BYTES_AHEAD: Final = 64 * 1024 * 1024
"""Bytes that are held at most by log files on their way, the next one to be taken apart."""
_TICK_SECONDS: Final = 0.2
"""How long to wait for a result before the caller gets a chance to look at the time."""


class Feed:
    """Log files from a listing, fetched ahead of whoever takes them."""

    def __init__(
        self,
        listed: ListedAhead,
        settings: Settings,
        bytes_ahead: int = BYTES_AHEAD,
        ahead: int = AHEAD,
    ) -> None:
        """`ahead`: small log files that are begun and not taken, for each GET in flight."""
        self._listed = listed
        self._settings = settings
        self._closed = Event()
        self._last = False
        self._ready: deque[LogFileRef] = deque()
        self._tasks: deque[FetchTask] = deque()
        self._begun = 0
        self._taken = 0
        self._cost = 0
        """Of what is begun and not taken."""
        self._room = MemoryBudget(bytes_ahead)
        self._most_ahead = ahead * settings.downloads_of(1)
        # For all that is begun: where requests are tried again, with pauses, the others go on. Five
        # threads, which suffice for 100 GETs in flight, took twice as long where a tenth failed.
        threads = -(-self._most_ahead // KEYS_A_TASK)
        self._threads = DaemonThreads(threads, "ctrail-fetch")
        # Of their own, in the order of the log files: those above may all wait for room until
        # one of these is done.
        self._threads_again = DaemonThreads(KEYS_A_TASK, "ctrail-fetch-again")

    @property
    def ahead(self) -> int:
        """Log files that were taken from the listing, and not yet from here."""
        return len(self._ready) + self._begun - self._taken

    def take_no_more(self) -> list[LogFileRef]:
        """Leave the rest to somebody else: `results` ends with what is begun.

        Returns what was taken from the listing and is not begun.
        """
        self._last = True
        left = list(self._ready)
        self._ready.clear()
        return left

    def results(self) -> Iterator[FetchedLogFile | None]:
        """Fetched log files in listing order; None now and then, when nothing came for a while.

        Let go of each before you ask for the next. Raises what the listing raised.
        """
        while True:
            self._take_listed(wait=not self._tasks and not self._ready)
            self._start_tasks()
            if self._tasks:
                yield from self._results_of(self._tasks[0])
                if not self._tasks[0].left:
                    self._tasks.popleft()
            elif self._last:
                return
            else:
                yield None

    def _results_of(self, task: FetchTask) -> Iterator[FetchedLogFile | None]:
        """What a task hands over next; None if nothing comes for a while."""
        try:
            fetched = task.results.get(timeout=_TICK_SECONDS)
        except Empty:
            yield None
            return
        if isinstance(fetched, BaseException):
            raise fetched
        unpacked = self._unpacked(fetched)
        del fetched
        while unpacked:
            item = unpacked.popleft()
            task.left -= 1
            if isinstance(item, FetchTask):
                while item.left:
                    yield from self._results_of(item)
                continue
            one, size = item
            del item
            self._taken += 1
            self._cost -= cost_of(one.ref)
            yield one
            del one
            self._room.taken(self._taken - 1, size)

    def _unpacked(
        self, results: list[FetchResult]
    ) -> "deque[tuple[FetchedLogFile, int] | FetchTask]":
        """What came, unpacked; a small log file that may be damaged is a task of its own now."""
        unpacked: deque[tuple[FetchedLogFile, int] | FetchTask] = deque()
        for turn, (one, size) in enumerate(results, self._taken):
            if not isinstance(one, CompressedLogFile):
                unpacked.append((one, size))
            elif (log_file := one.unpack(self._settings)) is not None:
                unpacked.append((log_file, size))
            else:
                self._room.give_back(size)
                again = FetchTask(turn, [one.ref], one.fetched)
                self._threads_again.submit(
                    again.run, self._settings, self._room, self._closed.is_set
                )
                unpacked.append(again)
        return unpacked

    def close(self) -> None:
        """Stop fetching, without waiting for requests on their way."""
        self._closed.set()
        self._room.close()
        self._threads.close()
        self._threads_again.close()

    def _take_listed(self, *, wait: bool) -> None:
        while not self._last and len(self._ready) < self._most_ahead:
            refs = self._listed.take(_TICK_SECONDS if wait else 0)
            if refs is None:
                self._last = self._listed.done
                return
            wait = False
            self._ready.extend(refs)

    def _start_tasks(self) -> None:
        fair = sum(map(cost_of, self._ready)) // _SHARED_BY
        most = max(1, min(KEYS_A_TASK, fair))
        while self._ready and self._cost < self._most_ahead:
            refs: list[LogFileRef] = []
            cost = 0
            while self._ready and cost < most:
                refs.append(self._ready.popleft())
                cost += cost_of(refs[-1])
            task = FetchTask(self._begun, refs)
            self._threads.submit(task.run, self._settings, self._room, self._closed.is_set)
            self._tasks.append(task)
            self._begun += len(task.refs)
            self._cost += cost
