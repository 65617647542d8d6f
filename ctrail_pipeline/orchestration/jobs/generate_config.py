"""The job `generate_config`: write a configuration file from the trails of an account.

Dagster reads the file when it loads the definitions again. Not here: what CloudTrail is asked, and
what the file then says (`config.generate`).
"""

import os
from pathlib import Path

from dagster import (
    Config,
    JobDefinition,
    MetadataValue,
    OpExecutionContext,
    Output,
    in_process_executor,
    job,
    op,
)
from pydantic import Field

from ctrail_pipeline.orchestration.sync_run import failures_without_traceback

from .console import QUIET


class GenerateConfigConfig(Config):
    """Where a run writes the file, and whom it asks."""

    path: str | None = Field(
        default=None,
        description="The file to write; default: what CTRAIL_CONFIG names, or config.json.",
    )
    force: bool = Field(default=False, description="Replace a file that is there.")
    profile: str | None = Field(default=None, description="A profile of the AWS configuration.")
    regions: list[str] = Field(default=[], description="Regions to ask; default: all.")


def build_generate_config_job() -> JobDefinition:
    """Return the job `generate_config`, which needs no configuration, since it makes one."""

    @op(
        name="describe_trails",
        description="Asks CloudTrail for its trails in every region, and writes a configuration"
        " file. Reads nothing from a bucket.",
    )
    def generate_config_op(
        context: OpExecutionContext, config: GenerateConfigConfig
    ) -> Output[None]:
        from ctrail_pipeline.config.generate import generate_config

        path = Path(config.path or os.environ.get("CTRAIL_CONFIG") or "config.json").absolute()
        with failures_without_traceback():
            trails, unasked = generate_config(
                path, force=config.force, profile=config.profile, regions=config.regions
            )
        for trail in trails:
            context.log.info("%s", trail)
        return Output(
            None,
            metadata={
                "path": MetadataValue.path(str(path)),
                "trails": len(trails),
                "regions_not_asked": ", ".join(unasked) or "none",
                "found": MetadataValue.md("\n".join(f"- {trail}" for trail in trails)),
            },
        )

    @job(
        name="generate_config",
        description="Writes config.json from the trails that CloudTrail describes.",
        executor_def=in_process_executor,
        config=QUIET,
    )
    def generate_config_job() -> None:
        generate_config_op.alias("generate_config")()

    return generate_config_job
