"""The gain of a compaction: a day that was synced every five minutes, before and after.

    python -m benchmarks.compaction [--log-files 8000] [--minutes 5]

It prints, and is no section of RESULTS.md: files, the time of one query over all of them, and what
the compaction itself takes. The query goes through `ctrail query`'s view for JSONL and through
DuckDB for Parquet, in a fresh process, the best of three.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from benchmarks.measure import run
from ctrail_pipeline.config.file import load_config
from ctrail_pipeline.core.listing.selection import Selection
from ctrail_pipeline.core.run.sync import sync
from ctrail_pipeline.core.settings import Settings
from ctrail_pipeline.sample.bucket import LAST_DAY, write_sample

_TRIES: Final = 3
_SQL: Final = "SELECT eventName, count(*) AS n FROM {} GROUP BY 1 ORDER BY n DESC, 1"
_QUERY: Final = """
import json, sys, time
from pathlib import Path
import duckdb
from ctrail_pipeline.cli.events_view import connect
from ctrail_pipeline.core.output.local.local_output import LocalOutput

kind, root, sql = sys.argv[1:]
began = time.monotonic()
if kind == "jsonl":
    with connect(LocalOutput(Path(root), Path(root))) as db:
        db.execute("SET enable_progress_bar = false")  # Python's -c is interactive to DuckDB
        rows = db.execute(sql.format("events")).fetchall()
else:
    with duckdb.connect() as db:
        files = f"read_parquet('{root}/*/*/*/*.parquet', hive_partitioning = true)"
        rows = db.execute(sql.format(files)).fetchall()
print(json.dumps({"seconds": time.monotonic() - began, "rows": rows}))
"""


def main() -> None:
    """Sync a day in steps, query it, compact it, query it again."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--log-files", type=int, default=8_000)
    parser.add_argument("--minutes", type=int, default=5, help="between two syncs")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "ctrail-bench")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=options.work) as work:
        folder = Path(work)
        write_sample(folder / "sample", log_files=options.log_files, days=1)
        (folder / "config.json").write_text(json.dumps(_config(folder)))
        settings = load_config({"CTRAIL_CONFIG": str(folder / "config.json")}, folder).settings
        rounds, events = synced(settings, timedelta(minutes=options.minutes))
        print(f"{rounds} syncs, {events:,} events")
        before = looked_at(folder)
        usage = run(
            [sys.executable, "-m", "ctrail_pipeline.cli", "compact", "--json"],
            environment={"CTRAIL_CONFIG": str(folder / "config.json")},
        )
        if usage.report["problems"]:
            raise RuntimeError(f"not compacted: {usage.report['problems'][:3]}")
        after = looked_at(folder)
        for (name, was), (_, now) in zip(before.items(), after.items(), strict=True):
            if was[2] != now[2]:
                raise RuntimeError(f"{name}: the query has another result after compacting")
            print(f"{name}: {was[0]:,} files, {was[3] / 1e6:.1f} MB, query {was[1]:.2f} s")
            print(f"  compacted: {now[0]:,} files, {now[3] / 1e6:.1f} MB, query {now[1]:.2f} s")
        print(
            f"compaction: {usage.wall:.1f} s, {usage.cpu:.1f} CPU-s,"
            f" peak {usage.peak_bytes / 1e6:.0f} MB"
        )


def _config(folder: Path) -> dict[str, object]:
    return {
        "trails": [
            {"name": path.name, "bucket": path.as_uri(), "prefix": prefix}
            for path in sorted((folder / "sample").iterdir())
            for prefix in [_prefix_in(path)]
        ],
        "events_dir": str(folder / "events"),
        "state_db": str(folder / "state.db"),
        "output_formats": ["jsonl", "parquet"],
        "process_workers": 1,
    }


def _prefix_in(bucket: Path) -> str:
    """The prefix before `AWSLogs` in a bucket of the sample."""
    found = next(path for path in sorted(bucket.rglob("AWSLogs")) if path.is_dir())
    return found.parent.relative_to(bucket).as_posix().removeprefix(".")


def synced(settings: Settings, every: timedelta) -> tuple[int, int]:
    """Sync a day as if it were passing; return how many rounds, and how many events."""
    start = datetime.combine(LAST_DAY, datetime.min.time(), UTC)
    rounds = events = 0
    now = start
    while now < start + timedelta(hours=26):
        now += every
        # A sync up to `end` also brings log files of the hour behind it.
        summary = sync(settings, Selection(end=now - timedelta(hours=1)))
        if not summary.ok:
            raise RuntimeError(f"the sync failed: {summary.problems[:3]}")
        rounds += 1
        events += summary.progress.events
    return rounds, events


def looked_at(folder: Path) -> dict[str, tuple[int, float, object, int]]:
    """For each format, return number of files, seconds of the query, its result, and bytes."""
    found = {}
    for name, root, pattern in (
        ("jsonl", folder / "events", "*.jsonl"),
        ("parquet", folder / "parquet", "*.parquet"),
    ):
        paths = list(root.rglob(pattern))
        seconds, result = _best(lambda name=name, root=root: _query(name, root))  # type: ignore[misc]
        found[name] = (len(paths), seconds, result, sum(path.stat().st_size for path in paths))
    return found


def _query(name: str, root: Path) -> tuple[float, object]:
    report = run([sys.executable, "-c", _QUERY, name, str(root), _SQL]).report
    return report["seconds"], report["rows"]


def _best(measure: Callable[[], tuple[float, object]]) -> tuple[float, object]:
    return min((measure() for _ in range(_TRIES)), key=lambda measured: measured[0])


if __name__ == "__main__":
    main()
