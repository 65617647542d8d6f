"""The README's commands for looking at the events, run as they stand there on a synced sample.

One log file holds lines that no strict reader of JSON takes, and a record of more than 16 MB. Its
other events stand behind these, and every recipe must show them.
"""

import gzip
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ctrail_pipeline.sample.bucket import ORGANIZATION_BUCKET, write_sample
from ctrail_pipeline_tests.support.command import ctrail, environment, output_of_program
from ctrail_pipeline_tests.support.log_file_texts import wrap
from ctrail_pipeline_tests.support.markdown import README, fenced

SECTION = README.partition("## Looking at the events\n")[2].partition("\n## ")[0]
COMMANDS = [line for block in fenced(SECTION, "sh") for line in block.splitlines()]
PROGRAMS = fenced(SECTION, "python")
KEY = (
    "AWSLogs/111122223333/CloudTrail/eu-west-1/2026/01/15/"
    "111122223333_CloudTrail_eu-west-1_20260115T0705Z_zzzzzzzzzzzzzzzz.json.gz"
)
MANY = 500
"""More events than anybody else in the sample has, so that they come first everywhere."""
EXPECTED = {
    "ctrail query": ("GetBehindThem", 1),
    "ctrail query --csv": ("arn:behind-them", MANY),
    "jq": ("arn:behind-them", MANY),
    "duckdb": ("arn:behind-them", 1),
    "polars": (f"┆ 192.0.2.99      ┆ {MANY + 3} ", 1),
}
"""What each recipe must show, and in how many lines."""


def event(number: int, padding: str = "") -> bytes:
    return json.dumps(
        {
            "eventTime": "2026-01-15T07:00:00Z",
            "eventID": f"{number:08}",
            "eventName": "GetBehindThem",
            "errorCode": "AccessDenied",
            "sourceIPAddress": "192.0.2.99",
            "userIdentity": {"arn": "arn:behind-them"},
            "awsRegion": "eu-west-1",
            "recipientAccountId": "111122223333",
            "requestParameters": {"padding": padding},
        }
    ).encode()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recipes")
    write_sample(folder / "sample", log_files=300)
    name = b'"GetBehindThem"'
    log_file = wrap(
        event(1).replace(name, b"NaN"),
        event(2).replace(name, b'"Get\x01"'),
        event(3).replace(name, b'"Get\\ud800"'),
        event(4, "x" * 17_000_000),
        *(event(number) for number in range(5, 4 + MANY)),
    )
    bucket = folder / "sample" / ORGANIZATION_BUCKET
    (bucket / KEY).parent.mkdir(parents=True, exist_ok=True)
    (bucket / KEY).write_bytes(gzip.compress(log_file, 1))
    trails = [{"name": "organization", "bucket": bucket.as_uri()}]
    config = {"trails": trails, "output_formats": ["jsonl", "parquet"]}
    (folder / "config.json").write_text(json.dumps(config))
    assert ctrail(folder, "sync").returncode == 0
    return folder


def test_there_are_recipes_for_each() -> None:
    assert [command.split()[0] for command in COMMANDS] == [".venv/bin/ctrail"] * 2 + ["jq"]
    assert ["duckdb" in program for program in PROGRAMS] == [True, False]
    assert "polars" in PROGRAMS[1]


@pytest.mark.parametrize(
    ("command", "recipe"),
    [*zip(COMMANDS, ("ctrail query", "ctrail query --csv", "jq"), strict=True)],
)
def test_a_command_shows_what_stands_behind_a_damaged_line(
    folder: Path, command: str, recipe: str
) -> None:
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
    assert shown(done.stdout, recipe) >= EXPECTED[recipe][1]
    if recipe.startswith("ctrail"):
        assert "2 of the lines that the query read are not strict JSON" in done.stderr


@pytest.mark.parametrize(
    ("program", "recipe"),
    [*zip(PROGRAMS, ("duckdb", "polars"), strict=True)],
    ids=["duckdb", "polars"],
)
def test_a_program_shows_what_stands_behind_a_damaged_line(
    folder: Path, program: str, recipe: str
) -> None:
    output = output_of_program(program, folder)
    assert len(output.splitlines()) > 6
    assert shown(output, recipe) >= EXPECTED[recipe][1]


def shown(text: str, recipe: str) -> int:
    """The lines of an output that hold what the recipe must show."""
    return sum(EXPECTED[recipe][0] in line for line in text.splitlines())
