"""The job `accept`: a person settles log files that are lost for good, in the web UI.

Not here: what may be accepted, and how (`core.upkeep.accept`), and the words (`reports.accept`).
"""

from dagster import (
    Config,
    JobDefinition,
    MetadataValue,
    Nothing,
    OpExecutionContext,
    Out,
    Output,
    in_process_executor,
    job,
    op,
)
from pydantic import Field

from ctrail_pipeline.config.file import Config as Configuration
from ctrail_pipeline.config.times import parse_time
from ctrail_pipeline.core.upkeep.accept import accept, undo
from ctrail_pipeline.core.upkeep.accept_choice import Chosen
from ctrail_pipeline.orchestration.resources import LedgerResource
from ctrail_pipeline.orchestration.sync_run import (
    core_logs_in,
    failures_without_traceback,
    settings_of,
)
from ctrail_pipeline.reports.accept import settled_lines

from .console import QUIET


class AcceptConfig(Config):
    """Which log files a run of `accept` settles, and why."""

    keys: list[str] = Field(
        default=[],
        description="Log files as messages name them, such as s3://bucket/key; * and ? are"
        " wildcards.",
    )
    reason: str | None = Field(
        default=None, description="Why they are settled: one line. Only taking it back needs none."
    )
    by: str | None = Field(
        default=None,
        description="Who settles them; by default the user and host that the run has.",
    )
    damaged_before: str | None = Field(
        default=None, description="Only damaged log files of days before this one, by their keys."
    )
    undo: bool = Field(
        default=False, description="Take it back: the next sync tries these log files again."
    )


def build_accept_job(configuration: Configuration) -> JobDefinition:
    """Return the job `accept` over the ledger of a configuration."""

    @op(
        name="settle",
        out=Out(Nothing),  # with a value, Dagster would keep a pickled None for each run
        description="Settles log files that stand open and are lost for good. They fail no sync any"
        " more, and never count as proved.",
    )
    def accept_op(
        context: OpExecutionContext, config: AcceptConfig, cursor: LedgerResource
    ) -> Output[None]:
        with failures_without_traceback(), core_logs_in(context.log):
            before = config.damaged_before
            chosen = Chosen(
                config.keys, None if before is None else parse_time("damaged_before", before)
            )
            settings = settings_of(configuration, cursor)
            if config.undo:
                settled = undo(settings, chosen, config.reason, config.by)
            else:
                settled = accept(settings, chosen, config.reason or "", config.by)
        for line in settled_lines(settled, undone=config.undo):
            context.log.info("%s", line)
        return Output(None, metadata={"log_files": MetadataValue.int(settled.log_files)})

    @job(
        name="accept",
        description="Settles log files that stand open and can never be brought in, with a reason.",
        executor_def=in_process_executor,
        config=QUIET,
    )
    def accept_job() -> None:
        accept_op.alias("accept")()

    return accept_job
