"""`ctrail parquet` and the job `parquet`: what they say, and how they end."""

import json
from pathlib import Path
from typing import Any

import pytest
from dagster import DagsterInstance, ExecuteInProcessResult

from ctrail_pipeline.config.file import load_config
from ctrail_pipeline.definitions import build_definitions
from ctrail_pipeline.sample.bucket import write_sample
from ctrail_pipeline_tests.support.command import ctrail
from ctrail_pipeline_tests.support.oracle import snapshot
from ctrail_pipeline_tests.support.parquet_rows import unlike_lines

BOTH = {"output_formats": ["jsonl", "parquet"]}
EMPTY = {"files": 0, "events": 0, "parquet_files": 0, "bytes": 0, "misfits": 0, "problems": []}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder after a sync without Parquet, which was switched on since."""
    write_sample(tmp_path / "sample", log_files=80, days=2)
    assert ctrail(tmp_path, "sync").returncode == 0
    switch_on(tmp_path)
    return tmp_path


def switch_on(folder: Path) -> None:
    config = load_config({}, folder).settings
    trails = [{"name": t.name, "bucket": t.bucket, "prefix": t.prefix} for t in config.trails]
    (folder / "config.json").write_text(json.dumps({"trails": trails, **BOTH}))


def lines(folder: Path) -> int:
    return len(snapshot(folder / "events"))


def execute(folder: Path) -> ExecuteInProcessResult:
    job = build_definitions(load_config({}, folder)).get_job_def("parquet")
    with DagsterInstance.ephemeral() as instance:
        return job.execute_in_process(instance=instance, raise_on_error=False)


def failure_of(result: ExecuteInProcessResult) -> str:
    assert not result.success
    [failure] = [event for event in result.all_events if event.is_step_failure]
    return str(failure.step_failure_data)


def status(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(ctrail(folder, "status", "--json").stdout)
    return found


def test_from_a_shell(folder: Path) -> None:
    missing = f"{lines(folder):,} events are not in Parquet: `ctrail parquet` writes them"
    assert missing in ctrail(folder, "status").stdout
    assert status(folder)["not_in_parquet"]["events"] == lines(folder)
    prometheus = ctrail(folder, "status", "--prometheus").stdout
    assert f"ctrail_events_not_in_parquet {lines(folder)}\n" in prometheus
    verified = ctrail(folder, "verify")
    assert verified.returncode == 1
    assert f"{lines(folder):,} events not in Parquet" in verified.stdout
    dry = ctrail(folder, "parquet", "--dry-run")
    assert dry.stdout.startswith(f"would be written as Parquet: {lines(folder):,} events of ")
    assert not (folder / "parquet").exists()
    done = ctrail(folder, "parquet")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(dry.stdout.removeprefix("would be ").rstrip())
    assert f"{lines(folder)} of {lines(folder)} events are written as Parquet" in done.stderr
    assert unlike_lines(load_config({}, folder).settings) == []
    again = ctrail(folder, "parquet", "--json")
    assert json.loads(again.stdout) == {"ok": True, "dry_run": False, **EMPTY}
    assert "not in Parquet" not in ctrail(folder, "status").stdout
    assert "not in Parquet" not in ctrail(folder, "verify").stdout


def test_nothing_is_said_where_parquet_is_not_configured(folder: Path) -> None:
    (folder / "config.json").unlink()
    assert status(folder)["not_in_parquet"] is None
    assert "arquet" not in ctrail(folder, "verify").stdout
    done = ctrail(folder, "parquet")
    assert done.returncode == 2
    assert "`output_formats` does not name parquet: set it to" in done.stderr
    assert not (folder / "parquet").exists()


def test_an_altered_file_is_named_and_the_exit_code_is_1(folder: Path) -> None:
    altered = next((folder / "events").rglob("*.jsonl"))
    altered.write_bytes(altered.read_bytes() + b"{}\n")
    done = ctrail(folder, "parquet")
    assert done.returncode == 1
    assert str(altered) in done.stderr
    assert done.stdout.endswith("; 1 files were left as they are\n")


def test_without_a_ledger(tmp_path: Path) -> None:
    write_sample(tmp_path / "sample", log_files=10)
    switch_on(tmp_path)
    done = ctrail(tmp_path, "parquet")
    assert done.returncode == 2
    assert "there is no ledger, so nothing to fill" in done.stderr


def test_the_job(folder: Path) -> None:
    result = execute(folder)
    assert result.success
    [event] = [event for event in result.all_events if event.is_successful_output]
    found = {name: value.value for name, value in event.step_output_data.metadata.items()}
    assert (found["events"], found["not_filled"]) == (lines(folder), 0)
    assert unlike_lines(load_config({}, folder).settings) == []


def test_the_job_fails_where_a_file_is_missing(folder: Path) -> None:
    missing = next((folder / "events").rglob("*.jsonl"))
    missing.unlink()
    assert str(missing) in failure_of(execute(folder))


def test_the_job_says_that_parquet_is_not_configured(folder: Path) -> None:
    (folder / "config.json").unlink()
    assert "`output_formats` does not name parquet" in failure_of(execute(folder))
