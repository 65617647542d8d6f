"""A limit to the new folders that log files of unusually many hours may make.

A log file may name as many hours as it has records, and each hour costs a folder and a file.
Which log files are unusual is decided in `core.batch.routing`.
"""

from collections.abc import Callable


class ScatterLimit:
    """Counts the new event folders that scattered log files make, in one run and process."""

    def __init__(self, exists: Callable[[str], bool]) -> None:
        """`exists` says whether a folder of events is there."""
        self._exists = exists
        self._new: set[str] = set()

    def allows(self, folder: str, limit: int) -> bool:
        """Whether lines may go to a folder: at most `limit` new folders are allowed.

        A folder that exists already, or was allowed before, is allowed.
        """
        if folder in self._new or self._exists(folder):
            return True
        if len(self._new) >= limit:
            return False
        self._new.add(folder)
        return True
