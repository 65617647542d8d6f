"""What could not be brought in: a log file, a source prefix or a whole trail, and why.

A `Problem` is what people read about it; it never ends a run. Not here: errors that end a run
(`core.exceptions`).
"""

from dataclasses import dataclass, replace
from typing import Final

from ctrail_pipeline.core.exceptions import StoreError, StoreUnavailable
from ctrail_pipeline.core.ledger.rows import LogFileState, Outcome
from ctrail_pipeline.core.settings import Trail
from ctrail_pipeline.core.untrusted_text import printable

from .sources import LogFileRef, Source

_OF_LOG_FILES: Final = frozenset(state.name.lower() for state in LogFileState)


@dataclass(frozen=True)
class Problem:
    """A log file, a source prefix or a trail that could not be brought in, and why."""

    trail: str
    where: str
    state: str
    reason: str
    may_pass: bool = False
    """Whether it may pass by itself (throttling, a network): worth another try soon."""

    @property
    def is_of_log_file(self) -> bool:
        """Whether it is the problem of a log file, which has a row in the ledger."""
        return self.state in _OF_LOG_FILES

    @property
    def printable(self) -> "Problem":
        """The problem in printable characters only: a key may hold line feeds and worse."""
        return replace(self, where=printable(self.where), reason=printable(self.reason))


def trail_problem(trail: Trail, state: str, error: StoreError) -> Problem:
    """The problem of a trail that cannot be read: `state` says what could not be done."""
    may_pass = isinstance(error, StoreUnavailable)
    return Problem(trail.name, trail.bucket, state, str(error), may_pass)


def not_listed(source: Source) -> Problem:
    """The problem of a source prefix whose listing broke off."""
    may_pass = isinstance(source.failure, StoreUnavailable)
    where = source.source_prefix.label
    return Problem(source.trail, where, "not listed", str(source.failure), may_pass)


def not_committed(ref: LogFileRef, outcome: Outcome) -> Problem:
    """The problem of a log file whose records could not be brought in."""
    where = f"{ref.source.bucket.location}/{ref.key}"
    state, reason = outcome.state.name.lower(), outcome.reason or ""
    return Problem(ref.source.trail, where, state, reason, outcome.may_pass)


def without_address(reason: str, where: str) -> str:
    """Return a reason without the address of its log file, for a line that begins with that."""
    for named in (f"{where}: ", f"{where} ", where):
        reason = reason.replace(named, "")
    return reason.lstrip(": ")
