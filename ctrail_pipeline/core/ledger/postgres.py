"""The ledger in a PostgreSQL database: opening it, transactions, and running statements.

PostgreSQL 14 or newer, any collation, any default isolation level. A transaction takes the writer
lock first, as a statement of its own: ids of what it writes then appear in order. Nothing is kept
in the session, so connections may come from a pool. What the tables mean is not known here.
"""

import logging
import uuid
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from functools import lru_cache
from typing import ClassVar, Final

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.errors import Diagnostic
from psycopg.pq import TransactionStatus

from ctrail_pipeline.core.exceptions import LedgerError
from ctrail_pipeline.core.ledger_address import PostgresAddress

from . import migrations
from .admission import refuse_closed, refuse_newer
from .engine import ROWS_AT_ONCE, Row
from .postgres_arrays import DUMPERS, Insert, rows_of
from .postgres_errors import LOCK_SECONDS, Farewell, ledger_error
from .postgres_schema import postgres_schema, postgres_steps
from .postgres_text import SumLoader, TextDumper, TextLoader

log = logging.getLogger(__name__)
# psycopg warns of errors that follow from a raised one, and would show values of rows.
logging.getLogger("psycopg").setLevel(logging.ERROR)

_OLDEST_SERVER: Final = 14
_UNKNOWN: Final = 705
"""The type (its OID) of a literal that no column gives a type."""
_CREATION_LOCK: Final = 0x6374_7261_696C
"""«ctrail»: the advisory lock of whoever makes the tables, before there is a row to lock."""
_BEGIN: Final = (
    "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE;"
    f" SET LOCAL lock_timeout = '{LOCK_SECONDS}s';"
    " SET LOCAL idle_in_transaction_session_timeout = '20s';"
    " SET LOCAL synchronous_commit = on;"
)
_UNLESS_TOLD: Final = {
    "connect_timeout": "10",
    # A server that is gone without a word is noticed after a minute; by default, after two hours.
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "3",
    "tcp_user_timeout": "60000",
}
"""What is said to libpq unless the URL says otherwise (PostgreSQL manual, 34.1.2)."""
_LOCK_WRITER: Final = "SELECT value FROM meta WHERE name = 'writer' FOR UPDATE;"
_WHAT_IT_IS: Final = "SELECT name, value FROM meta WHERE name IN ('uuid', 'version', 'closed')"
_SNAPSHOT: Final = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"


