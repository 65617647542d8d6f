"""One batch, up to its staging folder: split log files, route records, drop what is known, stage.

Nothing of a batch counts before it is committed (`commit`), so none of this needs undoing. It reads
the ledger and never writes to it: it may run in a worker process.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby, islice
from operator import attrgetter
from typing import TYPE_CHECKING, Final, NamedTuple

from ctrail_pipeline.core.ledger.dedup import (
    DedupPartition,
    KnownIdentities,
    NewSegment,
    build_segment,
    held_among,
)
from ctrail_pipeline.core.ledger.rows import Outcome
from ctrail_pipeline.core.log_file.identity import (
    EVENT_KEY_BYTES,
)
from ctrail_pipeline.core.log_file.long_lines import (
    LongLine,
)
from ctrail_pipeline.core.output.new_files import NewFile, NewParquetFile
from ctrail_pipeline.core.output.staging import Staging
from ctrail_pipeline.core.output_files import Kind, StagedFile
from ctrail_pipeline.core.settings import Settings

from .content import LogFileInBatch
from .outcomes import outcomes_of
from .routing import OutputLine, RoutedBatch, parts_of_round, route

if TYPE_CHECKING:
    from ctrail_pipeline.core.output.parquet import ParquetFile

_EVENT_KEY: Final = attrgetter("event_key")
_POSITION: Final = attrgetter("position")


class Staged(NamedTuple):
    """A batch that lies in its staging folders, and what its transaction will write."""

    outcomes: list[Outcome]
    files: list[StagedFile]
    segments: list[NewSegment]
    seen: dict[str, int]
    """The newest segment of each dedup partition that the batch's dedup knew of."""
    removed: int
    """The ledger's count of removed segments then."""
    bytes_in: int
    """Uncompressed bytes of its log files."""
    events_by_hour: Counter[str]
    events_by_name: Counter[str]
    misfits: int
    """Rows of its Parquet files of which something is in `_other`."""


def stage(
    log_files: Sequence[LogFileInBatch],
    staging: Staging,
    known: KnownIdentities,
    settings: Settings,
) -> Staged:
    """Drop what the ledger has already, write the rest into the staging folders."""
    return prepare(log_files, staging, known, settings)()


def prepare(
    log_files: Sequence[LogFileInBatch],
    staging: Staging,
    known: KnownIdentities,
    settings: Settings,
) -> Callable[[], Staged]:
    """The same up to what is left to be written, which the result does when it is called.

    That asks nothing of the ledger, so it may be another thread's to do.
    """
    routed = RoutedBatch()
    files: list[StagedFile] = []
    segments: list[NewSegment] = []
    seen: dict[str, int] = {}
    misfits = 0
    last: list[NewFile | NewParquetFile] = []
    rounds = max((one.rounds for one in log_files), default=0)
    known.begin()
    for number in range(rounds):
        route(routed, parts_of_round(log_files, number), settings, staging.folders.scatter_limit)
        drop_known(routed, known, seen)
        new: list[NewFile | NewParquetFile] = [*output_files(routed, settings.events_per_file)]
        if "parquet" in settings.output_formats:
            for file in _parquet_files(log_files, routed):
                new.append(NewParquetFile(file.folder, file.content, file.rows))
                misfits += file.misfits
        if number < rounds - 1:
            files += staging.write(new, first_part=len(files))
        else:
            last = new
        added = [
            build_segment(
                name,
                group.keys(),
                routed.event_keys[name],
                settings.bloom_false_positive,
            )
            for name, group in routed.groups.items()
            if group
        ]
        routed.end_round(added)
        segments += added
    staged = Staged(
        outcomes_of(log_files, routed),
        files,
        segments,
        seen,
        known.removed,
        sum(one.content.size for one in log_files if one.content),
        routed.events_by_hour,
        routed.events_by_name,
        misfits,
    )

    return lambda: staged._replace(files=[*files, *staging.write(last, first_part=len(files))])


