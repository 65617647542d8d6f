"""A Dagster job that does nothing, which shows the cost of Dagster itself."""

from dagster import Definitions, in_process_executor, job, op


@op
def nothing() -> None:
    """Do nothing."""


@job(executor_def=in_process_executor)
def trivial() -> None:
    """Do nothing, once."""
    nothing()


defs = Definitions(jobs=[trivial])
