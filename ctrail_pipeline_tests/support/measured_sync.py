"""A sync in its own process, with a measurement of the process's peak memory."""

import os
import subprocess
import sys
from pathlib import Path

from ctrail_pipeline_tests.support.project import PROJECT

MEASURED_SYNC = r"""
import re, sys
from ctrail_pipeline_tests.support.sync_process import local_trail, settings_in
from ctrail_pipeline.core.run.sync import sync
from pathlib import Path
folder, changes = Path(sys.argv[1]), eval(sys.argv[2])
settings = settings_in(folder, [local_trail(folder / "bucket")], **changes)
def peak():
    # Not ru_maxrss: a new program starts with that of the one that started it.
    return int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1])
before = peak()
summary = sync(settings)
print(summary.progress.log_files, summary.progress.events, (peak() - before) // 1024)
"""


def synced(folder: Path, *, arenas: int = 4, **changes: object) -> tuple[int, int, int]:
    """Sync, and return the log files, the events, and the peak of memory above the start in MB."""
    done = subprocess.run(
        [sys.executable, "-c", MEASURED_SYNC, str(folder), repr(changes)],
        cwd=PROJECT,
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "MALLOC_ARENA_MAX": str(arenas)},
    )
    log_files, events, peak = map(int, done.stdout.split())
    return log_files, events, peak