def drop_known(routed: RoutedBatch, known: KnownIdentities, seen: dict[str, int]) -> None:
    """Drop the lines that the ledger or an earlier round has, and count what the new ones come to.

    Notes in `seen` up to which segment each dedup partition was looked at, by the first round that
    did, for the commit to check.
    """
    for name, group in routed.groups.items():
        if not group:
            continue
        partition = known.partition(name)
        seen.setdefault(name, partition.version)
        dropped = partition.known_among(group.keys())
        for segment in routed.earlier.get(name, ()):
            dropped |= held_among(group.keys(), segment.identities)
        for identity in dropped:
            line = group.pop(identity)
            if line.kind is Kind.EVENTS:
                routed.duplicates[line.position] = routed.duplicates.get(line.position, 0) + 1
        lines = [line for line in group.values() if line.event_key]
        event_keys = set(map(_EVENT_KEY, lines))
        _count_conflicts(routed, name, lines, event_keys, partition)
        routed.event_keys[name] = event_keys


def _count_conflicts(
    routed: RoutedBatch,
    name: str,
    lines: Sequence[OutputLine],
    event_keys: set[bytes],
    partition: DedupPartition,
) -> None:
    """Count new events whose eventID another one has too: a forgery, or AWS's mistake."""
    taken = partition.event_keys_among(event_keys)
    for segment in routed.earlier.get(name, ()):
        taken |= held_among(event_keys, segment.event_keys, EVENT_KEY_BYTES)
    if not taken and len(event_keys) == len(lines):
        return
    for line in lines:
        if line.event_key in taken:
            routed.conflicts[line.position] = routed.conflicts.get(line.position, 0) + 1
        taken.add(line.event_key)


def output_files(routed: RoutedBatch, lines_a_file: int) -> list[NewFile]:
    """The files that hold a round's lines, in the order of their log files.

    Notes the log files that they came from, and counts, by log file, the bytes of its new events.
    """
    by_folder: dict[tuple[Kind, str], list[OutputLine]] = {}
    for group in routed.groups.values():
        folder = None
        together: list[OutputLine] = []
        for line in group.values():
            if line.folder is not folder:
                folder = line.folder
                together = by_folder.setdefault((line.kind, folder), [])
            together.append(line)
    files = []
    for (kind, folder), lines in by_folder.items():
        lines.sort(key=_POSITION)
        for at in range(0, len(lines), lines_a_file):
            some = lines[at : at + lines_a_file]
            texts = [line.line for line in some]
            runs = [(position, len(list(run))) for position, run in groupby(map(_POSITION, some))]
            files.append(NewFile(kind, folder, texts, runs))
            routed.with_lines.update(position for position, _ in runs)
            if kind is Kind.EVENTS:
                _count_bytes(routed, texts, runs)
    return files


def _count_bytes(
    routed: RoutedBatch, texts: Sequence[bytes | LongLine], runs: Sequence[tuple[int, int]]
) -> None:
    sizes = map(len, texts)
    for position, lines in runs:
        size = sum(islice(sizes, lines)) + lines
        routed.bytes_out[position] = routed.bytes_out.get(position, 0) + size


def _parquet_files(
    log_files: Sequence[LogFileInBatch], routed: RoutedBatch
) -> Iterator["ParquetFile"]:
    """The events among a batch's lines once more, as rows."""
    # Here, as most runs write none: it costs each process 5 ms.
    from ctrail_pipeline.core.output.parquet import ParquetRecord, parquet_files, parquet_folder

    events = [
        line
        for group in routed.groups.values()
        for line in group.values()
        if line.kind is Kind.EVENTS
    ]
    folders = {folder: parquet_folder(folder) for folder in {line.folder for line in events}}
    records = [
        ParquetRecord(
            folders[line.folder], line.time, _bytes_of(line.line), line.position, line.index
        )
        for line in events
    ]
    sources = [(one.ref.source.source_prefix.bucket, one.ref.key) for one in log_files]
    return parquet_files(records, sources)


def _bytes_of(line: bytes | LongLine) -> bytes:
    return bytes(line) if isinstance(line, LongLine) else line
