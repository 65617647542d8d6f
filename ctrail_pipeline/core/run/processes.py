"""How many processes a run has, and each one's share of requests and memory.

Not here: when worker processes are worthwhile (`sync`), or starting them (`worker_pool`).
"""

import os
from dataclasses import replace
from pathlib import Path
from typing import Final

from ctrail_pipeline.core.batch.feed import BYTES_AHEAD
from ctrail_pipeline.core.settings import Settings

_MOST_WORKERS: Final = 4
"""Worker processes, where there are fewer CPUs: a `gocloudtrail` configuration may ask for 500."""

_LEAST_BYTES_AHEAD: Final = 16 * 1024 * 1024
"""Bytes that each worker may hold of fetched log files, however many workers there are."""
_MOST_BATCH_BYTES: Final = 16 * 1024 * 1024
"""Upper limit of the uncompressed bytes of a worker's batch. A worker holds two batches, since one
waits to be committed."""


def process_count(settings: Settings) -> int:
    """Number of processes of a run, its own included: as configured, else one for each CPU."""
    cpus = usable_cpus()
    return min(settings.process_workers or cpus, max(_MOST_WORKERS, cpus))


def usable_cpus() -> int:
    """Number of CPUs that this process may use, by its affinity and its container's quota."""
    if hasattr(os, "sched_getaffinity"):
        number = len(os.sched_getaffinity(0))
    else:
        number = os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return max(1, min(number, -(-int(quota) // int(period))))
    except (OSError, ValueError):  # no such file, or no quota: «max»
        return number


def share_of(settings: Settings, processes: int) -> Settings:
    """The settings for each of so many processes."""
    if processes == 1:
        return settings
    return replace(
        settings,
        download_workers=settings.downloads_of(processes),
        batch_bytes=min(settings.batch_bytes, _MOST_BATCH_BYTES),
    )


def bytes_ahead_of(processes: int) -> int:
    """Bytes that each of so many processes may hold of fetched log files."""
    return BYTES_AHEAD if processes == 1 else max(_LEAST_BYTES_AHEAD, BYTES_AHEAD // 2 // processes)
