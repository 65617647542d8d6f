"""What Parquet beside JSONL costs, and how much smaller it is: small log files and large ones.

    python -m benchmarks.parquet [--rounds 3] [--small 10000] [--large 10]

Not a section of RESULTS.md yet: it prints. CPU time of the whole process tree, JSONL alone and with
Parquet in turn, all in one process; the start of a process, which both pay, is taken off.
"""

import argparse
import tempfile
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, Final

from benchmarks import shapes
from benchmarks.measure import Spread, Usage, interleaved, run_python

FORMATS: Final = {"JSONL": ["jsonl"], "with Parquet": ["jsonl", "parquet"]}


def main() -> None:
    """Measure both shapes and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--small", type=int, default=10_000, help="log files of some 8 records")
    parser.add_argument("--large", type=int, default=10, help="log files of some 25 MB")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "ctrail-bench")
    options = parser.parse_args()
    for name, shape in (
        ("small", shapes.small(options.work / "parquet-small", options.small)),
        ("large", shapes.large(options.work / "parquet-large", options.large)),
    ):
        print(f"{name}: {shape.log_files} log files, {shape.json_bytes / 1e6:.0f} MB of JSON")
        with tempfile.TemporaryDirectory(dir=options.work) as runs:
            for line in compared(shape, Path(runs), options.rounds):
                print(f"  {line}")


def compared(shape: shapes.Shape, runs: Path, rounds: int) -> list[str]:
    """What the two cost on a shape, and how large their output is."""
    folders = (runs / str(number) for number in range(1_000))
    last: dict[str, Path] = {}

    def sync(formats: str) -> Usage:
        last[formats] = next(folders)
        job = {
            "trails": [asdict(trail) for trail in shape.local_trails()],
            "folder": str(last[formats]),
            "changes": {"process_workers": 1, "output_formats": FORMATS[formats]},
        }
        usage = run_python("sync_driver", job)
        if usage.report["events"] != shape.distinct_records:
            raise RuntimeError(f"{usage.report['events']} events: not a whole sync")
        return usage

    variants: dict[str, Any] = {name: partial(sync, name) for name in FORMATS}
    results = interleaved(variants, rounds, say=lambda _: None)
    cpu = {
        name: Spread.of(usage.cpu - usage.report["imports_cpu"] for usage in usages)
        for name, usages in results.items()
    }
    ratio = cpu["with Parquet"].median / cpu["JSONL"].median
    jsonl = _bytes_below(last["with Parquet"] / "events", "*.jsonl")
    parquet = _bytes_below(last["with Parquet"] / "parquet", "*.parquet")
    peak = max(usage.peak_bytes for usage in results["with Parquet"])
    return [
        *(f"{name}: {spread.text()} CPU-s" for name, spread in cpu.items()),
        f"ratio {ratio:.2f}",
        f"JSONL {jsonl / 1e6:.1f} MB, Parquet {parquet / 1e6:.1f} MB:"
        f" {jsonl / parquet:.1f}x smaller",
        f"peak memory with Parquet {peak / 1e6:.0f} MB,"
        f" without {max(usage.peak_bytes for usage in results['JSONL']) / 1e6:.0f} MB",
    ]


def _bytes_below(folder: Path, pattern: str) -> int:
    return sum(path.stat().st_size for path in folder.rglob(pattern))


if __name__ == "__main__":
    main()
