"""Parquet beside a ledger that is rebuilt: made to hold each event of the JSONL once.

If the ledger is lost while a batch or a compaction gives files their names, some of the JSONL has
its rows and some has not, or rows are there twice, and only the ledger knew which files count. So
rows and lines are compared, by a hash of what they say. Of a date that differs, the files whose
rows are all wanted stay, the others go, and what is missing is written anew from the lines.

Such new rows do not say where their record is: the ledger knew that. A file that holds a row of no
line is set aside under another name, not removed: nobody else may have its events any more.
"""

import secrets
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from .output import Kind, NewParquetFile, OutputFolders, Published, Staging, disk_errors
from .parquet import BYTES_A_FILE, ParquetRecord, parquet_files, parquet_table
from .parquet_schema import COLUMNS, OTHER, Leaf

if TYPE_CHECKING:
    import polars as pl

SET_ASIDE: Final = ".before-rebuild-"
"""In the name of a file that was set aside; no reader takes it for Parquet, nor do we."""
_TOLD_BY: Final = [
    *(name for name, spec in COLUMNS.items() if isinstance(spec, Leaf)),
    OTHER,
]
"""Columns that tell rows apart: all but the nested ones, with the time and the IDs."""
_ROWS_AT_ONCE: Final = 10_000
_SEED: Final = secrets.randbits(64)
"""Nobody can make two records that have the same hash."""
_NOWHERE: Final = [(None, None)]


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
            self.lines[records[0].folder] += sum(_hashes(_table(records)))
            self.surplus[records[0].folder] -= len(records)

    def add_file(self, folder: str, path: Path) -> int:
        """All rows of a file; how many they are. Raises OSError or PolarsError."""
        rows = [len(some) for some in self._added(folder, path)]
        self.surplus[folder] += sum(rows)
        return sum(rows)

    def _added(self, folder: str, path: Path) -> Iterator[list[int]]:
        for some in _hashes_of(path):
            self.rows[folder] += sum(some)
            yield some

    def differing(self) -> list[str]:
        """Folders whose rows are not those of the lines."""
        folders = self.lines.keys() | self.rows.keys()
        return sorted(one for one in folders if self.lines[one] != self.rows[one])


@dataclass
class Repaired:
    """What was done to one folder."""

    removed: int = 0
    set_aside: list[Path] = field(default_factory=list)
    written: int = 0
    """Rows."""

    @property
    def is_changed(self) -> bool:
        """Whether anything was done."""
        return bool(self.removed or self.set_aside or self.written)


def repair(
    folders: OutputFolders,
    files: Sequence[Published],
    lines: Callable[[], Iterable[Sequence[ParquetRecord]]],
) -> Repaired:
    """Make a date's files hold each of its lines once; `lines` gives them, as often as asked.

    A hash of each line and row of the date is in memory. Killed at any instant, it is done again:
    rows that are there twice by then are like any others.
    """
    wanted = {one for some in lines() for one in _hashes(_table(some))}
    held = {
        file: [one for some in _hashes_of(folders.path_of(file)) for one in some] for file in files
    }
    kept = _kept(held, wanted)
    missing = wanted - {one for file in kept for one in held[file]}
    done = Repaired()
    number = max((file.number for file in files), default=0) + 1
    for some in _portions(lines(), missing):
        number += _write(folders, some, number)
        done.written += len(some)
    gone = [file for file in files if file not in kept]
    strange = [file for file in gone if not wanted.issuperset(held[file])]
    with disk_errors(folders.roots[Kind.PARQUET]):
        for file in strange:
            path = folders.path_of(file)
            stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
            aside = path.with_name(f"{path.name}{SET_ASIDE}{stamp}-{uuid.uuid4().hex[:4]}")
            path.rename(aside)
            done.set_aside.append(aside)
    folders.remove([file for file in gone if file not in strange])
    done.removed = len(gone) - len(strange)
    return done


def _kept(held: dict[Published, list[int]], wanted: set[int]) -> set[Published]:
    """The files that can stay together, as no row of theirs is unwanted or there twice.

    Of merged files and those they were made of, either can stay: whichever hold more.
    """
    found: list[tuple[int, set[Published]]] = []
    ordered = sorted(held, key=lambda file: file.number)
    for some in (ordered, ordered[::-1]):
        left, kept = set(wanted), set()
        for file in some:
            rows = set(held[file])
            if len(rows) == len(held[file]) and rows <= left:
                left -= rows
                kept.add(file)
        found.append((len(left), kept))
    return min(found, key=lambda one: one[0])[1]


def _portions(
    lines: Iterable[Sequence[ParquetRecord]], missing: set[int]
) -> Iterator[list[ParquetRecord]]:
    """The records of the lines that are missing, each once, about a file's worth at a time."""
    missing = set(missing)
    portion: list[ParquetRecord] = []
    size = 0
    for some in lines:
        for record, one in zip(some, _hashes(_table(some)), strict=True):
            if one in missing:
                missing.remove(one)
                portion.append(record)
                size += len(record.line)
        if size > BYTES_A_FILE:
            yield portion
            portion, size = [], 0
    if portion:
        yield portion


def _write(folders: OutputFolders, records: list[ParquetRecord], number: int) -> int:
    """Write and publish files under numbers from `number` on; how many numbers that took."""
    files = [
        NewParquetFile(one.folder, one.content, one.rows)
        for one in parquet_files(records, _NOWHERE)
    ]
    staging = Staging(folders, uuid.uuid4().hex)
    staging.open()
    try:
        staged = staging.write(files)
        to_publish = [
            Published(one.part, one.kind, one.folder, number + one.part, one.size) for one in staged
        ]
        renamed = 0

        def rename(file: Published) -> Published:
            nonlocal renamed
            renamed += 1
            return file._replace(number=number + len(files) + renamed)

        staging.publish(to_publish, rename, lambda _file: None)
    finally:
        staging.remove()
    return len(files) + renamed + 1


def _table(records: Sequence[ParquetRecord]) -> "pl.DataFrame":
    return parquet_table(records, _NOWHERE)


def _hashes(table: "pl.DataFrame") -> list[int]:
    """A hash of each row."""
    return table.select(_TOLD_BY).hash_rows(_SEED).to_list() if len(table) else []


def _hashes_of(path: Path) -> Iterator[list[int]]:
    """Of the rows of a file, some at a time."""
    import polars as pl

    rows = pl.scan_parquet(path, glob=False, hive_partitioning=False).select(_TOLD_BY)
    at = 0
    while len(some := rows.slice(at, _ROWS_AT_ONCE).collect()):
        yield _hashes(some)
        at += len(some)
