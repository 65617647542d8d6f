"""The ledger as an SQLite file: opening it, whose it is, and that it is sound.

WAL mode with `synchronous=FULL`: what COMMIT confirmed survives a power cut. Writes are explicit
`BEGIN IMMEDIATE` transactions; reads are short and fully fetched. An older ledger is migrated when
it is opened; what is no ledger, damaged or too new is refused. What the tables say is `ledger`'s.
"""

import errno
import logging
import os
import sqlite3
import time
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from importlib.resources import files
from pathlib import Path
from typing import Final, Protocol

from ctrail_pipeline.core.durable import fsync_folder
from ctrail_pipeline.core.exceptions import LedgerError
from ctrail_pipeline.core.file_system import network_file_system

log = logging.getLogger(__name__)

SCHEMA_VERSION: Final = 3
_MIGRATIONS: Final = {
    1: (
        "ALTER TABLE output_file ADD COLUMN pruned INTEGER NOT NULL DEFAULT 0",
        "CREATE INDEX output_file_to_remove ON output_file (pruned) WHERE pruned = 1",
        "ALTER TABLE batch ADD COLUMN log_files INTEGER NOT NULL DEFAULT 0",
        "DROP INDEX log_file_to_visit",
        "CREATE INDEX log_file_to_visit ON log_file (day, next_visit) WHERE next_visit IS NOT NULL",
    ),
    2: (
        "CREATE TABLE archive_file (id INTEGER PRIMARY KEY AUTOINCREMENT,"
        " name TEXT NOT NULL UNIQUE, bytes INTEGER NOT NULL, sha256 BLOB NOT NULL,"
        " first_day INTEGER NOT NULL, last_day INTEGER NOT NULL,"
        " first_hour TEXT NOT NULL, last_hour TEXT NOT NULL,"
        " first_segment INTEGER NOT NULL, last_segment INTEGER NOT NULL)",
        "INSERT INTO meta VALUES ('archived_at', '0')",
        # Public keys of digests.
        "CREATE TABLE public_key (fingerprint TEXT PRIMARY KEY, der BLOB NOT NULL,"
        " added_at INTEGER NOT NULL) WITHOUT ROWID",
        "ALTER TABLE output_file ADD COLUMN merged INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE output_file ADD COLUMN replaced_by INTEGER",
        "CREATE INDEX output_file_replaced ON output_file (replaced_by)"
        " WHERE replaced_by IS NOT NULL",
    ),
}
"""What makes the next version of each."""
APPLICATION_ID: Final = 0x6374_7261
"""«ctra»: SQLite's application_id, by which a ledger is told from other databases."""
BUSY_SECONDS: Final = 60.0
"""How long a run waits for another one's transaction before it gives up."""


class Closable(Protocol):
    """What a ledger may hold on to."""

    def close(self) -> None:
        """Let go of it."""


