"""The job `verify`, its schedule and the check `complete`, in a real Dagster instance."""

import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from dagster import (
    AssetCheckSeverity,
    AssetSelection,
    DagsterInstance,
    DefaultScheduleStatus,
    Definitions,
    ExecuteInProcessResult,
    build_schedule_context,
    define_asset_job,
)
from dagster._core.definitions.asset_checks.asset_check_evaluation import AssetCheckEvaluation

from ctrail_pipeline.config.file import Config, load_config
from ctrail_pipeline.definitions import build_definitions
from ctrail_pipeline.orchestration.checks import COMPLETE
from ctrail_pipeline.orchestration.complete_check import build_complete_checks
from ctrail_pipeline.sample.bucket import PAYMENTS_BUCKET, write_sample
from ctrail_pipeline_tests.support.command import log_files
from ctrail_pipeline_tests.support.dagster_runs import failure_text


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_sample(tmp_path / "sample", log_files=60)
    return tmp_path


@pytest.fixture
def config(folder: Path) -> Config:
    return load_config({}, folder)


@pytest.fixture
def instance() -> Iterator[DagsterInstance]:
    with DagsterInstance.ephemeral() as instance:
        yield instance


def run(
    config: Config, instance: DagsterInstance, name: str, **run_config: Any
) -> ExecuteInProcessResult:
    job = build_definitions(config).get_job_def(name)
    return job.execute_in_process(
        run_config={"ops": {name: {"config": run_config}}},
        instance=instance,
        raise_on_error=False,
    )


def complete(result: ExecuteInProcessResult) -> dict[str, AssetCheckEvaluation]:
    """The evaluations of the check that the run noted, by trail."""
    return {
        evaluation.asset_key.path[-1]: evaluation
        for evaluation in result.get_asset_check_evaluations()
        if evaluation.check_name == COMPLETE
    }


def put_late(folder: Path, bucket: str) -> None:
    path = log_files(folder, bucket)[0]
    late = path.with_name(path.name[:-24] + "LATELATELATELATE.json.gz")
    shutil.copy(path, late)
    os.utime(late, (1.6e9, 1.6e9))


def test_a_run_that_finds_everything_says_so_of_each_trail(
    config: Config, instance: DagsterInstance
) -> None:
    assert run(config, instance, "sync").success
    result = run(config, instance, "verify", deep=True)
    assert result.success
    assert {name: evaluation.passed for name, evaluation in complete(result).items()} == {
        "organization": True,
        "payments": True,
    }
    [event] = [event for event in result.all_events if event.is_successful_output]
    numbers: dict[str, Any] = {
        name: value.value for name, value in event.step_output_data.metadata.items()
    }
    assert (numbers["listed"], numbers["committed"], numbers["missing"]) == (60, 60, 0)
    assert numbers["list_requests"] >= 16


def test_a_missing_log_file_fails_the_run_and_warns_of_its_trail(
    config: Config, folder: Path, instance: DagsterInstance
) -> None:
    assert run(config, instance, "sync").success
    put_late(folder, PAYMENTS_BUCKET)
    result = run(config, instance, "verify")
    assert not result.success
    assert "log file not synced (1)" in failure_text(result)
    noted = complete(result)
    assert noted["organization"].passed
    assert not noted["payments"].passed
    assert noted["payments"].severity is AssetCheckSeverity.WARN
    assert "log file not synced: 1; the next sync fetches it" in (
        noted["payments"].description or ""
    )
    assert run(config, instance, "sync", listed=True).success
    again = run(config, instance, "verify")
    assert again.success
    assert complete(again)["payments"].passed


def test_altered_output_is_an_error_of_its_trail(
    config: Config, folder: Path, instance: DagsterInstance
) -> None:
    assert run(config, instance, "sync", trails=["organization"]).success
    [path, *_] = sorted((folder / "events").rglob("*.jsonl"))
    path.unlink()
    result = run(config, instance, "verify", trails=["organization"])
    assert not result.success
    noted = complete(result)
    assert set(noted) == {"organization"}
    assert noted["organization"].severity is AssetCheckSeverity.ERROR
    assert "output file missing: 1" in (noted["organization"].description or "")


def test_a_part_says_nothing_of_the_whole(
    config: Config, folder: Path, instance: DagsterInstance
) -> None:
    assert run(config, instance, "sync").success
    for part in ({"accounts": ["1*"]}, {"start": "2026-01-14"}, {"partitions": ["1*/*"]}):
        result = run(config, instance, "verify", **part)
        assert result.success
        assert complete(result) == {}
    assert set(complete(run(config, instance, "verify", trails=["pay*"]))) == {"payments"}


def test_a_sync_repeats_the_last_verdict_that_dagster_would_hide(
    config: Config, folder: Path, instance: DagsterInstance
) -> None:
    config = replace(config, dagster=replace(config.dagster, materialization_interval=0))
    first = run(config, instance, "sync")
    assert complete(first) == {}, "nothing was verified yet"
    (folder / "events").rename(folder / "elsewhere")
    shutil.copytree(folder / "elsewhere", folder / "events")
    [path, *_] = sorted((folder / "events").rglob("*.jsonl"))
    path.unlink()
    verdict = complete(run(config, instance, "verify"))
    assert not all(evaluation.passed for evaluation in verdict.values())
    put_late(folder, PAYMENTS_BUCKET)
    again = complete(run(config, instance, "sync"))
    for name, evaluation in again.items():
        assert (evaluation.passed, evaluation.severity, evaluation.description) == (
            verdict[name].passed,
            verdict[name].severity,
            verdict[name].description,
        )
    assert set(again) == {"organization", "payments"}


def test_the_page_is_written_where_it_is_asked_for(
    config: Config, folder: Path, instance: DagsterInstance
) -> None:
    assert run(config, instance, "sync").success
    assert run(config, instance, "verify", html=str(folder / "report.html")).success
    assert "everything is here" in (folder / "report.html").read_text()


def test_without_a_ledger_the_run_says_what_to_do(
    config: Config, instance: DagsterInstance
) -> None:
    result = run(config, instance, "verify")
    assert not result.success
    assert "run a sync first" in failure_text(result)


def test_the_check_of_a_trail_runs_by_itself(
    config: Config, folder: Path, instance: DagsterInstance
) -> None:
    def evaluate() -> dict[str, tuple[bool, AssetCheckSeverity]]:
        checks = build_complete_checks(config)
        job = define_asset_job("checks", AssetSelection.checks(*checks))
        definitions = Definitions.merge(build_definitions(config), Definitions(jobs=[job]))
        result = definitions.resolve_job_def("checks").execute_in_process(instance=instance)
        return {
            name: (evaluation.passed, evaluation.severity)
            for name, evaluation in complete(result).items()
        }

    warning, error = AssetCheckSeverity.WARN, AssetCheckSeverity.ERROR
    assert evaluate() == dict.fromkeys(("organization", "payments"), (False, warning))
    assert run(config, instance, "sync").success
    assert {passed for passed, _ in evaluate().values()} == {True}
    (folder / "events/planted.jsonl").write_text("{}\n")
    # The planted file belongs to no trail, so the check of every trail fails.
    assert evaluate() == dict.fromkeys(("organization", "payments"), (False, error))


def test_the_schedule_runs_the_job_once_it_is_turned_on(config: Config) -> None:
    schedule = build_definitions(config).resolve_schedule_def("verify_schedule")
    assert schedule.default_status is DefaultScheduleStatus.STOPPED
    assert schedule.cron_schedule == "43 4 * * *"
    [request] = schedule.evaluate_tick(build_schedule_context()).run_requests or ()
    assert request.run_config == {}
