"""The sensor: which runs it requests, when it waits, and whom it tells about trouble."""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from operator import attrgetter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from dagster import (
    AssetCheckEvaluation,
    AssetKey,
    AssetSelection,
    DagsterEvent,
    DagsterEventType,
    DagsterInstance,
    DagsterRunStatus,
    Definitions,
    ExecuteInProcessResult,
    RunRequest,
    SensorDefinition,
    SensorResult,
    build_run_status_sensor_context,
    build_sensor_context,
    define_asset_job,
)
from dagster._core.definitions.asset_checks.asset_check_evaluation import (
    AssetCheckEvaluationPlanned,
)
from dagster._core.definitions.job_base import InMemoryJob
from dagster._core.execution.api import execute_run
from dagster._core.utils import make_new_run_id

from ctrail_pipeline.config.dagster_settings import DagsterSettings
from ctrail_pipeline.config.file import Config
from ctrail_pipeline.core.ledger.rows import Waiting
from ctrail_pipeline.core.listing.look import Look
from ctrail_pipeline.core.listing.look_cursor import LookCursor
from ctrail_pipeline.core.run.sync import sync
from ctrail_pipeline.core.settings import Settings
from ctrail_pipeline.definitions import build_definitions
from ctrail_pipeline.orchestration import webhook
from ctrail_pipeline.orchestration.checks import build_checks
from ctrail_pipeline.orchestration.living_runs import (
    BACKLOG,
    RECENT,
    WORK_TAG,
    end_dead_runs,
    mark_as_living,
)
from ctrail_pipeline.orchestration.resources import LedgerResource
from ctrail_pipeline.orchestration.sensor_backoff import LastRun, last_run, reason_to_wait
from ctrail_pipeline.orchestration.sensors import AlarmCursor, request_for, seen_line
from ctrail_pipeline.orchestration.webhook import WebhookError, post
from ctrail_pipeline.sample.bucket import ORGANIZATION_BUCKET, write_sample
from ctrail_pipeline_tests.support.new_log_files import NOW, put
from ctrail_pipeline_tests.support.oracle import read_buckets
from ctrail_pipeline_tests.support.sync_process import (
    assert_exact,
    local_trail,
    put_object,
    settings_in,
)

MAIN = AssetKey(["cloudtrail", "main"])


@pytest.fixture
def bucket(tmp_path: Path) -> Path:
    bucket = tmp_path / "logs"
    bucket.mkdir()
    return bucket


@pytest.fixture
def settings(tmp_path: Path, bucket: Path) -> Settings:
    return settings_in(tmp_path, [local_trail(bucket, name="main")])


@pytest.fixture
def config(tmp_path: Path, settings: Settings) -> Config:
    return Config(settings, tmp_path / "config.json")


@pytest.fixture
def instance() -> Iterator[DagsterInstance]:
    with DagsterInstance.ephemeral() as instance:
        yield instance


def sensor_named(config: Config, name: str) -> SensorDefinition:
    return build_definitions(config).resolve_sensor_def(name)


def tick(
    config: Config,
    instance: DagsterInstance,
    cursor: str | None = None,
    name: str = "new_log_files",
) -> SensorResult:
    """Evaluate one tick, and store its partitions and events as the daemon does."""
    resources = {"cursor": LedgerResource(state_db=str(config.settings.state_db))}
    with build_sensor_context(instance, cursor=cursor, resources=resources) as context:
        result = sensor_named(config, name)(context)
    assert isinstance(result, SensorResult)
    for request in result.dynamic_partitions_requests or ():
        instance.add_dynamic_partitions(request.partitions_def_name, list(request.partition_keys))
    for event in result.asset_events:
        instance.report_runless_asset_event(event)
    return result


def start(config: Config, instance: DagsterInstance, request: RunRequest) -> ExecuteInProcessResult:
    return (
        build_definitions(config)
        .resolve_job_def("sync")
        .execute_in_process(
            instance=instance,
            run_config=request.run_config,
            tags=request.tags,
            raise_on_error=False,
        )
    )


def checks(result: SensorResult) -> dict[str, bool]:
    return {
        event.check_name: event.passed
        for event in result.asset_events
        if isinstance(event, AssetCheckEvaluation)
    }


