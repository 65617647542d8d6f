"""How far each trail is, read from the ledger alone.

Nothing is listed and nothing is written. A cursor is the end of the newest stretch of key time that
is wholly done. Where nothing is delivered it stands still, so its lag is no failure by itself. Not
here: how the status is shown (`status_table`, `status_json`, `status_prometheus`).
"""

import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime

from ctrail_pipeline.core.batch.lost_files import LostFile, lost_files
from ctrail_pipeline.core.keys.coverage import cursor
from ctrail_pipeline.core.keys.left_aside import LeftAside
from ctrail_pipeline.core.keys.minutes import Minute, datetime_of
from ctrail_pipeline.core.keys.source_prefix import KINDS, SourcePrefix
from ctrail_pipeline.core.ledger.accepted import accepted_by_source
from ctrail_pipeline.core.ledger.ledger import Ledger
from ctrail_pipeline.core.ledger.parquet_batches import NotInParquet, not_in_parquet
from ctrail_pipeline.core.ledger.presence import ledger_exists
from ctrail_pipeline.core.ledger.queries_reports import (
    open_by_source,
    output_sizes,
    quarantined_by_source,
)
from ctrail_pipeline.core.ledger.rows import LogFileState, OutputSize
from ctrail_pipeline.core.ledger.source_prefixes import (
    covered_ranges,
    formerly_covered,
    missed_by_source,
    source_ids,
    source_totals,
)
from ctrail_pipeline.core.listing.left_aside import left_aside_by_trail
from ctrail_pipeline.core.listing.selection import Selection, trail_finder
from ctrail_pipeline.core.matching_ledger import check_belongs
from ctrail_pipeline.core.output.open_output import open_output
from ctrail_pipeline.core.output_files import Kind
from ctrail_pipeline.core.run.open_log_files import OpenLogFiles, SelectedLogFiles
from ctrail_pipeline.core.settings import Settings

from .queue_status import QueueStatus, read_queues

NOT_CONFIGURED = "(not configured)"
_AT_ANY_TIME = 1 << 62


@dataclass(frozen=True)
class PartitionStatus:
    """One account and region of a trail, over all kinds."""

    trail: str
    account: str
    region: str
    cursor: datetime | None
    """None means that no stretch of time is wholly done yet. Where there are several kinds, the
    first of `core.keys.source_prefix.KINDS` counts."""
    lag_seconds: float | None
    log_files: int
    """Committed log files."""
    events: int
    """Events that these log files brought, without duplicates. Pruned events count, too."""
    newest_event: str | None
    failed: int
    """Log files that failed. They are tried again."""
    damaged: int
    waiting: int
    """Log files that a look at the bucket found and no run has fetched yet."""
    archived: int
    gone: int
    quarantined: int
    """Records in quarantine."""
    accepted: int
    """Log files that could not be brought in, and that people settled as they are. No other count
    holds them."""
    missed: int
    """Log files that were found by listing, though a notification should have named them."""


@dataclass(frozen=True)
class OutputStatus:
    """What lies on disk for one account and region, whichever trail it came from."""

    account: str
    region: str
    files: int
    events: int
    bytes: int
    pruned_files: int
    parquet_files: int
    parquet_bytes: int
    """Bytes of the files in `parquet_dir`, which hold the same events."""


@dataclass(frozen=True)
class Status:
    """The status of all trails and of the output."""

    partitions: list[PartitionStatus] = field(default_factory=list)
    output: list[OutputStatus] = field(default_factory=list)
    quarantine_bytes: int = 0
    ledger_bytes: int = 0
    ledger_cold_bytes: dict[str, int] = field(default_factory=dict)
    """By year: the part of `ledger_bytes` that cold rows take. Empty where the ledger is a file."""
    left_aside: dict[str, LeftAside] = field(default_factory=dict)
    """By trail: what runs saw and did not bring in."""
    open_log_files: OpenLogFiles = field(default_factory=OpenLogFiles)
    """What stands open of the configured trails; log files that wait for a run are among them."""
    never_synced: list[str] = field(default_factory=list)
    """Configured trails of which the ledger knows nothing."""
    lost_files: list[LostFile] = field(default_factory=list)
    """Files that vanished before they were published, and could not be made again."""
    not_in_parquet: NotInParquet | None = None
    """Events that are in the JSONL only. None unless Parquet is configured."""
    queues: list[QueueStatus] = field(default_factory=list)


