"""The cost of a run that finds nothing: `ctrail sync`, and Dagster's job beside a trivial job."""

import json
import shutil
import sys
from collections.abc import Callable
from typing import Final

from benchmarks import shapes
from benchmarks.bench import Bench
from benchmarks.measure import PROJECT, Spread, Usage, interleaved, run
from benchmarks.report import Section, Table, Target, megabytes
from benchmarks.server import MeasuredServer
from benchmarks.shapes import Partitioned

_PARTITIONS: Final = 20
_LOG_FILES_EACH: Final = 50
_CORE, _JOB, _TRIVIAL = "ctrail sync", "dagster job execute -j sync", "a trivial Dagster job"


def measure(bench: Bench) -> Section:
    """Measure syncs that find nothing new, after one that brought everything in."""
    found = Partitioned(bench.fresh("start"), _PARTITIONS)
    found.add(bench.scaled(_LOG_FILES_EACH), shapes.noon())
    state = bench.fresh("start")
    home = state / "dagster"
    home.mkdir(parents=True)
    shutil.copy(PROJECT / "dagster.yaml", home)
    with MeasuredServer(found.folder) as server:
        (trail,) = found.shape().s3_trails(server.endpoint_url)
        configuration = {
            "trails": [
                {"name": trail.name, "bucket": trail.bucket, "endpoint_url": trail.endpoint_url}
            ]
        }
        (state / "config.json").write_text(json.dumps(configuration))
        environment = {
            **server.env(),
            "CTRAIL_CONFIG": str(state / "config.json"),
            "DAGSTER_HOME": str(home),
            "DAGSTER_DISABLE_TELEMETRY": "yes",
        }

        def command(*words: str) -> Callable[[], Usage]:
            return lambda: run([sys.executable, "-m", *words], environment=environment)

        execute = ("dagster", "job", "execute", "-m")
        variants = {
            _CORE: command("ctrail_pipeline.cli", "sync", "--quiet"),
            _TRIVIAL: command(*execute, "benchmarks.trivial_job", "-j", "trivial"),
            _JOB: command(*execute, "ctrail_pipeline.definitions", "-j", "sync"),
        }
        variants[_CORE]()  # this first run brings everything in
        runs = interleaved(variants, bench.rounds, say=bench.say)
    bench.clear()
    difference = Spread.of(
        job.cpu - trivial.cpu for job, trivial in zip(runs[_JOB], runs[_TRIVIAL], strict=True)
    )
    section = Section("Nothing new")
    section.parts += [
        f"{_PARTITIONS} accounts and regions, {found.shape().log_files:,} log files, all known."
        " Whole processes, from S3.",
        Table(
            ("", "CPU-s", "wall s", "peak memory"),
            [
                [
                    name,
                    Spread.of(usage.cpu for usage in usages).text(),
                    Spread.of(usage.wall for usage in usages).text(),
                    megabytes(max(usage.peak_bytes for usage in usages)),
                ]
                for name, usages in runs.items()
            ],
        ),
        f"The job costs {difference.text()} CPU-s more than the trivial one.",
    ]
    core = Spread.of(usage.cpu for usage in runs[_CORE]).median
    section.targets += [
        Target("nothing new: CPU-s of `ctrail sync`", 1, core),
        Target("nothing new: CPU-s of the Dagster job over a trivial one", 1.5, difference.median),
    ]
    return section
