"""A year of events in a ledger in PostgreSQL, as if runs had brought them in and moved cold rows.

Rows are copied into the tables in bulk: a hundred million events take minutes. Each account and
region has five log files an hour, of eight events each. A batch is of one hour and of 80 accounts
and regions. Rows behind the horizon lie in the tables of their months. No log file and no output
is made.
"""

import json
import math
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import count, groupby
from typing import Final

import psycopg

from ctrail_pipeline.core.keys.coverage import Range
from ctrail_pipeline.core.keys.minutes import Minute, datetime_of, minute_of
from ctrail_pipeline.core.keys.source_prefix import SourcePrefix
from ctrail_pipeline.core.ledger.cold_months import Month
from ctrail_pipeline.core.ledger.cold_reader import LOG_FILE_COLUMNS, SEGMENT_COLUMNS
from ctrail_pipeline.core.ledger.dedup_partition import dedup_partition
from ctrail_pipeline.core.ledger.engine import Row
from ctrail_pipeline.core.ledger.ledger import Ledger
from ctrail_pipeline.core.ledger.queries_cold import name_month
from ctrail_pipeline.core.ledger.rows import BatchState, LogFileState
from ctrail_pipeline.core.ledger.source_prefixes import cover, source_ids
from ctrail_pipeline.core.ledger_address import PostgresAddress
from ctrail_pipeline.core.line_runs import pack_lineage
from ctrail_pipeline.core.output_files import Kind
from ctrail_pipeline.core.upkeep.cold import first_kept

_LOG_FILES_AN_HOUR: Final = 5
_EVENTS_A_LOG_FILE: Final = 8
_EVENTS_AN_HOUR: Final = _LOG_FILES_AN_HOUR * _EVENTS_A_LOG_FILE
_SOURCES_A_BATCH: Final = 80
_HORIZON_DAYS: Final = 35
_STORED_BYTES: Final = 2_300
_LINE_BYTES: Final = 1_450
_FIRST_BYTES: Final = bytes(range(0, 6 * _EVENTS_AN_HOUR, 6))
"""The first bytes of random identities, which makes them sorted."""
_TYPES: Final = {
    **dict.fromkeys(("name", "partition", "folder", "token", "run_id", "sources"), "text"),
    **dict.fromkeys(("etag", "sha256", "identities", "filter", "event_keys", "lineage"), "bytea"),
}
"""PostgreSQL's types of columns; all others are whole numbers."""


@dataclass(frozen=True)
class Filled:
    """The counts of what was added."""

    events: int
    log_files: int
    segments: int
    batches: int
    hot_log_files: int

    @property
    def hot_events(self) -> int:
        """The events of hot log files; their identities are hot, too."""
        return self.hot_log_files * _EVENTS_A_LOG_FILE


