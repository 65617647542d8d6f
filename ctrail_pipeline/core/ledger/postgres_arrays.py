"""Many values as one: columns of rows travel to PostgreSQL as arrays, and become rows there.

A statement has as many values as it has columns then, however many rows there are. Measured for 400
rows of 17 columns: a fifth of the client's CPU and of the server's time, compared with a value for
each field. Arrays are written in PostgreSQL's binary format: nothing in a text needs an escape.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice, repeat
from struct import pack
from typing import Any, Final, NamedTuple

from psycopg.adapt import Buffer, Dumper
from psycopg.pq import Format

from .postgres_text import rewritten

_ROWS_A_STATEMENT: Final = 5_000
_BIGINT, _BYTEA, _TEXT = 20, 17, 25
"""Types of elements, as PostgreSQL numbers them (the catalog pg_type)."""
_NULL: Final = pack(">i", -1)
_INSERT: Final = re.compile(
    r"INSERT INTO \w+ \((?P<columns>[^)]*)\) VALUES (?P<rest>\(.*)", re.DOTALL
)
_KEY: Final = re.compile(r"ON CONFLICT \((?P<key>[^)]*)\) DO UPDATE")


class BigintArray(bytes):
    """An array of whole numbers, in PostgreSQL's binary format."""


class ByteaArray(bytes):
    """An array of byte strings, in PostgreSQL's binary format."""


class TextArray(bytes):
    """An array of texts, in PostgreSQL's binary format."""


class _ArrayDumper(Dumper):
    """Sends an array as it is."""

    format = Format.BINARY

    def dump(self, obj: Any) -> Buffer:
        """Return the bytes of an array."""
        return bytes(obj)


class _BigintArrayDumper(_ArrayDumper):
    oid = 1016


class _ByteaArrayDumper(_ArrayDumper):
    oid = 1001


class _TextArrayDumper(_ArrayDumper):
    oid = 1009


DUMPERS: Final = (
    (BigintArray, _BigintArrayDumper),
    (ByteaArray, _ByteaArrayDumper),
    (TextArray, _TextArrayDumper),
)
"""What psycopg must be told of arrays."""


class Insert(NamedTuple):
    """The parts of an INSERT of one row."""

    head: str
    """What stands before the row's values."""
    row: tuple[str, ...]
    """The row's expressions, split at the marks of values."""
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
        end = _closing(match["rest"])
        head, tail = sql[: match.start("rest") - len("VALUES ")], match["rest"][end + 1 :]
        columns = match["columns"].split(", ")
        key = _KEY.search(tail)
        names = key["key"].split(", ") if key else []
        row = tuple(match["rest"][1:end].split("?"))
        return cls(head, row, tail, tuple(columns.index(name) for name in names))

    def statements(
        self, rows: Iterable[Sequence[object]]
    ) -> Iterator[tuple[str, Sequence[object]]]:
        """Yield statements for all rows, with their values."""
        rows = iter(rows)
        while some := list(islice(rows, _ROWS_A_STATEMENT)):
            if self.key:  # one statement may not touch a row twice
                some = list({tuple(row[at] for at in self.key): row for row in some}.values())
            arrays = [array_of(column) for column in zip(*some, strict=True)]
            # A column without any value has no type, but NULL suits every type.
            names = ["NULL" if array is None else f"r.c{at}" for at, array in enumerate(arrays)]
            present = [at for at, array in enumerate(arrays) if array is not None]
            values = "".join(chain(*zip(self.row, [*names, ""], strict=True)))
            columns = ", ".join(f"c{at}" for at in present)
            yield (
                f"{self.head}SELECT {values} FROM"
                f" unnest({marks(len(present))}) AS r({columns}){self.tail}",
                [arrays[at] for at in present],
            )


def rows_of(keys: Sequence[Sequence[object]]) -> tuple[str, Sequence[object]]:
    """Return a table of rows called `k`, with the columns `column1` and so on; and its values."""
    arrays = [array_of(column) for column in zip(*keys, strict=True)]
    names = ", ".join(f"column{number}" for number in range(1, len(arrays) + 1))
    return f"unnest({marks(len(arrays))}) AS k({names})", arrays


def marks(number: int) -> str:
    """Return the marks of so many values."""
    return ", ".join(repeat("?", number))


def array_of(values: Sequence[Any]) -> BigintArray | ByteaArray | TextArray | None:
    """Return the values of a column as an array; None if there is none but NULL."""
    example = next((value for value in values if value is not None), None)
    if example is None:
        return None
    if isinstance(example, int):
        return BigintArray(_binary(_BIGINT, [_bigint(value) for value in values]))
    if isinstance(example, str):
        return TextArray(_binary(_TEXT, [_text(value) for value in values]))
    return ByteaArray(_binary(_BYTEA, values))


def _bigint(value: int | None) -> bytes | None:
    return None if value is None else pack(">q", value)


def _text(value: str | None) -> bytes | None:
    return None if value is None else rewritten(value).encode()


def _binary(element_type: int, elements: Sequence[bytes | None]) -> bytes:
    """Return an array of one dimension: the format that `array_recv` of PostgreSQL reads."""
    parts = [pack(">iiiii", 1, None in elements, element_type, len(elements), 1)]
    for element in elements:
        if element is None:
            parts.append(_NULL)
        else:
            parts += pack(">i", len(element)), element
    return b"".join(parts)


def _closing(text: str) -> int:
    """Return the position of the parenthesis that closes the first one."""
    depth = 0
    for at, character in enumerate(text):
        depth += (character == "(") - (character == ")")
        if depth == 0:
            return at
    raise ValueError(f"no parenthesis closes: {text}")
