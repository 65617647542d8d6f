"""Wiring only: configuration -> Definitions. What Dagster loads, and tests build with their own."""

from dagster import Definitions

from .config import Config, load_config
from .jobs import build_sync_job
from .resources import CursorResource


def build_definitions(config: Config) -> Definitions:
    """Everything that Dagster shows and runs, for a configuration."""
    return Definitions(
        jobs=[build_sync_job(config)],
        resources={"cursor": CursorResource(state_db=str(config.settings.state_db))},
    )


defs = build_definitions(load_config())
