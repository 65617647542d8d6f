"""The bytes that fetched log files may hold until they are taken.

Each log file reserves its bytes before they are there. A log file that finds no room waits, except
the one that is taken next: so a large one never waits for those behind it.
"""

from collections.abc import Callable
from threading import Condition


class BudgetClosed(Exception):
    """The run ends; what is fetched is of no use any more."""


class MemoryBudget:
    """The bytes that log files on their way may hold, and which of them must wait.

    What is next to be taken never waits: others wait for it, and it for nobody.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held = 0
        self._next = 0
        self._closed = False
        self._changed = Condition()

    def try_take(self, turn: int, size: int) -> bool:
        """Take room for the log file whose turn it is as the `turn`-th; False if there is none."""
        with self._changed:
            return self._try_take(turn, size)

    def take(self, turn: int, size: int) -> None:
        """Take room, once there is some or it is this log file's turn.

        Raises BudgetClosed if nobody wants it any more.
        """
        with self._changed:
            while not self._try_take(turn, size):
                if self._closed:
                    raise BudgetClosed
                self._changed.wait()

    def give_back(self, size: int) -> None:
        """Give room back."""
        with self._changed:
            self._held -= size
            self._changed.notify_all()

    def taken(self, turn: int, size: int) -> None:
        """A log file was taken and let go of: the next one's turn."""
        with self._changed:
            self._held -= size
            self._next = turn + 1
            self._changed.notify_all()

    def close(self) -> None:
        """Those who wait are to give up."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _try_take(self, turn: int, size: int) -> bool:
        if turn > self._next and self._held + size > self._limit:
            return False
        self._held += size
        return True


class Reservation:
    """One log file's part of the room."""

    def __init__(self, room: MemoryBudget, turn: int, hand_over: Callable[[], None]) -> None:
        self._room = room
        self._turn = turn
        self._hand_over = hand_over
        self.held = 0

    def grow_to(self, size: int) -> None:
        """Hold `size` bytes before they are there, waiting for room if need be."""
        more = size - self.held
        if more > 0 and not self._room.try_take(self._turn, more):
            # Those that were fetched before may be what everybody waits for.
            self._hand_over()
            self._room.take(self._turn, more)
        elif more < 0:
            self._room.give_back(-more)
        self.held = size

    def try_grow_to(self, size: int) -> bool:
        """Hold `size` bytes if there is room for them now."""
        if not self._room.try_take(self._turn, size - self.held):
            return False
        self.held = size
        return True
