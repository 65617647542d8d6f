"""A cold file: rows of the ledger that are cold, in a file beside it that is never changed again.

The ledger itself holds what runs ask for every day. Log files of days behind the horizon, and the
identities of such hours, move to cold files, so that the ledger stops growing. A late log file, or
a late copy of an event, still finds them there. Which rows are cold is decided in `queries_cold`.

A cold file is an SQLite file, not Parquet: questions are for a few rows by their key, its hashes
are not made smaller by any compression, and a run that meets an old day need not import polars.
"""

import os
import sqlite3
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from hashlib import file_digest, sha256
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import quote

from ctrail_pipeline.core.durable import fsync_file, fsync_folder
from ctrail_pipeline.core.exceptions import LedgerError

from .rows import Segment

_OPEN_AT_ONCE: Final = 4
_SCHEMA: Final = """
CREATE TABLE log_file (
    source_prefix INTEGER NOT NULL, day INTEGER NOT NULL, name TEXT NOT NULL, etag BLOB NOT NULL,
    size INTEGER NOT NULL, sha256 BLOB, records INTEGER NOT NULL, duplicates INTEGER NOT NULL,
    batch INTEGER NOT NULL, position INTEGER NOT NULL,
    PRIMARY KEY (source_prefix, day, name)
) WITHOUT ROWID;
CREATE TABLE segment (
    id INTEGER PRIMARY KEY, partition TEXT NOT NULL, count INTEGER NOT NULL,
    identities BLOB NOT NULL, filter BLOB, event_keys BLOB NOT NULL
);
CREATE INDEX segment_of_partition ON segment (partition, id);
"""
LOG_FILE_COLUMNS: Final = (
    "source_prefix, day, name, etag, size, sha256, records, duplicates, batch, position"
)
"""What a cold file keeps of a log file: the rest is the same for all rows that may be cold."""
_OLD_NAME: Final = "source_partition"
"""What `source_prefix` is called in cold files of ledgers before version 4. They never change."""
_VIEW_OF_OLD_NAME: Final = (
    "CREATE TEMP VIEW log_file AS SELECT source_partition AS source_prefix, day, name, etag, size,"
    " sha256, records, duplicates, batch, position FROM main.log_file"
)


class ColdFile(NamedTuple):
    """One cold file, as the ledger names it, and what may be in it."""

    id: int
    """A file with a higher id overrides files with lower ones."""
    name: str
    size: int
    digest: bytes
    """SHA-256 of its bytes."""
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
    """A log file's row in a cold file: it is committed, and nothing about it is open."""

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


