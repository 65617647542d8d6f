"""Which log files a worker process may have died of, and when to give a log file up. Pure.

What a worker had in hand when it died is done again in smaller groups, until the log file that it
dies of is alone. A log file that a worker dies of alone is hopeless. Not here: noticing that a
worker is dead, or recording a hopeless log file as failed (`worker_pool`).
"""

from collections import deque
from collections.abc import Iterable, Mapping
from typing import Final

from ctrail_pipeline.core.listing.sources import LogFileRef

_SUSPECTS_AT_ONCE: Final = {1: 64, 2: 1}
"""Log files that a worker gets at once, by how often a worker died that had them in hand."""
_LAST_DEATH: Final = max(_SUSPECTS_AT_ONCE)


class Suspects:
    """The log files that workers had in hand when they died, by the numbers that the run gave."""

    def __init__(self) -> None:
        self._deaths: dict[int, int] = {}
        self._waiting: deque[tuple[int, LogFileRef]] = deque()
        self.hopeless: list[LogFileRef] = []
        """Log files that are not to be tried again. Whoever records them as failed takes them."""

    @property
    def are_waiting(self) -> bool:
        """Whether there are log files to be handed out again."""
        return bool(self._waiting)

    def note_death(self, outstanding: Mapping[int, LogFileRef], *, was_ready: bool) -> None:
        """Note that a worker died with these log files in hand.

        If it died before it was ready, it did not die of them.
        """
        for number, ref in outstanding.items():
            self._deaths[number] = self._deaths.get(number, 0) + was_ready
            if self._deaths[number] <= _LAST_DEATH:
                self._waiting.append((number, ref))
            else:
                self.hopeless.append(ref)

    def take_group(self) -> list[tuple[int, LogFileRef]]:
        """Take the next log files that one worker should do, few enough to find the deadly one."""
        group: list[tuple[int, LogFileRef]] = []
        deaths = self._next_deaths()
        while (
            self._waiting
            and len(group) < _SUSPECTS_AT_ONCE[deaths]
            and self._next_deaths() == deaths
        ):
            group.append(self._waiting.popleft())
        return group

    def clear(self, numbers: Iterable[int]) -> None:
        """Forget log files that are settled."""
        for number in numbers:
            self._deaths.pop(number, None)

    def _next_deaths(self) -> int:
        return max(1, self._deaths.get(self._waiting[0][0], 0)) if self._waiting else 1
