"""Which ledgers nobody may use, on every engine: those of a newer version, and closed ones.

Whoever opens a ledger asks here, and so does every transaction: a ledger may be closed, or brought
to a newer version, while others have it open. Why a ledger is closed stands in its table `meta`.
"""

from typing import Final

from ctrail_pipeline.core.exceptions import LedgerError
from ctrail_pipeline.core.ledger_address import LedgerAddress

from . import migrations

CLOSED: Final = "closed"
"""The name in `meta`. Its value is empty, one of the two below, or where the ledger has moved."""
BEING_COPIED: Final = "being copied from "
"""Before the address that the ledger is copied from."""
BEING_REBUILT: Final = "being rebuilt"


def refuse_newer(address: LedgerAddress, version: int) -> None:
    """Raise LedgerError for a ledger of a newer version."""
    if version > migrations.SCHEMA_VERSION:
        raise LedgerError(
            f"{address} is a ledger of version {version}; this program knows up to"
            f" {migrations.SCHEMA_VERSION}: update ctrail-pipeline"
        )


def refuse_closed(address: LedgerAddress, closed: str) -> None:
    """Raise LedgerError for a ledger that was closed; `closed` is empty for all others."""
    if closed.startswith(BEING_COPIED):
        source = closed.removeprefix(BEING_COPIED)
        raise LedgerError(
            f"{address}: the ledger is {closed}, and not whole: run `ctrail ledger copy {source}"
            f" {address}` again"
        )
    if closed == BEING_REBUILT:
        raise LedgerError(f"{address}: the ledger is {closed}: run `ctrail rebuild` again")
    if closed:
        raise LedgerError(
            f"{address}: the ledger was closed, as it has moved to {closed}:"
            " name that in `state_db`"
        )
