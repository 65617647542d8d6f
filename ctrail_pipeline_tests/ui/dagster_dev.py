"""A `dagster dev` for tests: webserver and daemon over a sample bucket, and queries to Dagster.

The sample is behind a small S3 server, so that a test can let a request hang. Queries go through
GraphQL, as in the UI. The UI itself belongs to `browser`.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from ctrail_pipeline.sample import bucket
from ctrail_pipeline_tests.support.fault_server import FaultServer
from ctrail_pipeline_tests.support.project import PROJECT

DAGSTER = [sys.executable, "-m", "dagster"]
LOCATION = {"repositoryName": "__repository__", "repositoryLocationName": "ctrail_pipeline"}
SECONDS_TO_START = 90
SECONDS_TO_STOP = 60


class DagsterDev:
    """A running `dagster dev`, the folder it works in, and the S3 server it reads."""

    def __init__(self, folder: Path, url: str, s3: FaultServer) -> None:
        self.folder = folder
        self.url = url
        self.s3 = s3
        self.events = folder / "events"
        self.quarantine = folder / "quarantine"
        self.buckets = [
            (folder / "sample" / bucket.ORGANIZATION_BUCKET, ""),
            (folder / "sample" / bucket.PAYMENTS_BUCKET, bucket.PAYMENTS_PREFIX),
        ]
        """Folder and prefix of each trail, as the oracle needs them."""

    def query(self, graphql: str, **variables: Any) -> Any:
        """Return the data of the answer. Raises AssertionError if the answer has errors."""
        request = urllib.request.Request(
            f"{self.url}/graphql",
            json.dumps({"query": graphql, "variables": variables}).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=30) as response:
            answer = json.load(response)
        assert "errors" not in answer, answer["errors"]
        return answer["data"]

    def load_error(self) -> str | None:
        """The error with which Dagster failed to load our code, if it failed."""
        entries = self.query(
            "{workspaceOrError {... on Workspace {locationEntries {name locationOrLoadError"
            " {... on PythonError {message}}}}}}"
        )["workspaceOrError"]["locationEntries"]
        assert [entry["name"] for entry in entries] == ["ctrail_pipeline"]
        message: str | None = entries[0]["locationOrLoadError"].get("message")
        return message

    def status_of(self, run_id: str) -> str:
        """Return a run's status, such as SUCCESS."""
        run = self.query(
            "query ($id: ID!) {runOrError(runId: $id) {... on Run {status}}}", id=run_id
        )
        status: str = run["runOrError"]["status"]
        return status

    def has_ended(self, run_id: str) -> bool:
        """Whether a run has ended, with success or not."""
        return self.status_of(run_id) in {"SUCCESS", "FAILURE", "CANCELED"}

    def newest_run(self) -> str:
        """Return the id of the run that was requested last."""
        runs = self.query("{runsOrError(limit: 1) {... on Runs {results {runId}}}}")["runsOrError"]
        run_id: str = runs["results"][0]["runId"]
        return run_id

    def is_idle(self) -> bool:
        """Whether no run waits or is at work."""
        runs = self.query(
            "query ($statuses: [RunStatus!]) {runsOrError(filter: {statuses: $statuses})"
            " {... on Runs {results {runId}}}}",
            statuses=["QUEUED", "NOT_STARTED", "STARTING", "STARTED", "CANCELING"],
        )["runsOrError"]
        return not runs["results"]

    def backfill(self) -> tuple[str, list[str]] | None:
        """Return status and runs of the backfill that was requested last."""
        found = self.query(
            "{partitionBackfillsOrError(limit: 1) {... on PartitionBackfills {results"
            " {status runs {id}}}}}"
        )["partitionBackfillsOrError"]["results"]
        return (found[0]["status"], [run["id"] for run in found[0]["runs"]]) if found else None

    def materialized(self, asset: list[str]) -> set[str]:
        """Return the materialized partitions of an asset."""
        events = self._materializations(asset, None)
        return {event["partition"] for event in events}

    def numbers(self, asset: list[str], partition: str) -> tuple[str, dict[str, int]]:
        """Return run id and integer metadata of a partition's newest materialization."""
        newest = self._materializations(asset, [partition])[0]
        numbers = {
            entry["label"]: int(entry["intRepr"])
            for entry in newest["metadataEntries"]
            if "intRepr" in entry
        }
        return newest["runId"], numbers

    def freshness(self, asset: list[str]) -> str:
        """Return the daemon's verdict on an asset's freshness, such as HEALTHY."""
        node = self.query(
            "query ($asset: AssetKeyInput!) {assetNodeOrError(assetKey: $asset)"
            " {... on AssetNode {freshnessStatusInfo {freshnessStatus}}}}",
            asset={"path": asset},
        )["assetNodeOrError"]
        status: str = node["freshnessStatusInfo"]["freshnessStatus"]
        return status

    def _materializations(self, asset: list[str], partitions: list[str] | None) -> Any:
        return self.query(
            "query ($asset: AssetKeyInput!, $partitions: [String!]) {assetOrError(assetKey: $asset)"
            " {... on Asset {assetMaterializations(partitions: $partitions) {runId partition"
            " metadataEntries {label ... on IntMetadataEntry {intRepr}}}}}}",
            asset={"path": asset},
            partitions=partitions,
        )["assetOrError"]["assetMaterializations"]


