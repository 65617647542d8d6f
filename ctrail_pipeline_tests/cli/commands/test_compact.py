"""`ctrail compact` and the job `compact`: what they say, and how they end."""

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


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder after two syncs: the second one brings the log files that came late."""
    write_sample(tmp_path / "sample", log_files=150, days=2)
    late = sorted((tmp_path / "sample").rglob("*.json.gz"))[::2]
    for path in late:
        path.rename(path.with_name(path.name + ".late"))
    assert ctrail(tmp_path, "sync").returncode == 0
    for path in late:
        path.with_name(path.name + ".late").rename(path)
    assert ctrail(tmp_path, "sync").returncode == 0
    return tmp_path


def files(folder: Path) -> list[Path]:
    return sorted((folder / "events").rglob("*.jsonl"))


def execute(folder: Path) -> ExecuteInProcessResult:
    job = build_definitions(load_config({}, folder)).get_job_def("compact")
    with DagsterInstance.ephemeral() as instance:
        return job.execute_in_process(instance=instance, raise_on_error=False)


def numbers(result: ExecuteInProcessResult) -> dict[str, Any]:
    [event] = [event for event in result.all_events if event.is_successful_output]
    return {name: value.value for name, value in event.step_output_data.metadata.items()}


def test_from_a_shell(folder: Path) -> None:
    lines, before = snapshot(folder / "events"), files(folder)
    dry = ctrail(folder, "compact", "--dry-run")
    assert dry.stdout.startswith("would be merged: ")
    assert files(folder) == before
    planned = json.loads(ctrail(folder, "compact", "--dry-run", "--json").stdout)
    done = ctrail(folder, "compact")
    assert done.returncode == 0, done.stderr
    assert done.stdout == dry.stdout.replace("would be merged", "merged")
    assert snapshot(folder / "events") == lines
    assert planned["old_files"] - planned["new_files"] == len(before) - len(files(folder)) > 10
    again = ctrail(folder, "compact", "--json")
    assert json.loads(again.stdout) == {
        "ok": True,
        "dry_run": False,
        "problems": [],
        **dict.fromkeys(("folders", "old_files", "new_files", "lines", "bytes"), 0),
    }
    assert ctrail(folder, "sync").stdout.startswith("0 new log files, 0 new events")


def test_an_altered_file_is_named_and_the_exit_code_is_1(folder: Path) -> None:
    damaged = next(path for path in files(folder) if len(list(path.parent.iterdir())) > 1)
    damaged.write_bytes(damaged.read_bytes() + b"{}\n")
    done = ctrail(folder, "compact")
    assert done.returncode == 1
    assert str(damaged) in done.stderr
    assert done.stdout.endswith("; problems: 1\n")
    assert len(list(damaged.parent.iterdir())) > 1


def test_without_a_ledger(tmp_path: Path) -> None:
    done = ctrail(tmp_path, "compact")
    assert done.returncode == 2
    assert "there is no ledger, so nothing to compact" in done.stderr


def test_the_job(folder: Path) -> None:
    lines, before = snapshot(folder / "events"), files(folder)
    result = execute(folder)
    assert result.success
    found = numbers(result)
    assert found["files_before"] - found["files_after"] == len(before) - len(files(folder)) > 10
    assert found["not_compacted"] == 0
    assert snapshot(folder / "events") == lines


def test_the_job_fails_where_a_file_is_missing(folder: Path) -> None:
    missing = next(path for path in files(folder) if len(list(path.parent.iterdir())) > 1)
    missing.unlink()
    result = execute(folder)
    assert not result.success
    [failure] = [event for event in result.all_events if event.is_step_failure]
    assert str(missing) in str(failure.step_failure_data)


def test_the_job_before_anything_was_synced(tmp_path: Path) -> None:
    write_sample(tmp_path / "sample", log_files=10)
    result = execute(tmp_path)
    assert result.success
    assert numbers(result)["files_before"] == 0
    assert not (tmp_path / "state.db").exists()


def test_the_schedule(tmp_path: Path) -> None:
    definitions = build_definitions(load_config({}, tmp_path))
    schedule = definitions.resolve_schedule_def("compact_schedule")
    assert schedule.job_name == "compact"
    assert schedule.cron_schedule == "47 3 * * *"
