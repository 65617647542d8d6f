"""The ledger: the one database that decides what has been done.

`Ledger` is a connection to it, with the few facts about the ledger as a whole. What is asked and
written is in functions over a `Ledger`: by table in `source_prefixes`, `log_files`, `batches`,
`segments` and `output_numbers`, and in `queries_*` where one part of the program alone asks. What
runs the statements is an `Engine`. SQL is in this room only.
"""

from collections.abc import Generator, Iterable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final, Protocol

from ctrail_pipeline.core.exceptions import LedgerError
from ctrail_pipeline.core.ledger_address import LedgerAddress

from .admission import CLOSED
from .cold_file import ColdFileReader
from .cold_months import ColdMonthReader
from .cold_reader import ColdReader
from .engine import ROWS_AT_ONCE, Engine, Row
from .portable_sql import upsert
from .sqlite import SqliteEngine

GENERATION: Final = "generation"
"""A number in `meta` that tells an older copy of the ledger."""


class Closable(Protocol):
    """A lock that a ledger holds."""

    def close(self) -> None:
        """Let go of it."""


class Ledger:
    """One connection to the ledger. Not for use by two threads at once: open a second one."""

    def __init__(self, path: LedgerAddress, closed: str | None = None) -> None:
        """Open the ledger, making a new one where there is none.

        `closed` is for whoever moves or rebuilds ledgers: a closed ledger is opened, too, and a new
        one is closed for this reason (`admission`). Raises LedgerError if there is no ledger, or
        one that is damaged, too new, closed, or locked for long.
        """
        self.path = path
        self._engine = _engine(path, closed)
        self.numbers = self._engine.numbers
        self.now = self._engine.now
        self.table_of = self._engine.table_of
        self.keys_a_statement = self._engine.keys_a_statement
        self._cold_folder = (
            path.with_name(f"{path.name}.archive") if isinstance(path, Path) else None
        )
        self.cold_reader = _cold_reader(self._engine, self._cold_folder)
        self._lock: Closable | None = None
        self.owner = ""
        """The lease (`leases`) of the batches that are registered over this connection."""

    def close(self) -> None:
        """Close the connection, rolling back an open transaction, and let go of the lock."""
        self.cold_reader.close()
        self._engine.close()
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def reopen(self) -> None:
        """Make a new connection, after an error that leaves the old one's state unknown."""
        self._engine.reopen()

    def transaction(self) -> AbstractContextManager[None]:
        """Write everything inside or nothing, while nobody else writes.

        Raises LedgerError if the transaction cannot be begun or committed. What
        becomes of a batch whose COMMIT failed is in `core.batch.commit_outcome`.
        """
        return self._engine.transaction()

    def pipelined(self) -> AbstractContextManager[None]:
        """Await no answer inside before one is needed, or the block ends. In a transaction.

        `rows` and `execute` need the answer, `execute_many` does not. What a statement raises may
        be raised by a later one.
        """
        return self._engine.pipelined()

    def snapshot(self) -> AbstractContextManager[None]:
        """Have all reads inside see one moment, whatever runs commit meanwhile. For short work."""
        return self._engine.snapshot()

    def rows(self, sql: str, *values: object) -> list[Row]:
        """Return all rows of a statement."""
        return self._engine.rows(sql, *values)

    def row(self, sql: str, *values: object) -> Row:
        """Return the first row of a statement. Raises LedgerError if it has none."""
        rows = self.rows(sql, *values)
        if not rows:
            raise LedgerError(
                f"{self.path}: the ledger lacks a row that it must have, so it is damaged:"
                " restore it from a backup that is as new as the output"
            )
        return rows[0]

    def stream(
        self, sql: str, *values: object, at_once: int = ROWS_AT_ONCE
    ) -> Generator[Row, None, None]:
        """Yield the rows of a statement as they are read: there may be too many for memory."""
        return self._engine.stream(sql, *values, at_once=at_once)

    def execute(self, sql: str, *values: object) -> int:
        """Run a statement, and return how many rows it changed."""
        return self._engine.execute(sql, *values)

    def execute_many(self, sql: str, rows: Iterable[Sequence[object]]) -> None:
        """Run a statement once for each row of values."""
        self._engine.execute_many(sql, rows)

    def load(self, table: str, columns: Sequence[str], rows: Sequence[Row]) -> None:
        """Add many rows to a table as they are, with their ids. Inside a transaction."""
        self._engine.load(table, columns, rows)

    def last_id(self, table: str) -> int:
        """Return the last id that was drawn for a table's rows; 0 before the first one."""
        return self._engine.last_id(table)

    def set_last_id(self, table: str, last: int) -> None:
        """Have the ids that are drawn for a table's rows begin after `last`."""
        self._engine.set_last_id(table, last)

    def size(self) -> int:
        """Return how many bytes the ledger takes, without cold files, but with cold months."""
        return self._engine.size()

    def check(self) -> None:
        """Look through the whole ledger. Raises LedgerError if it is damaged."""
        self._engine.check()

    def hold(self, lock: Closable) -> None:
        """Hold a lock for as long as the ledger is open."""
        self._lock = lock

    @property
    def cold_folder(self) -> Path | None:
        """Where the cold files are: parts of the ledger, to be kept and copied together with it.

        None for a ledger in PostgreSQL, which keeps its cold rows itself.
        """
        return self._cold_folder

    @property
    def uuid(self) -> str:
        """The name of this ledger for ever; the output folder keeps it too."""
        return self.meta("uuid")

    def uuid_and_generation(self) -> tuple[str, int]:
        """Return the ledger's name and generation at this moment, in one round trip."""
        known: dict[str, str] = dict(
            self.rows(f"SELECT name, value FROM meta WHERE name IN ('uuid', '{GENERATION}')")
        )
        return known["uuid"], int(known[GENERATION])

    @property
    def generation(self) -> int:
        """A number that grows with every commit: it tells an older copy of the ledger."""
        return int(self.meta(GENERATION))

    def advance_generation(self) -> None:
        """Have every earlier copy of the ledger count as older. Inside a transaction."""
        self.count_up(GENERATION)

    @property
    def closed(self) -> str:
        """Why nobody may use the ledger (`admission`); empty for a ledger in use."""
        rows = self.rows("SELECT value FROM meta WHERE name = ?", CLOSED)
        return str(rows[0][0]) if rows else ""

    def set_closed(self, closed: str) -> None:
        """Close the ledger for a reason, or open it with an empty one. Inside a transaction."""
        self.execute(upsert("meta", "name, value", "name"), CLOSED, closed)

    def is_unused(self) -> bool:
        """Whether no batch was ever committed."""
        row = self.row("SELECT EXISTS (SELECT 1 FROM batch WHERE committed_at IS NOT NULL)")
        return not row[0]

    def meta(self, name: str) -> str:
        """Return one of the values about the ledger as a whole."""
        return str(self.row("SELECT value FROM meta WHERE name = ?", name)[0])

    def set_meta(self, name: str, value: str) -> None:
        """Replace one of the values about the ledger as a whole. Inside a transaction."""
        self.execute("UPDATE meta SET value = ? WHERE name = ?", value, name)

    def count_up(self, name: str) -> None:
        """Add 1 to one of the numbers about the ledger as a whole. Inside a transaction."""
        self.execute_many(
            "UPDATE meta SET value = CAST(CAST(value AS BIGINT) + 1 AS TEXT) WHERE name = ?",
            [(name,)],
        )


def _cold_reader(engine: Engine, folder: Path | None) -> ColdReader:
    return ColdMonthReader(engine) if folder is None else ColdFileReader(folder)


def _engine(address: LedgerAddress, closed: str | None) -> Engine:
    if isinstance(address, Path):
        return SqliteEngine(address, closed)
    try:
        from .postgres import PostgresEngine
    except ImportError as error:
        raise LedgerError(
            f"{address}: a ledger in PostgreSQL needs psycopg:"
            " python -m pip install 'ctrail-pipeline[postgres]'"
        ) from error
    return PostgresEngine(address, closed)
