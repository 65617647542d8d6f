"""The job `sync` as Dagster runs it: in process with a real instance, and from a shell."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from dagster import AssetKey, DagsterInstance, ExecuteInProcessResult

from ctrail_pipeline.config.file import Config, load_config
from ctrail_pipeline.core.exceptions import ConfigurationError
from ctrail_pipeline.definitions import build_definitions
from ctrail_pipeline.sample.bucket import write_sample
from ctrail_pipeline_tests.support.dagster_runs import failure_text
from ctrail_pipeline_tests.support.oracle import check_output, output_files_now, snapshot
from ctrail_pipeline_tests.support.project import PROJECT
from ctrail_pipeline_tests.support.s3_server import S3Server
from ctrail_pipeline_tests.support.sync_process import let_a_minute_pass

SAMPLE_BUCKETS = (("example-org-trail", ""), ("example-payments-trail", "audit/payments"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a small sample in it, as `make demo` has one."""
    write_sample(tmp_path / "sample", log_files=120)
    return tmp_path


def buckets(folder: Path) -> list[tuple[Path, str]]:
    return [(folder / "sample" / name, prefix) for name, prefix in SAMPLE_BUCKETS]


def execute(config: Config, **run_config: Any) -> ExecuteInProcessResult:
    job = build_definitions(config).get_job_def("sync")
    with DagsterInstance.ephemeral() as instance:
        return job.execute_in_process(
            run_config={"ops": {"sync": {"config": run_config}}},
            instance=instance,
            raise_on_error=False,
        )


