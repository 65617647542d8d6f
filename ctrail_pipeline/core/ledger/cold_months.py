"""Cold rows in PostgreSQL: two tables for each month, which stay in the database.

They are partitions of `cold_log_file` and `cold_segment`. People see and handle months there; the
ledger reads a month's own tables. So a question costs the same however many months there are. (If
the hot tables themselves had a partition for each month, each statement without a day would lock
and plan all of them.) Tables are made in the transaction that moves the first rows of a month: no
reader waits, since nobody reads the partitioned tables. Which rows are cold is decided in
`queries_cold`.
"""

import re
from collections.abc import Iterator
from datetime import date
from typing import Final, NamedTuple

from .cold_reader import ColdFile, ColdReader
from .engine import Engine, Row
from .portable_sql import hour_of

_UNIX_EPOCH: Final = date(1970, 1, 1).toordinal()
_FIRST: Final = (2013, 10)
"""The month before CloudTrail's first. All earlier ones count as this month: a hostile key or event
may name any of them, and the number of tables must be bounded."""
COLD_TABLES: Final = (
    "CREATE TABLE cold_log_file (source_prefix INTEGER NOT NULL, day INTEGER NOT NULL,"
    " name TEXT NOT NULL, etag BLOB NOT NULL, size INTEGER NOT NULL, sha256 BLOB,"
    " records INTEGER NOT NULL, duplicates INTEGER NOT NULL, batch INTEGER NOT NULL,"
    " position INTEGER NOT NULL, PRIMARY KEY (source_prefix, day, name)) PARTITION BY RANGE (day)",
    "CREATE TABLE cold_segment (id INTEGER NOT NULL, partition TEXT NOT NULL,"
    " count INTEGER NOT NULL, identities BLOB NOT NULL, filter BLOB, event_keys BLOB NOT NULL)"
    f" PARTITION BY RANGE ({hour_of('partition')})",
    "CREATE INDEX cold_segment_id ON cold_segment (id)",
    "CREATE INDEX cold_segment_of_partition ON cold_segment (partition, id)",
)
"""The partitioned tables, in SQLite's words, as `postgres_schema` translates them."""


class Month(NamedTuple):
    """A month of cold rows; the first one stands for all before it, too."""

    year: int
    number: int

    @classmethod
    def of_day(cls, day: int) -> "Month":
        """Return the month of a day since 1970."""
        moment = date.fromordinal(_UNIX_EPOCH + day)
        return max(cls(moment.year, moment.month), cls(*_FIRST))

    @classmethod
    def of_hour(cls, hour: str) -> "Month":
        """Return the month of an hour, `YYYY/MM/DD/HH`."""
        return max(cls(int(hour[:4]), int(hour[5:7])), cls(*_FIRST))

    @property
    def name(self) -> str:
        """What its tables' names end in."""
        return f"{self.year:04}_{self.number:02}"

    @property
    def next(self) -> "Month":
        """The month after this one."""
        return Month(self.year + self.number // 12, self.number % 12 + 1)

    @property
    def days(self) -> tuple[int, int]:
        """The first day of its log files, and the day behind the last one."""
        first, end = (
            date(month.year, month.number, 1).toordinal() - _UNIX_EPOCH
            for month in (self, self.next)
        )
        return (0 if self == _FIRST else first), end

    @property
    def hours(self) -> tuple[str, str]:
        """A text that is no greater than its hours, and the least one that is greater."""
        first, end = (f"{month.year:04}/{month.number:02}" for month in (self, self.next))
        return ("" if self == _FIRST else first), end


class ColdMonthReader(ColdReader):
    """Reads the tables of months over the ledger's own connection."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def ask(self, file: ColdFile, sql: str, *values: object) -> list[Row]:
        """Return the rows of a query."""
        return self._engine.rows(_of_month(sql, file.name), *values)

    def stream(self, file: ColdFile, sql: str, at_once: int) -> Iterator[Row]:
        """Yield the rows of a query, so many at a time."""
        return self._engine.stream(_of_month(sql, file.name), at_once=at_once)

    def bytes_by_year(self) -> dict[str, int]:
        """Return the bytes that the tables of all months take, by year."""
        return {
            year: int(size)
            for year, size in self._engine.rows(
                "SELECT substr(name, 1, 4), sum("
                "pg_total_relation_size(('cold_log_file_' || name)::regclass)"
                " + pg_total_relation_size(('cold_segment_' || name)::regclass))"
                " FROM cold_file GROUP BY 1 ORDER BY 1"
            )
        }

    def clear(self) -> None:
        """Remove all rows; the tables of months stay. Inside a transaction."""
        for table in ("cold_log_file", "cold_segment"):
            self._engine.execute(f"DELETE FROM {table}")

    def close(self) -> None:
        """Do nothing: the connection is the ledger's."""


def tables_of(month: Month) -> Iterator[str]:
    """Yield the statements that make the tables of a month.

    They are attached: CREATE TABLE … PARTITION OF would have whoever looks at all months wait.
    """
    for table, bounds in (("cold_log_file", month.days), ("cold_segment", month.hours)):
        of_month = f"{table}_{month.name}"
        first = "MINVALUE" if month == _FIRST else repr(bounds[0])
        yield f"CREATE TABLE {of_month} (LIKE {table} INCLUDING ALL)"
        yield (
            f"ALTER TABLE {table} ATTACH PARTITION {of_month}"
            f" FOR VALUES FROM ({first}) TO ({bounds[1]!r})"
        )
    # It has no primary key. Without this, a server whose tables are all published (for an upgrade
    # by logical replication) refuses to delete its rows.
    yield f"ALTER TABLE cold_segment_{month.name} REPLICA IDENTITY FULL"


def _of_month(sql: str, month: str) -> str:
    """Return a statement over the tables of a month."""
    return re.sub(r"\b(FROM|JOIN) (log_file|segment)\b", rf"\1 cold_\2_{month}", sql)
