"""Making vanished Parquet of a fill again, of the JSONL that it was made of.

The ledger names the files of events, none of which is merged or pruned before the fill is
published. The same lines become the same rows.
"""

from collections.abc import Iterator, Sequence

from ctrail_pipeline.core.batch.restage import Restaged
from ctrail_pipeline.core.ledger.ledger import Ledger
from ctrail_pipeline.core.ledger.parquet_batches import files_of_parquet_batch
from ctrail_pipeline.core.ledger.queries_restage import CommittedFile
from ctrail_pipeline.core.output.interface import Output, Staging
from ctrail_pipeline.core.output.new_files import NewParquetFile
from ctrail_pipeline.core.output.parquet import parquet_folder
from ctrail_pipeline.core.output_files import PublishedFile

from .checked_blocks import Altered
from .lines_to_parquet import Origins
from .parquet_doubt import parquet_of_files


def restage_filled(
    ledger: Ledger,
    output: Output,
    batch: int,
    files: Sequence[CommittedFile],
    staging: Staging,
    vanished: Sequence[PublishedFile],
) -> Restaged:
    """Make vanished files of a fill again; `files` are all of its files, in order."""
    restaged = Restaged([], {})
    wanted = {file.part for file in vanished}
    why = "its files of events hold other lines than they held"
    try:
        for part, made in enumerate(_made(ledger, output, batch, files)):
            committed = files[part] if part < len(files) else None
            if part not in wanted or committed is None:
                continue
            if (made.folder, made.line_count) == (committed.file.folder, committed.lines):
                restaged.files.append(staging.restage(part, made))
    except Altered as altered:
        why = str(altered)
    restaged.lost.update(dict.fromkeys(wanted - {file.part for file in restaged.files}, why))
    return restaged


def _made(
    ledger: Ledger, output: Output, batch: int, files: Sequence[CommittedFile]
) -> Iterator[NewParquetFile]:
    """Yield the files of a fill once more, in order."""
    events = files_of_parquet_batch(ledger, batch)
    # Less rows than lines: some of the lines were in Parquet already.
    is_in_doubt = (
        sum(file.lines for file in files) < sum(file.file.lines for file in events)
        and len({parquet_folder(file.folder) for file in events}) == 1
    )
    for group in parquet_of_files(ledger, output, Origins(ledger), events, is_in_doubt=is_in_doubt):
        for file in group:
            yield NewParquetFile(file.folder, file.content, file.rows)
