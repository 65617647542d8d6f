"""Millions of older events in a ledger, as if they had been synced; no log file and no output.

They are written with the ledger's own methods, batch by batch. So rows, segments and indexes are
what real runs leave. Each batch is 400 consecutive log files of one account and region, of eight
events each, eight log files to an hour.
"""

import os
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import Final

from ctrail_pipeline.core.keys.coverage import Range
from ctrail_pipeline.core.keys.minutes import Minute, datetime_of, minute_of
from ctrail_pipeline.core.keys.source_prefix import SourcePrefix
from ctrail_pipeline.core.ledger.batch_commit import commit_batch
from ctrail_pipeline.core.ledger.batches import mark_published, register_batch
from ctrail_pipeline.core.ledger.dedup_partition import dedup_partition
from ctrail_pipeline.core.ledger.ledger import Ledger
from ctrail_pipeline.core.ledger.packed_identities import split_identities
from ctrail_pipeline.core.ledger.rows import LogFileState, NewSegment, Outcome
from ctrail_pipeline.core.ledger.segment_building import build_segment
from ctrail_pipeline.core.ledger.source_prefixes import cover, source_ids
from ctrail_pipeline.core.line_runs import pack_lineage
from ctrail_pipeline.core.log_file.identity import EVENT_KEY_BYTES, IDENTITY_BYTES
from ctrail_pipeline.core.output_files import Kind, StagedFile

_LOG_FILES_A_BATCH: Final = 400
_LOG_FILES_AN_HOUR: Final = 8
_EVENTS_A_LOG_FILE: Final = 8
_LINE_BYTES: Final = 1_450
_STORED_BYTES: Final = 2_300
_FALSE_POSITIVE: Final = 0.001
_HOURS_A_BATCH: Final = _LOG_FILES_A_BATCH // _LOG_FILES_AN_HOUR


@dataclass
class History:
    """The counts of what was added."""

    events: int = 0
    log_files: int = 0
    segments: int = 0
    batches: int = 0


def add_history(path: Path, events: int, before: datetime, say: Callable[[str], None]) -> History:
    """Add at least so many events, of days before `before`, to all source prefixes of a ledger."""
    added = History()
    ledger = Ledger(path)
    try:
        sources = list(source_ids(ledger).items())
        newest_day = int(before.timestamp()) // 86_400 - 2
        published: list[int] = []
        for source, source_id, day in _turns(sources, newest_day):
            if added.events >= events:
                break
            batch = register_batch(ledger, uuid.uuid4().hex, "history", published)
            _commit(ledger, batch, source, source_id, day, added)
            published = [batch]
            if added.batches % 1_000 == 0:
                say(f"history: {added.events:,} events")
        with ledger.transaction():
            mark_published(ledger, published)
            for _, source_id in sources:
                cover(ledger, {source_id: [Range(Minute(0), minute_of(before))]})
    finally:
        ledger.close()
    return added


def _turns(
    sources: list[tuple[SourcePrefix, int]], newest_day: int
) -> Iterator[tuple[SourcePrefix, int, int]]:
    """A batch of every source prefix, then an older one of every source prefix, and so on."""
    for number in count():
        for source, source_id in sources:
            yield source, source_id, newest_day - (number + 1) * (_HOURS_A_BATCH // 24 + 1)


def _commit(
    ledger: Ledger, batch: int, source: SourcePrefix, source_id: int, day: int, added: History
) -> None:
    hours = [day * 24 + number for number in range(_HOURS_A_BATCH)]
    outcomes = [
        _outcome(source_id, hour, number, position * _LOG_FILES_AN_HOUR + number)
        for position, hour in enumerate(hours)
        for number in range(_LOG_FILES_AN_HOUR)
    ]
    segments = [_segment(source, hour) for hour in hours]
    files = [_file(source, hour, position) for position, hour in enumerate(hours)]
    with ledger.transaction():
        seen = {segment.partition: 0 for segment in segments}
        commit_batch(
            ledger,
            batch,
            outcomes,
            files,
            segments,
            seen,
        )
    added.batches += 1
    added.log_files += len(outcomes)
    added.segments += len(segments)
    added.events += sum(segment.size for segment in segments)


def _outcome(source_id: int, hour: int, number: int, position: int) -> Outcome:
    return Outcome(
        source_id=source_id,
        day=hour // 24,
        name=f"{hour % 24:02d}{number * 5:02d}{os.urandom(8).hex()}",
        expected=None,
        etag=os.urandom(16),
        size=_STORED_BYTES,
        sha256=os.urandom(32),
        records=_EVENTS_A_LOG_FILE,
        duplicates=0,
        quarantined=0,
        conflicts=0,
        state=LogFileState.COMMITTED,
        attempts=0,
        next_visit=None,
        reason=None,
        position=position,
        times=(f"{_hour(hour):%Y-%m-%dT%H:00:00Z}", f"{_hour(hour):%Y-%m-%dT%H:59:59Z}"),
        bytes_out=_EVENTS_A_LOG_FILE * _LINE_BYTES,
    )


def _segment(source: SourcePrefix, hour: int) -> NewSegment:
    events = _LOG_FILES_AN_HOUR * _EVENTS_A_LOG_FILE
    return build_segment(
        dedup_partition(source.account, source.region, f"{_hour(hour):%Y/%m/%d/%H}"),
        split_identities(os.urandom(events * IDENTITY_BYTES)),
        split_identities(os.urandom(events * EVENT_KEY_BYTES), EVENT_KEY_BYTES),
        _FALSE_POSITIVE,
    )


def _file(source: SourcePrefix, hour: int, position: int) -> StagedFile:
    events = _LOG_FILES_AN_HOUR * _EVENTS_A_LOG_FILE
    first = position * _LOG_FILES_AN_HOUR
    return StagedFile(
        position,
        Kind.EVENTS,
        f"{source.account}/{source.region}/{_hour(hour):%Y/%m/%d/%H}",
        events,
        events * _LINE_BYTES,
        os.urandom(32),
        pack_lineage((first + number, _EVENTS_A_LOG_FILE) for number in range(_LOG_FILES_AN_HOUR)),
    )


def _hour(hour: int) -> datetime:
    return datetime_of(hour * 60)
