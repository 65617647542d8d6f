"""Threads that write and fsync the files and folders of the output, several at once."""

from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, wait
from operator import itemgetter
from typing import Final, TypeVar

_THREADS: Final = 8
"""Threads for files. Measured: 75 files take 11 ms to write and fsync, one by one 14 to 30."""

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


class WriterThreads:
    """The writing threads of one process. They start when there is something to write."""

    def __init__(self, number: int = _THREADS) -> None:
        """`number`: how many threads; more where each of them waits for a server."""
        self._number = number
        self._threads: ThreadPoolExecutor | None = None

    def map(self, work: Callable[[_Item], _Result], items: Iterable[_Item]) -> list[_Result]:
        """Do the work for each item, several at once, and return the results in the items' order.

        After an error no further item begins; the error is raised when no thread is at work any
        more. There is one task for each thread: a task for each item would make a lock and wake a
        thread each time.
        """
        if self._threads is None:
            self._threads = ThreadPoolExecutor(self._number, thread_name_prefix="ctrail-write")
        waiting = deque(enumerate(items))
        done: list[tuple[int, _Result]] = []

        def work_off() -> None:
            while True:
                try:
                    number, item = waiting.popleft()
                except IndexError:
                    return
                try:
                    done.append((number, work(item)))
                except BaseException:
                    waiting.clear()
                    raise

        tasks = [self._threads.submit(work_off) for _ in range(min(self._number, len(waiting)))]
        wait(tasks)
        for task in tasks:
            task.result()
        return [result for _, result in sorted(done, key=itemgetter(0))]

    def close(self) -> None:
        """End the threads."""
        if self._threads is not None:
            self._threads.shutdown()
            self._threads = None