def read_status(settings: Settings) -> Status:
    """Return the status that the ledger has.

    Raises LedgerError if the ledger cannot be trusted or read.
    """
    if not ledger_exists(settings.ledger):
        return Status(never_synced=[trail.name for trail in settings.trails])
    with closing(Ledger(settings.ledger)) as ledger:
        output_place = open_output(settings)
        check_belongs(ledger, output_place)
        partitions = list(_partitions(settings, ledger))
        left_aside = left_aside_by_trail(settings, Selection(), ledger)
        parquet = {size.folder: size for size in output_sizes(ledger, Kind.PARQUET)}
        no_files = OutputSize("", 0, 0, 0, 0)
        output = [
            _output(size, parquet.get(size.folder, no_files))
            for size in output_sizes(ledger, Kind.EVENTS)
        ]
        queues = read_queues(settings, ledger)
        open_log_files = SelectedLogFiles(ledger, settings, Selection()).open(_AT_ANY_TIME)
        ledger_bytes, cold_bytes = ledger.size(), ledger.cold_reader.bytes_by_year()
        quarantine_bytes = sum(size.bytes for size in output_sizes(ledger, Kind.QUARANTINE))
        lost = lost_files(ledger, output_place)
        writes_parquet = "parquet" in settings.output_formats
        lacking = not_in_parquet(ledger) if writes_parquet else None
    names = {partition.trail for partition in partitions}
    return Status(
        sorted(partitions, key=lambda status: (status.trail, status.account, status.region)),
        output,
        quarantine_bytes,
        ledger_bytes,
        cold_bytes,
        left_aside,
        open_log_files,
        [trail.name for trail in settings.trails if trail.name not in names],
        lost,
        lacking,
        queues,
    )


def _partitions(settings: Settings, ledger: Ledger) -> Iterator[PartitionStatus]:
    """Yield the status of each account and region, over all its source prefixes."""
    partitions = _by_partition(settings, ledger)  # first: a run may register more meanwhile
    cursors, totals = _cursors(ledger), source_totals(ledger)
    open_by_state, quarantined = open_by_source(ledger), quarantined_by_source(ledger)
    accepted, missed = accepted_by_source(ledger), missed_by_source(ledger)
    now = time.time()
    for (trail, account, region), of_partition in partitions.items():
        ids = list(of_partition.values())
        end = _cursor_of(of_partition, cursors)
        states: Counter[LogFileState] = Counter()
        for id_ in ids:
            states.update(open_by_state.get(id_, {}))
        yield PartitionStatus(
            trail,
            account,
            region,
            None if end is None else datetime_of(end),
            None if end is None else max(0.0, now - end * 60),
            sum(totals[id_].log_files for id_ in ids),
            sum(totals[id_].events for id_ in ids),
            max((totals[id_].last_event or "" for id_ in ids), default="") or None,
            states[LogFileState.FAILED],
            states[LogFileState.DAMAGED],
            states[LogFileState.FOUND],
            states[LogFileState.ARCHIVED],
            states[LogFileState.GONE],
            sum(quarantined.get(id_, 0) for id_ in ids),
            sum(accepted.get(id_, 0) for id_ in ids),
            sum(missed[id_][0] for id_ in ids if id_ in missed),
        )


def _by_partition(
    settings: Settings, ledger: Ledger
) -> dict[tuple[str, str, str], dict[SourcePrefix, int]]:
    """Return the source prefixes with their ids, by trail, account and region."""
    trail_of = trail_finder(settings.trails)
    partitions: dict[tuple[str, str, str], dict[SourcePrefix, int]] = {}
    for source_prefix, id_ in source_ids(ledger).items():
        trail = trail_of(source_prefix)
        name = _unconfigured(source_prefix) if trail is None else trail.name
        key = name, source_prefix.account, source_prefix.region
        partitions.setdefault(key, {})[source_prefix] = id_
    return partitions


def _cursors(ledger: Ledger) -> dict[int, Minute]:
    """Return the cursor of each source prefix, by whichever listing rule it was covered."""
    ranges = formerly_covered(ledger)
    for id_, covered in covered_ranges(ledger).items():
        ranges.setdefault(id_, []).extend(covered)
    return {id_: end for id_, covered in ranges.items() if (end := cursor(covered)) is not None}


def _cursor_of(
    source_prefixes: Mapping[SourcePrefix, int], cursors: dict[int, Minute]
) -> Minute | None:
    """Return the cursor of an account and region: that of its most frequent kind.

    Other kinds are delivered rarely, so their cursors stand still.
    """
    kind = min((prefix.kind for prefix in source_prefixes), key=KINDS.index)
    ends = [cursors.get(id_) for prefix, id_ in source_prefixes.items() if prefix.kind == kind]
    return max((end for end in ends if end is not None), default=None)


def _unconfigured(source_prefix: SourcePrefix) -> str:
    """Return what stands for the trail of a source prefix that no configured trail covers."""
    prefix = f"/{source_prefix.prefix}" if source_prefix.prefix else ""
    return f"{NOT_CONFIGURED} {source_prefix.bucket}{prefix}"


def _output(size: OutputSize, parquet: OutputSize) -> OutputStatus:
    account, _, region = size.folder.partition("/")
    return OutputStatus(
        account,
        region,
        size.files,
        size.lines,
        size.bytes,
        size.pruned_files + parquet.pruned_files,
        parquet.files,
        parquet.bytes,
    )
