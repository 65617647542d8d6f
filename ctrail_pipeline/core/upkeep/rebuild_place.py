"""Where a rebuilt ledger goes: into a file's place, or into the tables of a PostgreSQL database.

Both places keep the order of `rebuild`. The old ledger is set aside, so that nobody can use it. The
new one is taken in, markers are replaced, and only then can the new ledger be used.
"""

import time
import uuid
from contextlib import closing
from pathlib import Path
from typing import Protocol

from ctrail_pipeline.core.durable import fsync_folder
from ctrail_pipeline.core.exceptions import LedgerError
from ctrail_pipeline.core.ledger.admission import BEING_REBUILT
from ctrail_pipeline.core.ledger.cold_rows import hold_all
from ctrail_pipeline.core.ledger.copying import copy_facts, copy_rows, replace_rows
from ctrail_pipeline.core.ledger.ledger import Ledger
from ctrail_pipeline.core.ledger.machine import forget_machine
from ctrail_pipeline.core.ledger_address import PostgresAddress
from ctrail_pipeline.core.settings import Settings


class LedgerPlace(Protocol):
    """The place of a ledger that is rebuilt."""

    def set_aside(self) -> None:
        """Have nobody use the old ledger any more; it may be set aside already."""

    def take_in(self, new: Path) -> str | None:
        """Take in the new ledger, which nobody can use yet; return what went wrong with the old."""

    def open(self, new: Path) -> None:
        """Have everybody use the new ledger."""


def place_of(settings: Settings) -> LedgerPlace:
    """Return the place of the configured ledger."""
    if settings.postgres is not None:
        return _DatabasePlace(settings.postgres, settings.state_db)
    return _FilePlace(settings.state_db)


def files_of(ledger: Path) -> list[Path]:
    """Return a ledger's file and the files that SQLite keeps beside it."""
    paths = [ledger.with_name(ledger.name + suffix) for suffix in ("", "-wal", "-shm")]
    return [path for path in paths if path.exists()]


class _FilePlace:
    """The place of an SQLite file."""

    def __init__(self, state_db: Path) -> None:
        self._state_db = state_db

    def set_aside(self) -> None:
        """Keep the old ledger, under a name that says so."""
        state_db, name = self._state_db, _name_aside(self._state_db)
        for path in (*files_of(state_db), state_db.with_name(f"{state_db.name}.archive")):
            if path.exists():
                path.rename(path.with_name(name + path.name.removeprefix(state_db.name)))
        fsync_folder(state_db.parent)

    def take_in(self, new: Path) -> None:
        """Leave the new ledger under its own name."""

    def open(self, new: Path) -> None:
        """Give the new ledger its name."""
        new.rename(self._state_db)
        fsync_folder(self._state_db.parent)


class _DatabasePlace:
    """The tables of a PostgreSQL database."""

    def __init__(self, address: PostgresAddress, state_db: Path) -> None:
        self._address = address
        self._state_db = state_db

    def set_aside(self) -> None:
        """Close the old ledger, or make a closed one in an empty database."""
        with closing(Ledger(self._address, closed=BEING_REBUILT)) as ledger, ledger.transaction():
            ledger.set_closed(BEING_REBUILT)

    def take_in(self, new: Path) -> str | None:
        """Put the new ledger's rows in place of the old ones, in one transaction.

        The old rows are kept in an SQLite file. What is wrong if they cannot be read is returned.
        """
        with closing(Ledger(new)) as source, closing(Ledger(self._address, closed="")) as ledger:
            problem = None if ledger.is_unused() else self._keep(ledger)
            with ledger.transaction():
                replace_rows(source, ledger)
                ledger.set_meta("uuid", source.uuid)
                forget_machine(ledger)  # the output that it is rebuilt of is here
        return problem

    def open(self, new: Path) -> None:
        """Open the new ledger, and remove the file that it was built in."""
        with closing(Ledger(self._address, closed="")) as ledger, ledger.transaction():
            ledger.set_closed("")
        for path in files_of(new):
            path.unlink()

    def _keep(self, ledger: Ledger) -> str | None:
        path = self._state_db.with_name(_name_aside(self._state_db))
        try:
            with closing(Ledger(path)) as kept:
                copy_rows(ledger, kept, lambda _step: None)
                with kept.transaction():
                    copy_facts(ledger, kept)
                    hold_all(ledger, kept)
        except LedgerError as error:
            for unfinished in files_of(path):
                unfinished.unlink()
            return f"{self._address}: the old rows could not be kept, and are gone: {error}"
        return None


def _name_aside(state_db: Path) -> str:
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    return f"{state_db.name}.before-rebuild-{stamp}-{uuid.uuid4().hex[:4]}"
