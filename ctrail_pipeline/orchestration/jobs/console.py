"""The console log of our jobs."""

QUIET = {"loggers": {"console": {"config": {"log_level": "INFO"}}}}
"""The run config that keeps Dagster's own steps out of what `dagster job execute` prints.

A run config of the user's may say otherwise.
"""
