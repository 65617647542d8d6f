"""Dagster resources: where the ledger lies. The core uses what a resource holds.

The resource's key is `cursor`, the name that run configs of users have. Not here: what a run does
with a resource (`jobs`), and what the configuration says of trails (`config`).
"""

from dagster import ConfigurableResource
from pydantic import Field

from ctrail_pipeline.core.ledger_address import LedgerAddress, ledger_address


class LedgerResource(ConfigurableResource[None]):
    """The ledger: it says which log files are done and which events are there.

    Dagster's own storage keeps the history of runs. The ledger alone says what is done.
    """

    state_db: str = Field(
        description="The ledger: the absolute path of an SQLite file on a local disk, or the URL of"
        " a PostgreSQL database."
    )

    @property
    def address(self) -> LedgerAddress:
        """Return where the ledger is."""
        return ledger_address(self.state_db)
