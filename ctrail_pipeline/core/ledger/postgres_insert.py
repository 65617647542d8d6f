"""One INSERT for many rows: PostgreSQL plans each statement anew, which takes longer than a row."""

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Final, NamedTuple

_VALUES_A_STATEMENT: Final = 30_000
"""PostgreSQL takes 65,535."""
_INSERT: Final = re.compile(
    r"INSERT INTO \w+ \((?P<columns>[^)]*)\) VALUES (?P<rest>\(.*)", re.DOTALL
)
_KEY: Final = re.compile(r"ON CONFLICT \((?P<key>[^)]*)\) DO UPDATE")


class Insert(NamedTuple):
    """The parts of an INSERT of one row."""

    head: str
    """What stands before the row's values."""
    row: str
    """The row's values, in parentheses."""
    tail: str
    """What stands behind them."""
    key: tuple[int, ...]
    """The positions of the values that make the key, if a row takes the place of another."""

    @classmethod
    def of(cls, sql: str) -> "Insert | None":
        """Return the parts; None for other statements."""
        match = _INSERT.match(sql)
        if match is None:
            return None
        end = _closing(match["rest"]) + 1
        head, tail = sql[: match.start("rest")], match["rest"][end:]
        columns = match["columns"].split(", ")
        key = _KEY.search(tail)
        names = key["key"].split(", ") if key else []
        return cls(head, match["rest"][:end], tail, tuple(columns.index(name) for name in names))

    def statements(
        self, rows: Iterable[Sequence[object]]
    ) -> Iterator[tuple[str, Sequence[object]]]:
        """Yield statements for all rows, with their values."""
        step = _VALUES_A_STATEMENT // max(1, self.row.count("?"))
        rows = iter(rows)
        while some := list(islice(rows, step)):
            if self.key:  # one statement may not touch a row twice
                some = list({tuple(row[at] for at in self.key): row for row in some}.values())
            values = [value for row in some for value in row]
            yield f"{self.head}{', '.join([self.row] * len(some))}{self.tail}", values


def _closing(text: str) -> int:
    """The position of the parenthesis that closes the first one."""
    depth = 0
    for at, character in enumerate(text):
        depth += (character == "(") - (character == ")")
        if depth == 0:
            return at
    raise ValueError(f"no parenthesis closes: {text}")
