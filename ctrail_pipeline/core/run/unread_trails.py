"""Trails whose credentials fail in mid-run: one problem each, however many log files it costs.

Their log files stay new (or due), and the stretch of key time that they are in stays uncovered, so
that the next run fetches them. Not here: credentials that fail before anything is listed
(`core.listing.found_prefixes`).
"""

from collections import Counter
from dataclasses import replace

from ctrail_pipeline.core.listing.problem import Problem
from ctrail_pipeline.core.listing.sources import LogFileRef, Source


class UnreadTrails:
    """The trails of one run whose credentials failed."""

    def __init__(self) -> None:
        self._problems: dict[str, Problem] = {}
        self._log_files: Counter[str] = Counter()

    def note_source(self, source: Source, reason: str) -> None:
        """Note that a source prefix could not be listed or read, since the credentials failed."""
        problem = Problem(source.trail, source.bucket.location, "not readable", reason, True)
        self._problems.setdefault(source.trail, problem)

    def note_log_file(self, ref: LogFileRef, reason: str) -> None:
        """Note that a log file was not fetched, since the credentials failed."""
        self.note_source(ref.source, reason)
        self._log_files[ref.source.trail] += 1

    def problems(self) -> list[Problem]:
        """A problem for each trail, with the number of log files that were not fetched."""
        return [
            replace(
                problem,
                reason=f"{problem.reason}; {self._log_files[trail]} listed log files are left to"
                " the next run",
            )
            for trail, problem in self._problems.items()
        ]