class PostgresEngine:
    """One connection to a ledger in PostgreSQL. Not for use by two threads at once."""

    numbers: ClassVar[str] = (
        "SELECT number::bigint FROM json_array_elements_text(?::json) AS listed(number)"
    )
    now: ClassVar[str] = "CAST(extract(epoch FROM clock_timestamp()) AS BIGINT)"
    keys_a_statement: ClassVar[int] = 5_000

    def __init__(self, address: PostgresAddress, closed: str | None = None) -> None:
        """Open the ledger, making a new one in an empty database; `closed` as in `Ledger`.

        Raises LedgerError if the database cannot be reached or written, is older than version 14,
        holds another program's tables, or a ledger of a newer version or one that was closed.
        """
        self._address = address
        self._uuid = ""
        self._admits_closed = closed is not None
        self._pipeline: psycopg.Pipeline | None = None
        self._waiting: list[tuple[bytes, Sequence[Sequence[object]]]] = []
        """Statements that a pipeline sends with the next one whose answer is needed."""
        self._farewells: list[Farewell] = []
        self._db = self._connect()
        try:
            with self._errors():
                _refuse_unfit_servers(self._db, address)
                if not _has_ledger(self._db, address):
                    self._create(closed or "")
                known: dict[str, str] = dict(self._db.execute(_WHAT_IT_IS).fetchall())
                if migrations.is_older(int(known["version"])):
                    known = self._migrate()
                self._uuid = self._check(known)
        except BaseException:
            self._db.close()
            raise

    def close(self) -> None:
        """Close the connection; an open transaction is rolled back."""
        self._db.close()

    def reopen(self) -> None:
        """Make a new connection, after an error that leaves the old one's state unknown."""
        self._db.close()
        self._db = self._connect()
        with self._errors():
            self._check_same(dict(self._db.execute(_WHAT_IT_IS).fetchall()))

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Write everything inside or nothing, while nobody else writes. As in `Engine`."""
        with self._errors(), self._written():
            self._check_same(self._lock_writer())
            yield

    @contextmanager
    def pipelined(self) -> Iterator[None]:
        """Await no answer inside before one is needed, or the block ends. As in `Engine`.

        Each time, all that was asked is sent, and a Sync behind it. Without a Sync, or with a Flush
        behind it, a server does not call the transaction idle: a paused run would keep the writer
        lock for ever. psycopg ends a pipeline with a Flush, so a statement outside of it follows.
        """
        with self._errors():
            with self._db.pipeline() as self._pipeline:
                try:
                    yield
                    self._send_waiting()
                finally:
                    self._pipeline = None
                    self._waiting.clear()
            self._db.execute("SELECT 1")

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """Have all reads inside see one moment, whatever runs commit meanwhile."""
        with self._errors():
            self._db.execute(_SNAPSHOT)
            try:
                yield
            finally:
                with suppress(psycopg.Error):
                    self._db.execute("ROLLBACK")

    def table_of(self, keys: Sequence[Sequence[object]]) -> tuple[str, Sequence[object]]:
        """Return a table `k` of keys, and its values."""
        return rows_of(keys)

    def rows(self, sql: str, *values: object) -> list[Row]:
        """Return all rows of a statement."""
        with self._errors():
            return self._run(sql, values).fetchall()

    def stream(
        self, sql: str, *values: object, at_once: int = ROWS_AT_ONCE
    ) -> Generator[Row, None, None]:
        """Yield the rows of a statement, so many at a time.

        A cursor that outlives its transaction is lost behind a pool. So outside of a transaction
        the rows come over a connection of their own: whoever takes the rows may write meanwhile.
        """
        if self._db.info.transaction_status is not TransactionStatus.IDLE:
            yield from self._fetched(self._db, sql, values, at_once)
            return
        with closing(_connected(self._address)) as reader, self._errors():
            reader.execute(_SNAPSHOT)
            self._check_same(dict(reader.execute(_WHAT_IT_IS).fetchall()))
            yield from self._fetched(reader, sql, values, at_once)

    def _fetched(
        self, db: "psycopg.Connection[Row]", sql: str, values: Sequence[object], at_once: int
    ) -> Iterator[Row]:
        """Yield the rows of a statement, in the transaction that the connection is in."""
        with self._errors(), db.cursor(f"rows_{uuid.uuid4().hex}") as cursor:
            cursor.itersize = at_once
            cursor.execute(_translated(sql), values)
            yield from cursor

    def execute(self, sql: str, *values: object) -> int:
        """Run a statement, and return how many rows it changed.

        Outside of a transaction, the statement has one of its own, which does not wait for the
        writer lock. The server's default isolation level would refuse what two runs do at once.
        """
        with self._errors():
            if self._db.info.transaction_status is not TransactionStatus.IDLE:
                return self._run(sql, values).rowcount
            with self._written():
                self._db.execute(_BEGIN)
                return self._db.execute(_translated(sql), values).rowcount

    def execute_many(self, sql: str, rows: Iterable[Sequence[object]]) -> None:
        """Run a statement once for each row of values.

        An INSERT is sent for many rows at once (`postgres_arrays`). Of several rows with one key,
        the last one counts, as if they came one after another. Other statements are sent one after
        another, and their answers are awaited together.
        """
        with self._errors():
            insert = Insert.of(sql)
            if insert is None:
                if rows := list(rows):
                    self._run_later(sql, rows)
                return
            for statement, values in insert.statements(rows):
                self._run_later(statement, [values])

    def load(self, table: str, columns: Sequence[str], rows: Sequence[Row]) -> None:
        """Add many rows to a table as they are: COPY takes ids that are there already."""
        sql = f"COPY {table} ({', '.join(columns)}) FROM STDIN"
        with self._errors(), self._db.cursor() as cursor, cursor.copy(sql.encode()) as copy:
            for row in rows:
                copy.write_row(row)

    def last_id(self, table: str) -> int:
        """Return the last id that was drawn for a table's rows; 0 before the first one."""
        [(last,)] = self.rows(
            "SELECT coalesce(pg_sequence_last_value(pg_get_serial_sequence(?, 'id')::regclass), 0)",
            table,
        )
        return int(last)

    def set_last_id(self, table: str, last: int) -> None:
        """Have the ids that are drawn for a table's rows begin after `last`."""
        self.rows(
            "SELECT setval(pg_get_serial_sequence(?, 'id')::regclass, ?, ?)",
            table,
            max(last, 1),
            last > 0,
        )

    def size(self) -> int:
        """Return how many bytes the tables and their indexes take."""
        [(size,)] = self.rows(
            "SELECT coalesce(sum(pg_total_relation_size(c.oid)), 0) FROM pg_class c"
            " WHERE c.relkind = 'r' AND c.relnamespace = current_schema()::regnamespace"
        )
        return int(size)

    def check(self) -> None:
        """Look whether the ledger can be read. The server checks its pages when they are read."""
        self.rows("SELECT count(*) FROM meta")

    def _run(self, sql: str, values: Sequence[object]) -> "psycopg.Cursor[Row]":
        """Run a statement, and await its answer."""
        if self._pipeline is None:
            return self._db.execute(_translated(sql), values)
        self._send_waiting()
        cursor = self._db.execute(_translated(sql), values)
        self._pipeline.sync()
        return cursor

    def _run_later(self, sql: str, rows: Sequence[Sequence[object]]) -> None:
        """Run a statement for rows of values; in a pipeline, as late as may be."""
        self._waiting.append((_translated(sql), rows))
        if self._pipeline is None:
            self._send_waiting()

    def _send_waiting(self) -> None:
        waiting, self._waiting = self._waiting, []
        for sql, rows in waiting:
            if len(rows) == 1:
                self._db.execute(sql, rows[0])
            else:
                self._db.cursor().executemany(sql, rows)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except psycopg.Error as error:
            with suppress(psycopg.Error):
                self._db.pgconn.is_busy()  # looks through what has arrived: a farewell, maybe
            raise ledger_error(self._address, error, self._farewells) from error

    def _connect(self) -> "psycopg.Connection[Row]":
        self._farewells.clear()
        db = _connected(self._address)
        db.add_notice_handler(self._keep_farewell)
        return db

    def _keep_farewell(self, notice: Diagnostic) -> None:
        """Keep why the server ends the connection. In a pipeline, no error says it."""
        if notice.severity_nonlocalized == "FATAL":
            self._farewells.append(Farewell(notice.sqlstate or "", notice.message_primary or ""))

    @contextmanager
    def _written(self) -> Iterator[None]:
        """Commit the transaction that is begun inside, or roll it back."""
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            with suppress(psycopg.Error):  # a lost connection rolls back by itself
                self._db.execute("ROLLBACK")
            raise

    def _lock_writer(self) -> dict[str, str]:
        """Begin a transaction, take the writer lock, and say what ledger this is, all at once."""
        cursor = self._db.execute(f"{_BEGIN} {_LOCK_WRITER} {_WHAT_IT_IS}")
        while cursor.nextset():
            pass
        return dict(cursor.fetchall())

    def _check_same(self, known: dict[str, str]) -> None:
        if self._check(known) != self._uuid:
            raise LedgerError(f"{self._address}: another ledger has come in place of this one")

    def _check(self, known: dict[str, str]) -> str:
        """Return the ledger's uuid. Raises LedgerError for one that may not be used."""
        refuse_newer(self._address, int(known["version"]))
        if not self._admits_closed:
            refuse_closed(self._address, known["closed"])
        return known["uuid"]

    def _create(self, closed: str) -> None:
        """Make the tables; when two runs start at once, one of them does."""
        with self._written():
            self._db.execute(f"{_BEGIN} SELECT pg_advisory_xact_lock({_CREATION_LOCK})")
            if _has_ledger(self._db, self._address):
                return
            self._db.execute(postgres_schema())
            with self._db.cursor() as cursor:
                cursor.executemany(
                    "INSERT INTO meta (name, value) VALUES (%s, %s)",
                    [
                        ("uuid", str(uuid.uuid4())),
                        ("version", str(migrations.SCHEMA_VERSION)),
                        ("closed", closed),
                        ("writer", ""),
                        *migrations.FIRST_META.items(),
                    ],
                )

    def _migrate(self) -> dict[str, str]:
        """Bring an older ledger to this version; when two runs start at once, one of them does."""
        with self._written():
            known = self._lock_writer()
            self._check(known)
            for version, statements in postgres_steps(int(known["version"])):
                for statement in statements:
                    self._db.execute(statement.encode())
                known["version"] = str(version)
                log.info("%s: the ledger is of version %d now", self._address, version)
            self._db.execute(
                "UPDATE meta SET value = %s WHERE name = 'version'", (known["version"],)
            )
        return known


