"""What a log file costs to process, in small log files."""

from typing import Final

from ctrail_pipeline.core.listing.sources import LogFileRef

BYTES_AS_A_LOG_FILE: Final = 6_000
"""Stored bytes that take as long to process as there is to do for a log file of any size."""


def cost_of(ref: LogFileRef) -> int:
    """What a log file costs to process, in small log files."""
    return 1 + ref.size // BYTES_AS_A_LOG_FILE
