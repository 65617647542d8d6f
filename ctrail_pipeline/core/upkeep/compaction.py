"""Compaction (`ctrail compact`): few files instead of many, in hours and days that are over.

A sync that runs every five minutes writes a file for each hour and run. A compaction merges the
JSONL files of an hour into one file, or as few as `events_per_file` allows, and the Parquet files
of a day into files of about 128 MB.

A compaction is a batch like any other (docs/architecture.md, The commit protocol). The merged files
are staged. One transaction puts them into the ledger beside the old files. They get their final
names. One transaction decides that the old files go. Then the old files are removed. Whatever a
killed compaction leaves, the next run finishes or drops. Only published files are merged: a file
that comes into the folder meanwhile stays as it is.

Which files are merged belongs to `files_to_merge`, how they are merged to `jsonl_merging` and
`parquet_merging`.
"""

import logging
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import chain, repeat
from typing import Final, NamedTuple

from ctrail_pipeline.core.batch.commit_outcome import (
    abandon,
    commit_took_effect,
    is_published,
    note_generation,
    stale_if_given_up,
)
from ctrail_pipeline.core.batch.lost_files import lost_files
from ctrail_pipeline.core.batch.recovery import finish_pruning
from ctrail_pipeline.core.exceptions import ConfigurationError, LedgerError
from ctrail_pipeline.core.ledger.batches import abort_batch, register_batch
from ctrail_pipeline.core.ledger.ledger import Ledger
from ctrail_pipeline.core.ledger.output_numbers import (
    holds_output,
    published_files,
    rename_output_file,
)
from ctrail_pipeline.core.ledger.presence import ledger_exists
from ctrail_pipeline.core.ledger.queries_compaction import (
    Folder,
    OldFile,
    Replacement,
    commit_compaction,
    folders_to_compact,
    is_output,
    publish_compaction,
)
from ctrail_pipeline.core.ledger.rows import InParquet, StaleBatch
from ctrail_pipeline.core.matching_ledger import claim_parquet
from ctrail_pipeline.core.output.interface import Output, Staging
from ctrail_pipeline.core.output_files import Compression, Kind, NamedFile, PublishedFile
from ctrail_pipeline.core.settings import Settings

from .files_to_merge import Limits, files_to_merge, groups_of
from .jsonl_merging import MergedFile, slices_of
from .merged_file import MergedFileToWrite
from .opened_output import opened_output

log = logging.getLogger(__name__)

CLOSED_AFTER_HOURS: Final = 26
"""Hours that an hour or a day must be over: every sync looks back over 24 hours."""
_SMALL_LINES: Final = 1_000
PARQUET_BYTES: Final = 128 * 1024 * 1024
"""Size of a full Parquet file."""
_SMALL_PARQUET_BYTES: Final = 1024 * 1024
_BATCH_BYTES: Final = 256 * 1024 * 1024
"""About how many bytes one batch merges: so much of the disk is taken twice at a time."""
_BATCH_FILES: Final = 2_000
"""About how many old files one batch merges: for half a second nobody else can write to the
ledger."""


@dataclass
class Compaction:
    """What a compaction did, or what it would do if this is a dry run."""

    folders: int = 0
    """Hours of JSONL and days of Parquet, of an account and region."""
    old_files: int = 0
    new_files: int = 0
    lines: int = 0
    """Events in JSONL. Rows of Parquet do not count: they repeat these events."""
    bytes: int = 0
    """Bytes of the old files."""
    problems: list[str] = field(default_factory=list)
    """Old files that are not as they were written; their folders stay as they are. And files that
    are lost (`core.batch.lost_files`)."""


class _Merge(NamedTuple):
    """The files of a folder that are merged, and the files that they become."""

    folder: Folder
    old: Sequence[OldFile]
    new: Sequence[MergedFileToWrite]

    @property
    def bytes(self) -> int:
        """Bytes of the old files."""
        return sum(file.size for file in self.old)

    def count_in(self, done: Compaction) -> None:
        """Add this merge to what was done."""
        done.folders += 1
        done.old_files += len(self.old)
        done.new_files += len(self.new)
        done.bytes += self.bytes
        if self.folder.kind is Kind.EVENTS:
            done.lines += sum(file.lines for file in self.old)


