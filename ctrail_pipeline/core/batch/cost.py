"""The cost of a log file: the time that it takes to process, counted in small log files.

Whoever shares out log files, to threads or to processes, makes shares of equal cost.
"""

from typing import Final

from ctrail_pipeline.core.listing.sources import LogFileRef

BYTES_AS_A_LOG_FILE: Final = 6_000
"""Stored bytes that take as long to process as what every log file costs, whatever its size."""


def cost_of(ref: LogFileRef) -> int:
    """Return the cost of a log file: 1 for a small one."""
    return 1 + ref.size // BYTES_AS_A_LOG_FILE
