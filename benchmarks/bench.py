"""Tools of every measurement: sizes, folders, and syncs in processes of their own."""

import dataclasses
import itertools
import os
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.measure import Usage, run_python
from benchmarks.server import MeasuredServer
from ctrail_pipeline.core.settings import Trail


@dataclass
class Bench:
    """One run of the benchmark."""

    work: Path
    """Everything is written below this folder."""
    scale: float
    """Share of the full size. 1 gives results to report; less shows that the benchmark works."""
    rounds: int
    history_events: int
    began: float = field(default_factory=time.monotonic)
    _numbers: "itertools.count[int]" = field(default_factory=itertools.count)

    def scaled(self, number: int, least: int = 1) -> int:
        """Scale a number to the size of this run."""
        return max(least, round(number * self.scale))

    def say(self, text: str) -> None:
        """Print a line of progress."""
        print(f"{time.monotonic() - self.began:6.0f} s  {text}", file=sys.stderr, flush=True)

    def fresh(self, name: str) -> Path:
        """Return the path of a new folder below a folder that is removed at the end."""
        folder = self.work / "runs" / f"{next(self._numbers):04d}-{name}"
        folder.parent.mkdir(parents=True, exist_ok=True)
        return folder

    def clear(self) -> None:
        """Give back the disk space of what the runs of a section wrote. The files stay, empty.

        For minutes after many files were removed, making a file costs ext4 up to ten times as much,
        since it passes over the inodes that became free lately. That was a quarter of a sync's CPU,
        measured.
        """
        for folder, _, names in os.walk(self.work / "runs"):
            for name in names:
                os.truncate(Path(folder, name), 0)

    def remove(self) -> None:
        """Remove all that was written, except the buckets that are worth keeping."""
        shutil.rmtree(self.work / "runs", ignore_errors=True)

    def sync(
        self,
        trails: Sequence[Trail],
        folder: Path,
        *,
        server: MeasuredServer | None = None,
        changes: Mapping[str, Any] | None = None,
        profile: bool = False,
        events: int | None = None,
    ) -> Usage:
        """Sync in a fresh process. If `events` is given, exactly so many new events must come."""
        job = {
            "trails": [dataclasses.asdict(trail) for trail in trails],
            "folder": str(folder),
            "changes": dict(changes or {}),
            "profile": profile,
        }
        environment = server.env() if server else {}
        usage = run_python("sync_driver", job, environment=environment, server=server)
        if events is not None and usage.report["events"] != events:
            message = f"{usage.report['events']} new events instead of {events}: not a sync"
            raise RuntimeError(message)
        return usage


def workers(number: int) -> dict[str, Any]:
    """The setting for so many worker processes."""
    return {"process_workers": number}
