"""Brings AWS CloudTrail logs out of S3: every event, exactly once, byte for byte.

`ctrail_pipeline.definitions` is what Dagster loads; `ctrail_pipeline.core` does the work and
never imports Dagster. Nothing is imported here: start-up time is paid by every run.
"""

__version__ = "0.1.0"
