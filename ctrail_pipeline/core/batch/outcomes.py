"""The outcome of each log file of a batch, as its row of the ledger says it."""

import time
from collections.abc import Sequence

from ctrail_pipeline.core.ledger.rows import LogFileState, Outcome

from .content import LogFileInBatch
from .retry_schedule import next_visit
from .routed_batch import RoutedBatch


def outcomes_of(log_files: Sequence[LogFileInBatch], routed: RoutedBatch) -> list[Outcome]:
    """Return the outcome of each log file."""
    now = int(time.time())
    outcomes = []
    for position, log_file in enumerate(log_files):
        ref = log_file.ref
        state, reason = _state_of(log_file, routed, position)
        attempts = 0 if state is LogFileState.COMMITTED else ref.attempts + 1
        outcomes.append(
            Outcome(
                source_id=ref.source.id,
                day=ref.day,
                name=ref.name,
                expected=ref.expected,
                etag=log_file.etag,
                size=log_file.size,
                sha256=_hash_of(log_file, state),
                records=routed.records.get(position, 0),
                duplicates=routed.duplicates.get(position, 0),
                quarantined=routed.quarantined.get(position, 0),
                conflicts=routed.conflicts.get(position, 0),
                state=state,
                attempts=attempts,
                next_visit=next_visit(state, attempts, now),
                reason=reason,
                position=position,
                times=routed.times.get(position),
                bytes_out=routed.bytes_out.get(position, 0),
                may_pass=log_file.may_pass,
                has_lines=position in routed.with_lines,
            )
        )
    return outcomes


def _state_of(
    log_file: LogFileInBatch, routed: RoutedBatch, position: int
) -> tuple[LogFileState, str | None]:
    """Return the state of a log file, and its reason.

    A log file is damaged, too, if it has records and none of them became an event.
    """
    quarantined = routed.quarantined.get(position, 0)
    is_readable = log_file.state is LogFileState.COMMITTED
    if is_readable and quarantined and not routed.records.get(position, 0):
        reason = (
            f"none of its {quarantined} records became an event; the first:"
            f" {routed.first_reasons[position]}"
        )
        return LogFileState.DAMAGED, reason
    return log_file.state, log_file.reason


def _hash_of(log_file: LogFileInBatch, state: LogFileState) -> bytes | None:
    """Return the SHA-256 that the ledger keeps of a log file; None unless it was read in full.

    Of a damaged log file the hash would cover the readable part only, or what is in quarantine.
    """
    if log_file.content is None or state is not LogFileState.COMMITTED:
        return None
    return log_file.content.sha256
