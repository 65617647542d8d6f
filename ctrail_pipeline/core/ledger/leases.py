"""Leases: by them runs tell each other that they live, where the ledger is in PostgreSQL.

A run that works on batches renews its lease while it runs. A run that was paused, or whose machine
is gone, renews nothing; its lease lapses, and another run may claim its batches. A lease only saves
work: whether a batch counts is checked in the transaction that commits it. The moments are those of
the server's clock, which all machines share. A ledger in SQLite has no leases: it lies on one
machine, where locks say the same: of staging folders, or of a file for each run (`run_files`).

Where an output has no folder to lock (`core.claims`), whoever rebuilds or moves the ledger has a
lease, too, and no run begins meanwhile.
"""

import logging
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from threading import Event, Thread
from typing import Final
from uuid import uuid4

from ctrail_pipeline.core.exceptions import LedgerError

from .engine import Row
from .indexed_conditions import IS_OPEN_BATCH
from .ledger import Ledger
from .rows import BatchRow
from .run_files import RunFile, is_held

log = logging.getLogger(__name__)

RENEWED_EVERY_SECONDS: Final = 15.0
LAPSES_AFTER_SECONDS: Final = 90
"""Five renewals may fail, or come late on a loaded machine."""
_FORGOTTEN_AFTER_SECONDS: Final = 86_400
_PATIENCE_SECONDS: Final = 2.0
"""How long the end of a run waits for a renewal that is at work."""
_ALONE: Final = "alone-"
"""Begins the name of a lease of whoever rebuilds or moves the ledger."""
_NOW: Final = "CAST(extract(epoch FROM clock_timestamp()) AS BIGINT)"
_RENEW: Final = (
    f"INSERT INTO lease (name, renewed_at) VALUES (?, {_NOW})"
    " ON CONFLICT (name) DO UPDATE SET renewed_at = excluded.renewed_at"
)
_LIVES: Final = (
    f"renewed_at BETWEEN {_NOW} - {LAPSES_AFTER_SECONDS} AND {_NOW} + {LAPSES_AFTER_SECONDS}"
)


class Lease:
    """The lease of one run; the batches that the run registers name the lease as their owner."""

    def __init__(self, ledger: Ledger, prefix: str = "") -> None:
        """Take a lease, and renew it until `close`. Raises LedgerError."""
        self._name = f"{prefix}{uuid4().hex}"
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
def leased(ledger: Ledger, *, locks_folders: bool = True) -> Iterator[None]:
    """Have other runs know that this one lives, inside the block.

    `locks_folders`: whether locked folders of the output say so, too, and keep a rebuild out.
    Raises LedgerError during a rebuild or a move.
    """
    if not isinstance(ledger.path, Path):
        with closing(Lease(ledger)):
            # Whoever works alone also takes the lease first, and looks for others then. So one of
            # the two sees the other, whoever is faster.
            if not locks_folders and _names(ledger, "substr(name, 1, ?) = ?", len(_ALONE), _ALONE):
                raise LedgerError(
                    f"{ledger.path}: the ledger is being rebuilt or moved: run again when that is"
                    " done"
                )
            yield
    elif locks_folders:
        yield
    else:
        with closing(RunFile(ledger.path)) as run_file:
            ledger.owner = run_file.name
            yield


@contextmanager
def alone(ledger: Ledger, where: str, command: str) -> Iterator[None]:
    """Keep all runs out inside the block. Raises LedgerError if one is at work in `where`."""
    with closing(Lease(ledger, _ALONE)):
        if _names(ledger, "name != ?", ledger.owner):
            raise LedgerError(
                f"a run is at work in {where}: stop it, then {command}; a run that was killed"
                f" counts as at work for {LAPSES_AFTER_SECONDS} s"
            )
        yield


def _names(ledger: Ledger, condition: str, *values: object) -> list[Row]:
    """Return the leases that live and fulfil a condition."""
    return ledger.rows(f"SELECT name FROM lease WHERE {condition} AND {_LIVES}", *values)


def has_lapsed(ledger: Ledger, batch: BatchRow) -> bool:
    """Whether the owner of a batch had a lease, and renews it no more.

    A lease from long after now was renewed while the server's clock was wrong.
    """
    if not batch.owner or isinstance(ledger.path, Path):
        return False
    return not _names(ledger, "name = ?", batch.owner)


def is_abandoned(ledger: Ledger, batch: BatchRow) -> bool:
    """Whether the owner of a batch is gone, or paused for long, where no locked folder says so."""
    if isinstance(ledger.path, Path):
        return not is_held(ledger.path, batch.owner)
    return not _names(ledger, "name = ?", batch.owner)


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
