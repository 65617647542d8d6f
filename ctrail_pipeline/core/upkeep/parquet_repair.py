"""Parquet beside a ledger that is rebuilt: made to hold each event of the JSONL once.

If the ledger is lost while a batch or a compaction gives files their names, some of the JSONL has
its rows and some has not, or rows are there twice, and only the ledger knew which files count. So
rows and lines are compared, by a hash of what they say. Of a date that differs, the files whose
rows are all wanted stay, the others go, and what is missing is written anew from the lines.

Such new rows do not say where their record is: the ledger knew that. A file that holds a row of no
line is set aside under another name, not removed: nobody else may have its events any more.
"""

import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ctrail_pipeline.core.durable import disk_errors, fsync_folder
from ctrail_pipeline.core.log_file.identity import identity_of
from ctrail_pipeline.core.output.folders import OutputFolders
from ctrail_pipeline.core.output.new_files import NewParquetFile
from ctrail_pipeline.core.output.parquet import (
    BYTES_A_FILE,
    ParquetRecord,
    parquet_files,
)
from ctrail_pipeline.core.output.publishing import publish_files
from ctrail_pipeline.core.output.staging import Staging
from ctrail_pipeline.core.output_files import Kind, PublishedFile

from .parquet_row_hashes import NOWHERE, hashes_of_file, hashes_of_lines

if TYPE_CHECKING:
    pass

SET_ASIDE: Final = ".before-rebuild-"
"""In the name of a file that was set aside; no reader takes it for Parquet, nor do we.

The name begins with `_`, too: Athena and Spark read whatever lies in a date's folder but that.
"""


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
    files: Sequence[PublishedFile],
    lines: Callable[[], Iterable[Sequence[ParquetRecord]]],
) -> Repaired:
    """Make a date's files hold each of its lines once; `lines` gives them, as often as asked.

    Different lines may be the same row (a field that is null, or absent): each has one. Files that
    cannot be read, or have other columns, are left alone.

    A hash of each line and row of the date is in memory. Killed at any instant, it is done again:
    rows that are there twice by then are like any others.
    """
    wanted = Counter(one for some in _distinct(lines()) for one in hashes_of_lines(some))
    held = _held(folders, files)
    kept = _kept(held, wanted)
    missing = wanted - sum((held[file] for file in kept), Counter())
    done = Repaired()
    number = max((file.number for file in files), default=0) + 1
    for some in _portions(_distinct(lines()), missing):
        number += _write(folders, some, number)
        done.written += len(some)
    gone = [file for file in held if file not in kept]
    strange = [file for file in gone if not held[file].keys() <= wanted.keys()]
    with disk_errors(folders.roots[Kind.PARQUET]):
        for file in strange:
            path = folders.path_of(file)
            stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
            aside = path.with_name(f"_{path.name}{SET_ASIDE}{stamp}-{uuid.uuid4().hex[:4]}")
            path.rename(aside)
            done.set_aside.append(aside)
        # Durable before the new ledger is, or a power cut brings back rows that it does not know.
        for folder in {path.parent for path in done.set_aside}:
            fsync_folder(folder)
    folders.remove([file for file in gone if file not in strange])
    done.removed = len(gone) - len(strange)
    return done


def _held(
    folders: OutputFolders, files: Iterable[PublishedFile]
) -> dict[PublishedFile, Counter[int]]:
    """The hashes of the rows of each file that can be read."""
    import polars as pl

    held = {}
    for file in files:
        # What cannot be read is for the rebuild to say, which has tried already.
        with suppress(pl.exceptions.PolarsError, OSError):
            held[file] = Counter(
                one for some in hashes_of_file(folders.path_of(file)) for one in some
            )
    return held


def _distinct(lines: Iterable[Sequence[ParquetRecord]]) -> Iterator[list[ParquetRecord]]:
    """Each line once: only somebody else can have doubled one."""
    seen: set[bytes] = set()
    for some in lines:
        new = {identity_of(record.line): record for record in some}
        yield [record for identity, record in new.items() if identity not in seen]
        seen.update(new)


def _kept(held: dict[PublishedFile, Counter[int]], wanted: Counter[int]) -> set[PublishedFile]:
    """The files that can stay together, as no row of theirs is unwanted or there too often.

    Of merged files and those they were made of, either can stay: whichever hold more.
    """
    found: list[tuple[int, set[PublishedFile]]] = []
    ordered = sorted(held, key=lambda file: file.number)
    for some in (ordered, ordered[::-1]):
        left, kept = wanted.copy(), set()
        for file in some:
            if held[file] <= left:
                left -= held[file]
                kept.add(file)
        found.append((left.total(), kept))
    return min(found, key=lambda one: one[0])[1]


def _portions(
    lines: Iterable[Sequence[ParquetRecord]], missing: Counter[int]
) -> Iterator[list[ParquetRecord]]:
    """The records of the lines that are missing, each once, about a file's worth at a time."""
    missing = missing.copy()
    portion: list[ParquetRecord] = []
    size = 0
    for some in lines:
        for record, one in zip(some, hashes_of_lines(some), strict=True):
            if missing[one]:
                missing[one] -= 1
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
        NewParquetFile(one.folder, one.content, one.rows) for one in parquet_files(records, NOWHERE)
    ]
    staging = Staging(folders, uuid.uuid4().hex)
    staging.open()
    try:
        staged = staging.write(files)
        to_publish = [
            PublishedFile(one.part, one.kind, one.folder, number + one.part, one.size)
            for one in staged
        ]
        renamed = 0

        def rename(file: PublishedFile) -> PublishedFile:
            nonlocal renamed
            renamed += 1
            return file._replace(number=number + len(files) + renamed)

        publish_files(staging, to_publish, rename, lambda _file: None)
    finally:
        staging.remove()
    return len(files) + renamed + 1
