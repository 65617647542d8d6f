"""Reading cold rows of log files together with the hot ones, and bringing them back to change them.

Functions over a `Ledger`. Whoever reads hot and cold rows reads the hot ones first: rows that move
to a cold file meanwhile are then seen there. A month of a ledger in PostgreSQL is called a cold
file, too (`cold_reader`). Moving rows is in `queries_cold`.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import islice
from typing import Final

from .bulk import rows_of_keys
from .cold_reader import LOG_FILE_COLUMNS, SEGMENT_COLUMNS, ColdFile, ColdLogFile
from .engine import ROWS_AT_ONCE, Row
from .ledger import Ledger
from .rows import LogFileState

_PUT_BACK: Final = (
    f"INSERT INTO log_file ({LOG_FILE_COLUMNS}, state, quarantined, conflicts, attempts)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0, 0, 0) ON CONFLICT DO NOTHING"
)
OF_DAY: Final = "first_day <= ? AND last_day >= ?"
"""The condition that a cold file may have log files of a day, which is both values."""
_SEGMENTS_AT_ONCE: Final = 1_000
_IDENTITIES_AT_ONCE: Final = 1_000_000
"""Of segments that are put back: 24 MB."""


def cold_files_where(ledger: Ledger, condition: str, *values: object) -> list[ColdFile]:
    """Return the cold files that a condition in SQL holds for, oldest first."""
    return [
        ColdFile(*row)
        for row in ledger.rows(
            "SELECT id, name, bytes, sha256, first_day, last_day, first_hour, last_hour,"
            f" first_segment, last_segment FROM cold_file WHERE {condition} ORDER BY id",
            *values,
        )
    ]


def cold_log_files(
    ledger: Ledger, source_id: int, day: int, low: str, high: str
) -> list[ColdLogFile]:
    """Return log files of one day that are cold, with a name from `low` to `high`, by name.

    Ask for them after the hot rows. A hot row of the same log file overrides the cold one.
    """
    files = cold_files_where(ledger, OF_DAY, day, day)
    return log_files_in(ledger, files, source_id, day, low, high)


def log_files_in(
    ledger: Ledger, files: Iterable[ColdFile], source_id: int, day: int, low: str, high: str
) -> list[ColdLogFile]:
    """Return log files of one day in these cold files, oldest first, as `cold_log_files` does."""
    found: dict[str, ColdLogFile] = {}
    for file in files:
        for row in ledger.cold_reader.log_files(file, source_id, day, low, high):
            found[row.name] = row
    return [found[name] for name in sorted(found)]


def hot_rows(
    ledger: Ledger, sql: str, columns: int, values: Iterable[object], condition: str, *of: object
) -> tuple[list[Row], list[ColdFile]]:
    """Return hot rows, and the cold files that a condition in SQL holds for, oldest first.

    `sql` has so many columns, and `of` are the condition's values. One statement asks for both:
    nearly always there is no such file, and a second statement would be a second round trip.
    """
    nulls = ", ".join(["NULL"] * columns)
    rows = ledger.rows(
        f"SELECT hot.*, NULL FROM ({sql}) AS hot"
        f" UNION ALL SELECT {nulls}, id FROM cold_file WHERE {condition}",
        *values,
        *of,
    )
    files = cold_files_where(ledger, condition, *of) if any(row[-1] for row in rows) else []
    return [row[:-1] for row in rows if row[-1] is None], files


def bring_all_back(ledger: Ledger, observe: Callable[[str], None]) -> None:
    """Make all cold rows hot again, as the ledger is to move: one cold file in each transaction.

    Nobody else may use the ledger. The newest file comes first, since newer rows override older
    ones, and hot rows override both. `observe` is told "warmed" after each transaction.
    """
    for file in reversed(cold_files_where(ledger, "1 = 1")):
        with ledger.transaction():
            _put_back(ledger, ledger, file)
            ledger.execute("DELETE FROM cold_file WHERE id = ?", file.id)
        observe("warmed")
    with ledger.transaction():
        ledger.cold_reader.clear()


def hold_all(source: Ledger, target: Ledger) -> None:
    """Put all cold rows of a ledger into the hot tables of a copy of it. Inside a transaction."""
    for file in reversed(cold_files_where(source, "1 = 1")):
        _put_back(source, target, file)
    target.execute("DELETE FROM cold_file")


def _put_back(source: Ledger, target: Ledger, file: ColdFile) -> None:
    """Put the cold rows of one ledger into the hot tables of another one, or of the same.

    Inside a transaction of the target. Rows that are there stay as they are.
    """
    cold = source.cold_reader
    target.execute_many(
        _PUT_BACK,
        (
            (*row, LogFileState.COMMITTED)
            for row in cold.stream(file, f"SELECT {LOG_FILE_COLUMNS} FROM log_file", ROWS_AT_ONCE)
        ),
    )
    [(longest,)] = cold.ask(file, "SELECT coalesce(max(count), 0) FROM segment")
    at_once = max(1, min(_SEGMENTS_AT_ONCE, _IDENTITIES_AT_ONCE // max(1, longest)))
    segments = cold.stream(file, f"SELECT {SEGMENT_COLUMNS} FROM segment", at_once)
    while some := list(islice(segments, at_once)):
        _load_segments(target, some)


def _load_segments(ledger: Ledger, segments: Sequence[Row]) -> None:
    """Add segments with their ids."""
    names = [(name,) for _, name, *_ in segments]
    ledger.execute_many(
        "INSERT INTO dedup_partition (name) VALUES (?) ON CONFLICT DO NOTHING", names
    )
    ids: dict[str, int] = dict(
        rows_of_keys(
            ledger,
            "DISTINCT p.name, p.id",
            "dedup_partition p WHERE p.name = k.column1",
            names,
        )
    )
    # Batch 0: as if merged, since a cold row does not keep the batch of a segment.
    ledger.load(
        "segment",
        ("id", "dedup_partition", "batch", "count", "identities", "filter", "event_keys"),
        [(id_, ids[name], 0, *rest) for id_, name, *rest in segments],
    )


def hot_rows_of_keys(
    ledger: Ledger,
    columns: Sequence[str],
    joined: str,
    keys: Sequence[Sequence[object]],
    condition: str,
    *of: object,
) -> tuple[list[Row], list[ColdFile]]:
    """Return hot rows as `rows_of_keys` does, and cold files as `hot_rows` does."""
    cold: dict[int, ColdFile] = {}

    def ask(sql: str, *values: object) -> list[Row]:
        rows, files = hot_rows(ledger, sql, len(columns), values, condition, *of)
        cold.update((file.id, file) for file in files)
        return rows

    rows = list(rows_of_keys(ledger, ", ".join(columns), joined, keys, ask))
    return rows, list(cold.values())


def bring_back(ledger: Ledger, log_files: Iterable[tuple[int, int, str]]) -> None:
    """Make cold rows of log files (source prefix, day, name) hot again, as they may change.

    Inside a transaction. What the cold files say of these log files counts no more.
    """
    log_files = list(log_files)
    days = [day for _, day, _ in log_files] or [0]
    bring_back_from(ledger, cold_files_where(ledger, OF_DAY, max(days), min(days)), log_files)


def bring_back_from(
    ledger: Ledger, files: Iterable[ColdFile], log_files: Sequence[tuple[int, int, str]]
) -> None:
    """Bring back what these cold files, oldest first, have of log files: see `bring_back`."""
    cold: dict[Row, Row] = {}
    for file in files:
        of_file = [key for key in log_files if file.first_day <= key[1] <= file.last_day]
        for row in rows_of_keys(
            ledger,
            LOG_FILE_COLUMNS,
            "log_file WHERE source_prefix = column1 AND day = column2 AND name = column3",
            of_file,
            partial(ledger.cold_reader.ask, file),
        ):
            cold[row[:3]] = row
    if cold:
        ledger.execute_many(_PUT_BACK, [(*row, LogFileState.COMMITTED) for row in cold.values()])