def test_the_sensor_alone_brings_in_what_is_there_and_what_comes(
    config: Config, bucket: Path, instance: DagsterInstance
) -> None:
    put(bucket, "111122223333", "eu-west-1", NOW, "A")
    put(bucket, "111122223333", "eu-west-1", NOW - timedelta(days=300), "A")
    first = tick(config, instance)
    assert [request.tags[WORK_TAG] for request in first.run_requests or ()] == [RECENT, BACKLOG]
    assert instance.get_dynamic_partitions("cloudtrail_main") == ["111122223333/eu-west-1"]
    assert checks(first) == {"can_be_listed": True}
    for request in first.run_requests or ():
        assert start(config, instance, request).success
    quiet = tick(config, instance, first.cursor)
    assert quiet.run_requests == []
    assert quiet.skip_reason is not None
    assert quiet.skip_reason.skip_message == "1 accounts and regions looked at, 0 new log files"
    assert quiet.asset_events == []
    put(bucket, "111122223333", "eu-west-1", NOW + timedelta(minutes=1), "B")
    [request] = tick(config, instance, quiet.cursor).run_requests or ()
    assert request.tags[WORK_TAG] == RECENT
    assert request.run_config["ops"]["sync"]["config"] == {"listed": True}
    assert start(config, instance, request).success
    assert_exact(config.settings, read_buckets([(bucket, "")]))


def test_a_new_log_file_in_the_most_silent_region_of_the_sample_is_found_by_the_next_tick(
    tmp_path: Path, instance: DagsterInstance
) -> None:
    write_sample(tmp_path / "sample", log_files=100)
    bucket = tmp_path / "sample" / ORGANIZATION_BUCKET
    config = Config(settings_in(tmp_path, [local_trail(bucket, name="main")]), None)
    assert sync(config.settings).ok
    newest = [
        max(region.rglob("*.json.gz"), key=attrgetter("name"))
        for region in bucket.glob("AWSLogs/*/*/CloudTrail/*")
    ]
    most_silent = min(newest, key=lambda file: file.stat().st_mtime)
    quiet = tick(config, instance)
    assert not quiet.run_requests
    folder = most_silent.relative_to(bucket).parents[3]
    account, kind, region, *_ = most_silent.name.split("_")
    name = f"{account}_{kind}_{region}_{NOW:%Y%m%dT%H%MZ}_{'N' * 16}.json.gz"
    put_object(bucket, f"{folder}/{NOW:%Y/%m/%d}/{name}", most_silent.read_bytes(), NOW)
    [request] = tick(config, instance, quiet.cursor).run_requests or ()
    assert request.tags["ctrail/log_files"] == "1"
    assert start(config, instance, request).success


def test_a_tick_says_how_long_idle_partitions_rest() -> None:
    seen = Look(LookCursor(), idle={("a", "1/x"), ("a", "1/y")}, looked_at={("a", "1/y")})
    seen.idle_rounds = 6
    assert seen_line(seen, 300) == (
        "1 accounts and regions looked at, 0 new log files; 1 are idle, and each has its turn once"
        " in 30 min"
    )


def test_a_lost_or_wrong_cursor_costs_no_event(
    config: Config, bucket: Path, instance: DagsterInstance
) -> None:
    for number, cursor in enumerate([None, "[1]", '{"round": -5}', "x" * 1000]):
        put(bucket, "111122223333", "eu-west-1", NOW - timedelta(minutes=number), "A")
        for request in tick(config, instance, cursor).run_requests or ():
            assert start(config, instance, request).success
    assert_exact(config.settings, read_buckets([(bucket, "")]))


def test_while_a_run_is_at_work_no_other_of_its_kind_is_asked_for(
    config: Config, bucket: Path, instance: DagsterInstance
) -> None:
    put(bucket, "111122223333", "eu-west-1", NOW, "A")
    first = tick(config, instance)
    for request in first.run_requests or ():
        job = build_definitions(config).resolve_job_def("sync")
        instance.create_run_for_job(
            job,
            run_config=request.run_config,
            tags=dict(request.tags),
            status=DagsterRunStatus.STARTED,
        )
    put(bucket, "111122223333", "eu-west-1", NOW, "B")
    second = tick(config, instance, first.cursor)
    assert second.run_requests == []
    assert second.skip_reason is not None
    assert "new log files wait for run" in (second.skip_reason.skip_message or "")


