"""From a listing to fetched log files: many GETs at once, results in the order of the listing.

Threads fetch, and gunzip large log files. Whoever takes a small log file gunzips it. The log files
that are begun and not taken are limited in number and in bytes, whatever they hold. How one log
file is fetched is in `fetch`.
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
"""Threads that few log files are shared out to, so that large ones are gunzipped side by side."""
AHEAD: Final = 16
"""Small log files that are begun and not taken, for each GET in flight."""
BYTES_AHEAD: Final = 64 * 1024 * 1024
"""Upper limit of bytes that fetched log files hold. The one that is taken next does not count."""
_TICK_SECONDS: Final = 0.2
"""Seconds to wait for a result before the caller gets a chance to look at the time."""


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
        self._is_last = False
        """Whether nothing more is taken from the listing."""
        self._ready: deque[LogFileRef] = deque()
        self._tasks: deque[FetchTask] = deque()
        self._begun = 0
        self._taken = 0
        self._cost = 0
        """Cost of the log files that are begun and not taken."""
        self._budget = MemoryBudget(bytes_ahead)
        self._limit = ahead * settings.downloads_of(1)
        """Limit of that cost."""
        # There are threads for all log files that are begun. So the others go on while some
        # requests are tried again, with pauses. Five threads suffice for 100 GETs in flight, but
        # took twice as long if a tenth failed.
        threads = -(-self._limit // KEYS_A_TASK)
        self._threads = DaemonThreads(threads, "ctrail-fetch")
        # Small log files that may be damaged have threads of their own, in the order of the log
        # files. All threads above may wait for room until such a log file is done.
        self._threads_again = DaemonThreads(KEYS_A_TASK, "ctrail-fetch-again")

    @property
    def ahead(self) -> int:
        """Number of log files that were taken from the listing, and not yet from here."""
        return len(self._ready) + self._begun - self._taken

    def take_no_more(self) -> list[LogFileRef]:
        """Begin no more log files: `results` ends with those that are begun.

        Returns the log files that were taken from the listing and are not begun.
        """
        self._is_last = True
        ready = list(self._ready)
        self._ready.clear()
        return ready

    def results(self) -> Iterator[FetchedLogFile | None]:
        """Yield fetched log files in listing order, and None when nothing came for a while.

        Let go of each log file before you ask for the next. Raises what the listing raised.
        """
        while True:
            self._take_listed(wait=not self._tasks and not self._ready)
            self._start_tasks()
            if self._tasks:
                yield from self._results_of(self._tasks[0])
                if not self._tasks[0].pending:
                    self._tasks.popleft()
            elif self._is_last:
                return
            else:
                yield None

    def _results_of(self, task: FetchTask) -> Iterator[FetchedLogFile | None]:
        """Yield what a task hands over next; None if nothing comes for a while.

        Nothing here refers to a log file when the next one is asked for: it may be large.
        """
        try:
            results = task.results.get(timeout=_TICK_SECONDS)
        except Empty:
            yield None
            return
        if isinstance(results, BaseException):
            raise results
        unpacked = self._unpacked(results)
        del results
        while unpacked:
            item = unpacked.popleft()
            task.pending -= 1
            if isinstance(item, FetchTask):
                while item.pending:
                    yield from self._results_of(item)
                continue
            log_file, size = item
            del item
            self._taken += 1
            self._cost -= cost_of(log_file.ref)
            yield log_file
            del log_file
            self._budget.end_turn(self._taken - 1, size)

    def _unpacked(
        self, results: list[FetchResult]
    ) -> "deque[tuple[FetchedLogFile, int] | FetchTask]":
        """Unpack small log files; one that may be damaged or large becomes a task of its own."""
        unpacked: deque[tuple[FetchedLogFile, int] | FetchTask] = deque()
        for turn, (result, size) in enumerate(results, self._taken):
            if not isinstance(result, CompressedLogFile):
                unpacked.append((result, size))
            elif (log_file := result.unpack(self._settings)) is not None:
                unpacked.append((log_file, size))
            else:
                self._budget.release(size)
                task = FetchTask(turn, [result.ref], result.fetched)
                self._submit(self._threads_again, task)
                unpacked.append(task)
        return unpacked

    def _submit(self, threads: DaemonThreads, task: FetchTask) -> None:
        threads.submit(task.run, self._settings, self._budget, self._closed.is_set)

    def close(self) -> None:
        """Stop fetching, without waiting for requests in flight."""
        self._closed.set()
        self._budget.close()
        self._threads.close()
        self._threads_again.close()

    def _take_listed(self, *, wait: bool) -> None:
        """Take log files from the listing as far as they may be begun; `wait`: for the first."""
        while not self._is_last and len(self._ready) < self._limit:
            refs = self._listed.take(_TICK_SECONDS if wait else 0)
            if refs is None:
                self._is_last = self._listed.done
                return
            wait = False
            self._ready.extend(refs)

    def _start_tasks(self) -> None:
        """Begin as many log files as may be begun, in tasks of about equal cost."""
        fair_cost = sum(map(cost_of, self._ready)) // _SHARED_BY
        task_cost = max(1, min(KEYS_A_TASK, fair_cost))
        while self._ready and self._cost < self._limit:
            refs: list[LogFileRef] = []
            cost = 0
            while self._ready and cost < task_cost:
                refs.append(self._ready.popleft())
                cost += cost_of(refs[-1])
            task = FetchTask(self._begun, refs)
            self._submit(self._threads, task)
            self._tasks.append(task)
            self._begun += len(task.refs)
            self._cost += cost