def fill(
    address: PostgresAddress, events: int, before: datetime, say: Callable[[str], None]
) -> Filled:
    """Add so many events, of the hours before `before`, to all source prefixes of a ledger."""
    ledger = Ledger(address)
    try:
        with psycopg.connect(address.url, autocommit=True) as connection:
            history = _History(ledger, events, int(before.timestamp()) // 3_600)
            with ledger.transaction():
                for month, hours in history.cold_months():
                    name_month(ledger, month, [history.segment(hours[0], 0)])
                    name_month(ledger, month, [history.segment(hours[-1], history.sources - 1)])
                history.cover(before)
            for table, columns, rows in history.tables():
                say(f"history: {table}")
                _copy(connection, table, columns, rows)
            with ledger.transaction():
                history.set_last_ids()
            say("history: vacuum")
            connection.execute("VACUUM (ANALYZE)")
            connection.execute("CHECKPOINT")
    finally:
        ledger.close()
    return history.filled()


class _History:
    """What is added: hour after hour, and in each hour one source prefix after another."""

    def __init__(self, ledger: Ledger, events: int, end_hour: int) -> None:
        self._ledger = ledger
        self._sources: list[tuple[SourcePrefix, int]] = list(source_ids(ledger).items())
        self.sources = len(self._sources)
        hours = math.ceil(events / _EVENTS_AN_HOUR / self.sources)
        self._hours = range(end_hour - hours, end_hour)
        kept_day, _ = first_kept(end_hour * 3_600, _HORIZON_DAYS)
        self._kept = max(self._hours[0], kept_day * 24)
        self._batches_an_hour = -(-self.sources // _SOURCES_A_BATCH)
        self._first = {
            table: ledger.last_id(table) + 1
            for table in ("batch", "output_partition", "dedup_partition", "segment")
        }

    def filled(self) -> Filled:
        """The counts."""
        segments = len(self._hours) * self.sources
        return Filled(
            segments * _EVENTS_AN_HOUR,
            segments * _LOG_FILES_AN_HOUR,
            segments,
            len(self._hours) * self._batches_an_hour,
            (self._hours.stop - self._kept) * self.sources * _LOG_FILES_AN_HOUR,
        )

    def cold_months(self) -> list[tuple[Month, list[int]]]:
        """The months of cold rows, with their hours."""
        cold = range(self._hours[0], self._kept)
        return [
            (month, list(hours))
            for month, hours in groupby(cold, lambda hour: Month.of_day(hour // 24))
        ]

    def cover(self, before: datetime) -> None:
        """Have all that was cover all of the past."""
        for _, source_id in self._sources:
            cover(self._ledger, {source_id: [Range(Minute(0), minute_of(before))]})

    def segment(self, hour: int, source: int) -> int:
        """The id of a segment; output partitions are numbered alike."""
        return self._first["segment"] + self._number(hour, source)

    def set_last_ids(self) -> None:
        """Have ids go on behind those that were added."""
        added = {table: self.filled().segments for table in self._first}
        added["batch"] = self.filled().batches
        for table, first in self._first.items():
            self._ledger.set_last_id(table, first + added[table] - 1)

    def tables(self) -> Iterator[tuple[str, str, Iterable[Row]]]:
        """Yield tables with columns and rows."""
        for month, hours in self.cold_months():
            yield f"cold_log_file_{month.name}", LOG_FILE_COLUMNS, self._log_files(hours)
            yield f"cold_segment_{month.name}", SEGMENT_COLUMNS, self._segments(hours)
        hot = range(self._kept, self._hours.stop)
        yield (
            "log_file",
            f"{LOG_FILE_COLUMNS}, quarantined, conflicts, state, attempts",
            ((*row, 0, 0, LogFileState.COMMITTED, 0) for row in self._log_files(hot)),
        )
        first = self._first["segment"] - self._first["dedup_partition"]
        yield (
            "dedup_partition",
            "id, name",
            (
                (self.segment(hour, at) - first, self._partition(hour, at))
                for hour in hot
                for at in range(self.sources)
            ),
        )
        yield (
            "segment",
            "id, dedup_partition, count, identities, filter, event_keys, batch",
            (
                (id_, id_ - first, *rest, self._first["batch"])
                for id_, _, *rest in self._segments(hot)
            ),
        )
        yield (
            "batch",
            "id, token, state, run_id, created_at, committed_at, sources, log_files",
            self._batches(),
        )
        yield "output_partition", "id, kind, folder, next_number, lines", self._output_partitions()
        yield (
            "output_file",
            "output_partition, number, batch, part, lines, bytes, sha256, lineage",
            self._output_files(),
        )

    def _number(self, hour: int, source: int) -> int:
        return (hour - self._hours[0]) * self.sources + source

    def _batch(self, hour: int, source: int) -> int:
        number = (hour - self._hours[0]) * self._batches_an_hour + source // _SOURCES_A_BATCH
        return self._first["batch"] + number

    def _partition(self, hour: int, source: int) -> str:
        of = self._sources[source][0]
        return dedup_partition(of.account, of.region, f"{datetime_of(hour * 60):%Y/%m/%d/%H}")

    def _log_files(self, hours: Iterable[int]) -> Iterator[Row]:
        for hour in hours:
            day, of_day = hour // 24, f"{hour % 24:02d}"
            for at, (_, source_id) in enumerate(self._sources):
                batch = self._batch(hour, at)
                first = at % _SOURCES_A_BATCH * _LOG_FILES_AN_HOUR
                random = os.urandom(56 * _LOG_FILES_AN_HOUR)
                for number in range(_LOG_FILES_AN_HOUR):
                    own = random[56 * number : 56 * number + 56]
                    name = f"{of_day}{number}0{own[:8].hex().upper()}"
                    etag, digest = own[8:24], own[24:]
                    yield (
                        *(source_id, day, name, etag, _STORED_BYTES, digest),
                        *(_EVENTS_A_LOG_FILE, 0, batch, first + number),
                    )

    def _segments(self, hours: Iterable[int]) -> Iterator[Row]:
        for hour in hours:
            for at in range(self.sources):
                identities = bytearray(os.urandom(16 * _EVENTS_AN_HOUR))
                event_keys = bytearray(os.urandom(6 * _EVENTS_AN_HOUR))
                identities[::16] = event_keys[::6] = _FIRST_BYTES
                yield (
                    *(self.segment(hour, at), self._partition(hour, at), _EVENTS_AN_HOUR),
                    *(bytes(identities), None, bytes(event_keys)),
                )

    def _batches(self) -> Iterator[Row]:
        for hour in self._hours:
            for first in range(0, self.sources, _SOURCES_A_BATCH):
                some = self._sources[first : first + _SOURCES_A_BATCH]
                sources = json.dumps([[source_id, hour // 24] for _, source_id in some])
                yield (
                    *(self._batch(hour, first), os.urandom(16).hex(), BatchState.PUBLISHED),
                    *("history", hour * 3_600, hour * 3_600, sources),
                    len(some) * _LOG_FILES_AN_HOUR,
                )

    def _output_partitions(self) -> Iterator[Row]:
        numbers = count(self._first["output_partition"])
        for hour in self._hours:
            for at in range(self.sources):
                folder = self._partition(hour, at)
                yield next(numbers), Kind.EVENTS, folder, 2, _EVENTS_AN_HOUR

    def _output_files(self) -> Iterator[Row]:
        numbers = count(self._first["output_partition"])
        lineages = [
            pack_lineage(
                (part * _LOG_FILES_AN_HOUR + number, _EVENTS_A_LOG_FILE)
                for number in range(_LOG_FILES_AN_HOUR)
            )
            for part in range(_SOURCES_A_BATCH)
        ]
        for hour in self._hours:
            for at in range(self.sources):
                part = at % _SOURCES_A_BATCH
                yield (
                    *(next(numbers), 1, self._batch(hour, at), part, _EVENTS_AN_HOUR),
                    *(_EVENTS_AN_HOUR * _LINE_BYTES, os.urandom(32), lineages[part]),
                )


def _copy(
    connection: "psycopg.Connection[Row]",
    table: str,
    columns: str,
    rows: Iterable[Row],
) -> None:
    sql = f"COPY {table} ({columns}) FROM STDIN (FORMAT BINARY)"
    with connection.cursor() as cursor, cursor.copy(sql.encode()) as copy:
        copy.set_types([_TYPES.get(column, "int8") for column in columns.split(", ")])
        for row in rows:
            copy.write_row(row)
