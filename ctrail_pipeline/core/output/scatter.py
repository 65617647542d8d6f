"""A limit to the new folders that log files of unusually many hours may make.

A log file may name as many hours as it has records, and each hour costs a folder and a file.
"""

from pathlib import Path


class Scatter:
    """The new event folders that log files of unusually many hours make, in one run and process."""

    def __init__(self, events_dir: Path) -> None:
        self._events_dir = events_dir
        self._new: set[str] = set()

    def allows(self, folder: str, most_new: int) -> bool:
        """Whether one more may be made; what is there already, or was allowed before, may."""
        if folder in self._new or (self._events_dir / folder).is_dir():
            return True
        if len(self._new) >= most_new:
            return False
        self._new.add(folder)
        return True
