"""The machine whose disk has the output of a ledger in PostgreSQL.

Any machine could open such a ledger. But no other machine could publish what lies staged on this
one, and two folders would each have a part of the events. SQLite needs no note: its ledger lies on
one machine itself.
"""

import socket
from hashlib import sha256
from pathlib import Path
from typing import Final

from ctrail_pipeline.core.exceptions import LedgerError

from .ledger import Ledger

MACHINE_ID: Final = Path("/etc/machine-id")


def claim_for_this_machine(ledger: Ledger) -> None:
    """Note that the output is on this machine, unless a machine is noted already.

    Raises LedgerError if another machine is noted.
    """
    if isinstance(ledger.path, Path):
        return
    host, machine = socket.gethostname(), _machine()
    noted = ledger.rows("SELECT value FROM meta WHERE name = 'machine'")
    if not noted:
        with ledger.transaction():
            ledger.execute(
                "INSERT INTO meta (name, value) VALUES ('machine', ?)"
                " ON CONFLICT (name) DO NOTHING",
                f"{machine} {host}",
            )
        noted = ledger.rows("SELECT value FROM meta WHERE name = 'machine'")
    other, _, name = str(noted[0][0]).partition(" ")
    if other != machine:
        raise LedgerError(
            f"{ledger.path}: its output is in a local folder of the machine {name}, and this is"
            f" {host}: run there, or move the output (docs/postgres.md, Another machine)"
        )


def belong_to_no_machine(ledger: Ledger) -> None:
    """Forget the machine that is noted, as the output has moved to a bucket."""
    if isinstance(ledger.path, Path):
        return
    if ledger.rows("SELECT 1 FROM meta WHERE name = 'machine'"):
        with ledger.transaction():
            forget_machine(ledger)


def forget_machine(ledger: Ledger) -> None:
    """Have the next run note its machine, as the ledger is of another output folder from now on.

    Inside a transaction.
    """
    ledger.execute("DELETE FROM meta WHERE name = 'machine'")


def _machine() -> str:
    """Return what tells this machine from others: a hash, since the id itself is confidential."""
    try:
        text = MACHINE_ID.read_text().strip()
    except OSError:
        text = ""
    return sha256(b"ctrail-pipeline " + (text or socket.gethostname()).encode()).hexdigest()[:32]
