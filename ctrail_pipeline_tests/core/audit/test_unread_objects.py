"""Verify tells many objects that cannot be read for one reason once, with their number."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from ctrail_pipeline.core.audit.compare_report import Report
from ctrail_pipeline.core.audit.verify import verify
from ctrail_pipeline.core.listing.problem import Problem
from ctrail_pipeline.core.run.reason_groups import GROUPS_NAMED
from ctrail_pipeline.core.run.sync import sync
from ctrail_pipeline.sample.bucket import ORGANIZATION_BUCKET, write_sample
from ctrail_pipeline_tests.support.fault_server import FaultServer
from ctrail_pipeline_tests.support.sync_process import served_sample_settings


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultServer]:
    write_sample(tmp_path / "sample", log_files=20)
    with FaultServer(tmp_path / "sample") as server:
        for name, value in server.env().items():
            monkeypatch.setenv(name, value)
        yield server


def test_digests_under_a_key_that_denies_are_told_once(tmp_path: Path, server: FaultServer) -> None:
    settings = served_sample_settings(server.endpoint_url, tmp_path)
    settings = replace(settings, trails=settings.trails[:1])
    sync(settings)
    keys = server.keys(ORGANIZATION_BUCKET, "AWSLogs/")
    digests = [key for key in keys if "CloudTrail-Digest/" in key and key.endswith(".gz")]
    server.faults.kms_denied |= set(digests)
    assert len(digests) > 2
    report = verify(settings)
    [problem] = report.problems
    assert problem.where.removeprefix(f"s3://{ORGANIZATION_BUCKET}/") in digests
    assert problem.reason == (
        "access denied by KMS: kms:Decrypt on the trail's key is missing;"
        f" and {len(digests) - 1} more"
    )
    assert not report.is_complete


def test_reasons_beyond_a_hundred_are_counted_as_one() -> None:
    report = Report()
    report.problems.append(Problem("trail", "bucket", "not listed", "no connection"))
    for number in range(GROUPS_NAMED + 50):
        for key in ("a", "b"):
            where = f"s3://logs/{key}"
            report.note_unread(Problem("trail", where, "not read", f"{where}: {'x' * number}"))
    listed, *others = report.problems
    assert listed.reason == "no connection"
    assert len(others) == GROUPS_NAMED + 1
    assert {problem.reason.partition("; ")[2] for problem in others[:-1]} == {"and 1 more"}
    assert others[-1].reason.endswith("x; and 99 more")
