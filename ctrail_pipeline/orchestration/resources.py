"""Dagster resources: where the cursor lies. Thin: what they hold is used by the core.

Not here: what a run does with them (`jobs`), and what is configured for trails (`config`).
"""

from pathlib import Path

from dagster import ConfigurableResource
from pydantic import Field


class LedgerResource(ConfigurableResource[None]):
    """The SQLite cursor: the ledger that says which log files are done and which events are there.

    Dagster's own storage keeps the history of runs; what is done is this file's alone to say.
    """

    state_db: str = Field(description="Absolute path of the ledger, a SQLite file on a local disk.")

    @property
    def path(self) -> Path:
        """The ledger's file."""
        return Path(self.state_db)
