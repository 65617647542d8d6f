"""Moving cold rows out of the ledger's hot tables, into cold files or months, once a day.

Cold are the rows of log files of a day that is covered and lies behind the horizon, if the log
files are committed and nothing about them is open. Cold are also the segments of such hours.

Moving is safe beside other runs and at any instant. A cold file counts from the transaction on that
takes its rows out and names it. In PostgreSQL, a transaction moves rows to the tables of their
months. Readers look at the hot tables first, and then at what the ledger names. A batch that might
still be taken back stays hot, and so does every batch after it.
"""

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, NamedTuple

from ctrail_pipeline.core.keys.coverage import Range
from ctrail_pipeline.core.keys.minutes import MINUTES_PER_DAY, Minute, minute_of
from ctrail_pipeline.core.ledger.ledger import Ledger
from ctrail_pipeline.core.ledger.queries_cold import (
    ColdDay,
    ColdSegment,
    cold_days,
    cold_files,
    cold_moved_at,
    cold_segments,
    move_cold,
    note_cold_moved,
    settled_before,
)
from ctrail_pipeline.core.ledger.source_prefixes import covered_ranges

log = logging.getLogger(__name__)

_EVERY_SECONDS: Final = 86_400
_DAYS_BEHIND: Final = 2
"""Days behind the horizon that stay hot, too: a deep listing may still look at them."""
WORTHWHILE: Final = 10_000
"""The fewest log files or segments for which a cold file is made: readers look through all cold
files, so there should be few."""
_AT_ONCE: Final = 50_000
"""Days of source prefixes, and segments, that are looked at together: 20 MB of memory."""


class Portion(NamedTuple):
    """How much moves in one transaction, in which nobody else can write to the ledger."""

    log_files: int
    identities: int


_A_FILE: Final = Portion(200_000, 1_000_000)
"""One cold file: 20 MB of log files, and two seconds; and 24 MB of identities, twice as much if the
last segment is a large merged one."""
_OF_MONTHS: Final = Portion(5_000, 100_000)
"""In PostgreSQL, where the transaction writes the rows, too: a sixth of a second, measured."""


def move_cold_rows(ledger: Ledger, horizon_days: int, seconds: float = 30.0) -> int:
    """Move cold rows for about so many seconds; return in how many portions, each a cold file.

    A later run moves the rest.
    """
    started, now = time.monotonic(), time.time()
    if abs(now - cold_moved_at(ledger)) < _EVERY_SECONDS:
        return 0
    made = 0
    portion = _OF_MONTHS if ledger.cold_folder is None else _A_FILE
    kept_day, kept_hour = first_kept(now, horizon_days)
    bound = settled_before(ledger, int(now) - _EVERY_SECONDS)
    while True:
        days = _covered(cold_days(ledger, kept_day, bound, _AT_ONCE), ledger)
        segments = cold_segments(ledger, kept_hour, bound, _AT_ONCE)
        if max(sum(day.log_files for day in days), len(segments)) < WORTHWHILE:
            break
        moved = 0
        for file_days, file_segments in _portions(days, segments, portion):
            if time.monotonic() - started > seconds:
                return made
            moved += move_cold(ledger, file_days, file_segments, bound)
        made += moved
        if not moved or max(len(days), len(segments)) < _AT_ONCE:
            break
    if ledger.cold_folder is not None:
        _remove_leftovers(ledger, ledger.cold_folder, now)
    note_cold_moved(ledger, int(now))
    return made


def first_kept(now: float, horizon_days: int) -> tuple[int, str]:
    """The first day (since 1970) and the first hour (`YYYY/MM/DD/HH`) that are not cold.

    `now`: seconds since 1970. They are cut to whole seconds first: as a float, a time just before
    midnight is rounded up into the next day.
    """
    moment = datetime.fromtimestamp(int(now), UTC) - timedelta(days=horizon_days + _DAYS_BEHIND)
    return minute_of(moment) // MINUTES_PER_DAY, moment.strftime("%Y/%m/%d/%H")


def _remove_leftovers(ledger: Ledger, folder: Path, now: float) -> None:
    """Remove cold files that the ledger does not name, unless another run may be about to.

    Files are removed inside a transaction: whoever names a file later checks that it is there.
    """
    paths = [path for path in folder.glob("*") if _is_old(path, now)]
    if not paths:
        return
    with ledger.transaction():
        named = {file.name for file in cold_files(ledger)}
        for path in paths:
            if path.name not in named:
                path.unlink(missing_ok=True)


def _is_old(path: Path, now: float) -> bool:
    with suppress(FileNotFoundError):
        return now - path.stat().st_mtime > _EVERY_SECONDS
    return False


def _covered(days: Sequence[ColdDay], ledger: Ledger) -> list[ColdDay]:
    """Return the days that are wholly covered: only a full listing still asks for their rows."""
    coverage = covered_ranges(ledger)

    def is_covered(day: ColdDay) -> bool:
        start = day.day * MINUTES_PER_DAY
        whole = Range(Minute(start), Minute(start + MINUTES_PER_DAY))
        ranges = coverage.get(day.source_id, ())
        return any(covered.start <= whole.start and whole.end <= covered.end for covered in ranges)

    return [day for day in days if is_covered(day)]


def _portions(
    days: Sequence[ColdDay], segments: Sequence[ColdSegment], portion: Portion
) -> Iterator[tuple[list[ColdDay], list[ColdSegment]]]:
    """Divide days and segments into what moves together, oldest first."""
    file_days: list[ColdDay] = []
    file_segments: list[ColdSegment] = []
    log_files = identities = 0
    days, segments = list(reversed(days)), list(reversed(segments))
    while days or segments:
        if days and log_files < portion.log_files:
            log_files += days[-1].log_files
            file_days.append(days.pop())
        elif segments and identities < portion.identities:
            identities += segments[-1].size
            file_segments.append(segments.pop())
        else:
            yield file_days, file_segments
            file_days, file_segments = [], []
            log_files = identities = 0
    if file_days or file_segments:
        yield file_days, file_segments
