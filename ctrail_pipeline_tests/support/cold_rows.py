"""Rows that are cold, for tests that move them: a log file and a segment each."""

from datetime import date
from typing import Final

from ctrail_pipeline.core.ledger.ledger import Ledger
from ctrail_pipeline.core.ledger.queries_cold import (
    cold_days,
    cold_segments,
    move_cold,
    settled_before,
)
from ctrail_pipeline.core.ledger.rows import LogFileState

TODAY: Final = 20_600


def day_of(text: str) -> int:
    """Return a date as a number of days since 1970."""
    return (date.fromisoformat(text) - date(1970, 1, 1)).days


def add_rows(ledger: Ledger, days: list[int], hours: list[str]) -> None:
    """Add a committed log file of each day, and a segment of each hour."""
    with ledger.transaction():
        ledger.execute(
            "INSERT INTO source_prefix (bucket, prefix, organization, account, region, kind)"
            " VALUES ('', '', '', '', '', '') ON CONFLICT DO NOTHING"
        )
        [(id_,)] = ledger.rows("SELECT id FROM source_prefix")
        ledger.execute(
            "INSERT INTO batch (token, state, run_id, created_at) VALUES (?, 2, '', 0)",
            repr((days, hours)),
        )
        [(batch,)] = ledger.rows("SELECT max(id) FROM batch")
        ledger.execute_many(
            "INSERT INTO log_file (source_prefix, day, name, etag, size, records, duplicates,"
            " quarantined, conflicts, state, attempts, batch, position)"
            " VALUES (?, ?, ?, ?, 1, 1, 0, 0, 0, ?, 0, ?, 0)",
            [(id_, day, "name", b"etag", LogFileState.COMMITTED, batch) for day in days],
        )
        ledger.execute_many(
            "INSERT INTO dedup_partition (name) VALUES (?)", [(f"a/r/{hour}",) for hour in hours]
        )
        ledger.execute_many(
            "INSERT INTO segment (dedup_partition, batch, count, identities, event_keys)"
            " VALUES ((SELECT id FROM dedup_partition WHERE name = ?), ?, 1, ?, ?)",
            [(f"a/r/{hour}", batch, hour[:2].encode() * 8, b"event_") for hour in hours],
        )


def move_all(ledger: Ledger) -> bool:
    """Move all rows of days before `TODAY`; return whether they moved."""
    bound = settled_before(ledger, 1)
    days = cold_days(ledger, TODAY, bound, 1_000)
    return move_cold(ledger, days, cold_segments(ledger, "9999", bound, 1_000), bound)
