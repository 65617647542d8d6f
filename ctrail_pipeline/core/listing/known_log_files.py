"""What a listing asks of the ledger: which log files it knows of, and which of them are due.

A listing needs these three questions only. A dry run without a ledger answers them with
`NothingKnown`. Not here: what a listing makes of the answers (`new_log_files`, `visits`).
"""

from typing import Protocol

from ctrail_pipeline.core.ledger.rows import KnownLogFile, Visit


class KnownLogFiles(Protocol):
    """The questions that a listing asks."""

    def known_log_files(
        self, source_id: int, day: int, low: str, high: str
    ) -> dict[str, KnownLogFile]:
        """Log files of one day with a name from `low` to `high`, both included."""
        ...

    def newest_due_day(self, now: int, before: int) -> int | None:
        """The newest day before `before` of which a log file is due; None if there is none."""
        ...

    def due_visits(self, now: int, day: int, after: tuple[int, str], limit: int) -> list[Visit]:
        """Log files of a day that are due, by source prefix and name, behind `after`."""
        ...


class NothingKnown:
    """Stands for a ledger where there is none yet."""

    def known_log_files(
        self, _source_id: int, _day: int, _low: str, _high: str
    ) -> dict[str, KnownLogFile]:
        """Return no log file."""
        return {}

    def newest_due_day(self, _now: int, _before: int) -> None:
        """Return no day."""

    def due_visits(self, _now: int, _day: int, _after: tuple[int, str], _limit: int) -> list[Visit]:
        """Return no visit."""
        return []
