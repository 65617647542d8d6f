"""The job `discover`: register accounts and regions of every trail as partitions.

It lists folders only. Not here: how folders are listed (`core.listing`), and what a partition set
is called (`orchestration.partitions`).
"""

from dagster import (
    Failure,
    JobDefinition,
    Nothing,
    OpExecutionContext,
    Out,
    Output,
    in_process_executor,
    job,
    op,
)

from ctrail_pipeline.config.file import Config as Configuration
from ctrail_pipeline.core.listing.discovery import NOT_YET
from ctrail_pipeline.core.listing.found_prefixes import find_prefixes, partition_count
from ctrail_pipeline.core.listing.problem import Problem
from ctrail_pipeline.core.listing.selection import Selection
from ctrail_pipeline.orchestration.partitions import asset_keys, register_partitions
from ctrail_pipeline.orchestration.resources import LedgerResource
from ctrail_pipeline.orchestration.sync_run import (
    check_sample,
    core_logs_in,
    failures_without_traceback,
    settings_of,
)
from ctrail_pipeline.reports.sentences import problem_line

from .console import QUIET


def build_discover_job(configuration: Configuration) -> JobDefinition:
    """Return the job that tells Dagster of every account and region that the trails deliver."""
    keys = asset_keys(configuration.settings.trails)

    @op(
        name="register_partitions",
        out=Out(Nothing),  # with a value, Dagster would keep a pickled None for each run
        description="Lists the folders of each trail and registers accounts and regions as"
        " partitions. Reads no log file.",
    )
    def discover_op(context: OpExecutionContext, cursor: LedgerResource) -> Output[None]:
        problems: list[Problem] = []
        with failures_without_traceback(), core_logs_in(context.log):
            check_sample(configuration)
            settings = settings_of(configuration, cursor)
            found = find_prefixes(settings, Selection(), problems.append, may_get=False)
            found_prefixes = found.selected
        new_counts = {
            trail: register_partitions(
                context.instance,
                key,
                [
                    prefix.source_prefix.partition_key
                    for prefix in found_prefixes
                    if prefix.trail.name == trail
                ],
            )
            for trail, key in keys.items()
        }
        partitions = sum(
            partition_count(
                prefix.source_prefix for prefix in found_prefixes if prefix.trail.name == trail
            )
            for trail in keys
        )
        context.log.info(
            "%d accounts and regions, %d of them new%s",
            partitions,
            sum(new_counts.values()),
            "".join(f"; trail {trail}: {NOT_YET}" for trail in found.not_yet),
        )
        if problems:
            raise Failure("\n".join(map(problem_line, problems)), allow_retries=False)
        return Output(None, metadata={"partitions": partitions, "new": sum(new_counts.values())})

    @job(
        name="discover",
        description="Registers the accounts and regions of every trail as partitions.",
        executor_def=in_process_executor,
        config=QUIET,
    )
    def discover_job() -> None:
        discover_op()

    return discover_job
