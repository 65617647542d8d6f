"""Which keys of a listing are to be fetched: those wanted by time, and new to the ledger. Pure.

Not here: listing itself (`folder_walk`), or log files that are fetched without being listed
(`visits`).
"""

from collections.abc import Iterable, Mapping

from ctrail_pipeline.core.bucket.interface import Listed
from ctrail_pipeline.core.keys.coverage import Range, intersection
from ctrail_pipeline.core.keys.log_file_key import KeyParts
from ctrail_pipeline.core.keys.minutes import MINUTES_PER_DAY, Minute
from ctrail_pipeline.core.ledger.rows import KnownLogFile, LogFileState

from .sources import LogFileRef, Source


def is_wanted(parts: KeyParts, wanted: Range) -> bool:
    """Whether a log file's key time is in the window.

    Where the key has no time, its day decides; where it has no day either, it is wanted.
    """
    if parts.minute is not None:
        return wanted.start <= parts.minute < wanted.end
    if parts.day:
        start = parts.day * MINUTES_PER_DAY
        return bool(intersection(wanted, Range(Minute(start), Minute(start + MINUTES_PER_DAY))))
    return True


def is_new(row: KnownLogFile | None, etag: bytes, due_at: int) -> bool:
    """Whether a log file that is there is new, by the ledger's row of it.

    `etag`: of the version that is there. If it is empty, nobody knows the version: what has a row
    is not new then.
    """
    if row is None:
        return True
    is_same = not etag or row.etag == etag
    return not row.is_due(due_at) and (not is_same or row.state is LogFileState.GONE)


def new_log_files(
    source: Source,
    day: int,
    listed_log_files: Iterable[tuple[KeyParts, Listed]],
    known: Mapping[str, KnownLogFile],
    due_at: int,
) -> list[LogFileRef]:
    """The log files of one day that are to be fetched because a listing shows them.

    `known` are the ledger's rows by name. A log file that is due is left out, since it is visited
    anyway. So is one that has a row with the same etag, unless it was gone.
    """
    new = []
    for parts, listed in listed_log_files:
        row = known.get(parts.name)
        if not is_new(row, listed.etag, due_at):
            continue
        new.append(
            LogFileRef(
                source,
                day,
                parts.name,
                listed.size,
                listed.etag,
                listed.archived,
                row.known if row else None,
                0,
            )
        )
    return new
