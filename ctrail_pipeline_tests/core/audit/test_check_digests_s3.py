"""Digests in S3 are checked: signatures come from metadata of objects, keys from ListPublicKeys.

S3 is moto's; it has no ListPublicKeys, so a small server speaks CloudTrail's JSON protocol.
"""

import json
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import boto3
import pytest

from ctrail_pipeline.core.audit.check_digests import check_digests
from ctrail_pipeline.core.audit.digest_result import DigestResult
from ctrail_pipeline.core.audit.findings import FindingKind
from ctrail_pipeline.core.ledger.ledger import Ledger
from ctrail_pipeline.core.ledger.queries_digests import kept_public_keys
from ctrail_pipeline.core.listing.found_prefixes import find_prefixes
from ctrail_pipeline.core.listing.problem import Problem
from ctrail_pipeline.core.listing.selection import Selection
from ctrail_pipeline.core.settings import Settings, Trail
from ctrail_pipeline_tests.support.moto_server import moto_server
from ctrail_pipeline_tests.support.signed_digests import START, Delivery, list_public_keys


class CloudTrail(ThreadingHTTPServer):
    """A server that answers ListPublicKeys, or denies it."""

    denies = False

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        super().__init__(("127.0.0.1", 0), Answer)


class Answer(BaseHTTPRequestHandler):
    server: CloudTrail

    def do_POST(self) -> None:
        assert self.headers["X-Amz-Target"].endswith(".ListPublicKeys")
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append(body)
        status, reply = 200, list_public_keys()
        if self.server.denies:
            status, reply = 400, {"__type": "AccessDeniedException", "message": "no"}
        data = json.dumps(reply).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/x-amz-json-1.1")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_arguments: object) -> None:
        pass


@pytest.fixture
def cloudtrail(monkeypatch: pytest.MonkeyPatch) -> Iterator[CloudTrail]:
    server = CloudTrail()
    thread = Thread(target=server.serve_forever)
    thread.start()
    address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setenv("AWS_ENDPOINT_URL_CLOUDTRAIL", address)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def settings(tmp_path: Path, cloudtrail: CloudTrail) -> Iterator[Settings]:
    """A bucket in S3 with three hours of log files and digests."""
    delivery = Delivery(tmp_path, bucket="some-trail-logs")
    delivery.hours(3)
    with moto_server() as address:
        s3 = boto3.client("s3", region_name="us-east-1", endpoint_url=address)
        s3.create_bucket(Bucket=delivery.bucket)
        for path in delivery.folder.rglob("*.gz"):
            key = str(path.relative_to(delivery.folder))
            metadata = delivery.metadata.get(f"{delivery.bucket}/{key}", {})
            s3.put_object(
                Bucket=delivery.bucket, Key=key, Body=path.read_bytes(), Metadata=metadata
            )
        trail = Trail("main", delivery.bucket, region="us-east-1", endpoint_url=address)
        yield Settings(
            (trail,), tmp_path / "events", tmp_path / "quarantine", tmp_path / "state.db"
        )


def check(settings: Settings) -> tuple[DigestResult, list[Problem]]:
    problems: list[Problem] = []
    found_prefixes = find_prefixes(settings, Selection(), problems.append, may_get=False)
    return check_digests(
        settings, Selection(), found_prefixes.selected, report=problems.append
    ), problems


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("https://me:private@local host", "boto3 failed with ValueError"),
        ("http://127.0.0.1:1", "no answer of 127.0.0.1"),
    ],
)
def test_where_cloudtrail_cannot_be_asked_that_is_the_trails_problem(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, url: str, reason: str
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_CLOUDTRAIL", url)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    _, problems = check(settings)
    [problem] = problems
    assert problem.state == "no public keys"
    assert problem.reason.startswith("cloudtrail:ListPublicKeys in eu-west-1: ")
    assert reason in problem.reason
    assert "private" not in problem.reason


def test_keys_are_asked_for_once_and_kept(settings: Settings, cloudtrail: CloudTrail) -> None:
    for _ in range(2):
        checked, problems = check(settings)
        assert (checked.findings, problems) == ([], [])
        assert (checked.digests_sound, checked.log_files_proved) == (3, 3)
    (request,) = cloudtrail.asked
    assert request["StartTime"] < START.timestamp() + 3 * 3600 < request["EndTime"]
    with closing(Ledger(settings.state_db)) as ledger:
        assert list(kept_public_keys(ledger)) == ["f" * 32]


def test_a_denied_key_is_a_problem_and_no_alarm(settings: Settings, cloudtrail: CloudTrail) -> None:
    cloudtrail.denies = True
    checked, problems = check(settings)
    assert {found.kind for found in checked.findings} >= {FindingKind.KEY_UNKNOWN}
    assert {found.severity.value for found in checked.findings} <= {"warning", "note"}
    (problem,) = problems
    assert problem.reason == "cloudtrail:ListPublicKeys in eu-west-1: AccessDeniedException"
    assert checked.log_files_proved == 0
