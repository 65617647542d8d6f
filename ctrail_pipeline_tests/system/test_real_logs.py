"""Real log files, which lie beside the project and are no part of it: each bucket, both ways.

Each bucket is read as a local folder and over S3 (a real server). The oracle finds no fault in
either output, and both are the same to the byte. `pytest -s` shows the numbers.
"""

import os
from pathlib import Path

import pytest

from ctrail_pipeline.core.run.sync import sync
from ctrail_pipeline.core.settings import Settings, Trail
from ctrail_pipeline_tests.support.oracle import read_buckets, snapshot
from ctrail_pipeline_tests.support.real_logs import BUCKETS, PREFIXES, REAL_LOGS, needs_real_logs
from ctrail_pipeline_tests.support.s3_server import S3Server
from ctrail_pipeline_tests.support.sync_process import assert_exact, settings_in


def synced(settings: Settings, bucket: str) -> str:
    """Sync, compare with the oracle, and return the numbers."""
    summary = sync(settings)
    expectation = read_buckets([(REAL_LOGS / bucket, PREFIXES.get(bucket, ""))])
    assert {problem.state for problem in summary.problems} <= {"damaged"}, summary.problems
    unread = [*expectation.damaged_log_files, *expectation.hollow_log_files]
    assert len(summary.problems) == len(unread)
    assert expectation.log_files == summary.progress.log_files > 0
    assert_exact(settings, expectation)
    quarantined = sum(counts.quarantined for counts in summary.partitions.values())
    progress = summary.progress
    return (
        f"{progress.log_files} log files, {progress.events} events, {progress.duplicates}"
        f" duplicates, {quarantined} quarantined, {len(summary.problems)} log files damaged"
    )


@needs_real_logs
@pytest.mark.parametrize("bucket", BUCKETS or ["none"])
def test_every_event_of_real_log_files(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prefix = PREFIXES.get(bucket, "")
    local = settings_in(tmp_path / "local", [Trail("real", (REAL_LOGS / bucket).as_uri(), prefix)])
    numbers = synced(local, bucket)
    with S3Server(REAL_LOGS) as server:
        for name in list(os.environ):
            if name.startswith("AWS_"):
                monkeypatch.delenv(name)
        for name, value in server.env().items():
            monkeypatch.setenv(name, value)
        trail = Trail("real", bucket, prefix, server.region, server.endpoint_url)
        remote = settings_in(tmp_path / "s3", [trail])
        assert synced(remote, bucket) == numbers
    assert snapshot(remote.events_dir) == snapshot(local.events_dir)
    print(f"\n{bucket}: {numbers}")
