"""The job `sync` with `dry_run`: Dagster's run page shows what there is and what it would cost."""

from pathlib import Path
from typing import Any

import pytest
from dagster import DagsterInstance, ExecuteInProcessResult

from ctrail_pipeline.config.file import load_config
from ctrail_pipeline.definitions import build_definitions
from ctrail_pipeline.sample.bucket import ORGANIZATION_BUCKET, PAYMENTS_BUCKET, write_sample
from ctrail_pipeline_tests.support.oracle import snapshot


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_sample(tmp_path / "sample", log_files=60)
    return tmp_path


def execute(folder: Path, **run_config: Any) -> ExecuteInProcessResult:
    job = build_definitions(load_config({}, folder)).get_job_def("sync")
    with DagsterInstance.ephemeral() as instance:
        return job.execute_in_process(
            run_config={"ops": {"sync": {"config": run_config}}},
            instance=instance,
            raise_on_error=False,
        )


def log_files(folder: Path) -> list[Path]:
    return [
        path
        for bucket in (ORGANIZATION_BUCKET, PAYMENTS_BUCKET)
        for path in (folder / "sample" / bucket).glob("**/CloudTrail/**/*.json.gz")
    ]


def numbers(result: ExecuteInProcessResult) -> dict[str, Any]:
    """The metadata of the op's output."""
    [event] = [event for event in result.all_events if event.is_successful_output]
    metadata = event.step_output_data.metadata
    return {name: value.value for name, value in metadata.items()}


def test_a_dry_run_says_what_there_is_and_writes_nothing(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    result = execute(folder, dry_run=True)
    assert result.success
    found = numbers(result)
    assert found["log_files"] == len(log_files(folder)) == 60
    assert found["bytes"] == sum(path.stat().st_size for path in log_files(folder))
    assert found["requests"] > 60
    assert found.keys() == {"log_files", "bytes", "requests", "dollars", "disk_bytes", "seconds"}
    assert result.get_asset_materialization_events() == []
    assert {path.name for path in folder.iterdir()} == {"sample"}
    printed = capfd.readouterr().err
    for trail in ("organization", "payments"):
        assert f"trail {trail}: " in printed
    assert "requests (about $" in printed


def test_after_a_sync_a_dry_run_finds_nothing_new_and_changes_nothing(folder: Path) -> None:
    assert execute(folder).success
    events = snapshot(folder / "events")
    result = execute(folder, dry_run=True)
    assert result.success
    assert numbers(result)["log_files"] == 0
    assert snapshot(folder / "events") == events


def test_a_dry_run_is_of_what_is_selected(folder: Path) -> None:
    result = execute(folder, dry_run=True, trails=["payments"], start="2026-01-14")
    days = ("/2026/01/14/", "/2026/01/15/")
    assert numbers(result)["log_files"] == sum(
        PAYMENTS_BUCKET in str(path) and any(day in str(path) for day in days)
        for path in log_files(folder)
    )


@pytest.mark.parametrize(
    ("selection", "message"),
    [
        ({"trails": ["nope"]}, "there is no trail 'nope'; configured are organization, payments"),
        ({"start": "yesterday"}, 'start: "yesterday": it must be an ISO date'),
    ],
)
def test_a_dry_run_that_cannot_be_right_fails_with_a_sentence(
    folder: Path, selection: dict[str, Any], message: str
) -> None:
    result = execute(folder, dry_run=True, **selection)
    assert not result.success
    assert message in failure_text(result)
    assert {path.name for path in folder.iterdir()} == {"sample"}


def test_a_dry_run_fails_if_a_trail_could_not_be_read_and_estimates_the_other(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (folder / "sample" / PAYMENTS_BUCKET).rename(folder / "elsewhere")
    (folder / "sample" / PAYMENTS_BUCKET).mkdir()
    result = execute(folder, dry_run=True)
    assert not result.success
    text = failure_text(result)
    assert "Not everything could be listed:\n- trail payments: file://" in text
    assert "check the trail's `bucket` and `prefix`" in text
    printed = capfd.readouterr().err
    assert "trail organization: 48 new log files" in printed
    assert "trail payments: 0" not in printed
    assert not (folder / "state.db").exists()


def failure_text(result: ExecuteInProcessResult) -> str:
    failed = next(event for event in result.all_events if event.is_step_failure)
    assert failed.step_failure_data.error is not None
    return failed.step_failure_data.error.message
