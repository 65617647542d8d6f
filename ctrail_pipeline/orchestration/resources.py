"""Dagster resources: where the ledger lies. The core uses what a resource holds.

The resource's key is `cursor`, the name that run configs of users have. Not here: what a run does
with a resource (`jobs`), and what the configuration says of trails (`config`).
"""

from pathlib import Path

from dagster import ConfigurableResource
from pydantic import Field


class LedgerResource(ConfigurableResource[None]):
    """The ledger: it says which log files are done and which events are there.

    Dagster's own storage keeps the history of runs. The ledger alone says what is done.
    """

    state_db: str = Field(description="Absolute path of the ledger, a SQLite file on a local disk.")

    @property
    def path(self) -> Path:
        """Return the ledger's file."""
        return Path(self.state_db)