def holds_ledger(address: PostgresAddress) -> bool:
    """Whether a database holds a ledger; nothing is changed. Raises LedgerError as opening does."""
    db = _connected(address)
    try:
        with _said(address):
            _refuse_unfit_servers(db, address)
            return _has_ledger(db, address)
    finally:
        db.close()


@contextmanager
def _said(address: PostgresAddress) -> Iterator[None]:
    try:
        yield
    except psycopg.Error as error:
        raise ledger_error(address, error) from error


def _connected(address: PostgresAddress) -> "psycopg.Connection[Row]":
    with _said(address):
        db: psycopg.Connection[Row] = psycopg.connect(
            make_conninfo("", **{**_UNLESS_TOLD, **conninfo_to_dict(address.url)}),
            autocommit=True,
            prepare_threshold=None,  # a pool may give each transaction another session
            fallback_application_name="ctrail",
            client_encoding="utf8",
        )
    db.adapters.register_dumper(str, TextDumper)
    for type_, dumper in DUMPERS:
        db.adapters.register_dumper(type_, dumper)
    for name in ("text", _UNKNOWN):
        db.adapters.register_loader(name, TextLoader)
    db.adapters.register_loader("numeric", SumLoader)
    return db


def _refuse_unfit_servers(db: "psycopg.Connection[Row]", address: PostgresAddress) -> None:
    server = db.info.server_version // 10_000
    if server < _OLDEST_SERVER:
        raise LedgerError(f"{address} is PostgreSQL {server}: {_OLDEST_SERVER} or newer is needed")
    [(encoding, is_replica)] = db.execute(
        "SELECT current_setting('server_encoding'), pg_is_in_recovery()"
    ).fetchall()
    if encoding != "UTF8":
        raise LedgerError(f"{address}: the database's encoding is {encoding}: create one of UTF8")
    if is_replica:
        raise LedgerError(
            f"{address} is a replica, which can only be read: name the primary server"
        )


def _has_ledger(db: "psycopg.Connection[Row]", address: PostgresAddress) -> bool:
    """Whether there is a ledger. Raises LedgerError for the database of another program."""
    tables = {
        name
        for (name,) in db.execute(
            "SELECT tablename FROM pg_tables WHERE schemaname = ANY (current_schemas(false))"
        )
    }
    columns = {
        name
        for (name,) in db.execute(
            "SELECT column_name FROM information_schema.columns WHERE table_name = 'meta'"
            " AND table_schema = ANY (current_schemas(false))"
        )
    }
    if {"meta", "source_prefix", "log_file"} <= tables and columns == {"name", "value"}:
        return True
    if tables:
        raise LedgerError(
            f"{address} is a database of another program (it has the table"
            f" {min(tables)}): create a database for the ledger, and name it in `state_db`"
        )
    return False


@lru_cache(maxsize=1_000)
def _translated(sql: str) -> bytes:
    """Return a statement with psycopg's marks for values. No literal of ours holds a mark."""
    return sql.replace("%", "%%").replace("?", "%s").encode()
