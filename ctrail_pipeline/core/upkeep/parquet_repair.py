"""Repairing the Parquet of one date during a rebuild, so that it holds each event once.

The ledger may be lost while a batch or a compaction gives files their names. Then some lines of the
JSONL have no rows, or rows are there twice, and only the ledger knew which files count. So rows and
lines are compared (`parquet_row_hashes`). Files whose rows are all wanted stay, the others go, and
missing rows are written anew from the lines.

New rows do not say where their record lies: only the ledger knew that. A file that holds a row of
no line is set aside under another name, not removed: perhaps nobody else has its events any more.
"""

import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain
from typing import Final

from ctrail_pipeline.core.log_file.identity import identity_of
from ctrail_pipeline.core.output.interface import Output
from ctrail_pipeline.core.output.new_files import NewParquetFile
from ctrail_pipeline.core.output.parquet import (
    BYTES_A_FILE,
    ParquetRecord,
    parquet_files,
)
from ctrail_pipeline.core.output_files import PublishedFile

from .parquet_row_hashes import NOWHERE, hashes_of_file, hashes_of_lines

SET_ASIDE: Final = ".before-rebuild-"
"""Part of the name of a file that was set aside, which no reader takes for Parquet.

The name also begins with `_`: Athena and Spark read any other file in a date's folder.
"""


@dataclass
class Repaired:
    """What was done to one folder."""

    removed: int = 0
    """Files that were removed."""
    set_aside: list[str] = field(default_factory=list)
    written: int = 0
    """Rows that were written."""

    @property
    def is_changed(self) -> bool:
        """Whether anything was done."""
        return bool(self.removed or self.set_aside or self.written)


def repair(
    output: Output,
    files: Sequence[PublishedFile],
    lines: Callable[[], Iterable[Sequence[ParquetRecord]]],
) -> Repaired:
    """Make the files of a date hold each of its lines once; `lines` gives the lines at each call.

    Different lines may be the same row, as a field may be null or absent: each line has a row.
    Files that cannot be read, or have other columns, are left alone.

    A hash of each line and row of the date is in memory. If the repair is killed, a later repair
    does it again: rows that are there twice by then are treated like any others.
    """
    wanted = Counter(
        line_hash for records in _distinct(lines()) for line_hash in hashes_of_lines(records)
    )
    held = _held(output, files)
    kept = _kept(held, wanted)
    missing = wanted - sum((held[file] for file in kept), Counter())
    done = Repaired()
    number = max((file.number for file in files), default=0) + 1
    for records in _portions(_distinct(lines()), missing):
        number += _write(output, records, number)
        done.written += len(records)
    unwanted = [file for file in held if file not in kept]
    strange = [file for file in unwanted if not held[file].keys() <= wanted.keys()]
    # Durable before the new ledger is: else a power cut could bring back rows that the ledger does
    # not know.
    for file in strange:
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        name = f"_{file.name}{SET_ASIDE}{stamp}-{uuid.uuid4().hex[:4]}"
        done.set_aside.append(output.set_aside(file, name))
    output.remove([file for file in unwanted if file not in strange])
    done.removed = len(unwanted) - len(strange)
    return done


def _held(output: Output, files: Iterable[PublishedFile]) -> dict[PublishedFile, Counter[int]]:
    """Return the hashes of the rows of each file that can be read."""
    import polars as pl

    held = {}
    for file in files:
        # The rebuild has tried to read each file already, and named those that cannot be read.
        with suppress(pl.exceptions.PolarsError, OSError), output.on_disk(file) as path:
            held[file] = Counter(chain.from_iterable(hashes_of_file(path)))
    return held


def _distinct(lines: Iterable[Sequence[ParquetRecord]]) -> Iterator[list[ParquetRecord]]:
    """Yield each line once: another program may have doubled a line."""
    seen: set[bytes] = set()
    for records in lines:
        new = {identity_of(record.line): record for record in records}
        yield [record for identity, record in new.items() if identity not in seen]
        seen.update(new)


def _kept(held: dict[PublishedFile, Counter[int]], wanted: Counter[int]) -> set[PublishedFile]:
    """Return files that can stay together: none of their rows is unwanted or there too often.

    Either merged files or the files that they were made of can stay: those that hold more rows.
    """
    choices: list[tuple[int, set[PublishedFile]]] = []
    by_number = sorted(held, key=lambda file: file.number)
    for files in (by_number, by_number[::-1]):
        missing, kept = wanted.copy(), set()
        for file in files:
            if held[file] <= missing:
                missing -= held[file]
                kept.add(file)
        choices.append((missing.total(), kept))
    return min(choices, key=lambda choice: choice[0])[1]


def _portions(
    lines: Iterable[Sequence[ParquetRecord]], missing: Counter[int]
) -> Iterator[list[ParquetRecord]]:
    """Yield the records of the missing lines, each once, about as many as one file holds."""
    missing = missing.copy()
    portion: list[ParquetRecord] = []
    size = 0
    for records in lines:
        for record, line_hash in zip(records, hashes_of_lines(records), strict=True):
            if missing[line_hash]:
                missing[line_hash] -= 1
                portion.append(record)
                size += len(record.line)
        if size > BYTES_A_FILE:
            yield portion
            portion, size = [], 0
    if portion:
        yield portion


def _write(output: Output, records: list[ParquetRecord], number: int) -> int:
    """Write and publish files under numbers from `number` on; return how many numbers are used."""
    files = [
        NewParquetFile(file.folder, file.content, file.rows)
        for file in parquet_files(records, NOWHERE)
    ]
    staging = output.staging_of(uuid.uuid4().hex)
    staging.open()
    try:
        staged = staging.write(files)
        to_publish = [
            PublishedFile(file.part, file.kind, file.folder, number + file.part, file.size)
            for file in staged
        ]
        renamed = 0

        def rename(file: PublishedFile) -> PublishedFile:
            nonlocal renamed
            renamed += 1
            return file._replace(number=number + len(files) + renamed)

        staging.publish(to_publish, rename, lambda _file: None)
    finally:
        staging.remove()
    return len(files) + renamed + 1