def test_a_trail_that_cannot_be_read_is_an_error_of_its_check_and_stops_no_other(
    tmp_path: Path, config: Config, bucket: Path, instance: DagsterInstance
) -> None:
    put(bucket, "111122223333", "eu-west-1", NOW, "A")
    gone = local_trail(tmp_path / "gone", name="gone")
    two_trails = replace(
        config, settings=replace(config.settings, trails=(*config.settings.trails, gone))
    )
    result = tick(two_trails, instance)
    assert result.run_requests
    found = {
        event.asset_key: (event.passed, event.severity.value, event.description)
        for event in result.asset_events
        if isinstance(event, AssetCheckEvaluation)
    }
    assert found[MAIN][0]
    passed, severity, description = found[AssetKey(["cloudtrail", "gone"])]
    assert (passed, severity) == (False, "ERROR")
    assert "gone" in (description or "")
    assert tick(two_trails, instance, result.cursor).asset_events == []


def test_a_trail_with_many_partitions_of_which_few_have_a_past_names_these() -> None:
    seen = Look(LookCursor(), backlog=[("a", "1/x"), ("b", "2/y")])
    seen.partitions = {"a": ["1/x", "1/z"], "b": ["2/y"], "c": ["3/x"]}
    request = request_for(BACKLOG, seen)
    assert request is not None
    config = request.run_config["ops"]["sync"]["config"]
    assert config == {"trails": ["a", "b"], "partitions": ["1/x", "2/y"]}
    seen.backlog.append(("a", "1/z"))
    request = request_for(BACKLOG, seen)
    assert request is not None
    assert request.run_config["ops"]["sync"]["config"] == {"trails": ["a", "b"]}
    assert request_for(RECENT, seen) is None
    seen.waiting["a", "1/x"] = Waiting(5, 100)
    assert request_for(RECENT, seen) is not None
    assert seen.oldest_found == 100


@pytest.mark.parametrize(
    ("work", "last", "oldest_found", "now", "waits"),
    [
        (RECENT, None, 1, 1000.0, False),
        (RECENT, LastRun("r", True, False, 500, 0), 1, 1000.0, True),
        (RECENT, LastRun("r", False, True, 500, 600), 1, 1000.0, False),
        # The run failed, and log files found before it still wait: it did not do its work.
        (RECENT, LastRun("r", False, False, 500, 600), 400, 1000.0, True),
        (RECENT, LastRun("r", False, False, 500, 600), 400, 2401.0, False),
        # The run failed because of one log file. All other log files of that time are in.
        (RECENT, LastRun("r", False, False, 500, 600), 700, 1000.0, False),
        (RECENT, LastRun("r", False, False, 500, 600), None, 1000.0, False),
        (BACKLOG, LastRun("r", False, False, 500, 600), None, 1000.0, True),
        (BACKLOG, LastRun("r", False, False, 500, 600), None, 4201.0, False),
        # The clock was set back.
        (BACKLOG, LastRun("r", False, False, 500, 600), None, 100.0, False),
    ],
)
def test_a_run_that_did_not_do_its_work_is_not_started_again_at_once(
    work: str, last: LastRun | None, oldest_found: int | None, now: float, *, waits: bool
) -> None:
    assert (reason_to_wait(work, last, oldest_found, now) is not None) == waits


def test_the_last_run_is_the_one_at_work_even_if_a_newer_one_ended(
    config: Config, instance: DagsterInstance
) -> None:
    job = build_definitions(config).resolve_job_def("sync")
    tags = {WORK_TAG: RECENT}
    assert last_run(instance, RECENT) is None
    at_work = instance.create_run_for_job(job, tags=tags, status=DagsterRunStatus.STARTED)
    instance.create_run_for_job(job, tags=tags, status=DagsterRunStatus.FAILURE)
    found = last_run(instance, RECENT)
    assert found is not None
    assert (found.run_id, found.is_at_work) == (at_work.run_id, True)
    assert last_run(instance, BACKLOG) is None


