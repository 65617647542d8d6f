"""Log files of one trail that fail for one reason: told once, with the count and an example.

A revoked permission may fail a million log files. Two reasons are one if they differ only in the
log file that they name and in numbers. Not here: which log files failed.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from ctrail_pipeline.core.listing.problem import without_address
from ctrail_pipeline.core.untrusted_text import printable

GROUPS_NAMED: Final = 100
"""Groups that are told apart: memory must not depend on the data."""
_NUMBER: Final = re.compile("[0-9]+")


def without_numbers(reason: str) -> str:
    """Return a reason in which all numbers are equal."""
    return _NUMBER.sub("0", reason)


@dataclass
class ReasonGroup:
    """Log files of one trail in one state, for one reason."""

    trail: str
    state: str
    where: str
    """The first of them."""
    reason: str
    """The reason of the first, without its name; in printable characters."""
    log_files: int = 1


class ReasonGroups:
    """Groups of log files, in the order in which they came up."""

    def __init__(self) -> None:
        self._groups: dict[tuple[str, str, str], ReasonGroup] = {}

    def __iter__(self) -> Iterator[ReasonGroup]:
        """Yield the groups."""
        return iter(self._groups.values())

    def add(self, trail: str, state: str, where: str, reason: str) -> bool:
        """Add a log file; return whether it is the first of its group.

        False, too, for a group beyond the limit: nothing is kept of it.
        """
        reason = without_address(reason, where)
        key = trail, state, without_numbers(reason)
        group = self._groups.get(key)
        if group is not None:
            group.log_files += 1
        elif len(self._groups) < GROUPS_NAMED:
            where, reason = printable(where), printable(reason)
            self._groups[key] = ReasonGroup(trail, state, where, reason)
            return True
        return False
