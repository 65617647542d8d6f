"""A bucket whose server fails as told, and what each front end says of a sync from it."""

import gzip
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from dagster import DagsterInstance, ExecuteInProcessResult
from dagster._core.definitions.job_base import InMemoryJob
from dagster._core.execution.api import execute_run

from ctrail_pipeline.cli.main import main
from ctrail_pipeline.config.file import Config, load_config
from ctrail_pipeline.core.bucket import s3_retry
from ctrail_pipeline.core.keys.log_file_key import key_of
from ctrail_pipeline.core.keys.minutes import day_number
from ctrail_pipeline.core.keys.source_prefix import SourcePrefix
from ctrail_pipeline.definitions import build_definitions
from ctrail_pipeline.orchestration import sync_run
from ctrail_pipeline.orchestration.assets import PARTITION_TAG
from ctrail_pipeline_tests.support.fault_server import Faults, FaultServer

ACCOUNT = "111122223333"
BUCKET = "logs"
FAILING = Faults(get_fail_rate=1)
"""Every GET answers 503, and LIST works."""


def records(number: int, count: int = 2, **changes: object) -> bytes:
    """The text of a log file with records of its own."""
    found = [
        {
            "eventTime": f"2026-01-15T{number % 24:02}:00:{index:02}Z",
            "eventID": f"{number}-{index}",
            "awsRegion": "eu-west-1",
            "recipientAccountId": ACCOUNT,
            **changes,
        }
        for index in range(count)
    ]
    return json.dumps({"Records": found}).encode()


class FailingBucket:
    """A bucket that a server serves, with a configuration of one trail beside it."""

    def __init__(self, folder: Path, server: FaultServer) -> None:
        self.folder = folder
        self.server = server
        trail = {
            "name": "main",
            "bucket": BUCKET,
            "region": "us-east-1",
            "endpoint_url": server.endpoint_url,
        }
        self.source = folder / "config.json"
        self.source.write_text(json.dumps({"trails": [trail]}))

    @property
    def config(self) -> Config:
        return load_config({}, self.folder)

    def put(self, number: int, body: bytes | None = None, region: str = "eu-west-1") -> str:
        """Put a log file of the hour `number` of a day, and return its key."""
        day = day_number(2026, 1, 15)
        assert day is not None
        source_prefix = SourcePrefix(BUCKET, "", "", ACCOUNT, region)
        key = key_of(source_prefix, day, f"{number % 24:02}05{number:016}")
        path = self.folder / "buckets" / BUCKET / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress(records(number) if body is None else body))
        return key

    def ctrail(self, *arguments: str) -> int:
        """Run `ctrail` in this process, and return its exit code."""
        logger = logging.getLogger("ctrail_pipeline")
        handlers, level = logger.handlers[:], logger.level
        try:
            return main(arguments)
        finally:
            logger.handlers[:] = handlers
            logger.setLevel(level)

    def events(self) -> int:
        """How many events are in the output."""
        paths = (self.folder / "events").rglob("*.jsonl")
        return sum(len(path.read_bytes().splitlines()) for path in paths)

    def execute(
        self,
        instance: DagsterInstance,
        job: str = "sync",
        partition: str | None = None,
        **run_config: Any,
    ) -> ExecuteInProcessResult:
        """Execute a job in this process, with its retries."""
        return (
            build_definitions(self.config)
            .resolve_job_def(job)
            .execute_in_process(
                instance=instance,
                run_config={"ops": {"sync": {"config": run_config}}} if job == "sync" else None,
                tags={PARTITION_TAG: partition} if partition else None,
                raise_on_error=False,
            )
        )

    def execute_again(self, instance: DagsterInstance, run_id: str) -> str:
        """Execute a run of the sensor again, as Dagster does; return the id of the new run."""
        sync_job = build_definitions(self.config).resolve_job_def("sync")
        first = instance.get_run_by_id(run_id)
        assert first is not None
        again = instance.create_run_for_job(
            sync_job,
            run_config={"ops": {"sync": {"config": {"listed": True}}}},
            parent_run_id=run_id,
            root_run_id=first.root_run_id or run_id,
        )
        execute_run(InMemoryJob(sync_job), again, instance)
        return again.run_id


@contextmanager
def failing_bucket(folder: Path, patch: pytest.MonkeyPatch) -> Iterator[FailingBucket]:
    """Serve a bucket without log files; pauses between tries are short."""
    (folder / "buckets" / BUCKET).mkdir(parents=True)
    patch.setattr(s3_retry, "FIRST_PAUSE_SECONDS", 0.001)
    patch.setattr(sync_run, "RETRY_SECONDS", 0)
    patch.chdir(folder)
    patch.delenv("CTRAIL_CONFIG", raising=False)
    with FaultServer(folder / "buckets") as server:
        for name, value in server.env().items():
            patch.setenv(name, value)
        yield FailingBucket(folder, server)
