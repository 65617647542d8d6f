"""Trails as assets: an asset for each configured trail, with accounts and regions as partitions.

Each asset has a partition set of its own, since each trail delivers other accounts. Materializing
any choice of partitions is one run, which calls the same `core.run.sync` as the job. Not here: the
job over all trails (`jobs.sync`), partition sets (`partitions`), and what a sync does (`core`).
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any

from dagster import (
    AssetCheckEvaluation,
    AssetExecutionContext,
    AssetKey,
    AssetMaterialization,
    AssetsDefinition,
    AssetSelection,
    AssetSpec,
    BackfillPolicy,
    Failure,
    FreshnessPolicy,
    MaterializeResult,
    MetadataValue,
    define_asset_job,
    in_process_executor,
    multi_asset,
)

from ctrail_pipeline.config.file import Config
from ctrail_pipeline.core.keys.source_prefix import logs_root
from ctrail_pipeline.core.listing.selection import Selection
from ctrail_pipeline.core.run.summary import Summary
from ctrail_pipeline.core.settings import Trail

from . import metadata
from .checks import evaluations_of_run
from .partitions import (
    ASSET_PREFIX,
    asset_keys,
    is_partition_key,
    partitions_of,
    register_partitions,
)
from .resources import LedgerResource
from .sync_run import finish, run_sync

PARTITION_TAG = "dagster/partition"


def build_trail_assets(configuration: Config) -> list[AssetsDefinition]:
    """Return an asset for each configured trail."""
    keys = asset_keys(configuration.settings.trails)
    return [
        _trail_asset(configuration, trail, keys[trail.name])
        for trail in configuration.settings.trails
    ]


def build_trail_jobs(configuration: Config) -> list[Any]:
    """Return a job for each trail that materializes one partition.

    A tag names the partition: `dagster job execute … --tags`.
    """
    return [
        define_asset_job(
            name="_".join(("trail", key.path[-1])),
            selection=AssetSelection.assets(key),
            description=f"Syncs one account/region of the trail {name}. The tag {PARTITION_TAG}"
            " names it. To sync several, use the job sync and its run config.",
            executor_def=in_process_executor,
        )
        for name, key in asset_keys(configuration.settings.trails).items()
    ]


def materializations(
    summary: Summary,
    keys: Mapping[str, AssetKey],
    configuration: Config,
    *,
    is_due: Mapping[tuple[str, str], bool] | None = None,
) -> Iterator[AssetMaterialization]:
    """Yield a materialization for each account/region that got data.

    Data that another trail has brought already counts, too; damaged log files are no data.
    `is_due` leaves out partitions that were reported a short time ago.
    """
    for (trail, partition), counts in sorted(summary.partitions.items()):
        got_data = counts.log_files > counts.failed + counts.damaged
        if got_data and (is_due is None or is_due[trail, partition]):
            yield AssetMaterialization(
                keys[trail],
                partition=partition,
                metadata=metadata.of_partition(counts, configuration.settings.events, partition),
            )


def _trail_asset(configuration: Config, trail: Trail, key: AssetKey) -> AssetsDefinition:
    url = trail.bucket if "://" in trail.bucket else f"s3://{trail.bucket}"
    roots = " or ".join(f"`{url}/{logs_root(prefix)}`" for prefix in trail.prefixes)

    spec = AssetSpec(
        key,
        partitions_def=partitions_of(key),
        description=f"Events of the trail **{trail.name}**, from {roots}: each"
        " exactly once, byte for byte, as JSON Lines. Partitions are accounts and regions. To bring"
        " in any set of them, which need not be a range, use the job `sync` and its run config.",
        kinds={"s3", "json"},
        owners=list(configuration.dagster.owners),
        group_name=ASSET_PREFIX,
        metadata={
            "bucket": url,
            "prefix": trail.prefix,
            "events": MetadataValue.path(str(configuration.settings.events)),
        },
        freshness_policy=FreshnessPolicy.time_window(
            fail_window=timedelta(hours=configuration.dagster.no_events_hours)
        ),
    )

    @multi_asset(
        name="_".join(key.path),
        specs=[spec],
        backfill_policy=BackfillPolicy.single_run(),
    )
    def trail_asset(
        context: AssetExecutionContext, cursor: LedgerResource
    ) -> Iterator[AssetMaterialization | AssetCheckEvaluation | MaterializeResult[None]]:
        partitions = _partitions_asked_for(context, key)
        summary = run_sync(
            context.op_execution_context,
            configuration,
            cursor,
            Selection(trails=[trail.name], partitions=partitions),
        )
        if not summary.ok:
            # Dagster materializes all partitions of a run or none: the partitions that went well
            # are noted here.
            yield from materializations(_without_open(summary), {trail.name: key}, configuration)
            # The asset's checks are a step of their own, which Dagster skips after a failure.
            yield from evaluations_of_run(
                configuration, cursor, context.instance, summary, without_listing=False
            )
        totals = finish(context.op_execution_context, summary)
        for partition in partitions:
            counts = summary.partitions.get((trail.name, partition))
            if counts is not None:
                context.add_asset_metadata(
                    metadata.of_partition(counts, configuration.settings.events, partition),
                    partition_key=partition,
                )
        yield MaterializeResult(asset_key=key, metadata=totals)

    return trail_asset


def _partitions_asked_for(context: AssetExecutionContext, key: AssetKey) -> Sequence[str]:
    """Return the run's partitions.

    A partition that a tag names is registered here, before Dagster looks for it.
    """
    tagged = context.run.tags.get(PARTITION_TAG)
    if tagged is not None:
        if not is_partition_key(tagged):
            raise Failure(
                f"the tag {PARTITION_TAG} must be an account/region, such as"
                f" 123456789012/eu-west-1, not {tagged!r}",
                allow_retries=False,
            )
        register_partitions(context.instance, key, [tagged])
    return list(context.partition_keys)


def _without_open(summary: Summary) -> Summary:
    """Return the summary with only those partitions of which no log file stands open."""
    partitions = {
        key: counts
        for key, counts in summary.partitions.items()
        if key not in summary.open_log_files.partitions
    }
    return Summary(summary.progress, summary.trails, partitions=partitions)
