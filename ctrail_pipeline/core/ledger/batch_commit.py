"""The transaction that makes a batch true, and everything that it must be sure of.

A batch is committed only if it is still staging, no other run settled one of its log files, and no
segment that its dedup did not know of holds one of its records (docs/architecture.md, The commit
protocol). No file of the output is touched here.
"""

import json
import time
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Final

from ctrail_pipeline.core.output_files import PublishedFile, StagedFile

from .known_identities import IDENTITIES_AHEAD
from .ledger import Ledger
from .log_files import check_log_files, put_log_files
from .output_numbers import put_output_files
from .packed_identities import held_among, split_identities
from .rows import (
    BatchState,
    LogFileState,
    NewSegment,
    Outcome,
    Segment,
    StaleBatch,
)
from .segments import LedgerSegments, put_segments

_FIRST_QUESTION: Final = (
    "SELECT state, EXISTS (SELECT 1 FROM accepted_log_file) FROM batch WHERE id = ?"
)
"""What a commit asks that needs few rows, in one round trip."""


def commit_batch(
    ledger: Ledger,
    batch: int,
    outcomes: Sequence[Outcome],
    staged: Sequence[StagedFile],
    segments: Sequence[NewSegment],
    seen: dict[str, int],
) -> list[PublishedFile]:
    """Make a batch true. Inside a transaction, whose COMMIT decides.

    `seen` says which segments the batch's dedup knew of. Returns the final names.
    Raises StaleBatch if the batch was aborted, if another run settled one of its log files, or if a
    segment that its dedup did not know of holds one of its records.
    """
    state, any_accepted = ledger.row(_FIRST_QUESTION, batch)
    if state != BatchState.STAGING:
        raise StaleBatch("the batch is no longer staging")
    committed_before = check_log_files(ledger, outcomes)
    _check_segments(LedgerSegments(ledger), segments, seen)
    _count_by_source(ledger, outcomes, committed_before)
    put_log_files(ledger, batch, outcomes, any_accepted=bool(any_accepted))
    put_segments(ledger, batch, segments)
    published = put_output_files(ledger, batch, staged)
    ledger.advance_generation()
    sources = sorted({(outcome.source_id, outcome.day) for outcome in outcomes})
    ledger.execute_many(
        "UPDATE batch SET state = ?, committed_at = ?, log_files = ?, sources = ? WHERE id = ?",
        [(BatchState.COMMITTED, int(time.time()), len(outcomes), json.dumps(sources), batch)],
    )
    return published


def _check_segments(
    present: LedgerSegments, segments: Sequence[NewSegment], seen: dict[str, int]
) -> None:
    """Raise StaleBatch if a segment that the batch's dedup did not know of holds its records."""
    known = {new.partition: seen[new.partition] for new in segments}
    few_newer = present.few_newer(known, IDENTITIES_AHEAD)
    for new in segments:
        newer: Iterable[Segment] = (
            few_newer[new.partition]
            if new.partition in few_newer
            else present.all_newer(new.partition, known[new.partition])
        )
        identities: set[bytes] | None = None
        for segment in newer:
            identities = identities or set(split_identities(new.identities))
            held = segment.identities or present.segment_identities(segment.id)
            if held_among(identities, held):
                raise StaleBatch("another batch wrote some of these events")


def _count_by_source(
    ledger: Ledger, outcomes: Sequence[Outcome], committed_before: set[int]
) -> None:
    """Add a batch to the totals of its source prefixes.

    `committed_before` are positions of log files that count already.
    """
    committed = LogFileState.COMMITTED
    rows = []
    by_source = sorted(outcomes, key=lambda outcome: outcome.source_id)
    for source_id, group in groupby(by_source, key=lambda outcome: outcome.source_id):
        of_source = list(group)
        times = [outcome.times for outcome in of_source if outcome.times]
        rows.append(
            (
                sum(outcome.state is committed or outcome.leaves_committed for outcome in of_source)
                - sum(outcome.position in committed_before for outcome in of_source),
                sum(outcome.records - outcome.duplicates for outcome in of_source),
                *(min((first for first, _ in times), default=None),) * 2,
                *(max((last for _, last in times), default=None),) * 2,
                source_id,
            )
        )
    ledger.execute_many(
        "UPDATE source_prefix SET log_files = log_files + ?, events = events + ?,"
        " first_event = CASE WHEN first_event <= ? THEN first_event"
        " ELSE coalesce(?, first_event) END,"
        " last_event = CASE WHEN last_event >= ? THEN last_event ELSE coalesce(?, last_event) END"
        " WHERE id = ?",
        rows,
    )
