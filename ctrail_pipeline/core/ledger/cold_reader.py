"""Reading cold rows, wherever the ledger keeps them: what both engines answer alike.

In SQLite, cold rows lie in cold files beside the ledger (`cold_file`). In PostgreSQL, they lie in
two tables for each month (`cold_months`), which are read as if they were a cold file. Statements
are the same for both; they name the tables `log_file` and `segment`.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Final, NamedTuple

from .engine import Row
from .rows import Segment

LOG_FILE_COLUMNS: Final = (
    "source_prefix, day, name, etag, size, sha256, records, duplicates, batch, position"
)
"""What is kept of a cold log file: the rest is the same for all rows that may be cold."""
SEGMENT_COLUMNS: Final = "id, partition, count, identities, filter, event_keys"
"""What is kept of a cold segment: the name of its dedup partition, too."""


class ColdFile(NamedTuple):
    """One cold file, or one month in PostgreSQL, as the ledger names it, and what may be in it."""

    id: int
    """A file with a higher id overrides files with lower ones. Months have no rows in common."""
    name: str
    """The file's name, or the month: `2026_01`."""
    size: int
    """Bytes of the file; 0 for a month, which grows."""
    digest: bytes
    """SHA-256 of the file's bytes; empty for a month."""
    first_day: int
    last_day: int
    """The last day of its log files; before `first_day` if there are none."""
    first_hour: str
    last_hour: str
    """The last hour of its segments, `YYYY/MM/DD/HH`; both hours are empty if there are none."""
    first_segment: int
    last_segment: int
    """The highest id of its segments."""


class ColdLogFile(NamedTuple):
    """A log file's cold row: it is committed, and nothing about it is open."""

    source_id: int
    day: int
    name: str
    etag: bytes
    size: int
    sha256: bytes | None
    records: int
    duplicates: int
    batch: int
    position: int


class ColdReader(ABC):
    """Reads cold rows. Not for use by two threads at once."""

    def log_files(
        self, file: ColdFile, source_id: int, day: int, low: str, high: str
    ) -> list[ColdLogFile]:
        """Return log files of one day with a name from `low` to `high`, both included, by name.

        Raises LedgerError if a file is missing or not what was written, as every question does.
        """
        return [
            ColdLogFile(*row)
            for row in self.ask(
                file,
                f"SELECT {LOG_FILE_COLUMNS} FROM log_file"
                " WHERE source_prefix = ? AND day = ? AND name BETWEEN ? AND ? ORDER BY name",
                source_id,
                day,
                low,
                high,
            )
        ]

    def segments(self, file: ColdFile, partition: str, after: int, limit: int) -> list[Segment]:
        """Return segments of a dedup partition with an id above `after`, in order."""
        return [
            Segment(*row)
            for row in self.ask(
                file,
                "SELECT id, count,"
                " CASE WHEN filter IS NULL THEN identities ELSE ? END,"
                " coalesce(length(filter), 0),"
                " CASE WHEN filter IS NULL THEN event_keys ELSE ? END, 0"
                " FROM segment WHERE partition = ? AND id > ? ORDER BY id LIMIT ?",
                b"",
                b"",
                partition,
                after,
                limit,
            )
        ]

    def segment(self, file: ColdFile, segment_id: int, column: str) -> bytes | None:
        """Return a blob of a segment; None if this file does not have the segment."""
        rows = self.ask(file, f"SELECT {column} FROM segment WHERE id = ?", segment_id)
        return bytes(rows[0][0]) if rows else None

    @abstractmethod
    def ask(self, file: ColdFile, sql: str, *values: object) -> list[Row]:
        """Return the rows of a query."""

    @abstractmethod
    def stream(self, file: ColdFile, sql: str, at_once: int) -> Iterator[Row]:
        """Yield the rows of a query as they are read, so many at a time."""

    @abstractmethod
    def bytes_by_year(self) -> dict[str, int]:
        """Return the bytes that cold rows take, by year; empty where they are not told apart."""

    @abstractmethod
    def clear(self) -> None:
        """Remove the cold rows that the ledger does not name any more. Inside a transaction."""

    @abstractmethod
    def close(self) -> None:
        """Close what is open."""
