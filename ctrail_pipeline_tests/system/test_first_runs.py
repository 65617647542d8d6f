"""Runs that begin at the same instant on nothing: each ends as if it were alone.

They make one ledger and one output folder together, whichever of them comes first to which step.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from ctrail_pipeline_tests.support.command import environment
from ctrail_pipeline_tests.support.oracle import check_output, read_buckets
from ctrail_pipeline_tests.support.project import PROJECT
from ctrail_pipeline_tests.support.thorough import thorough
from ctrail_pipeline_tests.support.two_trails import TwoTrails, event


def run_pairs(folder: Path, every: int, first: int, *functions: str) -> int:
    """Have a run stop at each line while another one runs; return at how many lines it was."""
    world = TwoTrails(folder)
    world.put("first", "A", event("one"), event("two"))
    world.put("first", "B", event("three"))
    trail = {"name": "first", "bucket": world.buckets["first"].as_uri()}
    (folder / "config.json").write_text(json.dumps({"trails": [trail]}))
    module = "ctrail_pipeline_tests.support.stepped_runs"
    done = subprocess.run(
        [sys.executable, "-m", module, str(folder), str(every), str(first), *functions],
        cwd=PROJECT,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    pairs = [json.loads(line) for line in done.stdout.splitlines()]
    expectation = read_buckets([(world.buckets["first"], "")])
    for pair in pairs:
        assert pair["codes"] == [0, 0], (pair["line"], pair["said"])
        output = Path(pair["folder"])
        check_output(output / "events", output / "quarantine", expectation).assert_clean()
    return sum(pair["stopped"] for pair in pairs)


@pytest.mark.parametrize(
    ("function", "every"),
    [("open_ledger", 6), *thorough(("create_tables", 6)), ("remembered_prefixes", 1)],
)
@pytest.mark.thorough
def test_a_run_comes_from_nothing_to_its_end_while_another_one_begins(
    tmp_path: Path, function: str, every: int
) -> None:
    assert run_pairs(tmp_path, every, 0, function) >= 2


@pytest.mark.thorough
def test_a_run_comes_from_nothing_to_its_end_at_a_line_of_another_one(tmp_path: Path) -> None:
    """Each 40th line: a pair of runs takes a second."""
    assert run_pairs(tmp_path, 40, 0) >= 4
