"""Log files that one thread fetches together.

A task asks for its log files at once, and hands over what it fetched. `feed` decides which log
files make a task, and takes the results in order.
"""

from collections.abc import Callable, Sequence
from itertools import groupby
from queue import SimpleQueue
from typing import Final, cast

from ctrail_pipeline.core.bucket.interface import Fetched
from ctrail_pipeline.core.bucket.open_bucket import get_all
from ctrail_pipeline.core.exceptions import (
    StoreError,
)
from ctrail_pipeline.core.listing.sources import LogFileRef
from ctrail_pipeline.core.settings import Settings

from .fetch import CompressedLogFile, FetchedLogFile, expected_size, fetch_log_file
from .memory_budget import BudgetClosed, MemoryBudget, Reservation

KEYS_A_TASK: Final = 32
"""Small log files that a thread asks for at once. To hand over results one by one costs about 40 µs
each; a sync with 32 took 0.92 of the CPU of one with 8."""
_SMALL_BYTES: Final = 16 * 1024
"""Stored bytes up to which a log file is gunzipped by whoever takes it. A fetching thread would
need Python's lock twice for each log file, while the thread that splits wants the lock, too.
Measured, many small log files: 0.03 to 0.1 less CPU, a tenth less memory."""

FetchResult = tuple[FetchedLogFile | CompressedLogFile, int]
"""A fetched log file, and the bytes that it has reserved."""


class FetchTask:
    """Log files that one thread asks for together."""

    def __init__(self, turn: int, refs: list[LogFileRef], response: Fetched | None = None) -> None:
        """`response`: what a GET of the only log file brought, which may be damaged or large."""
        self.turn = turn
        """Turn of the first log file: its number in the run."""
        self.refs = refs
        self._response = response
        self.pending = len(refs)
        """Number of log files that were not taken yet."""
        self.results: SimpleQueue[list[FetchResult] | BaseException] = SimpleQueue()
        """What the thread hands over: fetched log files, or the error that ended the task."""

    def run(self, settings: Settings, budget: MemoryBudget, closed: Callable[[], bool]) -> None:
        """Fetch the log files, in a thread."""
        results: list[FetchResult] = []

        def hand_over() -> None:
            nonlocal results
            if results:
                self.results.put(results)
                results = []

        try:
            pending = list(enumerate(self.refs, self.turn))
            while pending and not closed():
                group = _reserve(pending, settings, budget, hand_over)
                del pending[: len(group)]
                if self._response is not None:
                    responses: list[Fetched | StoreError | None] = [self._response]
                else:
                    responses = _get_all([ref for ref, _ in group], settings)
                responses.reverse()
                for ref, reservation in group:
                    log_file: FetchedLogFile | CompressedLogFile
                    if self._response is None and _is_small(responses[-1]):
                        log_file = CompressedLogFile(ref, cast("Fetched", responses.pop()))
                    else:
                        log_file = fetch_log_file(
                            ref, settings, reservation, response=responses.pop()
                        )
                    reservation.resize(log_file.held)
                    results.append((log_file, reservation.size))
            hand_over()
        except BudgetClosed:
            pass
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that processes
            self.results.put(error)


def _reserve(
    pending: Sequence[tuple[int, LogFileRef]],
    settings: Settings,
    budget: MemoryBudget,
    hand_over: Callable[[], None],
) -> list[tuple[LogFileRef, Reservation]]:
    """Reserve bytes for as many of the next log files as there is room for, at least for one.

    Only the first log file waits for room. If others waited while this thread holds log files, two
    threads could wait for each other.
    """
    group: list[tuple[LogFileRef, Reservation]] = []
    for turn, ref in pending:
        reservation, size = Reservation(budget, turn, hand_over), expected_size(ref, settings)
        if not group:
            reservation.resize(size)
        elif not reservation.try_resize(size):
            break
        group.append((ref, reservation))
    return group


def _is_small(response: Fetched | StoreError | None) -> bool:
    return isinstance(response, Fetched) and len(response.body) <= _SMALL_BYTES


def _get_all(refs: Sequence[LogFileRef], settings: Settings) -> list[Fetched | StoreError | None]:
    """Make a first GET of each log file; None stands for a log file that is not to be fetched."""
    responses: list[Fetched | StoreError | None] = []
    for (bucket, is_skipped), group in groupby(
        refs,
        key=lambda ref: (
            ref.source.bucket,
            ref.archived or ref.size > settings.max_stored_bytes,
        ),
    ):
        if is_skipped:
            responses += [None for _ in group]
        else:
            responses += get_all(bucket, [(ref.key, ref.etag) for ref in group])
    return responses
