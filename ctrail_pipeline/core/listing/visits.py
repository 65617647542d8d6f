"""Log files that are fetched without being listed: the ledger has them as due.

A look at the bucket has found them, or they failed before and are to be tried again.
Not here: when a log file is due (`KnownLogFile.is_due`), or how long a failed one waits
(`core.batch.outcomes`).
"""

from collections.abc import Iterator, Sequence
from itertools import groupby

from ctrail_pipeline.core.bucket.interface import PAGE_SIZE
from ctrail_pipeline.core.keys.log_file_key import parse_key
from ctrail_pipeline.core.ledger.rows import LogFileState, Visit

from .known_log_files import KnownLogFiles
from .new_log_files import is_wanted
from .sources import LogFileRef, Source


def due_log_files(
    ledger: KnownLogFiles, sources: Sequence[Source], due_at: int, day: int
) -> Iterator[list[LogFileRef]]:
    """The due log files of one day that are in these sources and in their times, page by page.

    Each list holds log files of one source.
    """
    by_id = {source.id: source for source in sources}
    after = (0, "")
    while visits := ledger.due_visits(due_at, day, after, PAGE_SIZE):
        after = visits[-1].source_id, visits[-1].name
        for source_id, group in groupby(visits, key=lambda visit: visit.source_id):
            source = by_id.get(source_id)
            refs = [] if source is None else [_to_fetch(source, visit) for visit in group]
            refs = [ref for ref in refs if _is_wanted(ref)]
            if refs:
                yield refs


def _to_fetch(source: Source, visit: Visit) -> LogFileRef:
    """A due log file: the version that a look found, else whatever version is there by now."""
    is_found = visit.known.state is LogFileState.FOUND
    return LogFileRef(
        source,
        visit.day,
        visit.name,
        visit.size,
        (visit.known.etag or None) if is_found else None,  # not each message has an etag
        visit.archived and is_found,
        visit.known,
        visit.attempts,
    )


def _is_wanted(ref: LogFileRef) -> bool:
    return is_wanted(parse_key(ref.source.source_prefix, ref.key), ref.source.wanted)
