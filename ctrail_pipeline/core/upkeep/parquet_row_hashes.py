"""Hashes that tell whether the rows of Parquet are those of the lines of JSONL.

A row and a line have the same hash if they say the same. Where a record lies in its log file does
not count: lines do not say it.
"""

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
"""Columns that tell rows apart, besides the nested ones: all columns but those that say where the
record lies. A forged event may differ from the real event in its `userIdentity` alone."""
_OURS: Final = {*COLUMNS, OTHER, BUCKET, KEY, INDEX}
_ROWS_AT_ONCE: Final = 10_000
_SEED: Final = secrets.randbits(64)
"""The seed of the hashes. It is random, so that nobody can make two records with the same hash."""
NOWHERE: Final = [(None, None)]
"""The origin of records of which nobody knows where they lie in which log file."""


@dataclass
class RowSums:
    """Sums of the hashes of lines and of rows, by folder of Parquet. Their order does not count."""

    lines: Counter[str] = field(default_factory=Counter)
    rows: Counter[str] = field(default_factory=Counter)
    surplus: Counter[str] = field(default_factory=Counter)
    """Number of rows less number of lines."""

    def add_lines(self, records: Sequence[ParquetRecord]) -> None:
        """Add lines of one folder."""
        if records:
            self.lines[records[0].folder] += sum(hashes_of_lines(records))
            self.surplus[records[0].folder] -= len(records)

    def add_file(self, folder: str, path: Path) -> int:
        """Add all rows of a file; return how many they are. Raises OSError or PolarsError."""
        rows = total = 0
        for hashes in hashes_of_file(path):
            rows += len(hashes)
            total += sum(hashes)
        self.rows[folder] += total  # not before the whole file could be read
        self.surplus[folder] += rows
        return rows

    def differing(self) -> list[str]:
        """Return the folders whose rows are not those of the lines."""
        folders = self.lines.keys() | self.rows.keys()
        return sorted(folder for folder in folders if self.lines[folder] != self.rows[folder])


def hashes_of_lines(records: Sequence[ParquetRecord]) -> list[int]:
    """Return the hash of each line, as a row; there may be no lines."""
    return _hashes(parquet_table(records, NOWHERE)) if records else []


def _hashes(table: "pl.DataFrame") -> list[int]:
    """Return the hash of each row."""
    import polars as pl

    nested = pl.struct(*NESTED).struct.json_encode().alias("nested")
    return table.select(*_TOLD_BY, nested).hash_rows(_SEED).to_list()


def hashes_of_file(path: Path) -> Iterator[list[int]]:
    """Yield the hashes of a file's rows, 10,000 at a time.

    Raises PolarsError if the file has other columns than this program writes.
    """
    import polars as pl

    rows = pl.scan_parquet(path, glob=False, hive_partitioning=False)
    if {*rows.collect_schema()} != _OURS:
        raise pl.exceptions.SchemaError(f"{path} has other columns")
    rows = rows.select(*_TOLD_BY, *NESTED)
    at = 0
    while len(table := rows.slice(at, _ROWS_AT_ONCE).collect()):
        yield _hashes(table)
        at += len(table)
