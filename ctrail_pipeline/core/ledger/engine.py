"""What a ledger asks of the database that holds it.

An engine runs statements; it does not know what the tables mean. Statements are the same for every
engine: their values are marked by `?`, and `portable_sql` has what their spelling must avoid. What
no common spelling has is an attribute here.
"""

from collections.abc import Generator, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Any, ClassVar, Final, Protocol, TypeAlias

ROWS_AT_ONCE: Final = 5_000
"""Rows that a stream asks the database for together, unless rows are long."""

Row: TypeAlias = tuple[Any, ...]
"""The values of one row; their types are those of the columns in the statement."""


class Engine(Protocol):
    """One connection to a ledger's database. Not for use by two threads at once.

    Every method raises LedgerError if the database fails; the message says what to do.
    """

    numbers: ClassVar[str]
    """The query whose rows are the whole numbers in a JSON list, which is one bound value."""
    now: ClassVar[str]
    """The expression for this moment by the database's own clock, in seconds since 1970."""
    keys_a_statement: ClassVar[int]
    """How many keys `table_of` takes at most, whatever they consist of."""

    def table_of(self, keys: Sequence[Sequence[object]]) -> tuple[str, Sequence[object]]:
        """Return a table `k` of keys, to stand behind FROM, and its values.

        Its columns are called `column1`, `column2` and so on.
        """
        ...

    def close(self) -> None:
        """Close the connection; an open transaction is rolled back."""
        ...

    def reopen(self) -> None:
        """Make a new connection, after an error that leaves the old one's state unknown."""
        ...

    def transaction(self) -> AbstractContextManager[None]:
        """Write everything inside or nothing, while nobody else writes.

        Ids are drawn inside, so a smaller id was there earlier. What becomes of a batch
        whose COMMIT failed is in `core.batch.commit_outcome`.
        """
        ...

    def pipelined(self) -> AbstractContextManager[None]:
        """Await no answer inside before one is needed, or the block ends. In a transaction.

        `rows` and `execute` need the answer, `execute_many` does not. What a statement raises may
        be raised by a later one.
        """
        ...

    def snapshot(self) -> AbstractContextManager[None]:
        """Have all reads inside see one moment, whatever runs commit meanwhile."""
        ...

    def rows(self, sql: str, *values: object) -> list[Row]:
        """Return all rows of a statement."""
        ...

    def stream(
        self, sql: str, *values: object, at_once: int = ROWS_AT_ONCE
    ) -> Generator[Row, None, None]:
        """Yield the rows of a statement as they are read: there may be too many for memory."""
        ...

    def execute(self, sql: str, *values: object) -> int:
        """Run a statement, and return how many rows it changed."""
        ...

    def execute_many(self, sql: str, rows: Iterable[Sequence[object]]) -> None:
        """Run a statement once for each row of values."""
        ...

    def load(self, table: str, columns: Sequence[str], rows: Sequence[Row]) -> None:
        """Add many rows to a table as they are, with their ids. Inside a transaction."""
        ...

    def last_id(self, table: str) -> int:
        """Return the last id that was drawn for a table's rows; 0 before the first one."""
        ...

    def set_last_id(self, table: str, last: int) -> None:
        """Have the ids that are drawn for a table's rows begin after `last`."""
        ...

    def size(self) -> int:
        """Return how many bytes the ledger takes."""
        ...

    def check(self) -> None:
        """Look through the whole database. Raises LedgerError if it is damaged."""
        ...
