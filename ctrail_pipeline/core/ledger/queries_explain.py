"""What `explain` asks of the ledger to find an event: which segments and log files may hold it.

Functions over a `Ledger`; they change nothing. Reads are paged, so that no answer grows with the
data. Where the lines of a file came from is in `queries_lineage`.
"""

from collections.abc import Iterator

from .cold_rows import cold_files_where
from .dedup_partition import is_of_events
from .known_identities import SEGMENTS_A_READ
from .ledger import Ledger
from .queries_lineage import LogFileOrigin
from .rows import ROWS_A_READ, LogFileState


def segments_of_events(ledger: Ledger) -> Iterator[tuple[str, bytes]]:
    """Yield the dedup partitions of events, with each segment's eventID hashes."""
    after = ""
    while rows := ledger.rows(
        "SELECT id, name FROM dedup_partition WHERE name > ? ORDER BY name LIMIT ?",
        after,
        ROWS_A_READ,
    ):
        after = rows[-1][1]
        for id_, name in rows:
            if not is_of_events(name):
                continue
            segment = 0
            # One at a time: a merged segment is the newest of its partition.
            while next_row := ledger.rows(
                "SELECT id, event_keys FROM segment WHERE dedup_partition = ? AND id > ?"
                " ORDER BY id LIMIT 1",
                id_,
                segment,
            ):
                [(segment, event_keys)] = next_row
                yield name, event_keys
    for file in cold_files_where(ledger, "last_hour > ''"):
        last = -1
        while found := ledger.cold_reader.ask(
            file,
            "SELECT id, partition, event_keys FROM segment WHERE id > ? ORDER BY id LIMIT ?",
            last,
            SEGMENTS_A_READ,
        ):
            last = found[-1][0]
            for _, name, event_keys in found:
                if is_of_events(name):
                    yield name, event_keys


def with_duplicates(
    ledger: Ledger, source_id: int, days: tuple[int, int]
) -> Iterator[LogFileOrigin]:
    """Yield log files that held duplicates, of the days from the first to before the second."""
    columns = "source_prefix, day, name, etag, size, sha256, records, duplicates"
    chosen = (
        " FROM log_file WHERE source_prefix = ? AND (day, name) > (?, ?) AND day < ?"
        " AND duplicates > 0 ORDER BY day, name LIMIT ?"
    )
    after = (days[0], "")
    while rows := ledger.rows(
        f"SELECT state, {columns}{chosen}", source_id, *after, days[1], ROWS_A_READ
    ):
        after = rows[-1][2], rows[-1][3]
        for state, *values in rows:
            yield LogFileOrigin(False, LogFileState(state), *values)
    for file in cold_files_where(ledger, "first_day < ? AND last_day >= ?", days[1], days[0]):
        after = (days[0], "")
        while rows := ledger.cold_reader.ask(
            file, f"SELECT {columns}{chosen}", source_id, *after, days[1], ROWS_A_READ
        ):
            after = rows[-1][1], rows[-1][2]
            for row in rows:
                yield LogFileOrigin(False, LogFileState.COMMITTED, *row)
