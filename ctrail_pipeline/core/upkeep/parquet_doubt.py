"""Parquet of the lines that are not in Parquet, and which they are where the ledger does not know.

An older version of this program did not note it, and a rebuilt ledger cannot know it. So lines and
rows are compared by what they say (`parquet_row_hashes`). Different lines may be the same row: then
as many rows are wanted as there are lines.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Final

from ctrail_pipeline.core.ledger.ledger import Ledger
from ctrail_pipeline.core.ledger.parquet_batches import (
    EventsFile,
    files_in_parquet,
    parquet_of_date,
)
from ctrail_pipeline.core.output.interface import Output
from ctrail_pipeline.core.output.parquet import ParquetFile, hours_of_date, parquet_folder
from ctrail_pipeline.core.output_files import NamedFile

from .checked_blocks import Altered, checked_blocks
from .lines_to_parquet import IsMissing, Origins, checked_lines, parquet_of_lines
from .parquet_row_hashes import hashes_of_file, hashes_of_lines
from .rebuild_lines import WrittenLine
from .rebuild_parquet import parquet_records

_HASHES_HELD: Final = 500_000
"""About how many hashes are in memory at once. A date of more rows is looked through in shares."""
_NOT_COMPARED: Final = "the lines of its date cannot be compared with it"


def parquet_of_files(
    ledger: Ledger,
    output: Output,
    origins: Origins,
    files: Sequence[EventsFile],
    *,
    is_in_doubt: bool,
) -> Iterator[list[ParquetFile]]:
    """Yield Parquet files of the lines of JSONL files that are not in Parquet, as they are made.

    The same lines become the same files. If some lines may be in Parquet, the files are of one
    date. Raises Altered: then nothing that was yielded may be used.
    """
    if not is_in_doubt:
        yield from parquet_of_lines(output, origins, files, None)
        return
    for is_missing in _shares_of_date(ledger, output, parquet_folder(files[0].folder)):
        yield from parquet_of_lines(output, origins, files, is_missing)


def _shares_of_date(ledger: Ledger, output: Output, date: str) -> Iterator[IsMissing]:
    """Yield what tells which lines of a folder of Parquet have no row in it.

    Each tells it of a share of the lines. Lines that the ledger knows to be in Parquet must not be
    asked for. Raises Altered if a file is not as it was written, or cannot be read.
    """
    with ledger.snapshot():
        parquet = parquet_of_date(ledger, date)
        with_rows = files_in_parquet(ledger, hours_of_date(date))
    shares = -(-sum(old.lines for _, old in parquet) // _HASHES_HELD) or 1
    for file, old in parquet:
        for _ in checked_blocks(output, file, old, _NOT_COMPARED):
            pass
    for share in range(shares):
        held = Counter(
            row_hash
            for file, _ in parquet
            for row_hash in _hashes_of_rows(output, file)
            if row_hash % shares == share
        )
        of_share = _Share(held, shares, share)
        for events_file in with_rows:
            for lines in checked_lines(output, events_file):
                of_share.lacks(events_file.folder, [line for line in lines if line])
        yield of_share.lacks


def _hashes_of_rows(output: Output, file: NamedFile) -> Iterator[int]:
    """Yield the hashes of the rows of a Parquet file. Raises Altered."""
    import polars as pl

    try:
        with output.on_disk(file) as path:
            yield from chain.from_iterable(hashes_of_file(path))
    except (OSError, pl.exceptions.PolarsError) as error:
        raise Altered(
            f"{output.address_of(file)} is not Parquet as this program writes it: {_NOT_COMPARED}"
        ) from error


class _Share:
    """The rows of a date that stand for lines of which the ledger does not know it."""

    def __init__(self, held: Counter[int], shares: int, share: int) -> None:
        self._held = held
        self._shares = shares
        self._share = share

    def lacks(self, folder: str, lines: Sequence[WrittenLine]) -> list[bool]:
        """Return of each line whether it is of this share and has no row. Ask once for each."""
        return [
            line_hash % self._shares == self._share and not self._has_row(line_hash)
            for line_hash in hashes_of_lines(parquet_records(lines, folder))
        ]

    def _has_row(self, line_hash: int) -> bool:
        if self._held[line_hash] <= 0:
            return False
        self._held[line_hash] -= 1
        return True
