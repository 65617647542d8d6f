"""When a log file that failed, or is damaged or archived, is tried again by a later run. Pure.

Tries of one request follow each other at once: see `core.bucket.s3_retry`.
"""

from typing import Final

from ctrail_pipeline.core.ledger.rows import LONGEST_PAUSE_SECONDS, LogFileState

_VISIT_AFTER_SECONDS: Final = (0, 300, 1_800, 7_200, 21_600, LONGEST_PAUSE_SECONDS)
"""Seconds after which a log file that failed or is damaged is tried again, by number of tries."""


def next_visit(state: LogFileState, attempts: int, now: int) -> int | None:
    """Return when a log file is to be tried again (seconds since 1970).

    None means not before the log file changes.
    """
    if state in (LogFileState.COMMITTED, LogFileState.GONE):
        return None
    if state is LogFileState.ARCHIVED:
        return now + _VISIT_AFTER_SECONDS[-1]
    return now + _VISIT_AFTER_SECONDS[min(attempts, len(_VISIT_AFTER_SECONDS)) - 1]
