"""Threads for requests that may hang: they never hold up the end of the process.

`concurrent.futures` joins its threads when the interpreter exits. One request to a server that does
not answer would then delay a SIGTERM by its whole time-out.
"""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from queue import SimpleQueue
from threading import Thread
from types import TracebackType
from typing import Any, Self, TypeVar

T = TypeVar("T")
R = TypeVar("R")


class DaemonThreads:
    """A fixed number of daemon threads, each started when it is needed first."""

    def __init__(self, threads: int, name: str) -> None:
        self._limit = threads
        self._name = name
        self._started = 0
        self._work: SimpleQueue[tuple[Future[Any], Callable[..., Any], tuple[Any, ...]] | None] = (
            SimpleQueue()
        )

    def submit(self, function: Callable[..., R], *values: Any) -> "Future[R]":
        """Let a thread call a function."""
        future: Future[R] = Future()
        self._work.put((future, function, values))
        if self._started < self._limit:
            self._started += 1
            Thread(target=self._serve, name=f"{self._name}-{self._started}", daemon=True).start()
        return future

    def map(self, function: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
        """Return the results for `items` in order; the calls run side by side."""
        futures = [self.submit(function, item) for item in items]
        return (future.result() for future in futures)

    def close(self) -> None:
        """Let the threads end after their present work; cancel work that has not begun."""
        while not self._work.empty():
            item = self._work.get()
            if item is not None:
                item[0].cancel()
        for _ in range(self._started):
            self._work.put(None)

    def __enter__(self) -> Self:
        """Return the threads, which are closed at the end of the `with` block."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close, without waiting."""
        self.close()

    def _serve(self) -> None:
        while (item := self._work.get()) is not None:
            future, function, values = item
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(function(*values))
            except BaseException as error:  # noqa: BLE001 - handed to the thread that waits for the result
                future.set_exception(error)
            del item, future, values
