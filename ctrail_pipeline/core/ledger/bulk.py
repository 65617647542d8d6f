"""Questions about many rows at once: each statement may be a round trip to a server.

The keys that are asked for travel as values, so that no text of a key needs an escape.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Final

from .engine import Row

_VALUES_A_STATEMENT: Final = 6_000
"""SQLite takes 32,766 values, PostgreSQL 65,535."""


def rows_of_keys(
    ask: Callable[..., list[Row]], columns: str, joined: str, keys: Sequence[Sequence[object]]
) -> Iterator[Row]:
    """Yield `columns` of the tables and conditions in `joined`, for many keys.

    `ask` runs a statement: `Ledger.rows`, or the reader of a cold file. The parts of a key are
    called `k.column1`, `k.column2` and so on there. The keys come first in the join, so that each
    is looked up.
    """
    if not keys:
        return
    row = f"({', '.join('?' for _ in keys[0])})"
    step = _VALUES_A_STATEMENT // len(keys[0])
    for first in range(0, len(keys), step):
        some = keys[first : first + step]
        marks = ", ".join([row] * len(some))
        yield from ask(
            f"SELECT {columns} FROM (VALUES {marks}) AS k CROSS JOIN {joined}",
            *(value for key in some for value in key),
        )