def test_a_run_notes_the_checks_of_its_trails_when_they_change(
    config: Config, bucket: Path, instance: DagsterInstance
) -> None:
    put(bucket, "111122223333", "eu-west-1", NOW, "A")
    sync_job = build_definitions(config).resolve_job_def("sync")

    def run() -> dict[str, bool]:
        result = sync_job.execute_in_process(instance=instance, raise_on_error=False)
        return {
            evaluation.check_name: evaluation.passed
            for evaluation in result.get_asset_check_evaluations()
        }

    assert run() == {
        "can_be_listed": True,
        "no_failed_log_files": True,
        "nothing_new_in_quarantine": True,
        "no_conflicting_events": True,
        "sensor_is_running": True,
    }
    assert run() == {}
    broken = put(bucket, "111122223333", "eu-west-1", NOW, "C")
    (bucket / broken).write_bytes(b"\x1f\x8bno gzip")
    assert run() == {"no_failed_log_files": False, "nothing_new_in_quarantine": False}


def test_a_run_notes_the_checks_that_another_run_has_planned_only(
    config: Config, bucket: Path, instance: DagsterInstance
) -> None:
    put(bucket, "111122223333", "eu-west-1", NOW, "A")
    definitions = build_definitions(config)
    sync_job = definitions.resolve_job_def("sync")
    assert len(sync_job.execute_in_process(instance=instance).get_asset_check_evaluations()) == 5
    [checks_of_main] = build_checks(config)
    for key in checks_of_main.check_keys:  # as a materialization does while it is at work
        planned = DagsterEvent(
            DagsterEventType.ASSET_CHECK_EVALUATION_PLANNED.value,
            job_name="trail_main",
            event_specific_data=AssetCheckEvaluationPlanned(
                asset_key=key.asset_key, check_name=key.name
            ),
        )
        instance.report_dagster_event(planned, run_id=make_new_run_id())
    assert checks(tick(config, instance)) == {"can_be_listed": True}
    noted = sync_job.execute_in_process(instance=instance).get_asset_check_evaluations()
    assert {evaluation.check_name for evaluation in noted} >= {
        key.name for key in checks_of_main.check_keys
    } - {"can_be_listed"}


def test_a_run_that_materializes_notes_all_checks_again_as_dagster_hides_older_ones(
    config: Config, bucket: Path, instance: DagsterInstance
) -> None:
    config = replace(config, dagster=replace(config.dagster, materialization_interval=0))
    broken = put(bucket, "111122223333", "eu-west-1", NOW, "A")
    (bucket / broken).write_bytes(b"\x1f\x8bno gzip")
    names = {"can_be_listed", "no_failed_log_files", "nothing_new_in_quarantine"}
    names |= {"no_conflicting_events", "sensor_is_running"}
    sync_job = build_definitions(config).resolve_job_def("sync")
    for suffix in "BC":
        put(bucket, "111122223333", "eu-west-1", NOW, suffix)
        [recent, *_] = tick(config, instance).run_requests or ()
        done = sync_job.execute_in_process(
            instance=instance, run_config=recent.run_config, raise_on_error=False
        )
        assert len(done.asset_materializations_for_node("sync")) == 1
        assert {evaluation.check_name for evaluation in done.get_asset_check_evaluations()} == names
    # The run noted the checks of the last materialization, so there is nothing to repeat.
    hourly = replace(config, dagster=DagsterSettings())
    assert not tick(hourly, instance).asset_events
    alarm = tick(hourly, instance, AlarmCursor(time.time()).dump(), "sensor_alarm")
    assert not alarm.asset_events


def test_the_checks_of_a_trail_run_by_themselves(
    config: Config, bucket: Path, instance: DagsterInstance
) -> None:
    put(bucket, "111122223333", "eu-west-1", NOW, "A")
    [checks_of_main] = build_checks(config)
    job = define_asset_job("checks", AssetSelection.checks(checks_of_main))
    definitions = Definitions.merge(build_definitions(config), Definitions(jobs=[job]))
    resolved = definitions.resolve_job_def("checks")
    result = resolved.execute_in_process(instance=instance)
    found = {
        evaluation.check_name: evaluation.passed
        for evaluation in result.get_asset_check_evaluations()
    }
    assert found == dict.fromkeys(found, True)
    assert len(found) == 5


