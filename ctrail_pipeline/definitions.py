"""Wiring only: configuration -> Definitions. What Dagster loads, and tests build with their own."""

from dagster import Definitions, in_process_executor

from .config import Config, load_config
from .generate_config_job import build_generate_config_job
from .jobs import build_discover_job, build_prune_runs_job, build_sync_job, prune_daily
from .resources import CursorResource
from .trails import build_trail_assets, build_trail_jobs


def build_definitions(config: Config) -> Definitions:
    """Everything that Dagster shows and runs, for a configuration."""
    prune_runs = build_prune_runs_job(config)
    return Definitions(
        assets=build_trail_assets(config),
        jobs=[
            build_sync_job(config),
            build_discover_job(config),
            build_generate_config_job(),
            prune_runs,
            *build_trail_jobs(config),
        ],
        schedules=[prune_daily(prune_runs)],
        resources={"cursor": CursorResource(state_db=str(config.settings.state_db))},
        # Our workers are the parallelism: a process a step would cost 5 s and bring nothing.
        executor=in_process_executor,
    )


defs = build_definitions(load_config())
