"""The README's commands for looking at the events, run as they stand there on a synced sample."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ctrail_pipeline.sample.bucket import write_sample
from ctrail_pipeline_tests.support.command import ctrail, environment
from ctrail_pipeline_tests.support.markdown import README, fenced

SECTION = README.partition("## Looking at the events\n")[2].partition("\n## ")[0]
COMMANDS = [line for block in fenced(SECTION, "sh") for line in block.splitlines()]
PROGRAMS = fenced(SECTION, "python")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recipes")
    write_sample(folder / "sample", log_files=600)
    assert ctrail(folder, "sync").returncode == 0
    return folder


def test_there_are_recipes_for_each() -> None:
    assert [command.split()[0] for command in COMMANDS] == [".venv/bin/ctrail"] * 2 + ["jq"]
    assert ["duckdb" in program for program in PROGRAMS] == [True, False]
    assert "polars" in PROGRAMS[1]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_shows_something(folder: Path, command: str) -> None:
    if command.startswith("jq"):
        if shutil.which("jq") is None:
            pytest.skip("jq is not installed")
    else:
        pytest.importorskip("duckdb", reason="the extra `query` is not installed")
    ctrail_command = f"{sys.executable} -m ctrail_pipeline.cli"
    done = subprocess.run(
        ["bash", "-ec", command.replace(".venv/bin/ctrail", ctrail_command)],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) >= 2


@pytest.mark.parametrize("program", PROGRAMS, ids=["duckdb", "polars"])
def test_a_program_shows_something(folder: Path, program: str) -> None:
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
    assert len(done.stdout.splitlines()) > 6
