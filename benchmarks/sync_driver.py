"""A fresh process that syncs once and prints the cost: `python -m benchmarks.sync_driver JSON`.

The job names trails, a folder for output and ledger, and settings that differ from the defaults;
with `profile`, the stages are timed. `postgres` among the settings is the URL of a ledger.
"""

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ctrail_pipeline.core.ledger.ledger import Ledger
from ctrail_pipeline.core.ledger_address import PostgresAddress
from ctrail_pipeline.core.run.sync import sync
from ctrail_pipeline.core.settings import Settings, Trail


def main(job: dict[str, Any]) -> dict[str, Any]:
    """Sync, and return what to print."""
    folder = Path(job["folder"])
    changes = job.get("changes", {})
    if url := changes.pop("postgres", None):
        changes["postgres"] = PostgresAddress(url)
    settings = Settings(
        tuple(Trail(**trail) for trail in job["trails"]),
        events_dir=folder / "events",
        quarantine_dir=folder / "quarantine",
        state_db=folder / "state.db",
        **changes,
    )
    profile = None
    if job.get("profile"):
        from benchmarks.stages import Profile

        profile = Profile()
    held = _timed_transactions()
    imports = time.process_time()
    started = time.monotonic()
    summary = sync(settings, on_progress=lambda _: None)
    seconds = time.monotonic() - started
    if not summary.ok:
        raise SystemExit(f"the sync failed: {summary.problems[:5]}")
    return {
        "imports_cpu": imports,
        "seconds": seconds,
        "log_files": summary.progress.log_files,
        "events": summary.progress.events,
        "duplicates": summary.progress.duplicates,
        "bytes": summary.progress.bytes,
        "output_files": summary.output_files,
        "profile": profile.result() if profile else None,
        "transactions": held,
    }


def _timed_transactions() -> list[float]:
    """Return a list that gets the seconds for which each transaction keeps other writers out."""
    held: list[float] = []
    transaction = Ledger.transaction

    @contextmanager
    def timed(ledger: Ledger) -> Iterator[None]:
        with transaction(ledger):
            began = time.monotonic()
            yield
        held.append(time.monotonic() - began)

    Ledger.transaction = timed  # type: ignore[method-assign, assignment]
    return held


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))
