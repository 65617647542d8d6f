"""Trails as assets: their partitions, what a run materializes, and which metadata it notes."""

import sqlite3
from pathlib import Path

import pytest
from dagster import (
    AssetKey,
    DagsterInstance,
    DefaultScheduleStatus,
    ExecuteInProcessResult,
)
from dagster._core.definitions.automation_tick_evaluation_context import (
    build_run_requests_with_backfill_policies,
)
from dagster._core.definitions.events import AssetKeyPartitionKey
from dagster._core.definitions.partitions.context import partition_loading_context

from ctrail_pipeline.config.file import load_config
from ctrail_pipeline.definitions import build_definitions
from ctrail_pipeline.orchestration.assets import PARTITION_TAG
from ctrail_pipeline.orchestration.partitions import is_partition_key
from ctrail_pipeline.sample.bucket import write_sample
from ctrail_pipeline_tests.support.oracle import check_output, snapshot
from ctrail_pipeline_tests.support.project import PROJECT

ORGANIZATION = AssetKey(["cloudtrail", "organization"])
PARTITION = "333344445555/eu-west-1"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_sample(tmp_path / "sample", log_files=200)
    return tmp_path


def run(
    folder: Path, job: str, instance: DagsterInstance, partition: str | None = None
) -> ExecuteInProcessResult:
    definitions = build_definitions(load_config({}, folder))
    return definitions.resolve_job_def(job).execute_in_process(
        instance=instance,
        tags={} if partition is None else {PARTITION_TAG: partition},
        raise_on_error=False,
    )


def partitions(instance: DagsterInstance, name: str = "cloudtrail_organization") -> set[str]:
    return set(instance.get_dynamic_partitions(name))


@pytest.mark.filterwarnings("error")
def test_the_whole_repository_loads_as_the_web_ui_loads_it_and_warns_of_nothing(
    folder: Path,
) -> None:
    repository = build_definitions(load_config({}, folder)).get_repository_def()
    names = {job.name for job in repository.get_all_jobs()}
    assert {"sync", "discover", "prune_runs", "trail_organization", "trail_payments"} < names


def test_old_runs_are_pruned_every_night_without_being_asked_to(folder: Path) -> None:
    repository = build_definitions(load_config({}, folder)).get_repository_def()
    schedule = repository.get_schedule_def("prune_runs_schedule")
    assert schedule.default_status is DefaultScheduleStatus.RUNNING


def test_discover_registers_every_account_and_region_of_each_trail(folder: Path) -> None:
    with DagsterInstance.ephemeral() as instance:
        assert run(folder, "discover", instance).success
        assert PARTITION in partitions(instance)
        assert {key.split("/")[0] for key in partitions(instance, "cloudtrail_payments")} < {
            key.split("/")[0] for key in partitions(instance)
        }
    assert not (folder / "events").exists()


@pytest.mark.parametrize(("step", "runs"), [(1, 1), (2, 20)])
def test_a_backfill_is_one_run_for_each_unbroken_range_as_the_docs_say(
    tmp_path: Path, step: int, runs: int
) -> None:
    """Dagster decides this. If it learns to do better, docs/dagster.md should say so."""
    all_keys = [f"{account:012}/eu-west-1" for account in range(40)]
    definitions = build_definitions(load_config({}, tmp_path))
    with (
        DagsterInstance.ephemeral() as instance,
        partition_loading_context(dynamic_partitions_store=instance),
    ):
        instance.add_dynamic_partitions("cloudtrail_organization", all_keys)
        requests = build_run_requests_with_backfill_policies(
            [AssetKeyPartitionKey(ORGANIZATION, key) for key in all_keys[::step]],
            definitions.get_repository_def().asset_graph,
            instance,
        )
    assert len(requests) == runs
    assert (
        "Every other one of 40 partitions makes 20 runs"
        in (PROJECT / "docs" / "dagster.md").read_text()
    )


