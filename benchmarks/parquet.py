"""The cost and size of Parquet beside JSONL, for small log files and large ones."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Final

from benchmarks import shapes
from benchmarks.bench import Bench, workers
from benchmarks.measure import Spread, Usage, interleaved
from benchmarks.report import Section, Table, megabytes
from benchmarks.server import MeasuredServer
from benchmarks.shapes import Shape

_SMALL_LOG_FILES: Final = 10_000
_LARGE_LOG_FILES: Final = 16
_FORMATS: Final = {"JSONL": ["jsonl"], "JSONL and Parquet": ["jsonl", "parquet"]}
_MOST_CPU: Final = {"small": 1.6, "large": 2.5}
_LEAST_RATIO: Final = 7


def measure(bench: Bench) -> Section:
    """Sync both shapes with and without Parquet."""
    section = Section("Parquet")
    section.parts.append(
        "First syncs from S3, one process, without imports: what Parquet adds. The aims are at"
        f" most {_MOST_CPU['small']:g} times the CPU on small log files and"
        f" {_MOST_CPU['large']:g} on large ones, and files at least {_LEAST_RATIO} times smaller"
        " than the JSONL."
    )
    rows = [
        row
        for kind, shape in (
            (
                "small",
                shapes.small(bench.work / "parquet-small", bench.scaled(_SMALL_LOG_FILES, 20)),
            ),
            (
                "large",
                shapes.large(bench.work / "parquet-large", bench.scaled(_LARGE_LOG_FILES, 2)),
            ),
        )
        for row in _measured(bench, kind, shape)
    ]
    headings = ("", "CPU-s", "peak memory", "JSONL", "Parquet", "CPU, times", "smaller, times")
    section.parts.append(Table(headings, rows))
    bench.clear()
    return section


def _measured(bench: Bench, kind: str, shape: Shape) -> list[list[str]]:
    last: dict[str, Path] = {}

    def sync(name: str, server: MeasuredServer) -> Usage:
        last[name] = bench.fresh("parquet")
        return bench.sync(
            shape.s3_trails(server.endpoint_url),
            last[name],
            server=server,
            changes={**workers(1), "output_formats": _FORMATS[name]},
            events=shape.distinct_records,
        )

    with MeasuredServer(shape.folder) as server:
        variants = {name: partial(sync, name, server) for name in _FORMATS}
        runs = interleaved(variants, bench.rounds, say=bench.say)
    return [_row(kind, shape, name, runs, last[name]) for name in _FORMATS]


def _row(
    kind: str, shape: Shape, name: str, runs: Mapping[str, Sequence[Usage]], folder: Path
) -> list[str]:
    jsonl, parquet = _bytes_below(folder, "*.jsonl"), _bytes_below(folder, "*.parquet")
    alone = Spread.of(map(_cpu, runs["JSONL"])).median
    spread = Spread.of(map(_cpu, runs[name]))
    return [
        f"{shape.log_files:,} {kind} log files: {name}",
        spread.text(),
        megabytes(max(usage.peak_bytes for usage in runs[name])),
        megabytes(jsonl),
        megabytes(parquet) if parquet else "–",
        f"{spread.median / alone:.2f}",
        f"{jsonl / parquet:.1f}" if parquet else "–",
    ]


def _cpu(usage: Usage) -> float:
    """CPU seconds without the interpreter's start and imports. Imports of polars count."""
    return usage.cpu - float(usage.report["imports_cpu"])


def _bytes_below(folder: Path, pattern: str) -> int:
    return sum(path.stat().st_size for path in folder.rglob(pattern))
