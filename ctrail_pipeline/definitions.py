"""The Dagster definitions of a configuration: wiring only.

Dagster loads `defs`; tests build definitions of their own configuration.
"""

from dagster import Definitions, in_process_executor

from ctrail_pipeline.config.file import Config, load_config
from ctrail_pipeline.orchestration.assets import build_trail_assets, build_trail_jobs
from ctrail_pipeline.orchestration.checks import build_checks
from ctrail_pipeline.orchestration.complete_check import build_complete_checks
from ctrail_pipeline.orchestration.jobs.accept import build_accept_job
from ctrail_pipeline.orchestration.jobs.compact import build_compact_job, compact_daily
from ctrail_pipeline.orchestration.jobs.discover import build_discover_job
from ctrail_pipeline.orchestration.jobs.generate_config import build_generate_config_job
from ctrail_pipeline.orchestration.jobs.parquet import build_parquet_job
from ctrail_pipeline.orchestration.jobs.prune_runs import build_prune_runs_job, prune_daily
from ctrail_pipeline.orchestration.jobs.sync import build_sync_job
from ctrail_pipeline.orchestration.jobs.verify import build_verify_job, verify_daily
from ctrail_pipeline.orchestration.resources import LedgerResource
from ctrail_pipeline.orchestration.sensors import build_sensors


def build_definitions(config: Config) -> Definitions:
    """Return everything that Dagster shows and runs for a configuration."""
    sync_job = build_sync_job(config)
    prune_runs = build_prune_runs_job(config)
    verify_job = build_verify_job(config)
    compact = build_compact_job(config)
    return Definitions(
        assets=build_trail_assets(config),
        jobs=[
            sync_job,
            build_discover_job(config),
            build_generate_config_job(),
            prune_runs,
            verify_job,
            compact,
            build_parquet_job(config),
            build_accept_job(config),
            *build_trail_jobs(config),
        ],
        asset_checks=[*build_checks(config), *build_complete_checks(config)],
        schedules=[prune_daily(prune_runs), verify_daily(verify_job), compact_daily(compact)],
        sensors=build_sensors(config, sync_job),
        resources={"cursor": LedgerResource(state_db=str(config.settings.ledger))},
        # Our own workers work in parallel: a process for each step costs 5 s and brings nothing.
        executor=in_process_executor,
    )


defs = build_definitions(load_config())