def compact(
    settings: Settings,
    *,
    now: datetime | None = None,
    dry_run: bool = False,
    run_id: str = "",
    observe: Callable[[str], None] = lambda _step: None,
) -> Compaction:
    """Merge the files of all folders whose hour or day is over; return what was merged.

    A dry run merges nothing, and returns what would be merged. `observe` is told each step:
    registered, staged, committed, marked, linked, published, removed. Raises LedgerError or
    OutputError; ConfigurationError if there is no ledger.
    """
    if not ledger_exists(settings.ledger):
        raise ConfigurationError(f"{settings.ledger}: there is no ledger, so nothing to compact")
    before = (now or datetime.now(UTC)) - timedelta(hours=CLOSED_AFTER_HOURS)
    done = Compaction()
    with opened_output(settings, observe=observe, recovers=not dry_run) as (ledger, output):
        if not dry_run and holds_output(ledger, Kind.PARQUET):
            claim_parquet(ledger, output)
        hour = f"{before:%Y/%m/%d/%H}"
        merges = chain(
            _of_events(ledger, output, settings, hour),
            _of_parquet(ledger, output, hour),
        )
        if dry_run:
            for merge in merges:
                merge.count_in(done)
            return done
        for batch in _batches(merges):
            _compact(ledger, output, batch, run_id, observe, done)
        done.problems += map(str, lost_files(ledger, output))
        return done


def _of_events(ledger: Ledger, output: Output, settings: Settings, before: str) -> Iterator[_Merge]:
    """Yield the merges of JSONL that are worth it, hour by hour."""
    lines_a_file = settings.events_per_file
    limits = Limits(lines_a_file, _SMALL_LINES)
    compression = Compression[settings.jsonl_compression.upper()]
    for folder in folders_to_compact(ledger, Kind.EVENTS, before, output.late_copy_seconds):
        old: list[OldFile] = []
        new: list[MergedFileToWrite] = []
        for in_parquet in InParquet:
            files = [file for file in folder.files if file.in_parquet is in_parquet]
            chosen = [files[at] for at in files_to_merge([file.lines for file in files], limits)]
            if chosen:
                slices = slices_of(_with_names(folder, chosen), repeat(lines_a_file))
                new += [MergedFile(output, folder.name, parts, compression) for parts in slices]
                old += chosen
        if old:
            yield _Merge(folder, old, new)


def _of_parquet(ledger: Ledger, output: Output, before: str) -> Iterator[_Merge]:
    """Yield the merges of Parquet that are worth it, day by day."""
    from .parquet_merging import MergedParquetFile

    limits = Limits(PARQUET_BYTES, _SMALL_PARQUET_BYTES)
    for folder in folders_to_compact(ledger, Kind.PARQUET, before, output.late_copy_seconds):
        chosen = files_to_merge([file.size for file in folder.files], limits)
        candidates = [folder.files[at] for at in chosen]
        groups = [
            [candidates[at] for at in group]
            for group in groups_of([file.size for file in candidates], PARQUET_BYTES)
        ]
        if groups:
            yield _Merge(
                folder,
                list(chain.from_iterable(groups)),
                [
                    MergedParquetFile(output, folder.name, _with_names(folder, group))
                    for group in groups
                ],
            )


def _with_names(folder: Folder, files: Sequence[OldFile]) -> list[tuple[NamedFile, OldFile]]:
    return [
        (
            PublishedFile(
                file.part, folder.kind, folder.name, file.number, file.size, file.compression
            ),
            file,
        )
        for file in files
    ]


