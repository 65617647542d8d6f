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
from typing import Final
from urllib.parse import quote

from ctrail_pipeline.core.durable import fsync_file, fsync_folder
from ctrail_pipeline.core.exceptions import LedgerError

from .cold_reader import LOG_FILE_COLUMNS, SEGMENT_COLUMNS, ColdFile, ColdReader
from .engine import Row

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
_OLD_NAME: Final = "source_partition"
"""What `source_prefix` is called in cold files of ledgers before version 4. They never change."""
_VIEW_OF_OLD_NAME: Final = (
    "CREATE TEMP VIEW log_file AS SELECT source_partition AS source_prefix, day, name, etag, size,"
    " sha256, records, duplicates, batch, position FROM main.log_file"
)


class ColdFileReader(ColdReader):
    """Reads cold files; a few are kept open. Not for use by two threads at once."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder or Path()
        self._open: OrderedDict[str, sqlite3.Connection] = OrderedDict()

    def close(self) -> None:
        """Close all files."""
        while self._open:
            self._open.popitem()[1].close()

    def stream(self, file: ColdFile, sql: str, at_once: int) -> Iterator[Row]:  # noqa: ARG002
        """Yield the rows of a query as they are read; SQLite reads row by row."""
        try:
            yield from self._connection(file).execute(sql)
        except sqlite3.Error as error:
            raise _not_as_written(self._folder / file.name, str(error)) from error

    def ask(self, file: ColdFile, sql: str, *values: object) -> list[Row]:
        """Return the rows of a query."""
        try:
            return self._connection(file).execute(sql, values).fetchall()
        except sqlite3.Error as error:
            raise _not_as_written(self._folder / file.name, str(error)) from error

    def bytes_by_year(self) -> dict[str, int]:
        """Return nothing: a cold file may hold the end of one year and the beginning of another."""
        return {}

    def clear(self) -> None:
        """Do nothing: a file that the ledger does not name is removed later."""

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
            f"INSERT INTO segment ({SEGMENT_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?)",
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