@contextmanager
def dagster_dev(folder: Path) -> Iterator[DagsterDev]:
    """Write a sample into a folder, find its partitions, start `dagster dev`; stop it at the end.

    The sample's last day is yesterday. The sensor does not run from the start: a test turns it on.

    Raises:
        AssertionError: it did not start; the message has the end of its log.
    """
    yesterday = datetime.now(UTC).date() - timedelta(days=1)
    bucket.write_sample(folder / "sample", log_files=400, last_day=yesterday)
    with FaultServer(folder / "sample") as s3:
        (folder / "config.json").write_text(json.dumps(_configuration(s3), indent=2))
        with _started(folder, s3) as dev:
            yield dev


@contextmanager
def _started(folder: Path, s3: FaultServer) -> Iterator[DagsterDev]:
    home = folder / "home"
    home.mkdir()
    shutil.copy(PROJECT / "dagster.yaml", home)
    environment = (
        os.environ
        | s3.env()
        | {
            "DAGSTER_HOME": str(home),
            "CTRAIL_CONFIG": str(folder / "config.json"),
            "PYTHONWARNINGS": "ignore",
        }
    )
    discovered = subprocess.run(
        [*DAGSTER, "job", "execute", "-m", "ctrail_pipeline.definitions", "-j", "discover"],
        cwd=folder,
        env=environment,
        check=False,
        capture_output=True,
        text=True,
        timeout=SECONDS_TO_START,
    )
    assert discovered.returncode == 0, discovered.stderr
    port = _free_port()
    log_file = folder / "dagster-dev.log"
    with log_file.open("wb") as log:
        process = subprocess.Popen(
            [*DAGSTER, "dev", "-w", PROJECT / "workspace.yaml", "-h", "127.0.0.1", "-p", str(port)],
            cwd=folder,
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
            # Tests started in the background inherit an ignored SIGINT: see the Makefile.
            preexec_fn=_default_signals,
            start_new_session=True,
        )
    try:
        dev = DagsterDev(folder, f"http://127.0.0.1:{port}", s3)
        wait_for(lambda: _answers(dev, process, log_file), "dagster dev to start", SECONDS_TO_START)
        yield dev
    finally:
        process.terminate()
        try:
            process.wait(SECONDS_TO_STOP)
        finally:
            _kill_group(process.pid)


def wait_for(condition: Callable[[], bool], awaited: str, seconds: float) -> None:
    """Wait until the condition holds. Raises AssertionError after so many seconds."""
    give_up = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < give_up, f"waited {seconds} s for {awaited}"
        time.sleep(0.2)


def _configuration(s3: FaultServer) -> dict[str, Any]:
    return {
        "trails": [
            {
                "name": "organization",
                "bucket": bucket.ORGANIZATION_BUCKET,
                "endpoint_url": s3.endpoint_url,
                "log_file_validation": False,  # a sample's digests are invented
            },
            {
                "name": "payments",
                "bucket": bucket.PAYMENTS_BUCKET,
                "prefix": bucket.PAYMENTS_PREFIX,
                "endpoint_url": s3.endpoint_url,
                "log_file_validation": False,  # a sample's digests are invented
            },
        ],
        "owners": ["team:security"],
        # Each run reports its partitions, not only the first of an hour.
        "materialization_interval": 0,
        "sensor": "stopped",
        "sensor_interval": 30,
    }


def _answers(dev: DagsterDev, process: "subprocess.Popen[bytes]", log_file: Path) -> bool:
    assert process.poll() is None, log_file.read_text()[-3000:]
    try:
        dev.load_error()
        return True
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    return port


def _default_signals() -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)


def _kill_group(group: int) -> None:
    """End the remaining processes of the session that we started, such as a code server."""
    with suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)
