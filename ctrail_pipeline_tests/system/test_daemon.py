"""The real daemon and a real S3 server: objects in the bucket become events by themselves."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ctrail_pipeline.core.run.sync import sync
from ctrail_pipeline.sample.bucket import (
    ORGANIZATION_BUCKET,
    PAYMENTS_BUCKET,
    PAYMENTS_PREFIX,
    SampleObject,
    generate_log_files,
)
from ctrail_pipeline_tests.support.oracle import Expectation, read_buckets, snapshot
from ctrail_pipeline_tests.support.project import PROJECT
from ctrail_pipeline_tests.support.s3_server import S3Server
from ctrail_pipeline_tests.support.sync_process import (
    assert_exact,
    let_a_minute_pass,
    put_object,
    served_sample_settings,
)

pytestmark = pytest.mark.thorough(is_long=True)

SECONDS_FOR_EVENTS = 300.0
DAGSTER_DAEMON = Path(sys.executable).parent / "dagster-daemon"


@contextmanager
def daemon(folder: Path, environment: Mapping[str, str]) -> Iterator[Callable[[], None]]:
    """Start the daemon, and give a function that kills all its processes, as a power cut does.

    Raises AssertionError with the end of the log if the block fails.
    """
    log_file = folder / "daemon.log"
    with log_file.open("ab") as log:
        process = subprocess.Popen(
            [DAGSTER_DAEMON, "run", "-w", PROJECT / "workspace.yaml"],
            cwd=folder,
            env={**os.environ, **environment},
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def kill() -> None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    try:
        yield kill
    except AssertionError as error:
        raise AssertionError(f"{error}\n{log_file.read_text()[-6000:]}") from error
    finally:
        kill()


def wait_until(condition: Callable[[], bool], awaited: str) -> float:
    """Wait until the condition holds, and return how many seconds it took."""
    started = time.monotonic()
    while not condition():
        assert time.monotonic() - started < SECONDS_FOR_EVENTS, f"no {awaited}"
        time.sleep(0.2)
    return time.monotonic() - started


@pytest.fixture
def buckets(tmp_path: Path) -> Path:
    buckets = tmp_path / "buckets"
    for name in (ORGANIZATION_BUCKET, PAYMENTS_BUCKET):
        (buckets / name).mkdir(parents=True)
    return buckets


def deliver(buckets: Path, objects: list[SampleObject]) -> Expectation:
    """Put objects into the buckets, and return the output that they must then give."""
    for sample_object in objects:
        put_object(
            buckets / sample_object.bucket,
            sample_object.key,
            sample_object.body,
            sample_object.last_modified,
        )
    return read_buckets(
        [(buckets / ORGANIZATION_BUCKET, ""), (buckets / PAYMENTS_BUCKET, PAYMENTS_PREFIX)]
    )


def test_objects_become_events_by_the_sensor_alone_even_if_the_daemon_is_killed(
    tmp_path: Path, buckets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    # The project's own settings: the queue, its limits, and what restarts a run that died.
    (home / "dagster.yaml").write_bytes((PROJECT / "dagster.yaml").read_bytes())
    now = datetime.now(UTC)
    generated = generate_log_files(log_files=400, days=2, seed=7, last_day=now.date())
    objects = sorted(
        (sample_object for sample_object in generated if sample_object.last_modified < now),
        key=lambda sample_object: sample_object.last_modified,
    )
    # The sensor looks for new accounts less often than for new log files (test_watch), so all
    # accounts are there at once.
    first = {
        sample_object.bucket + sample_object.key.rsplit("/", 4)[0]: sample_object
        for sample_object in reversed(objects)
    }
    objects = [
        *first.values(),
        *(sample_object for sample_object in objects if sample_object not in first.values()),
    ]
    third = len(objects) // 3
    parts = [objects[:third], objects[third : 2 * third], objects[2 * third :]]
    with S3Server(buckets) as server:
        settings = served_sample_settings(server.endpoint_url, tmp_path, server.region)
        trails = [
            {
                "name": trail.name,
                "bucket": trail.bucket,
                "prefix": trail.prefix,
                "region": trail.region,
                "endpoint_url": trail.endpoint_url,
            }
            for trail in settings.trails
        ]
        (tmp_path / "config.json").write_text(
            json.dumps({"trails": trails, "sensor_interval": 10, "batch_log_files": 20})
        )
        environment = {
            **server.env(),
            "DAGSTER_HOME": str(home),
            "CTRAIL_CONFIG": str(tmp_path / "config.json"),
        }

        def is_in(expectation: Expectation) -> Callable[[], bool]:
            return lambda: snapshot(settings.events_dir) == set(expectation.lines)

        with daemon(tmp_path, environment) as kill:
            took = wait_until(is_in(deliver(buckets, parts[0])), "events of what was there")
            print(f"what was there: {took:.0f} s after the daemon's start")
            before = len(snapshot(settings.events_dir))
            deliver(buckets, parts[1])
            wait_until(lambda: len(snapshot(settings.events_dir)) > before, "events of what came")
            kill()
        everything = deliver(buckets, parts[2])
        with daemon(tmp_path, environment):
            took = wait_until(is_in(everything), "events after the restart")
            print(f"the rest: {took:.0f} s after the restart")
        for name, value in server.env().items():
            monkeypatch.setenv(name, value)
        # A run that died just when it had begun a batch leaves that to recovery a minute later.
        let_a_minute_pass(settings)
        # Log files that hold only copies may be left over: all their events were there.
        assert sync(settings).progress.events == 0
    assert_exact(settings, everything)
