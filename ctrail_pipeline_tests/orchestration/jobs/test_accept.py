"""The job `accept`: it settles what fails a run, and the asset checks of the trail pass then."""

from pathlib import Path
from typing import Any

import pytest
from dagster import DagsterInstance, ExecuteInProcessResult

from ctrail_pipeline.config.file import Config, load_config
from ctrail_pipeline.definitions import build_definitions
from ctrail_pipeline.orchestration.checks import FAILED
from ctrail_pipeline.sample.bucket import write_sample
from ctrail_pipeline_tests.support.command import log_files
from ctrail_pipeline_tests.support.dagster_runs import failure_text


@pytest.fixture
def config(tmp_path: Path) -> Config:
    write_sample(tmp_path / "sample", log_files=20, days=1)
    [damaged, *_] = log_files(tmp_path)
    damaged.write_bytes(b"no gzip")
    return load_config({}, tmp_path)


def run(
    config: Config, instance: DagsterInstance, name: str, **run_config: Any
) -> ExecuteInProcessResult:
    return (
        build_definitions(config)
        .get_job_def(name)
        .execute_in_process(
            instance=instance,
            raise_on_error=False,
            run_config={"ops": {name: {"config": run_config}}},
        )
    )


def test_it_settles_a_damaged_log_file_and_takes_that_back(config: Config, tmp_path: Path) -> None:
    [damaged, *_] = log_files(tmp_path)
    with DagsterInstance.ephemeral() as instance:
        assert not run(config, instance, "sync").success
        refused = run(config, instance, "accept", keys=["s3://nothing/x"], reason="lost")
        assert not refused.success
        assert "s3://nothing/x: no such log file stands open" in failure_text(refused)
        settled = run(config, instance, "accept", keys=[damaged.as_uri()], reason="lost", by="ops")
        assert settled.success
        synced = run(config, instance, "sync")
        assert synced.success
        [check] = [
            evaluation
            for evaluation in synced.get_asset_check_evaluations()
            if evaluation.check_name == FAILED and evaluation.asset_key.path[-1] == "organization"
        ]
        assert check.passed
        undone = run(config, instance, "accept", keys=["file://*"], reason="a mistake", undo=True)
        assert undone.success
        assert not run(config, instance, "sync").success
