"""`ctrail` in a process of its own, as a shell starts it, over a folder with a sample in it."""

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from ctrail_pipeline.sample.bucket import (
    ORGANIZATION_BUCKET,
    PAYMENTS_BUCKET,
    PAYMENTS_PREFIX,
)
from ctrail_pipeline_tests.support.oracle import check_output
from ctrail_pipeline_tests.support.project import PROJECT

COMMAND = [sys.executable, "-m", "ctrail_pipeline.cli"]
LOG_LINE = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ) (DEBUG|INFO|WARNING) \S.*")
SUMMARY = re.compile(r"(\d+) new log files, (\d+) new events in \d+ files, (\d+) duplicates")
BUCKETS = ((ORGANIZATION_BUCKET, ""), (PAYMENTS_BUCKET, PAYMENTS_PREFIX))


def environment(additions: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's environment without what changes a run, but with the project importable."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("AWS_", "CTRAIL_", "PYTHON"))
        and not name.lower().endswith("_proxy")
    }
    return {**kept, "PYTHONPATH": str(PROJECT), "TZ": "Pacific/Auckland", **(additions or {})}


def ctrail(
    folder: Path, *arguments: str, env: Mapping[str, str] | None = None
) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [*COMMAND, *arguments],
        cwd=folder,
        env=environment(env),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def assert_whole(folder: Path) -> None:
    buckets = [(folder / "sample" / bucket, prefix) for bucket, prefix in BUCKETS]
    check_output(folder / "events", folder / "quarantine", buckets).assert_clean()


def log_files(folder: Path, bucket: str = ORGANIZATION_BUCKET) -> list[Path]:
    return sorted((folder / "sample" / bucket).glob("**/CloudTrail/**/*.json.gz"))


def written(folder: Path) -> set[str]:
    """The names in the folder other than the sample and the configuration."""
    return {path.name for path in folder.iterdir()} - {"sample", "config.json"}


def output_of_program(program: str, folder: Path) -> str:
    """Run a Python program of the docs in a folder, and return its output; it must succeed.

    Skips where the program needs DuckDB, which an extra brings.
    """
    if "duckdb" in program:
        pytest.importorskip("duckdb", reason="the extra `query` is not installed")
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
