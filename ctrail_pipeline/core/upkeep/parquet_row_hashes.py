"""TODO: what this module is for."""

import secrets
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ctrail_pipeline.core.output.parquet import (
    ParquetRecord,
    parquet_table,
)
from ctrail_pipeline.core.output.parquet_schema import (
    BUCKET,
    COLUMNS,
    INDEX,
    KEY,
    NESTED,
    OTHER,
    Leaf,
)

if TYPE_CHECKING:
    import polars as pl

_TOLD_BY: Final = [
    *(name for name, spec in COLUMNS.items() if isinstance(spec, Leaf)),
    OTHER,
]
"""Columns that tell rows apart, besides the nested ones: all but where the record is.

A forged event may differ from the real one in its `userIdentity` alone.
"""
_OURS: Final = {*COLUMNS, OTHER, BUCKET, KEY, INDEX}
_ROWS_AT_ONCE: Final = 10_000
_SEED: Final = secrets.randbits(64)
"""Nobody can make two records that have the same hash."""
NOWHERE: Final = [(None, None)]


@dataclass
class RowSums:
    """What the hashes of lines and of rows come to, whatever their order, by folder of Parquet."""

    lines: Counter[str] = field(default_factory=Counter)
    rows: Counter[str] = field(default_factory=Counter)
    surplus: Counter[str] = field(default_factory=Counter)
    """Rows, less lines."""

    def add_lines(self, records: Sequence[ParquetRecord]) -> None:
        """Lines of one folder."""
        if records:
            self.lines[records[0].folder] += sum(hashes_of_lines(records))
            self.surplus[records[0].folder] -= len(records)

    def add_file(self, folder: str, path: Path) -> int:
        """All rows of a file; how many they are. Raises OSError or PolarsError."""
        rows = total = 0
        for some in hashes_of_file(path):
            rows += len(some)
            total += sum(some)
        self.rows[folder] += total  # not before all of it could be read
        self.surplus[folder] += rows
        return rows

    def differing(self) -> list[str]:
        """Folders whose rows are not those of the lines."""
        folders = self.lines.keys() | self.rows.keys()
        return sorted(one for one in folders if self.lines[one] != self.rows[one])


def hashes_of_lines(records: Sequence[ParquetRecord]) -> list[int]:
    """Of the rows of some lines, which may be none."""
    return _hashes(parquet_table(records, NOWHERE)) if records else []


def _hashes(table: "pl.DataFrame") -> list[int]:
    """A hash of each row."""
    import polars as pl

    nested = pl.struct(*NESTED).struct.json_encode().alias("nested")
    return table.select(*_TOLD_BY, nested).hash_rows(_SEED).to_list()


def hashes_of_file(path: Path) -> Iterator[list[int]]:
    """Of the rows of a file, some at a time. Raises PolarsError for columns that are not ours."""
    import polars as pl

    rows = pl.scan_parquet(path, glob=False, hive_partitioning=False)
    if {*rows.collect_schema()} != _OURS:
        raise pl.exceptions.SchemaError(f"{path} has other columns")
    rows = rows.select(*_TOLD_BY, *NESTED)
    at = 0
    while len(some := rows.slice(at, _ROWS_AT_ONCE).collect()):
        yield _hashes(some)
        at += len(some)
