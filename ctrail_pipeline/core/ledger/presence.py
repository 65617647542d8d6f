"""Whether there is a ledger at an address, without making one."""

from pathlib import Path

from ctrail_pipeline.core.ledger_address import LedgerAddress


def ledger_exists(address: LedgerAddress) -> bool:
    """Whether there is a ledger, or at least a file with its name.

    Raises LedgerError for a database that cannot be asked, or that another program uses.
    """
    if isinstance(address, Path):
        return address.exists()
    from .postgres import holds_ledger  # psycopg is there for those who name such an address

    return holds_ledger(address)
