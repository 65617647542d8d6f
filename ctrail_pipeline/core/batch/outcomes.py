"""What the ledger will say of each log file of a batch, and when the log file is tried again."""

import time
from collections.abc import Sequence
from typing import Final

from ctrail_pipeline.core.ledger.rows import LogFileState, Outcome

from .content import LogFileInBatch
from .routing import RoutedBatch

_VISIT_AFTER_SECONDS: Final = (0, 300, 1_800, 7_200, 21_600, 86_400)
"""When a log file that failed or is damaged is tried again, by the number of tries so far."""


def outcomes_of(log_files: Sequence[LogFileInBatch], routed: RoutedBatch) -> list[Outcome]:
    """What the ledger will say of each log file."""
    now = int(time.time())
    outcomes = []
    for position, one in enumerate(log_files):
        ref = one.ref
        attempts = 0 if one.state is LogFileState.COMMITTED else ref.attempts + 1
        outcomes.append(
            Outcome(
                source_id=ref.source.id,
                day=ref.day,
                name=ref.name,
                expected=ref.expected,
                etag=one.etag,
                size=one.size,
                sha256=one.content.sha256 if one.content else None,
                records=routed.records.get(position, 0),
                duplicates=routed.duplicates.get(position, 0),
                quarantined=routed.quarantined.get(position, 0),
                conflicts=routed.conflicts.get(position, 0),
                state=one.state,
                attempts=attempts,
                next_visit=next_visit(one.state, attempts, now),
                reason=one.reason,
                position=position,
                times=routed.times.get(position),
                bytes_out=routed.bytes_out.get(position, 0),
                may_pass=one.may_pass,
                has_lines=position in routed.with_lines,
            )
        )
    return outcomes


def next_visit(state: LogFileState, attempts: int, now: int) -> int | None:
    """When a log file is to be tried again (seconds since 1970); None: not until it changes."""
    if state in (LogFileState.COMMITTED, LogFileState.GONE):
        return None
    if state is LogFileState.ARCHIVED:
        return now + _VISIT_AFTER_SECONDS[-1]
    return now + _VISIT_AFTER_SECONDS[min(attempts, len(_VISIT_AFTER_SECONDS)) - 1]
