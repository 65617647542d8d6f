"""Reading cold rows of log files together with the hot ones, and bringing them back to change them.

Functions over a `Ledger`. Whoever reads hot and cold rows reads the hot ones first: rows that move
to a cold file meanwhile are then seen there. The file itself is in `cold_file`; moving rows into it
is in `queries_cold`.
"""

from collections.abc import Callable, Iterable
from typing import Final

from .cold_file import LOG_FILE_COLUMNS, ColdFile, ColdLogFile
from .ledger import Ledger
from .rows import LogFileState

_PUT_BACK: Final = (
    f"INSERT INTO log_file ({LOG_FILE_COLUMNS}, state, quarantined, conflicts, attempts)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0, 0, 0) ON CONFLICT DO NOTHING"
)


def cold_files_where(ledger: Ledger, condition: str, *values: object) -> list[ColdFile]:
    """Return the cold files that a condition in SQL holds for, oldest first."""
    if not ledger.moves_cold_rows:
        return []
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
    found: dict[str, ColdLogFile] = {}
    for file in cold_files_where(ledger, "first_day <= ? AND last_day >= ?", day, day):
        for row in ledger.cold_reader.log_files(file, source_id, day, low, high):
            found[row.name] = row
    return [found[name] for name in sorted(found)]


def bring_all_back(ledger: Ledger, observe: Callable[[str], None]) -> None:
    """Make all cold rows hot again, as the ledger is to move: one cold file in each transaction.

    Nobody else may use the ledger. The newest file comes first, since newer rows override older
    ones, and hot rows override both. `observe` is told "warmed" after each transaction.
    """
    for file in reversed(cold_files_where(ledger, "1 = 1")):
        with ledger.transaction():
            ledger.execute_many(
                _PUT_BACK,
                (
                    (*row, LogFileState.COMMITTED)
                    for row in ledger.cold_reader.stream(
                        file, f"SELECT {LOG_FILE_COLUMNS} FROM log_file"
                    )
                ),
            )
            ledger.execute_many(
                "INSERT INTO dedup_partition (name) VALUES (?) ON CONFLICT DO NOTHING",
                ledger.cold_reader.stream(file, "SELECT DISTINCT partition FROM segment"),
            )
            # Batch 0: as if merged, since a cold file does not keep the batch of a segment.
            ledger.execute_many(
                "INSERT INTO segment"
                " (id, dedup_partition, batch, count, identities, filter, event_keys)"
                " VALUES (?, (SELECT id FROM dedup_partition WHERE name = ?), 0, ?, ?, ?, ?)"
                " ON CONFLICT DO NOTHING",
                ledger.cold_reader.stream(
                    file,
                    "SELECT id, partition, count, identities, filter, event_keys FROM segment",
                ),
            )
            ledger.execute("DELETE FROM cold_file WHERE id = ?", file.id)
        observe("warmed")


def bring_back(ledger: Ledger, log_files: Iterable[tuple[int, int, str]]) -> None:
    """Make cold rows of log files (source prefix, day, name) hot again, as they may change.

    Inside a transaction. What the cold files say of these log files counts no more.
    """
    log_files = list(log_files)
    oldest = min((day for _, day, _ in log_files), default=0)
    if not cold_files_where(ledger, "last_day >= ?", oldest):
        return  # nearly always
    for source_id, day, name in log_files:
        ledger.execute_many(
            _PUT_BACK,
            [
                (*row, LogFileState.COMMITTED)
                for row in cold_log_files(ledger, source_id, day, name, name)
            ],
        )
