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

from .fetch import CompressedLogFile, FetchedLogFile, fetch_log_file, first_size
from .memory_budget import BudgetClosed, MemoryBudget, Reservation

KEYS_A_TASK: Final = 32
"""Small log files that a thread asks for at once. To hand over results one by one costs about 40 µs
each; a sync with 32 took 0.92 of the CPU of one with 8."""
_SMALL_BYTES: Final = 16 * 1024
"""Stored bytes up to which a log file is gunzipped by whoever takes it. A fetching thread would
have to come by Python's lock twice for each, while the thread that splits wants it, too. Measured,
many small log files: 0.03 to 0.1 less CPU, a tenth less memory."""


class FetchTask:
    """Log files that one thread asks for together, and what it has handed over of them."""

    def __init__(self, turn: int, refs: list[LogFileRef], came: Fetched | None = None) -> None:
        """`came`: what was fetched of the only one, which cannot be used as it is."""
        self.turn = turn
        """Which log file of the run its first one is."""
        self.refs = refs
        self._came = came
        self.left = len(refs)
        self.results: SimpleQueue[list[FetchResult] | BaseException] = SimpleQueue()
        """Fetched log files, each with the bytes it holds; or what went wrong with us."""

    def run(self, settings: Settings, room: MemoryBudget, closed: Callable[[], bool]) -> None:
        """Fetch them, in a thread."""
        fetched: list[FetchResult] = []

        def hand_over() -> None:
            nonlocal fetched
            if fetched:
                self.results.put(fetched)
                fetched = []

        try:
            left = list(enumerate(self.refs, self.turn))
            while left and not closed():
                some = self._with_room(left, settings, room, hand_over)
                del left[: len(some)]
                if self._came is not None:
                    came: list[Fetched | StoreError | None] = [self._came]
                else:
                    came = _get_all([ref for ref, _ in some], settings)
                came.reverse()
                for ref, share in some:
                    one: FetchedLogFile | CompressedLogFile
                    if self._came is None and _is_small(came[-1]):
                        one = CompressedLogFile(ref, cast("Fetched", came.pop()))
                    else:
                        one = fetch_log_file(ref, settings, share, came=came.pop())
                    share.grow_to(one.held)
                    fetched.append((one, share.held))
            hand_over()
        except BudgetClosed:
            pass
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that processes
            self.results.put(error)

    def _with_room(
        self,
        left: Sequence[tuple[int, LogFileRef]],
        settings: Settings,
        room: MemoryBudget,
        hand_over: Callable[[], None],
    ) -> list[tuple[LogFileRef, Reservation]]:
        """The next log files that there is room for, at least one; only that one waits for it.

        Else those that are held here already could wait for others, and those for these.
        """
        some: list[tuple[LogFileRef, Reservation]] = []
        for turn, ref in left:
            share, size = Reservation(room, turn, hand_over), first_size(ref, settings)
            if not some:
                share.grow_to(size)
            elif not share.try_grow_to(size):
                break
            some.append((ref, share))
        return some


FetchResult = tuple[FetchedLogFile | CompressedLogFile, int]
"""What came of a log file, and the bytes that it holds."""


def _is_small(came: Fetched | StoreError | None) -> bool:
    return isinstance(came, Fetched) and len(came.body) <= _SMALL_BYTES


def _get_all(refs: Sequence[LogFileRef], settings: Settings) -> list[Fetched | StoreError | None]:
    """A first GET of each log file; None for those that cannot be read."""
    came: list[Fetched | StoreError | None] = []
    for (bucket, is_left), some in groupby(
        refs,
        key=lambda ref: (
            ref.source.bucket,
            ref.archived or ref.size > settings.max_stored_bytes,
        ),
    ):
        if is_left:
            came += [None for _ in some]
        else:
            came += get_all(bucket, [(ref.key, ref.etag) for ref in some])
    return came
