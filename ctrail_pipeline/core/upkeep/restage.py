"""Making files again that vanished before they were published, whatever wrote them.

The files of a sync are made of its log files (`core.batch.restage`), merged files of the files that
they were merged from, Parquet that was filled later of its JSONL. A compaction or a fill that is
committed is not taken back, just as a sync is not.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import groupby

from ctrail_pipeline.core.batch.restage import Restage, Restaged, is_as_it_was, restage_batch
from ctrail_pipeline.core.ledger.ledger import Ledger
from ctrail_pipeline.core.ledger.queries_compaction import OldFile, is_compaction
from ctrail_pipeline.core.ledger.queries_restage import (
    CommittedFile,
    committed_files,
    replaced_files,
)
from ctrail_pipeline.core.ledger.rows import BatchRow
from ctrail_pipeline.core.output.interface import Output, Staging
from ctrail_pipeline.core.output_files import Kind, NamedFile, PublishedFile
from ctrail_pipeline.core.settings import Settings

from .jsonl_merging import MergedFile, slices_of
from .merged_file import MergedFileToWrite

_Old = tuple[NamedFile, OldFile]


def restaging(ledger: Ledger, output: Output, settings: Settings) -> Restage:
    """Return what makes the vanished files of any batch again. `settings` name all trails."""
    return partial(_restage, ledger, output, settings)


def _restage(
    ledger: Ledger,
    output: Output,
    settings: Settings,
    batch: BatchRow,
    staging: Staging,
    vanished: Sequence[PublishedFile],
) -> Restaged:
    if is_compaction(ledger, batch.id):
        return _restage_merged(ledger, output, batch.id, staging, vanished)
    files = committed_files(ledger, batch.id)
    if all(file.file.kind is Kind.PARQUET for file in files):
        from .restage_filled import restage_filled

        return restage_filled(ledger, output, batch.id, files, staging, vanished)
    restaged = restage_batch(ledger, settings, batch, staging, vanished)
    if any(file.kind is Kind.PARQUET and file.part in restaged.lost for file in vanished):
        from .restage_parquet import restage_of_lines

        restage_of_lines(ledger, output, staging, batch.id, restaged)
    return restaged


def _restage_merged(
    ledger: Ledger,
    output: Output,
    batch: int,
    staging: Staging,
    vanished: Sequence[PublishedFile],
) -> Restaged:
    """Merge files once more. A folder that was pruned meanwhile needs no merged files."""
    restaged = Restaged([], {})
    wanted = {file.part for file in vanished}
    for committed, file in _merges(ledger, output, batch):
        part = committed.file.part
        if part not in wanted:
            continue
        is_same = is_as_it_was(file, committed)  # reads the old files, which may be altered since
        if file.problem:
            restaged.lost[part] = file.problem
        elif is_same:
            restaged.files.append(staging.restage(part, file))
        else:
            restaged.lost[part] = (
                "the files that it was merged from hold other lines than they held"
            )
    return restaged


def _merges(
    ledger: Ledger, output: Output, batch: int
) -> Iterator[tuple[CommittedFile, MergedFileToWrite]]:
    """Yield the merged files of a committed compaction, each with what writes it again."""
    merged = committed_files(ledger, batch)
    for (kind, folder), group in groupby(
        replaced_files(ledger, batch), key=lambda replaced: (replaced.kind, replaced.folder)
    ):
        replaced = list(group)
        if any(file.is_pruned for file in replaced):
            continue
        old: list[_Old] = [
            (
                PublishedFile(
                    file.old.part,
                    kind,
                    folder,
                    file.old.number,
                    file.old.size,
                    file.old.compression,
                ),
                file.old,
            )
            # In the order in which the compaction took them.
            for file in sorted(replaced, key=lambda replaced: replaced.old.in_parquet)
        ]
        of_folder = [
            file for file in merged if (file.file.kind, file.file.folder) == (kind, folder)
        ]
        if kind is Kind.PARQUET:
            yield from zip(of_folder, _parquet(output, folder, old, of_folder), strict=False)
        else:
            slices = slices_of(old, (file.lines for file in of_folder))
            for file, parts in zip(of_folder, slices, strict=False):
                yield file, MergedFile(output, folder, parts, file.file.compression, kind)


def _parquet(
    output: Output, folder: str, old: Sequence[_Old], merged: Sequence[CommittedFile]
) -> Iterator[MergedFileToWrite]:
    """Yield the merged files: each holds the rows of neighbours among the old files."""
    from .parquet_merging import MergedParquetFile

    remaining = iter(old)
    for file in merged:
        group: list[_Old] = []
        while sum(of_group.lines for _, of_group in group) < file.lines:
            following = next(remaining, None)
            if following is None:
                return
            group.append(following)
        yield MergedParquetFile(output, folder, group)
