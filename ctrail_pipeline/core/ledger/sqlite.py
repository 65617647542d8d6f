"""The ledger as an SQLite file: opening it, transactions, and running statements.

WAL mode with `synchronous=FULL`: what COMMIT confirmed survives a power cut. Writes are explicit
`BEGIN IMMEDIATE` transactions; reads are short and fully fetched, except rows that move to a cold
file. Every failure of SQLite becomes a LedgerError. Which files are refused is in `sqlite_checks`,
what a failure says is in `sqlite_errors`, and older ledgers are in `migrations`. What the tables
mean is not known here.
"""

import errno
import os
import sqlite3
import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import ClassVar

from ctrail_pipeline.core.durable import fsync_folder
from ctrail_pipeline.core.exceptions import LedgerError

from . import sqlite_checks, sqlite_errors
from .admission import CLOSED, refuse_closed, refuse_newer
from .engine import ROWS_AT_ONCE, Row
from .migrations import create_tables, is_older, migrate, pragma


class SqliteEngine:
    """One connection to a ledger in an SQLite file. Not for use by two threads at once."""

    numbers: ClassVar[str] = "SELECT value FROM json_each(?)"
    now: ClassVar[str] = "CAST(strftime('%s', 'now') AS INTEGER)"
    keys_a_statement: ClassVar[int] = 1_000

    def __init__(self, path: Path, closed: str | None = None) -> None:
        """Open the ledger, making a new one where there is none; `closed` as in `Ledger`.

        Raises LedgerError if the file is no ledger, damaged, too new, closed, or locked for long.
        """
        self.path = path
        self._admits_closed = closed is not None
        sqlite_checks.refuse_network_file_system(path)
        self._db = self._connect()
        try:
            sqlite_checks.refuse_other_databases(self._db, path)
            sqlite_checks.refuse_cut_off_file(self._db, path)
            self._use_wal()
            if pragma(self._db, "application_id") == 0:
                create_tables(self._db, closed or "")
            elif is_older(pragma(self._db, "user_version")):
                with self.transaction():  # when two runs start at once, one of them does it
                    migrate(self._db, path)
            self._refuse_unusable()
        except sqlite3.Error as error:
            self._db.close()
            raise self._error_from(error) from error
        except BaseException:
            self._db.close()
            raise

    def table_of(self, keys: Sequence[Sequence[object]]) -> tuple[str, Sequence[object]]:
        """Return a table `k` of keys, and its values."""
        row = f"({', '.join('?' for _ in keys[0])})"
        marks = ", ".join([row] * len(keys))
        return f"(VALUES {marks}) AS k", [value for key in keys for value in key]

    def close(self) -> None:
        """Close the connection; an open transaction is rolled back."""
        self._db.close()

    def reopen(self) -> None:
        """Make a new connection, after an error that leaves the old one's state unknown."""
        self._db.close()
        self._db = self._connect()
        try:
            self._use_wal()
            self._refuse_unusable()
        except sqlite3.Error as error:
            raise self._error_from(error) from error

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Write everything inside or nothing, while nobody else writes.

        Raises LedgerError if the transaction cannot be begun or committed, or if the ledger was
        closed, or made newer, since it was opened. What becomes of a batch whose COMMIT failed is
        in `core.batch.commit_outcome`.
        """
        self.execute("BEGIN IMMEDIATE")
        try:
            self._refuse_unusable()
            yield
            self._db.execute("COMMIT")
        except BaseException as error:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            if isinstance(error, sqlite3.Error):
                raise self._error_from(error) from error
            raise

    def pipelined(self) -> AbstractContextManager[None]:
        """Do nothing: no server is far away."""
        return nullcontext()

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """Have all reads inside see one moment, whatever runs commit meanwhile.

        For short work only: as long as it lasts, SQLite cannot move its write-ahead log into the
        ledger.
        """
        self.execute("BEGIN")
        try:
            yield
        finally:
            self.execute("ROLLBACK")

    def rows(self, sql: str, *values: object) -> list[Row]:
        """Return all rows of a statement."""
        try:
            return self._db.execute(sql, values).fetchall()
        except sqlite3.Error as error:
            raise self._error_from(error) from error

    def stream(
        self,
        sql: str,
        *values: object,
        at_once: int = ROWS_AT_ONCE,  # noqa: ARG002 - SQLite reads row by row
    ) -> Generator[Row, None, None]:
        """Yield the rows of a statement as they are read: there may be too many for memory."""
        try:
            yield from self._db.execute(sql, values)
        except sqlite3.Error as error:
            raise self._error_from(error) from error

    def execute(self, sql: str, *values: object) -> int:
        """Run a statement, and return how many rows it changed."""
        try:
            return self._db.execute(sql, values).rowcount
        except sqlite3.Error as error:
            raise self._error_from(error) from error

    def execute_many(self, sql: str, rows: Iterable[Sequence[object]]) -> None:
        """Run a statement once for each row of values."""
        try:
            self._db.executemany(sql, rows)
        except sqlite3.Error as error:
            raise self._error_from(error) from error

    def load(self, table: str, columns: Sequence[str], rows: Sequence[Row]) -> None:
        """Add many rows to a table as they are, with their ids. Inside a transaction."""
        marks = ", ".join("?" for _ in columns)
        self.execute_many(f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({marks})", rows)

    def last_id(self, table: str) -> int:
        """Return the last id that was drawn for a table's rows; 0 before the first one."""
        drawn = self.rows("SELECT seq FROM sqlite_sequence WHERE name = ?", table)
        [(last,)] = drawn or self.rows(f"SELECT coalesce(max(id), 0) FROM {table}")
        return int(last)

    def set_last_id(self, table: str, last: int) -> None:
        """Have the ids that are drawn for a table's rows begin after `last`."""
        self.execute("DELETE FROM sqlite_sequence WHERE name = ?", table)
        self.execute(
            "INSERT INTO sqlite_sequence (name, seq) SELECT name, ? FROM sqlite_master"
            " WHERE name = ? AND sql LIKE '%AUTOINCREMENT%'",
            last,
            table,
        )

    def size(self) -> int:
        """Return how many bytes the file and its log take."""
        files = (self.path, self.path.with_name(f"{self.path.name}-wal"))
        return sum(path.stat().st_size for path in files if path.exists())

    def check(self) -> None:
        """Look through the whole file. Raises LedgerError if it is damaged."""
        if self.rows("PRAGMA quick_check(1)")[0][0] != "ok":
            raise self._error_from(sqlite3.DatabaseError("malformed"))

    def _refuse_unusable(self) -> None:
        refuse_newer(self.path, pragma(self._db, "user_version"))
        closed = self._db.execute("SELECT value FROM meta WHERE name = ?", (CLOSED,)).fetchone()
        if closed and not self._admits_closed:
            refuse_closed(self.path, closed[0])

    def _error_from(self, error: sqlite3.Error | OSError) -> LedgerError:
        """Say what failed, and what to do about it."""
        return sqlite_errors.ledger_error(self.path, error)

    def _connect(self) -> sqlite3.Connection:
        try:
            for folder in reversed(self.path.parents):  # `parents=True` would not make them private
                if not folder.is_dir():
                    folder.mkdir(mode=0o700, exist_ok=True)
                    fsync_folder(folder.parent)
            # The file is made here, so that it is private from the start; SQLite gives -wal and
            # -shm its mode. A file that is there must not be opened and closed here: when a process
            # closes any descriptor of a file, POSIX drops all locks that the process holds on it
            # (SQLite's page "How To Corrupt An SQLite Database File", 2.2). Another process would
            # then take itself for the last, and remove the log that a living run writes to.
            with suppress(FileExistsError):
                os.close(os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
                fsync_folder(self.path.parent)
            if self.path.is_dir():
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(self.path))
            db = sqlite3.connect(
                self.path,
                timeout=sqlite_errors.BUSY_SECONDS,
                isolation_level=None,
                check_same_thread=False,
            )
        except OSError as error:
            raise LedgerError(
                f"{self.path}: the ledger cannot be opened: {error.strerror}; check `state_db`"
            ) from error
        except sqlite3.Error as error:
            raise self._error_from(error) from error
        return db

    def _use_wal(self) -> None:
        """Turn on WAL and FULL: readers never wait, and what was committed survives a power cut.

        To turn WAL on in a new file takes a lock that SQLite does not wait for by itself.
        """
        deadline = time.monotonic() + sqlite_errors.BUSY_SECONDS
        while True:
            try:
                self._db.execute("PRAGMA journal_mode = WAL")
                break
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
        self._db.execute("PRAGMA synchronous = FULL")
