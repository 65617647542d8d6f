"""What `ctrail query` prints: the rows of a result as a table, as CSV, or as JSON.

Not here: the view that the SQL reads (`events_view`).
"""

import csv
import json
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

from ctrail_pipeline.core.exceptions import ConfigurationError, OutputError
from ctrail_pipeline.core.untrusted_text import printable

from .events_view import reading

if TYPE_CHECKING:
    import duckdb

_ROWS_FETCHED: Final = 1_000
ROWS_IN_TABLE: Final = 1_000
"""Most rows that a table shows."""


def print_result(connection: "duckdb.DuckDBPyConnection", sql: str, form: str) -> None:
    """Run SQL and print its last result as a `table`, `csv` or `json` (an object a line).

    Raises ConfigurationError for SQL that cannot be right, OutputError for what fails.
    """
    import duckdb

    with reading():
        try:
            result = connection.execute(sql)
        except (duckdb.ProgrammingError, duckdb.ParserException) as error:
            raise ConfigurationError(f"query: {error}") from error
    try:
        columns = result.description or []
        names = [str(column[0]) for column in columns]
        kinds = [str(column[1]) for column in columns]
        _PRINTERS[form](names, kinds, _rows(result))
    except duckdb.Error as error:
        raise OutputError(f"query: {error}") from error


def _rows(result: "duckdb.DuckDBPyConnection") -> Iterator[Sequence[Any]]:
    while rows := result.fetchmany(_ROWS_FETCHED):
        yield from rows


def _print_csv(names: list[str], _kinds: list[str], rows: Iterator[Sequence[Any]]) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(names)
    writer.writerows(rows)


def _print_json(names: list[str], kinds: list[str], rows: Iterator[Sequence[Any]]) -> None:
    for row in rows:
        values = (
            json.loads(value) if kind == "JSON" and isinstance(value, str) else value
            for value, kind in zip(row, kinds, strict=True)
        )
        print(json.dumps(dict(zip(names, values, strict=True)), default=str))


def _print_table(names: list[str], _kinds: list[str], rows: Iterator[Sequence[Any]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console() if sys.stdout.isatty() else Console(width=10_000)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in names:
        table.add_column(Text(name), overflow="fold")
    count = 0
    for row in rows:
        count += 1
        if count > ROWS_IN_TABLE:
            break
        table.add_row(*(Text(_shown(value)) for value in row))
    console.print(table)
    if count > ROWS_IN_TABLE:
        print(f"the first {ROWS_IN_TABLE:,} rows; for all of them: --csv or --json")


def _shown(value: object) -> str:
    return "" if value is None else printable(str(value))


_PRINTERS: Final = {"table": _print_table, "csv": _print_csv, "json": _print_json}
