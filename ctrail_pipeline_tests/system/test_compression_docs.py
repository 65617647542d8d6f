"""docs/compression.md: each recipe finds the same events, whatever the compression."""

import json
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from ctrail_pipeline.sample.bucket import write_sample
from ctrail_pipeline_tests.support.command import ctrail, output_of_program
from ctrail_pipeline_tests.support.markdown import blocks
from ctrail_pipeline_tests.support.oracle import snapshot
from ctrail_pipeline_tests.support.project import PROJECT

DOCUMENT = PROJECT / "docs" / "compression.md"
PROGRAMS = blocks(DOCUMENT, "python")
(COMMANDS,) = blocks(DOCUMENT, "sh")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An output of which one trail was written as gzip, and the other one as zstd."""
    folder = tmp_path_factory.mktemp("compressed")
    write_sample(folder / "sample", log_files=150)
    for name, compression in (("example-payments-trail", "zstd"), ("example-org-trail", "gzip")):
        prefix = {"prefix": "audit/payments"} if "payments" in name else {}
        trail = {"name": name, "bucket": (folder / "sample" / name).as_uri(), **prefix}
        config = {"trails": [trail], "jsonl_compression": compression}
        (folder / "config.json").write_text(json.dumps(config))
        assert ctrail(folder, "sync").returncode == 0
    assert {path.suffix for path in folder.rglob("events_*")} == {".gz", ".zst"}
    return folder


@pytest.mark.parametrize("program", PROGRAMS, ids=["duckdb", "polars"])
def test_a_program_counts_the_events_of_every_file(folder: Path, program: str) -> None:
    output = output_of_program(program, folder)
    [(name, count)] = Counter(
        json.loads(line)["eventName"] for line in snapshot(folder / "events")
    ).most_common(1)
    assert any(name in line and f" {count} " in line for line in output.splitlines())


@pytest.mark.skipif(not shutil.which("jq"), reason="jq is not installed")
@pytest.mark.parametrize("command", COMMANDS.splitlines(), ids=["gzip", "zstd"])
def test_a_command_shows_the_events_of_its_files(folder: Path, command: str) -> None:
    if not shutil.which(command.split()[0]):
        pytest.skip(f"{command.split()[0]} is not installed")
    done = subprocess.run(
        ["bash", "-c", command], cwd=folder, capture_output=True, text=True, check=True
    )
    counts = {name: int(number) for number, name in map(str.split, done.stdout.splitlines())}
    assert sum(counts.values()) > 50
