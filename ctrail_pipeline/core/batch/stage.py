"""One batch, up to its staging folder: route records, drop what is known, stage the rest.

Nothing of a batch counts before it is committed (see `commit`), so nothing done here needs undoing.
Staging reads the ledger and never writes to it: it may run in a worker process.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

from ctrail_pipeline.core.ledger.known_identities import KnownIdentities
from ctrail_pipeline.core.ledger.rows import NewSegment, Outcome
from ctrail_pipeline.core.ledger.segment_building import build_segment
from ctrail_pipeline.core.output.interface import Staging
from ctrail_pipeline.core.output.new_files import NewFile, NewParquetFile
from ctrail_pipeline.core.output_files import Compression, StagedFile
from ctrail_pipeline.core.settings import Settings

from .batch_files import line_files_of, parquet_files_of
from .content import LogFileInBatch
from .duplicates import drop_known
from .outcomes import outcomes_of
from .routed_batch import RoutedBatch
from .routing import Router


class Staged(NamedTuple):
    """A batch that lies in its staging folders, and what its transaction will write."""

    outcomes: list[Outcome]
    files: list[StagedFile]
    segments: list[NewSegment]
    seen: dict[str, int]
    """The newest segment that was read, by dedup partition."""
    bytes_in: int
    """Uncompressed bytes of the batch's log files."""
    events_by_hour: Counter[str]
    events_by_name: Counter[str]
    misfits: int
    """Rows of the batch's Parquet files that have something in `_other`."""
    newlines_replaced: int
    """Line breaks between the tokens of its log files that became spaces."""


def stage(
    log_files: Sequence[LogFileInBatch],
    staging: Staging,
    known: KnownIdentities,
    settings: Settings,
) -> Staged:
    """Drop what the ledger has already, and write the rest into the staging folders."""
    return prepare(log_files, staging, known, settings)()


def prepare(
    log_files: Sequence[LogFileInBatch],
    staging: Staging,
    known: KnownIdentities,
    settings: Settings,
) -> Callable[[], Staged]:
    """Do all of `stage` but the writing of the last round; return the function that does that.

    The function asks nothing of the ledger, so another thread may call it.
    """
    routed = RoutedBatch()
    router = Router(routed, settings, staging.scatter_limit)
    files: list[StagedFile] = []
    segments: list[NewSegment] = []
    seen: dict[str, int] = {}
    misfits = 0
    last_files: list[NewFile | NewParquetFile] = []
    compression = Compression[settings.jsonl_compression.upper()]
    rounds = max((log_file.rounds for log_file in log_files), default=0)
    known.begin()
    for number in range(rounds):
        router.route(log_files, number)
        drop_known(routed, known, seen)
        new_files: list[NewFile | NewParquetFile] = [
            *line_files_of(routed, settings.events_per_file, compression)
        ]
        if "parquet" in settings.output_formats:
            for file in parquet_files_of(log_files, routed):
                new_files.append(NewParquetFile(file.folder, file.content, file.rows))
                misfits += file.misfits
        if number < rounds - 1:
            files += staging.write(new_files, first_part=len(files))
        else:
            last_files = new_files
        added = _segments_of(routed, settings.bloom_false_positive)
        routed.end_round(added)
        segments += added
    staged = Staged(
        outcomes_of(log_files, routed),
        files,
        segments,
        seen,
        sum(log_file.content.size for log_file in log_files if log_file.content),
        routed.events_by_hour,
        routed.events_by_name,
        misfits,
        routed.newlines_replaced,
    )

    return lambda: staged._replace(
        files=[*files, *staging.write(last_files, first_part=len(files))]
    )


def _segments_of(routed: RoutedBatch, bloom_false_positive: float) -> list[NewSegment]:
    """Return the segments that a round adds, one for each dedup partition with new lines."""
    return [
        build_segment(name, group.keys(), routed.event_keys[name], bloom_false_positive)
        for name, group in routed.groups.items()
        if group
    ]
