"""Making Parquet files of the lines of JSONL files that the ledger knows.

A row names the log file that its line came from, as the lineage says. Where the record stood in the
log file is known to no line, so `_index` is NULL. Each JSONL file is compared with what was written
while it is read. Memory depends on the size of a Parquet file, not on that of a JSONL file.

Which files are read, and what becomes of the Parquet, belongs to `parquet_fill`.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, islice, repeat
from typing import Final

from ctrail_pipeline.core.exceptions import OutputError
from ctrail_pipeline.core.keys.log_file_key import key_of
from ctrail_pipeline.core.ledger.ledger import Ledger
from ctrail_pipeline.core.ledger.parquet_batches import EventsFile
from ctrail_pipeline.core.ledger.queries_compaction import OldFile
from ctrail_pipeline.core.ledger.queries_lineage import batch_origin
from ctrail_pipeline.core.ledger.source_prefixes import source_ids
from ctrail_pipeline.core.line_runs import line_runs_of
from ctrail_pipeline.core.output.interface import Output
from ctrail_pipeline.core.output.parquet import (
    BYTES_A_FILE,
    ParquetFile,
    ParquetRecord,
    Source,
    parquet_files,
    parquet_folder,
)

from .checked_blocks import Altered
from .rebuild_lines import FileLines, WrittenLine, events_in

log = logging.getLogger(__name__)

_LOG_FILES_KEPT: Final = 200_000
"""About how many log files are remembered: neighbouring files of events share their batches."""
_NO_ROWS: Final = "no Parquet is made of it"
_UNKNOWN: Final[Source] = (None, None)

IsMissing = Callable[[str, Sequence[WrittenLine]], Sequence[bool]]
"""Says of each of some lines of a folder of events whether it is to become a row."""


class AlteredEvents(Altered):
    """A file of events is not as it was written; the message says which, and what to do."""

    def __init__(self, file: EventsFile, message: str) -> None:
        super().__init__(message)
        self.file = file


class Origins:
    """The log files that lines came from."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._prefixes = {id_: prefix for prefix, id_ in source_ids(ledger).items()}
        self._of_batch: dict[int, dict[int, Source]] = {}
        self._kept = 0

    def of(self, file: OldFile) -> Iterator[Source]:
        """Yield the log file of each line. It is not known of lines from before a rebuild."""
        runs = line_runs_of(file.lineage, file.batch, merged=file.merged)
        return chain.from_iterable(
            repeat(self._log_files_of(run.batch).get(run.position, _UNKNOWN), run.lines)
            for run in runs
        )

    def _log_files_of(self, batch: int) -> dict[int, Source]:
        known = self._of_batch.get(batch)
        if known is None:
            while self._of_batch and self._kept > _LOG_FILES_KEPT:
                self._kept -= len(self._of_batch.pop(next(iter(self._of_batch))))
            known = self._of_batch[batch] = self._read(batch)
            self._kept += len(known)
        return known

    def _read(self, batch: int) -> dict[int, Source]:
        origin = batch_origin(self._ledger, batch)
        if origin.is_rebuilt:
            return {}
        log_files = origin.log_files
        if any(log_file.source_id not in self._prefixes for log_file in log_files.values()):
            # Another run has found a new account or region meanwhile.
            self._prefixes = {id_: prefix for prefix, id_ in source_ids(self._ledger).items()}
        sources: dict[int, Source] = {}
        for position, log_file in log_files.items():
            prefix = self._prefixes[log_file.source_id]
            sources[position] = prefix.bucket, key_of(prefix, log_file.day, log_file.name)
        return sources


def parquet_of_lines(
    output: Output, origins: Origins, files: Iterable[EventsFile], is_missing: IsMissing | None
) -> Iterator[list[ParquetFile]]:
    """Yield Parquet files of the lines of JSONL files, as they are made.

    The same lines become the same files. Raises AlteredEvents for a file that is not as it was
    written: then nothing that was yielded may be used.
    """
    records: list[ParquetRecord] = []
    sources: dict[Source, int] = {}
    size = 0
    for file in files:
        date = parquet_folder(file.folder)
        origin_of_lines = origins.of(file.file)
        for lines in checked_lines(output, file):
            origin_of_each = list(islice(origin_of_lines, len(lines)))
            pairs = [
                (line, source)
                for line, source in zip(lines, origin_of_each, strict=True)
                if line is not None
            ]
            if is_missing is not None:
                chosen = is_missing(file.folder, [line for line, _ in pairs])
                pairs = [pair for pair, missing in zip(pairs, chosen, strict=True) if missing]
            more = sum(len(line.text) for line, _ in pairs)
            if records and size + more > BYTES_A_FILE:
                yield list(parquet_files(records, list(sources)))
                records, sources, size = [], {}, 0
            records += [
                ParquetRecord(
                    date, line.time, line.text, sources.setdefault(source, len(sources)), None
                )
                for line, source in pairs
            ]
            size += more
    if records:
        yield list(parquet_files(records, list(sources)))


def checked_lines(output: Output, file: EventsFile) -> Iterator[list[WrittenLine | None]]:
    """Yield the lines of a file, about 4 MB at a time. Raises AlteredEvents, at the end too.

    A line that this program cannot have written is None: a rebuild took it as it was.
    """
    address = output.address_of(file.published)
    stored = FileLines(output, file.published)
    number = 0
    try:
        for raw_lines in stored:
            if number + len(raw_lines) > file.file.lines:
                break
            lines = events_in(raw_lines, file.folder)
            for offset, line in enumerate(lines, number + 1):
                if line is None:
                    log.warning("%s:%d is no event of this program: it has no row", address, offset)
            number += len(raw_lines)
            yield lines
    except OutputError as error:
        message = f"{error}: {_NO_ROWS}; restore the file from a backup"
        raise AlteredEvents(file, message) from error
    if (stored.size, stored.sha256, number) != (file.file.size, file.file.sha256, file.file.lines):
        raise AlteredEvents(
            file, f"{address} is not as it was written: {_NO_ROWS}; restore the file from a backup"
        )
