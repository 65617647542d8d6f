"""What `dagster job execute` prints of a job of ours."""

QUIET = {"loggers": {"console": {"config": {"log_level": "INFO"}}}}
"""Without it, `dagster job execute` prints Dagster's own steps too (a default, not a rule)."""