def _batches(merges: Iterable[_Merge]) -> Iterator[list[_Merge]]:
    """Divide merges into batches of limited size."""
    batch: list[_Merge] = []
    size = files = 0
    for merge in merges:
        batch.append(merge)
        size += merge.bytes
        files += len(merge.old)
        if size >= _BATCH_BYTES or files >= _BATCH_FILES:
            yield batch
            batch = []
            size = files = 0
    if batch:
        yield batch


def _compact(
    ledger: Ledger,
    output: Output,
    merges: Sequence[_Merge],
    run_id: str,
    observe: Callable[[str], None],
    done: Compaction,
) -> None:
    """Take one batch from its registration until the old files are gone."""
    token = uuid.uuid4().hex
    batch = register_batch(ledger, token, run_id, [])
    staging = output.staging_of(token)
    try:
        observe("registered")
        staging.open()
        with stale_if_given_up(ledger, batch):
            staged = _stage(ledger, staging, merges, done)
        observe("staged")
        if not staged:
            abort_batch(ledger, batch)
            staging.remove()
            return
        published, kept = _commit(ledger, output, batch, [replacement for _, replacement in staged])
        observe("committed")
        # Written before any file is published or removed: from now on a copy of the ledger that
        # does not know the merged files is refused.
        note_generation(ledger, output)
        observe("marked")
        _publish(ledger, staging, batch, published, observe)
    except StaleBatch as stale:
        log.info("nothing of %d folders is compacted: %s", len(merges), stale)
        abandon(ledger, batch, staging)
        return
    except BaseException:
        abandon(ledger, batch, staging)
        raise
    finish_pruning(ledger, output, observe)
    for merge, _ in staged:
        if merge.folder.id not in kept:
            merge.count_in(done)


def _stage(
    ledger: Ledger, staging: Staging, merges: Sequence[_Merge], done: Compaction
) -> list[tuple[_Merge, Replacement]]:
    """Write the merged files; return the merges whose old files are all as they were written.

    What was written for other folders is removed with the staging folder.
    """
    new_files = list(chain.from_iterable(merge.new for merge in merges))
    # No folder is made: all are there, and a folder that another run prunes must not come back.
    files = iter(staging.write(new_files, make_folders=False))
    staged = []
    for merge in merges:
        new = [next(files) for _ in merge.new]
        parquet_batches = [file.parquet_batch for file in merge.new]
        problems = dict.fromkeys(file.problem for file in merge.new if file.problem)
        if not problems:
            replacement = Replacement(merge.folder.id, merge.old, new, parquet_batches)
            staged.append((merge, replacement))
        elif is_output(
            ledger, merge.folder.id, [file.number for file in merge.old]
        ):  # unless another run removed them since
            done.problems += problems
            for problem in problems:
                log.error("%s", problem)
    return staged


def _commit(
    ledger: Ledger, output: Output, batch: int, replacements: Sequence[Replacement]
) -> tuple[list[PublishedFile], set[int]]:
    """Commit; return the files to publish, and the ids of folders that are kept as they are."""
    try:
        with ledger.transaction():
            return commit_compaction(ledger, batch, replacements)
    except LedgerError:
        if not commit_took_effect(ledger, output, [batch]):
            raise
        published = published_files(ledger, batch)
        merged = {file.folder for file in published}
        kept = {
            replaced.folder_id for replaced in replacements if replaced.new[0].folder not in merged
        }
        return published, kept


def _publish(
    ledger: Ledger,
    staging: Staging,
    batch: int,
    published: Sequence[PublishedFile],
    observe: Callable[[str], None],
) -> None:
    vanished = staging.publish(
        published, partial(rename_output_file, ledger, batch), lambda _: observe("linked")
    )
    if vanished and not is_published(ledger, batch):
        raise LedgerError(
            f"batch {batch}: {len(vanished)} staged files vanished before they were published; the"
            " next run merges once more"
        )
    staging.remove()  # first, as in a recovery: see there
    with ledger.transaction():
        publish_compaction(ledger, batch)
    observe("published")
