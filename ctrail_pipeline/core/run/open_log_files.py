"""The log files of a selection that stand open: the ledger says how a run went, not its last try.

A run answers for its selection: trails, accounts and regions, and the time in keys. It succeeds
if none of these log files stands open at its end, whoever failed at it and when. A run that lists
nothing (`Selection.listed`) answers only for what a look handed over to it. Not here: which states
count as open (`core.ledger.queries_open`), and how people are told (`reports`).
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from ctrail_pipeline.core.keys.coverage import EVERYTHING, whole_days
from ctrail_pipeline.core.keys.log_file_key import KeyParts, address_of, key_of, parse_key
from ctrail_pipeline.core.keys.source_prefix import SourcePrefix
from ctrail_pipeline.core.ledger.ledger import Ledger
from ctrail_pipeline.core.ledger.queries_open import (
    OpenRow,
    TriesOfRuns,
    archived_days,
    open_rows,
    open_rows_of_tries,
    sources_with_failed,
    visit_again,
    visit_failed,
)
from ctrail_pipeline.core.ledger.rows import LogFileState
from ctrail_pipeline.core.ledger.source_prefixes import source_ids
from ctrail_pipeline.core.listing.new_log_files import is_wanted
from ctrail_pipeline.core.listing.selection import (
    Selection,
    is_configured,
    trail_finder,
    wanted_range,
)
from ctrail_pipeline.core.settings import Settings

from .reason_groups import ReasonGroups


@dataclass
class OpenLogFiles:
    """Log files that stand open: how many, where, and why. Its size does not grow with them."""

    counts: Counter[LogFileState] = field(default_factory=Counter)
    reasons: ReasonGroups = field(default_factory=ReasonGroups)
    partitions: set[tuple[str, str]] = field(default_factory=set)
    """Trail and `account/region` of each."""


@dataclass
class Archived:
    """Log files that must be restored in S3 before they can be read. They fail no run."""

    log_files: int = 0
    example: str = ""
    """One of them."""


class SelectedLogFiles:
    """The log files of a ledger that a selection is about."""

    def __init__(self, ledger: Ledger, settings: Settings, selection: Selection) -> None:
        """`settings` are those that the selection has narrowed."""
        self._ledger = ledger
        self._settings = settings
        self._selection = selection
        self._wanted = wanted_range(settings)
        self._found: dict[int, tuple[str, SourcePrefix]] | None = None

    def open(self, found_before: int) -> OpenLogFiles:
        """Return those that stand open; see `open_rows` for `found_before`."""
        return self._opened(open_rows(self._ledger, found_before))

    def open_of_tries(self, of: TriesOfRuns, found_before: int) -> OpenLogFiles:
        """Return those that stand open and were new to these tries of a run."""
        return self._opened(open_rows_of_tries(self._ledger, of, found_before))

    def archived(self) -> Archived:
        """Return those that are archived. A day counts as a whole if a part of it is selected."""
        found = Archived()
        for source_id, day, log_files, name in archived_days(self._ledger):
            source = self._sources().get(source_id)
            if source is not None and is_wanted(KeyParts(day, name, None), self._wanted):
                found.log_files += log_files
                found.example = found.example or address_of(source[1], day, name)
        return found

    def visit_failed(self, now: int) -> None:
        """Have the failed log files tried again now, not at their next visit."""
        failed = [id_ for id_ in sources_with_failed(self._ledger) if id_ in self._sources()]
        if failed:
            with self._ledger.transaction():
                visit_failed(self._ledger, failed, whole_days(self._wanted), now)

    def visit_again(self, of: TriesOfRuns, now: int) -> None:
        """Have tried again now what these tries of a run failed at."""
        with self._ledger.transaction():
            visit_again(self._ledger, of, now)

    def _opened(self, rows: Iterable[OpenRow]) -> OpenLogFiles:
        found = OpenLogFiles()
        for source_id, day, name, state, reason in rows:
            source = self._sources().get(source_id)
            if source is None or not self._is_wanted(source[1], day, name):
                continue
            trail, source_prefix = source
            found.counts[state] += 1
            found.partitions.add((trail, source_prefix.partition_key))
            where = address_of(source_prefix, day, name)
            found.reasons.add(trail, state.name.lower(), where, reason)
        return found

    def _is_wanted(self, source_prefix: SourcePrefix, day: int, name: str) -> bool:
        """Whether a log file is in the selected time. Most selections have no limits of time."""
        if self._wanted == EVERYTHING:
            return True
        return is_wanted(parse_key(source_prefix, key_of(source_prefix, day, name)), self._wanted)

    def _sources(self) -> dict[int, tuple[str, SourcePrefix]]:
        """Return the selected source prefixes by id, each with the name of its trail.

        The ledger is asked when the first log file turns up: mostly there is none.
        """
        if self._found is None:
            trail_of = trail_finder(self._settings.trails)
            self._found = {}
            for source_prefix, id_ in source_ids(self._ledger).items():
                trail = trail_of(source_prefix)
                if (
                    trail is not None
                    and is_configured(self._settings, trail, source_prefix)
                    and self._selection.holds(source_prefix)
                ):
                    self._found[id_] = trail.name, source_prefix
        return self._found