class LedgerFile:
    """One connection to the file. Not for use by two threads at once: open a second one."""

    def __init__(self, path: Path) -> None:
        """Open the ledger, making a new one where there is none.

        Raises LedgerError if the file is no ledger, damaged, too new, or locked for long.
        """
        self.path = path
        kind = network_file_system(path)
        if kind is not None:
            raise LedgerError(
                f"{path} lies on a network file system ({kind}), where SQLite cannot keep a ledger"
                " safe: name a file on a local disk in `state_db`"
            )
        self._held: Closable | None = None
        self._db = self._connect()
        try:
            self._check_origin()
            self._check_size()
            self._use_wal()
            if self._pragma("application_id") == 0:
                self._create()
            elif self._pragma("user_version") < SCHEMA_VERSION:
                self._migrate()
        except sqlite3.Error as error:
            self._db.close()
            raise self._refused(error) from error
        except BaseException:
            self._db.close()
            raise

    def close(self) -> None:
        """Close the connection; an open transaction is rolled back."""
        self._db.close()
        if self._held is not None:
            self._held.close()
            self._held = None

    def hold(self, lock: Closable) -> None:
        """Close this, too, when the ledger is closed."""
        self._held = lock

    def reopen(self) -> None:
        """A new connection, after an error that leaves the old one's state unknown."""
        self._db.close()
        self._db = self._connect()
        self._use_wal()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """A write transaction: all of it or nothing, and nobody else writes meanwhile.

        Raises LedgerError if it cannot be begun or committed; whether a failed COMMIT took effect
        is for `batch_state` on a reopened ledger to say.
        """
        try:
            self._db.execute("BEGIN IMMEDIATE")
        except sqlite3.Error as error:
            raise self._refused(error) from error
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException as error:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            if isinstance(error, sqlite3.Error):
                raise self._refused(error) from error
            raise

    def check(self) -> None:
        """Look through the whole file. Raises LedgerError if it is damaged."""
        if self._row("PRAGMA quick_check(1)")[0] != "ok":
            raise self._refused(sqlite3.DatabaseError("malformed"))

    # -- identity of the ledger -----------------------------------------------------------------

    @property
    def uuid(self) -> str:
        """Names this ledger for ever; the output folder keeps it too."""
        return self._meta("uuid")

    @property
    def generation(self) -> int:
        """Grows with every batch: an older copy of the ledger is recognised by it."""
        return int(self._meta("generation"))

    # -- the inside -----------------------------------------------------------------------------

    def _meta(self, name: str) -> str:
        return str(self._row("SELECT value FROM meta WHERE name = ?", name)[0])

    def _rows(self, sql: str, *values: object) -> list[tuple]:  # type: ignore[type-arg]
        try:
            return self._db.execute(sql, values).fetchall()
        except sqlite3.Error as error:
            raise self._refused(error) from error

    def _row(self, sql: str, *values: object) -> tuple:  # type: ignore[type-arg]
        rows = self._rows(sql, *values)
        if not rows:
            raise LedgerError(f"{self.path}: the ledger lacks a row that it must have: damaged")
        return rows[0]

    def _connect(self) -> sqlite3.Connection:
        try:
            for folder in reversed(self.path.parents):  # `parents=True` would not make them private
                if not folder.is_dir():
                    folder.mkdir(mode=0o700, exist_ok=True)
                    fsync_folder(folder.parent)
            # Made here, so that it is private from the start; SQLite gives -wal and -shm its mode.
            # A file that is there must not be opened and closed by us: POSIX drops all locks that
            # this process holds on a file when it closes any descriptor of it (SQLite's page "How
            # To Corrupt An SQLite Database File", 2.2), and another process, taking itself for the
            # last, would remove the log that a living run writes to.
            with suppress(FileExistsError):
                os.close(os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
                fsync_folder(self.path.parent)
            if self.path.is_dir():
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(self.path))
            db = sqlite3.connect(
                self.path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
            )
        except OSError as error:
            raise LedgerError(
                f"{self.path}: the ledger cannot be opened: {error.strerror}; check `state_db`"
            ) from error
        except sqlite3.Error as error:
            raise self._refused(error) from error
        return db

    def _pragma(self, name: str) -> int:
        return int(self._db.execute(f"PRAGMA {name}").fetchone()[0])

    def _check_origin(self) -> None:
        """Refuse what is no ledger of ours, or one of a newer version."""
        # Tables first: another run that makes the ledger just now makes both in one transaction.
        tables = self._db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        application, version = self._pragma("application_id"), self._pragma("user_version")
        if application not in (0, APPLICATION_ID) or (application == 0 and tables):
            raise LedgerError(
                f"{self.path} is a database of another program: name another file in `state_db`"
            )
        if version > SCHEMA_VERSION:
            raise LedgerError(
                f"{self.path} is a ledger of version {version}; this program knows up to"
                f" {SCHEMA_VERSION}: update ctrail-pipeline"
            )

    def _use_wal(self) -> None:
        """WAL and FULL: readers never wait, and what COMMIT confirmed survives a power cut.

        Turning WAL on in a new file takes a lock that SQLite does not wait for by itself.
        """
        deadline = time.monotonic() + BUSY_SECONDS
        while True:
            try:
                self._db.execute("PRAGMA journal_mode = WAL")
                break
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
        self._db.execute("PRAGMA synchronous = FULL")

    def _check_size(self) -> None:
        """A ledger that was cut off is refused before anything is built on what is left of it."""
        pages, page_size = self._pragma("page_count"), self._pragma("page_size")
        size = self.path.stat().st_size
        wal = self.path.with_name(self.path.name + "-wal")
        if size and size < pages * page_size and not (wal.exists() and wal.stat().st_size):
            raise LedgerError(
                f"{self.path}: the ledger is cut off ({size} of {pages * page_size} bytes):"
                " restore it from a backup that is as new as the output"
            )

    def _create(self) -> None:
        """Make the tables; when two runs start at once, one of them does."""
        schema = files(__package__).joinpath("schema.sql").read_text()
        self._db.execute("BEGIN IMMEDIATE")
        if self._db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0:
            for statement in _statements(schema):
                self._db.execute(statement)
            self._db.executemany(
                "INSERT INTO meta VALUES (?, ?)",
                [
                    ("uuid", str(uuid.uuid4())),
                    ("generation", "0"),
                    ("segments_removed", "0"),
                    ("archived_at", "0"),
                ],
            )
            self._db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            self._db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        self._db.execute("COMMIT")

    def _migrate(self) -> None:
        """Bring an older ledger to this version, once a copy of it is kept."""
        with self.transaction():  # when two runs start at once, one of them does it
            while (version := self._pragma("user_version")) < SCHEMA_VERSION:
                try:
                    self._keep_copy(version)
                except OSError as error:
                    raise LedgerError(
                        f"{self.path}: the ledger is of version {version}, and no copy of it could"
                        f" be made beside it ({error.strerror}): make room, then run again"
                    ) from error
                for statement in _MIGRATIONS[version]:
                    self._db.execute(statement)
                self._db.execute(f"PRAGMA user_version = {version + 1}")
                log.info("%s: the ledger is of version %d now", self.path, version + 1)

    def _keep_copy(self, version: int) -> None:
        """A copy beside the ledger, private and whole; one that is there already stays."""
        copy = self.path.with_name(f"{self.path.name}.version-{version}")
        if copy.exists():
            return
        unfinished = copy.with_name(f"{copy.name}.part")
        unfinished.unlink(missing_ok=True)
        os.close(os.open(unfinished, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        # A second connection: the first is in the transaction that keeps all others from writing.
        with closing(sqlite3.connect(self.path)) as reader:
            reader.execute("VACUUM INTO ?", (str(unfinished),))
        with unfinished.open("rb") as file:
            os.fsync(file.fileno())
        unfinished.replace(copy)
        fsync_folder(copy.parent)

    def _refused(self, error: sqlite3.Error | OSError) -> LedgerError:
        text = str(error)
        if "locked" in text or "busy" in text:
            advice = f"another run has held it for {BUSY_SECONDS:.0f} s: try again when it is done"
        elif "disk is full" in text or "No space left" in text:
            advice = "the disk is full: free some space, then run again; nothing is lost"
        elif "disk I/O" in text:  # some writes that lack space end so, too
            advice = "the disk is full or fails: check it, then run again; nothing is lost"
        elif "malformed" in text or "not a database" in text:
            advice = "it is damaged or no ledger: restore it from a backup as new as the output"
        elif "readonly" in text or "unable to open" in text:
            advice = "it cannot be written: check the permissions of the file and its folder"
        else:
            advice = "see the error"
        return LedgerError(f"{self.path}: the ledger failed ({text}): {advice}")


def _statements(schema: str) -> Iterator[str]:
    statement = ""
    for line in schema.splitlines():
        statement += line.partition("--")[0] + "\n"
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
