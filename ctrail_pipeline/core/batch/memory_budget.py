"""The bytes that fetched log files may hold until they are taken.

Each log file reserves its bytes before they are there. A log file that finds no room waits, except
the one that is taken next: so a large log file never waits for those behind it.
"""

from collections.abc import Callable
from threading import Condition


class BudgetClosed(Exception):
    """Raised in a thread that waits for bytes when the run ends: nobody wants its log file."""


class MemoryBudget:
    """Counts the bytes that fetched log files hold, and says which log files must wait.

    Log files have turns: the order in which they are taken. The log file whose turn it is never
    waits. All others may wait for it, and it waits for none of them.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held = 0
        self._next = 0
        """Turn of the log file that is taken next."""
        self._closed = False
        self._changed = Condition()

    def try_reserve(self, turn: int, size: int) -> bool:
        """Reserve bytes for the log file of a turn; return False if there is no room for them."""
        with self._changed:
            return self._try_reserve(turn, size)

    def reserve(self, turn: int, size: int) -> None:
        """Reserve bytes as soon as there is room for them, or it is this log file's turn.

        Raises BudgetClosed if the run ends.
        """
        with self._changed:
            while not self._try_reserve(turn, size):
                if self._closed:
                    raise BudgetClosed
                self._changed.wait()

    def release(self, size: int) -> None:
        """Give bytes back."""
        with self._changed:
            self._held -= size
            self._changed.notify_all()

    def end_turn(self, turn: int, size: int) -> None:
        """Give back the bytes of a log file that was taken and let go of; the next turn begins."""
        with self._changed:
            self._held -= size
            self._next = turn + 1
            self._changed.notify_all()

    def close(self) -> None:
        """Make all threads that wait give up."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _try_reserve(self, turn: int, size: int) -> bool:
        if turn > self._next and self._held + size > self._limit:
            return False
        self._held += size
        return True


class Reservation:
    """The bytes that one log file has reserved."""

    def __init__(self, budget: MemoryBudget, turn: int, hand_over: Callable[[], None]) -> None:
        """`hand_over` is called before the thread waits: it hands over what was fetched before."""
        self._budget = budget
        self._turn = turn
        self._hand_over = hand_over
        self.size = 0
        """Bytes that are reserved."""

    def resize(self, size: int) -> None:
        """Reserve `size` bytes in all, before they are there; wait for room if need be."""
        more = size - self.size
        if more > 0 and not self._budget.try_reserve(self._turn, more):
            # All other threads may wait for the log files that this thread fetched before.
            self._hand_over()
            self._budget.reserve(self._turn, more)
        elif more < 0:
            self._budget.release(-more)
        self.size = size

    def try_resize(self, size: int) -> bool:
        """Reserve `size` bytes in all if there is room for them now."""
        if not self._budget.try_reserve(self._turn, size - self.size):
            return False
        self.size = size
        return True