def test_a_partition_named_by_a_tag_is_registered_and_materialized_with_numbers(
    folder: Path,
) -> None:
    with DagsterInstance.ephemeral() as instance:
        result = run(folder, "trail_organization", instance, PARTITION)
        assert result.success
        assert partitions(instance) == {PARTITION}
        (event,) = result.get_asset_materialization_events()
        materialization = event.step_materialization_data.materialization
        assert (materialization.asset_key, materialization.partition) == (ORGANIZATION, PARTITION)
        number = {key: value.value for key, value in materialization.metadata.items()}
        assert number["events"] == len(snapshot(folder / "events"))
        assert number["dagster/partition_row_count"] == number["events"]
        assert number["conflicts"] == 0
        assert str(number["first_event"]) <= str(number["last_event"])


def test_a_partition_without_anything_new_says_what_there_is(folder: Path) -> None:
    with DagsterInstance.ephemeral() as instance:
        run(folder, "trail_organization", instance, PARTITION)
        result = run(folder, "trail_organization", instance, PARTITION)
        (event,) = result.get_asset_materialization_events()
        metadata = event.step_materialization_data.materialization.metadata
        number = {key: value.value for key, value in metadata.items()}
        assert number["events"] == 0
        assert number["dagster/partition_row_count"] == len(snapshot(folder / "events"))
        assert isinstance(number["lag_seconds"], float)


def test_partitions_and_then_the_job_are_one_undisturbed_sync(folder: Path) -> None:
    with DagsterInstance.ephemeral() as instance:
        assert run(folder, "discover", instance).success
        for partition in sorted(partitions(instance))[:3]:
            assert run(folder, "trail_organization", instance, partition).success
        assert run(folder, "sync", instance).success
    check_output(
        folder / "events",
        folder / "quarantine",
        [
            (folder / "sample" / "example-org-trail", ""),
            (folder / "sample" / "example-payments-trail", "audit/payments"),
        ],
    ).assert_clean()


@pytest.mark.parametrize("partition", ["../us-east-1", "nonsense", "a/b/c"])
def test_an_impossible_partition_is_refused_before_any_work(folder: Path, partition: str) -> None:
    assert not is_partition_key(partition)
    with DagsterInstance.ephemeral() as instance:
        assert not run(folder, "trail_organization", instance, partition).success
        assert partitions(instance) == set()
    assert not (folder / "events").exists()


def test_a_partition_is_reported_by_the_job_at_most_once_an_hour(folder: Path) -> None:
    late = min((folder / "sample" / "example-org-trail").rglob("*_eu-west-1_*.json.gz"))
    kept = late.read_bytes()
    late.unlink()
    with DagsterInstance.ephemeral() as instance:
        assert run(folder, "sync", instance).get_asset_materialization_events()
        late.write_bytes(kept)
        again = run(folder, "sync", instance)
        assert again.success
        assert not again.get_asset_materialization_events()


def test_old_runs_are_pruned_with_what_they_printed_and_recent_ones_kept(folder: Path) -> None:
    (folder / "home").mkdir()
    with DagsterInstance.local_temp(str(folder / "home")) as instance:
        old, recent = run(folder, "sync", instance), run(folder, "discover", instance)
        assert old.success
        assert recent.success
        printed = folder / "home" / "storage"
        assert {path.name for path in printed.iterdir()} == {old.run_id, recent.run_id}
        assert not list(printed.rglob("result"))
        with sqlite3.connect(folder / "home" / "history" / "runs.db") as runs:
            runs.execute(
                "UPDATE runs SET update_timestamp = datetime(update_timestamp, '-31 days')"
                " WHERE run_id = ?",
                (old.run_id,),
            )
        runs.close()
        pruned = run(folder, "prune_runs", instance)
        assert pruned.success
        assert {kept.run_id for kept in instance.get_runs()} == {
            recent.run_id,
            pruned.run_id,
        }
        assert {path.name for path in printed.iterdir()} == {recent.run_id, pruned.run_id}