class ColdFileReader:
    """Reads cold files; a few are kept open. Not for use by two threads at once."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder or Path()
        self._open: OrderedDict[str, sqlite3.Connection] = OrderedDict()

    def close(self) -> None:
        """Close all files."""
        while self._open:
            self._open.popitem()[1].close()

    def log_files(
        self, file: ColdFile, source_id: int, day: int, low: str, high: str
    ) -> list[ColdLogFile]:
        """Return log files of one day with a name from `low` to `high`, both included, by name.

        Raises LedgerError if the file is missing or not what was written, as every question does.
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
                " CASE WHEN filter IS NULL THEN identities ELSE x'' END,"
                " coalesce(length(filter), 0),"
                " CASE WHEN filter IS NULL THEN event_keys ELSE x'' END, 0"
                " FROM segment WHERE partition = ? AND id > ? ORDER BY id LIMIT ?",
                partition,
                after,
                limit,
            )
        ]

    def segment(self, file: ColdFile, segment_id: int, column: str) -> bytes | None:
        """Return a blob of a segment; None if this file does not have the segment."""
        rows = self.ask(file, f"SELECT {column} FROM segment WHERE id = ?", segment_id)
        return bytes(rows[0][0]) if rows else None

    def stream(self, file: ColdFile, sql: str) -> Iterator[tuple]:  # type: ignore[type-arg]
        """Yield the rows of a query as they are read."""
        try:
            yield from self._connection(file).execute(sql)
        except sqlite3.Error as error:
            raise _not_as_written(self._folder / file.name, str(error)) from error

    def ask(self, file: ColdFile, sql: str, *values: object) -> list[tuple]:  # type: ignore[type-arg]
        """Return the rows of a query."""
        try:
            return self._connection(file).execute(sql, values).fetchall()
        except sqlite3.Error as error:
            raise _not_as_written(self._folder / file.name, str(error)) from error

    def _connection(self, file: ColdFile) -> sqlite3.Connection:
        connection = self._open.pop(file.name, None)
        if connection is None:
            path = self._folder / file.name
            self._check(file, path)
            # Nobody writes to it: no locks, and no files of SQLite's beside it.
            uri = f"file:{quote(str(path.absolute()))}?mode=ro&immutable=1"
            connection = sqlite3.connect(uri, uri=True, check_same_thread=False)
            if connection.execute("PRAGMA table_info(log_file)").fetchone()[1] == _OLD_NAME:
                connection.execute(_VIEW_OF_OLD_NAME)
            while len(self._open) >= _OPEN_AT_ONCE:
                self._open.popitem(last=False)[1].close()
        self._open[file.name] = connection
        return connection

    def _check(self, file: ColdFile, path: Path) -> None:
        """Compare the file with its hash, once, when it is opened: 20 ms for a file of 40 MB."""
        try:
            with path.open("rb") as opened:
                digest = file_digest(opened, sha256).digest()
        except OSError as error:
            raise LedgerError(
                f"{path}: a part of the ledger cannot be read: {error.strerror}; restore it from a"
                " backup. Without it, old log files and events would be taken for new ones"
            ) from error
        if digest != file.digest:
            raise _not_as_written(path, "its bytes have changed")


class ColdFileWriter:
    """Writes one cold file; it counts once the ledger names it. Use as a context manager."""

    def __init__(self, folder: Path, name: str) -> None:
        self.path = folder / name
        self._part = folder / f"{name}.part"

    def __enter__(self) -> "ColdFileWriter":
        folder = self.path.parent
        if not folder.is_dir():
            folder.mkdir(mode=0o700, exist_ok=True)
            fsync_folder(folder.parent)
        os.close(os.open(self._part, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        self._db = sqlite3.connect(self._part, isolation_level=None)
        self._db.execute("PRAGMA journal_mode = OFF")
        self._db.execute("PRAGMA synchronous = OFF")  # fsynced as a whole, once
        self._db.executescript(_SCHEMA)
        self._db.execute("BEGIN")
        return self

    def __exit__(self, *_: object) -> None:
        self._db.close()
        self._part.unlink(missing_ok=True)

    def add_log_files(self, rows: Iterable[Sequence[object]]) -> int:
        """Take in rows of `LOG_FILE_COLUMNS`; return how many there were."""
        return self._db.executemany(
            f"INSERT INTO log_file ({LOG_FILE_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", rows
        ).rowcount

    def add_segments(self, rows: Iterable[Sequence[object]]) -> None:
        """Take in rows of segments: id, partition, count, identities, filter, event keys."""
        self._db.executemany(
            "INSERT INTO segment (id, partition, count, identities, filter, event_keys)"
            " VALUES (?, ?, ?, ?, ?, ?)",
            rows,
        )

    def finish(self) -> tuple[int, bytes]:
        """Give the file its name, durably; return its size and SHA-256."""
        self._db.execute("COMMIT")
        self._db.close()
        fsync_file(self._part)
        with self._part.open("rb") as file:
            digest = file_digest(file, sha256).digest()
        size = self._part.stat().st_size
        self._part.rename(self.path)
        fsync_folder(self.path.parent)
        return size, digest


def _not_as_written(path: Path, what: str) -> LedgerError:
    return LedgerError(
        f"{path}: a part of the ledger is not as it was written ({what}): restore it from a backup"
    )