def start(folder: Path, *arguments: str) -> "subprocess.Popen[str]":
    """Start `dagster job execute` as a user types it, in the user's folder."""
    home = folder / "home"
    home.mkdir(exist_ok=True)
    (home / "dagster.yaml").write_text((PROJECT / "dagster.yaml").read_text())
    environment = {k: v for k, v in os.environ.items() if k != "CTRAIL_CONFIG"}
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "dagster", "job", "execute"),
            *("-m", "ctrail_pipeline.definitions", "-j", "sync", *arguments),
        ],
        cwd=folder,
        env=environment | {"DAGSTER_HOME": str(home), "PYTHONWARNINGS": "ignore"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def shell(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run `dagster job execute` to its end."""
    process = start(folder, *arguments)
    out, err = process.communicate(timeout=120)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def test_every_event_of_the_sample_once_and_a_second_run_adds_nothing(folder: Path) -> None:
    config = load_config({}, folder)
    first = execute(config)
    assert first.success
    check_output(folder / "events", folder / "quarantine", buckets(folder)).assert_clean()
    lines = snapshot(folder / "events")

    second = execute(config)
    assert second.success
    assert snapshot(folder / "events") == lines
    assert not second.get_asset_materialization_events()


def test_a_materialization_with_counts_for_each_partition_that_got_data(folder: Path) -> None:
    result = execute(load_config({}, folder))
    events = 0
    seen = set()
    for event in result.get_asset_materialization_events():
        materialization = event.step_materialization_data.materialization
        assert materialization.partition is not None
        seen.add((materialization.asset_key, materialization.partition))
        events += int(str(materialization.metadata["events"].value))
    assert events == len(snapshot(folder / "events"))
    assert {key for key, _ in seen} == {
        AssetKey(["cloudtrail", "organization"]),
        AssetKey(["cloudtrail", "payments"]),
    }
    assert all(partition.count("/") == 1 for _, partition in seen)


def test_run_config_selects_and_a_later_run_brings_the_rest(folder: Path) -> None:
    config = load_config({}, folder)
    assert execute(config, trails=["payments"], partitions=["*/eu-*"], start="2026-01-14").success
    part = snapshot(folder / "events")
    assert execute(config).success
    check_output(folder / "events", folder / "quarantine", buckets(folder)).assert_clean()
    assert part < snapshot(folder / "events")


@pytest.mark.parametrize(
    ("selection", "message"),
    [
        ({"trails": ["nope"]}, "there is no trail 'nope'; configured are organization, payments"),
        ({"partitions": ["nonsense"]}, "'nonsense' is no `account/region`"),
        ({"start": "yesterday"}, 'start: "yesterday": it must be an ISO date'),
        ({"start": "2026-02-01", "end": "2026-01-01"}, "must be before end"),
    ],
)
def test_a_selection_that_cannot_be_right_fails_before_any_work(
    folder: Path, selection: dict[str, Any], message: str
) -> None:
    result = execute(load_config({}, folder), **selection)
    assert not result.success
    assert message in failure_text(result)
    assert not (folder / "events").exists()
    assert not (folder / "state.db").exists()


def test_a_damaged_log_file_fails_the_run_after_everything_else_is_done(folder: Path) -> None:
    damaged = min((folder / "sample" / "example-org-trail").rglob("*_us-east-1_*.json.gz"))
    damaged.write_bytes(damaged.read_bytes()[:-20])
    result = execute(load_config({}, folder))
    assert not result.success
    text = failure_text(result)
    assert damaged.name in text
    assert "damaged" in text
    report = check_output(folder / "events", folder / "quarantine", buckets(folder))
    assert len(report.damaged_log_files) == 1
    report.assert_clean()
    assert result.get_asset_materialization_events()


def test_a_trail_that_cannot_be_read_does_not_stop_the_others(folder: Path) -> None:
    (folder / "sample" / "example-payments-trail").rename(folder / "elsewhere")
    (folder / "sample" / "example-payments-trail").mkdir()
    result = execute(load_config({}, folder))
    assert not result.success
    assert "check the trail's `bucket` and `prefix`" in failure_text(result)
    check_output(folder / "events", folder / "quarantine", buckets(folder)[:1]).assert_clean()


def test_two_trails_of_one_asset_key_are_refused(folder: Path) -> None:
    path = folder / "config.json"
    trails = [{"name": name, "bucket": f"logs-{at}"} for at, name in enumerate(("a.b", "a_b"))]
    path.write_text(json.dumps({"trails": trails}))
    with pytest.raises(ConfigurationError, match=r"'a\.b' and 'a_b' would both be the asset"):
        build_definitions(load_config({}, folder))


def test_from_a_shell_twice(folder: Path) -> None:
    first = shell(folder)
    assert first.returncode == 0, first.stderr
    assert "new events" in first.stderr
    lines = snapshot(folder / "events")
    second = shell(folder)
    assert second.returncode == 0, second.stderr
    assert "0 new log files, 0 new events" in second.stderr
    assert snapshot(folder / "events") == lines
    check_output(folder / "events", folder / "quarantine", buckets(folder)).assert_clean()


@pytest.mark.thorough
def test_from_a_shell_without_sample_or_configuration_a_sentence(tmp_path: Path) -> None:
    done = shell(tmp_path)
    assert done.returncode != 0
    assert "there is no config.json and no sample bucket" in done.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"home"}


@pytest.mark.thorough
def test_from_a_shell_a_mistake_in_the_configuration_touches_nothing(folder: Path) -> None:
    (folder / "config.json").write_text('{"trails": [{"name": "a", "bucket": "b", "prefx": ""}]}')
    done = shell(folder)
    assert done.returncode != 0
    assert "trails[0].prefx: there is no such key; did you mean prefix?" in done.stderr
    assert {path.name for path in folder.iterdir()} == {"home", "sample", "config.json"}


@pytest.mark.thorough
def test_killed_again_and_again_and_then_run_to_its_end_nothing_is_lost_or_doubled(
    tmp_path: Path,
) -> None:
    configure_small_batches(tmp_path)
    moments = random.Random(1)
    killed_at_work = 0
    for _ in range(int(os.environ.get("CTRAIL_JOB_KILLS", "3"))):
        process = start(tmp_path)
        wait_until_at_work(process, tmp_path)
        time.sleep(moments.uniform(0, 0.2))
        killed_at_work += process.poll() is None
        process.kill()
        process.communicate()
    assert killed_at_work
    # A kill may come before a file has its name or a folder its lock. Then only the age tells.
    let_a_minute_pass(load_config({}, tmp_path).settings)
    done = shell(tmp_path)
    assert done.returncode == 0, done.stderr
    check_output(tmp_path / "events", tmp_path / "quarantine", buckets(tmp_path)).assert_clean()


@pytest.mark.thorough
def test_its_worker_processes_read_s3_and_one_may_be_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_sample(tmp_path / "sample", log_files=2_500)
    with S3Server(tmp_path / "sample") as server:
        for name, value in server.env().items():
            monkeypatch.setenv(name, value)
        trails = [
            {
                "name": name,
                "bucket": name,
                "prefix": prefix,
                "region": server.region,
                "endpoint_url": server.endpoint_url,
            }
            for name, prefix in SAMPLE_BUCKETS
        ]
        configuration = {"trails": trails, "process_workers": 2, "batch_log_files": 20}
        (tmp_path / "config.json").write_text(json.dumps(configuration))
        process = start(tmp_path)
        workers = wait_for_workers(process, 2)
        before = file_count(tmp_path)
        while process.poll() is None and file_count(tmp_path) == before:
            time.sleep(0.01)
        os.kill(workers[0], signal.SIGKILL)
        _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert "a worker process ended with -9" in err
    check_output(tmp_path / "events", tmp_path / "quarantine", buckets(tmp_path)).assert_clean()
    assert not any(Path(f"/proc/{worker}").exists() for worker in workers)


def wait_for_workers(process: "subprocess.Popen[str]", number: int) -> list[int]:
    """Wait until a run has so many worker processes, and return their ids."""
    while process.poll() is None:
        found = []
        with suppress(FileNotFoundError, ProcessLookupError):  # a thread or process has just ended
            for task in Path(f"/proc/{process.pid}/task").iterdir():
                for child in (task / "children").read_text().split():
                    command = Path(f"/proc/{child}/cmdline").read_bytes()
                    if b"ctrail_pipeline.core.run.worker_process" in command:
                        found.append(int(child))
        if len(found) == number:
            return found
        time.sleep(0.02)
    pytest.fail(f"it ended without them: {process.communicate()}")


def file_count(folder: Path) -> int:
    """The number of output files. It grows while a run is at work."""
    return len(output_files_now(folder / "events"))


@pytest.mark.thorough
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_asked_to_stop_it_ends_soon_and_the_next_run_resumes(
    tmp_path: Path, number: signal.Signals
) -> None:
    configure_small_batches(tmp_path)
    process = start(tmp_path)
    wait_until_at_work(process, tmp_path)
    asked = time.monotonic()
    process.send_signal(number)
    process.communicate(timeout=60)
    assert time.monotonic() - asked < 40
    assert process.returncode != 0
    assert len(snapshot(tmp_path / "events")) > 0
    done = shell(tmp_path)
    assert done.returncode == 0, done.stderr
    check_output(tmp_path / "events", tmp_path / "quarantine", buckets(tmp_path)).assert_clean()


def configure_small_batches(folder: Path) -> None:
    """A sample that takes many commits."""
    write_sample(folder / "sample", log_files=600)
    configuration = {
        "trails": [
            {"name": name, "bucket": (folder / "sample" / name).as_uri(), "prefix": prefix}
            for name, prefix in SAMPLE_BUCKETS
        ],
        "batch_log_files": 10,
    }
    (folder / "config.json").write_text(json.dumps(configuration))


def wait_until_at_work(process: "subprocess.Popen[str]", folder: Path) -> None:
    """Return when the sync has written something. Dagster's own start takes a second or more."""
    deadline = time.monotonic() + 60
    before = file_count(folder)
    while process.poll() is None and file_count(folder) == before:
        assert time.monotonic() < deadline
        time.sleep(0.01)
