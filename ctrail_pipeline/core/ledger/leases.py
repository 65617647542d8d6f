"""Leases: by them runs tell each other that they live, where the ledger is in PostgreSQL.

A run that works on batches renews its lease while it runs. A run that was paused, or whose machine
is gone, renews nothing; its lease lapses, and another run may claim its batches. A lease only saves
work: whether a batch counts is checked in the transaction that commits it. The moments are those of
the server's clock, which all machines share. A ledger in SQLite has no leases: it lies on one
machine, where the locks of staging folders say the same.
"""

import logging
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from threading import Event, Thread
from typing import Final
from uuid import uuid4

from ctrail_pipeline.core.exceptions import LedgerError

from .indexed_conditions import IS_OPEN_BATCH
from .ledger import Ledger
from .rows import BatchRow

log = logging.getLogger(__name__)

RENEWED_EVERY_SECONDS: Final = 15.0
LAPSES_AFTER_SECONDS: Final = 90
"""Five renewals may fail, or come late on a loaded machine."""
_FORGOTTEN_AFTER_SECONDS: Final = 86_400
_PATIENCE_SECONDS: Final = 2.0
"""How long the end of a run waits for a renewal that is at work."""
_NOW: Final = "CAST(extract(epoch FROM clock_timestamp()) AS BIGINT)"
_RENEW: Final = (
    f"INSERT INTO lease (name, renewed_at) VALUES (?, {_NOW})"
    " ON CONFLICT (name) DO UPDATE SET renewed_at = excluded.renewed_at"
)


class Lease:
    """The lease of one run; the batches that the run registers name the lease as their owner."""

    def __init__(self, ledger: Ledger) -> None:
        """Take a lease, and renew it until `close`. Raises LedgerError."""
        self._name = uuid4().hex
        self._ledger = ledger
        self._ended = Event()
        # These statements do not wait for the writer lock: whoever has it does not touch the rows.
        ledger.execute(
            "DELETE FROM lease WHERE renewed_at NOT"
            f" BETWEEN {_NOW} - {_FORGOTTEN_AFTER_SECONDS} AND {_NOW} + {_FORGOTTEN_AFTER_SECONDS}"
        )
        ledger.execute(_RENEW, self._name)
        ledger.owner = self._name
        self._thread = Thread(target=self._renew, name="lease", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Give the lease back: others may claim at once what the run left open."""
        self._ended.set()
        self._thread.join(_PATIENCE_SECONDS)
        with suppress(LedgerError):  # the lease lapses by itself
            self._ledger.execute("DELETE FROM lease WHERE name = ?", self._name)

    def _renew(self) -> None:
        """Renew the lease over a connection of its own, as long as the run goes on."""
        connection: Ledger | None = None
        while not self._ended.wait(RENEWED_EVERY_SECONDS):
            try:
                if connection is None:
                    connection = Ledger(self._ledger.path)
                connection.execute(_RENEW, self._name)
            except LedgerError as error:
                log.debug("the lease is not renewed: %s", error)
                if connection is not None:
                    connection.close()
                    connection = None
        if connection is not None:
            connection.close()


@contextmanager
def leased(ledger: Ledger) -> Iterator[None]:
    """Have other runs know that this one lives, inside the block. Raises LedgerError."""
    if isinstance(ledger.path, Path):
        yield
    else:
        with closing(Lease(ledger)):
            yield


def has_lapsed(ledger: Ledger, batch: BatchRow) -> bool:
    """Whether the owner of a batch had a lease, and renews it no more.

    A lease from long after now was renewed while the server's clock was wrong.
    """
    if not batch.owner or isinstance(ledger.path, Path):
        return False
    return not ledger.rows(
        "SELECT 1 FROM lease WHERE name = ? AND renewed_at"
        f" BETWEEN {_NOW} - {LAPSES_AFTER_SECONDS} AND {_NOW} + {LAPSES_AFTER_SECONDS}",
        batch.owner,
    )


def claim(ledger: Ledger, batch: BatchRow) -> bool:
    """Become the owner of an open batch; return False if another run was faster.

    Of several runs that found the batch with the same owner, one claims it.
    """
    with ledger.transaction():
        changed = ledger.execute(
            f"UPDATE batch SET owner = ? WHERE id = ? AND owner = ? AND {IS_OPEN_BATCH}",
            ledger.owner,
            batch.id,
            batch.owner,
        )
    return changed == 1
