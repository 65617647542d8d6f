"""Making vanished Parquet of a sync again from the batch's JSONL, where its log files are gone.

The lines are the same records. Only where a record stood in its log file is not known any more.
"""

from collections.abc import Sequence
from itertools import chain, repeat

from ctrail_pipeline.core.batch.restage import Restaged
from ctrail_pipeline.core.exceptions import OutputError
from ctrail_pipeline.core.keys.log_file_key import key_of
from ctrail_pipeline.core.ledger.ledger import Ledger
from ctrail_pipeline.core.ledger.queries_lineage import batch_origin
from ctrail_pipeline.core.ledger.queries_restage import CommittedFile, committed_files
from ctrail_pipeline.core.ledger.source_prefixes import source_ids
from ctrail_pipeline.core.output.interface import Output, Staging
from ctrail_pipeline.core.output.new_files import NewParquetFile
from ctrail_pipeline.core.output.parquet import (
    ParquetRecord,
    Source,
    parquet_files,
    parquet_folder,
)
from ctrail_pipeline.core.output_files import Kind

from .rebuild_lines import FileLines, WrittenLine, events_in


def restage_of_lines(
    ledger: Ledger, output: Output, staging: Staging, batch: int, restaged: Restaged
) -> None:
    """Make lost Parquet files again, and move them from the lost files to those that were made.

    A date's files of the batch are made all together or not at all: which rows each of them had is
    not known to the row.
    """
    files = committed_files(ledger, batch)
    lost = [file for file in files if file.file.part in restaged.lost]
    sources: list[Source] | None = None
    for date in {file.file.folder for file in lost if file.file.kind is Kind.PARQUET}:
        of_date = [file for file in files if file.file.folder == date]
        if not all(file.file.part in restaged.lost for file in of_date):
            continue
        sources = sources or _sources(ledger, batch)
        records = _records(output, files, date)
        if len(records) != sum(file.lines for file in of_date):
            continue
        records.sort(key=lambda record: record.time[:-1])
        for file in of_date:
            rows, records = records[: file.lines], records[file.lines :]
            [made] = parquet_files(rows, sources)
            new_file = NewParquetFile(made.folder, made.content, made.rows)
            restaged.files.append(staging.restage(file.file.part, new_file))
            del restaged.lost[file.file.part]


def _records(output: Output, files: Sequence[CommittedFile], date: str) -> list[ParquetRecord]:
    """Return the batch's lines of a date; none if one of its files is not as it was written."""
    records: list[ParquetRecord] = []
    for committed in files:
        file = committed.file
        if file.kind is not Kind.EVENTS or parquet_folder(file.folder) != date:
            continue
        stored = FileLines(output, file)
        lines: list[WrittenLine | None] = []
        try:
            for some in stored:
                lines += events_in(some, file.folder)
        except OutputError:
            return []
        if stored.sha256 != committed.sha256:
            return []
        positions = chain.from_iterable(
            repeat(run.position, run.lines) for run in committed.line_runs
        )
        records += [
            ParquetRecord(date, line.time, line.text, position, None)
            for line, position in zip(lines, positions, strict=True)
            if line is not None
        ]
    return records


def _sources(ledger: Ledger, batch: int) -> list[Source]:
    """Return the bucket and key of each log file of a batch, by position."""
    prefixes = {id_: prefix for prefix, id_ in source_ids(ledger).items()}
    origins = batch_origin(ledger, batch).log_files
    sources: list[Source] = [(None, None)] * (max(origins, default=-1) + 1)
    for position, origin in origins.items():
        prefix = prefixes[origin.source_id]
        sources[position] = prefix.bucket, key_of(prefix, origin.day, origin.name)
    return sources
