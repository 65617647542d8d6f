"""Questions about many rows at once: each statement may be a round trip to a server.

The keys that are asked for travel as values, so that no text of a key needs an escape.
"""

from collections.abc import Callable, Iterator, Sequence

from .engine import Row
from .ledger import Ledger


def rows_of_keys(
    ledger: Ledger,
    columns: str,
    joined: str,
    keys: Sequence[Sequence[object]],
    ask: Callable[..., list[Row]] | None = None,
) -> Iterator[Row]:
    """Yield `columns` of the tables and conditions in `joined`, for many keys.

    The parts of a key are called `k.column1`, `k.column2` and so on there. The keys come first in
    the join, so that SQLite looks each of them up; PostgreSQL reads a table whole where that seems
    cheaper. `ask` runs a statement in place of `Ledger.rows`.
    """
    ask = ask or ledger.rows
    step = ledger.keys_a_statement
    for first in range(0, len(keys), step):
        table, values = ledger.table_of(keys[first : first + step])
        yield from ask(f"SELECT {columns} FROM {table} CROSS JOIN {joined}", *values)
