"""The rows of batches: a batch is registered, then committed or aborted, then published.

Functions over a `Ledger` that move a batch from state to state. Committing is in `batch_commit`.
When a batch moves is decided in `core.batch`.
"""

import time
from collections.abc import Sequence

from .indexed_conditions import IS_OPEN_BATCH
from .ledger import Ledger
from .rows import BatchRow, BatchState


def register_batch(ledger: Ledger, token: str, run_id: str, published: Sequence[int]) -> int:
    """Add a batch in state `staging`, and return its id.

    The batches in `published` are marked published in the same transaction.
    """
    with ledger.transaction():
        mark_published(ledger, published)
        return add_batch(ledger, token, run_id)


def add_batch(ledger: Ledger, token: str, run_id: str) -> int:
    """Add a batch in state `staging`, and return its id. Inside a transaction."""
    row = ledger.row(
        "INSERT INTO batch (token, state, run_id, created_at, owner) VALUES (?, ?, ?, ?, ?)"
        " RETURNING id",
        token,
        BatchState.STAGING,
        run_id,
        int(time.time()),
        ledger.owner,
    )
    return int(row[0])


def mark_published(ledger: Ledger, batches: Sequence[int]) -> None:
    """Note that all files of these batches have their final names. Inside a transaction."""
    ledger.execute_many(
        f"UPDATE batch SET state = ?, published_at = {ledger.now} WHERE id = ? AND state = ?",
        [(BatchState.PUBLISHED, batch, BatchState.COMMITTED) for batch in batches],
    )


def is_settled(ledger: Ledger, late_copy_seconds: int) -> str:
    """Return the condition, in SQL, that no file of a published batch `b` is named once more.

    `late_copy_seconds`: how long a copy to a final name may take to appear (`Output`). A moment far
    ahead was noted by a clock that was wrong.
    """
    if not late_copy_seconds:
        return "1 = 1"
    return (
        f"(b.published_at IS NULL OR b.published_at NOT BETWEEN"
        f" {ledger.now} - {late_copy_seconds:d} AND {ledger.now} + {late_copy_seconds:d})"
    )


def abort_batch(ledger: Ledger, batch: int) -> bool:
    """Give up a batch that is still staging; return False if it is not staging any more."""
    with ledger.transaction():
        changed = ledger.execute(
            "UPDATE batch SET state = ? WHERE id = ? AND state = ?",
            BatchState.ABORTED,
            batch,
            BatchState.STAGING,
        )
        return changed == 1


def batch_state(ledger: Ledger, batch: int) -> BatchState:
    """Return how far a batch came."""
    return BatchState(ledger.row("SELECT state FROM batch WHERE id = ?", batch)[0])


def open_batches(ledger: Ledger) -> list[BatchRow]:
    """Return the batches that are neither published nor aborted, in order."""
    return [
        BatchRow(id_, token, BatchState(state), created_at, owner)
        for id_, token, state, created_at, owner in ledger.rows(
            "SELECT id, token, state, created_at, owner FROM batch"
            f" WHERE {IS_OPEN_BATCH} ORDER BY id"
        )
    ]


def log_files_of_run(ledger: Ledger, run_id: str) -> int:
    """Return how many log files the batches of a run settled."""
    row = ledger.row(
        "SELECT coalesce(sum(log_files), 0) FROM batch WHERE run_id = ? AND state IN (?, ?)",
        run_id,
        BatchState.COMMITTED,
        BatchState.PUBLISHED,
    )
    return int(row[0])
