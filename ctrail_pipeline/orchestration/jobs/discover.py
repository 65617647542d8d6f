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
from ctrail_pipeline.core.listing.found_prefixes import find_prefixes
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
            found_prefixes = find_prefixes(settings, Selection(), problems.append, may_get=False)
        new_counts = {
            trail: register_partitions(
                context.instance,
                key,
                [
                    found.source_prefix.partition_key
                    for found in found_prefixes
                    if found.trail.name == trail
                ],
            )
            for trail, key in keys.items()
        }
        context.log.info(
            "%d accounts and regions, %d of them new", len(found_prefixes), sum(new_counts.values())
        )
        if problems:
            raise Failure("\n".join(map(problem_line, problems)), allow_retries=False)
        return Output(
            None, metadata={"partitions": len(found_prefixes), "new": sum(new_counts.values())}
        )

    @job(
        name="discover",
        description="Registers the accounts and regions of every trail as partitions.",
        executor_def=in_process_executor,
        config=QUIET,
    )
    def discover_job() -> None:
        discover_op()

    return discover_job