class Hook:
    """An HTTP server on loopback that keeps what clients post to it."""

    def __init__(self, status: int = 200) -> None:
        self.texts: list[str] = []
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                hook.texts.append(json.loads(body)["text"])
                self.send_response(status)
                self.end_headers()

            def log_message(self, *values: Any) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/secret-path"

    def __enter__(self) -> "Hook":
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self.server.shutdown()
        self.server.server_close()


def test_a_webhook_that_refuses_is_an_error_without_its_url(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(webhook, "time", SimpleNamespace(sleep=pauses.append))
    with Hook(status=500) as hook, pytest.raises(WebhookError, match="HTTP 500") as caught:
        post(hook.url, "text")
    assert len(hook.texts) == 3
    assert pauses == [1, 2]
    assert "secret-path" not in str(caught.value)
    with pytest.raises(WebhookError) as caught:
        post(hook.url, "text")
    assert "secret-path" not in str(caught.value)


def test_a_failed_run_is_posted_with_what_failed(
    config: Config, bucket: Path, instance: DagsterInstance
) -> None:
    broken = put(bucket, "111122223333", "eu-west-1", NOW, "A")
    (bucket / broken).write_bytes(b"\x1f\x8bno gzip")
    with Hook() as hook:
        configured = replace(config, dagster=DagsterSettings(failure_webhook=hook.url))
        result = (
            build_definitions(configured)
            .resolve_job_def("sync")
            .execute_in_process(instance=instance, raise_on_error=False)
        )
        context = build_run_status_sensor_context(
            "failure_webhook",
            result.get_run_failure_event(),
            instance,
            result.dagster_run,
        ).for_run_failure()
        sensor_named(configured, "failure_webhook")(context)
    [text] = hook.texts
    assert "sync failed" in text
    assert broken in text
    assert "damaged" in text


def test_an_alarm_is_told_once_when_it_comes_and_once_when_it_goes(
    config: Config, instance: DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    state: list[str | None] = [None]
    monkeypatch.setattr("ctrail_pipeline.orchestration.sensors.sensor_trouble", lambda *_: state[0])
    with Hook() as hook:
        configured = replace(config, dagster=DagsterSettings(failure_webhook=hook.url))
        first = tick(configured, instance, AlarmCursor(time.time()).dump(), "sensor_alarm")
        assert checks(first) == {"sensor_is_running": True}
        state[0] = "its last look was long ago"
        second = tick(configured, instance, first.cursor, "sensor_alarm")
        assert checks(second) == {"sensor_is_running": False}
        third = tick(configured, instance, second.cursor, "sensor_alarm")
        assert checks(third) == {}
        state[0] = None
        last = tick(configured, instance, third.cursor, "sensor_alarm")
        assert checks(last) == {"sensor_is_running": True}
    assert len(hook.texts) == 2
    assert "long ago" in hook.texts[0]
    assert "is at work again" in hook.texts[1]


@pytest.mark.parametrize("cursor", [None, "not ours", "[1, true]", "[1, false]"])
def test_no_alarm_is_told_when_the_daemon_has_just_started(
    config: Config,
    instance: DagsterInstance,
    monkeypatch: pytest.MonkeyPatch,
    cursor: str | None,
) -> None:
    monkeypatch.setattr(
        "ctrail_pipeline.orchestration.sensors.sensor_trouble", lambda *_: "it never looked"
    )
    with Hook() as hook:
        configured = replace(config, dagster=DagsterSettings(failure_webhook=hook.url))
        first = tick(configured, instance, cursor, "sensor_alarm")
        assert checks(first) == {}
        assert hook.texts == []
        second = tick(configured, instance, first.cursor, "sensor_alarm")
        assert checks(second) == {"sensor_is_running": False}
        assert len(hook.texts) == (0 if cursor == "[1, true]" else 1)


def test_the_configuration_says_whether_the_sensor_runs_from_the_start(config: Config) -> None:
    for value in ("running", "stopped"):
        configured = replace(config, dagster=DagsterSettings(sensor=value, sensor_interval=77))
        sensor = sensor_named(configured, "new_log_files")
        assert sensor.default_status.name == value.upper()
        assert sensor.minimum_interval_seconds == 77


@pytest.mark.parametrize(
    ("status", "ends_as"),
    [
        (DagsterRunStatus.STARTED, DagsterRunStatus.FAILURE),
        (DagsterRunStatus.CANCELING, DagsterRunStatus.CANCELED),
        (DagsterRunStatus.SUCCESS, DagsterRunStatus.SUCCESS),
    ],
)
def test_a_run_whose_process_was_killed_is_ended(
    config: Config, instance: DagsterInstance, status: DagsterRunStatus, ends_as: DagsterRunStatus
) -> None:
    job = build_definitions(config).resolve_job_def("sync")
    run = instance.create_run_for_job(job, status=status)
    program = (
        "import sys, time\nfrom types import SimpleNamespace\n"
        "from ctrail_pipeline.orchestration.living_runs import mark_as_living\n"
        "mark_as_living(SimpleNamespace(root_directory=sys.argv[1]), sys.argv[2])\n"
        "print('lives', flush=True)\ntime.sleep(60)\n"
    )
    arguments = [sys.executable, "-c", program, instance.root_directory, run.run_id]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "lives\n"
        assert end_dead_runs(instance) == []
        process.kill()
    assert end_dead_runs(instance) == ([] if status is ends_as else [run.run_id])
    ended = instance.get_run_by_id(run.run_id)
    assert ended is not None
    assert ended.status is ends_as
    assert end_dead_runs(instance) == []


def test_a_run_that_died_before_it_could_be_marked_is_ended_after_a_minute(
    config: Config, instance: DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = build_definitions(config).resolve_job_def("sync")
    runs = [
        instance.create_run_for_job(job, tags=tags)
        for tags in ({WORK_TAG: RECENT}, {WORK_TAG: RECENT}, {"of": "another project"})
    ]
    for run in runs:
        start = DagsterEvent(DagsterEventType.RUN_START.value, job.name)
        instance.report_dagster_event(start, run.run_id)
    died, lives, _ = runs
    mark_as_living(instance, lives.run_id)
    assert end_dead_runs(instance) == []
    later = time.time() + 61
    monkeypatch.setattr(time, "time", lambda: later)
    assert end_dead_runs(instance) == [died.run_id]


def test_a_process_marks_one_run_after_the_other_and_leaves_nothing(
    instance: DagsterInstance,
) -> None:
    program = (
        "import os, sys\nfrom types import SimpleNamespace\n"
        "from ctrail_pipeline.orchestration.living_runs import mark_as_living\n"
        "for run in ('one', 'two', 'two'):\n"
        "    mark_as_living(SimpleNamespace(root_directory=sys.argv[1]), run)\n"
        "    print(os.listdir(sys.argv[1] + '/ctrail-runs'))\n"
    )
    arguments = [sys.executable, "-c", program, instance.root_directory]
    done = subprocess.run(arguments, stdout=subprocess.PIPE, text=True, check=True)
    assert done.stdout == "['one']\n['two']\n['two']\n"
    assert list((Path(instance.root_directory) / "ctrail-runs").iterdir()) == []


def test_a_run_that_is_executed_again_says_how_far_the_first_came(
    config: Config, bucket: Path, instance: DagsterInstance, capfd: pytest.CaptureFixture[str]
) -> None:
    for number in range(3):
        put(bucket, "111122223333", "eu-west-1", NOW - timedelta(minutes=number), "A")
    sync_job = build_definitions(config).resolve_job_def("sync")
    first = sync_job.execute_in_process(instance=instance)
    again = instance.create_run_for_job(
        sync_job, parent_run_id=first.run_id, root_run_id=first.run_id
    )
    assert execute_run(InMemoryJob(sync_job), again, instance).success
    assert f"resumed run {first.run_id}, 3 log files already committed" in capfd.readouterr().err
