"""Before the work, `ctrail` asks who reads and whether he may; each trail gets one sentence.

A trail that may not be read does not stop the others. The tests run against the fault server, a
server that refuses every request in one way, and moto's STS.
"""

import logging
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from botocore.httpsession import URLLib3Session

from ctrail_pipeline.core.bucket.permissions import arn_of_credentials
from ctrail_pipeline.core.ledger.rows import LogFileState
from ctrail_pipeline.core.listing.problem import Problem
from ctrail_pipeline.core.listing.selection import Selection
from ctrail_pipeline.core.run.summary import Summary
from ctrail_pipeline.core.run.sync import sync
from ctrail_pipeline.core.settings import Settings, Trail
from ctrail_pipeline.reports.sentences import failure_message, summary_line
from ctrail_pipeline.sample.bucket import (
    ORGANIZATION_BUCKET,
    PAYMENTS_BUCKET,
    PAYMENTS_PREFIX,
    write_sample,
)
from ctrail_pipeline_tests.support.fault_server import Faults, FaultServer
from ctrail_pipeline_tests.support.moto_server import moto_server
from ctrail_pipeline_tests.support.oracle import check_output
from ctrail_pipeline_tests.support.standing import standing
from ctrail_pipeline_tests.support.sync_process import served_sample_settings

ACCESS_KEY = "AKIAEXAMPLEACCESSKEY"
SECRET_KEY = "an-example-secret-key-of-nobody"
SESSION_TOKEN = "an-example-session-token"
LIST_MISSING = f"access denied: s3:ListBucket on arn:aws:s3:::{ORGANIZATION_BUCKET} is missing"
GET_MISSING = f"access denied: s3:GetObject on arn:aws:s3:::{ORGANIZATION_BUCKET}/* is missing"
DECRYPT_MISSING = "access denied by KMS: kms:Decrypt on the trail's key is missing"
EVERYBODY = "111122223333", "222233334444", "333344445555", "555566667777", "666677778888"


@dataclass(frozen=True)
class Sample:
    """The sample's two buckets."""

    root: Path

    def log_files(self, bucket: str = ORGANIZATION_BUCKET, pattern: str = "*") -> list[str]:
        """Return the keys of log files, in their order."""
        folder = self.root / bucket
        found = folder.glob(f"**/CloudTrail/**/{pattern}.json.gz")
        return sorted(path.relative_to(folder).as_posix() for path in found)


@dataclass(frozen=True)
class World:
    """A server with faults, and a folder to sync to."""

    server: FaultServer
    settings: Settings

    def sync(self, selection: Selection | None = None) -> Summary:
        return sync(self.settings, selection)

    def recorded(self) -> dict[str, dict[LogFileState, int]]:
        """The ledger's log files by bucket and state."""
        with closing(sqlite3.connect(self.settings.state_db)) as ledger:
            rows = ledger.execute(
                "SELECT bucket, state, count(*) FROM log_file JOIN source_prefix"
                " ON source_prefix.id = source_prefix GROUP BY bucket, state"
            ).fetchall()
        counts: dict[str, dict[LogFileState, int]] = {}
        for bucket, state, count in rows:
            counts.setdefault(bucket, {})[LogFileState(state)] = count
        return counts

    def assert_whole(self, *trails: Trail) -> None:
        """Check that everything of these trails (of all by default) is there once."""
        check_output(
            self.settings.events_dir,
            self.settings.quarantine_dir,
            [(self.server.root / t.bucket, t.prefix) for t in trails or self.settings.trails],
        ).assert_clean()


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    root = tmp_path_factory.mktemp("access") / "sample"
    write_sample(root, log_files=80, days=2)
    return Sample(root)


@pytest.fixture(autouse=True)
def aws_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set credentials of nobody, and hide all that this machine has."""
    for name in list(os.environ):
        if name.startswith("AWS_") or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    for name, value in {
        "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        "AWS_SESSION_TOKEN": SESSION_TOKEN,
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    }.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def make_world(tmp_path: Path, sample: Sample) -> Iterator[Callable[..., World]]:
    servers: list[FaultServer] = []

    def make(faults: Faults | None = None, *, root: Path | None = None) -> World:
        servers.append(FaultServer(root or sample.root, faults).__enter__())
        return World(servers[-1], served_sample_settings(servers[-1].endpoint_url, tmp_path))

    yield make
    for server in servers:
        server.__exit__(None, None, None)


# --- may I list, get, decrypt ---------------------------------------------------------------------


def test_a_missing_list_permission_is_said_once_and_the_other_trail_is_synced(
    make_world: Callable[..., World],
) -> None:
    world = make_world(Faults(denied={"AWSLogs/"}))
    organization, payments = world.settings.trails
    summary = world.sync()
    assert summary.problems == [
        Problem(
            organization.name,
            ORGANIZATION_BUCKET,
            "not listed",
            f"s3://{ORGANIZATION_BUCKET}/AWSLogs/: {LIST_MISSING}",
        )
    ]
    assert world.recorded().keys() == {PAYMENTS_BUCKET}
    world.assert_whole(payments)
    world.server.heal()
    assert world.sync().ok
    world.assert_whole()


@pytest.mark.parametrize(
    ("fault", "missing"), [("denied", GET_MISSING), ("kms_denied", DECRYPT_MISSING)]
)
def test_a_trail_whose_log_files_are_all_denied_is_said_once_and_none_is_recorded_as_failed(
    make_world: Callable[..., World], sample: Sample, fault: str, missing: str
) -> None:
    world = make_world(Faults(**{fault: set(sample.log_files())}))  # type: ignore[arg-type]
    organization, payments = world.settings.trails
    summary = world.sync()
    [problem] = summary.problems
    assert (problem.trail, problem.where) == (organization.name, ORGANIZATION_BUCKET)
    assert problem.state == "not readable"
    assert problem.reason.startswith(f"s3://{ORGANIZATION_BUCKET}/AWSLogs/")
    assert problem.reason.endswith(f": {missing}")
    assert "\n" not in problem.reason
    assert standing(summary) == {}
    committed = len(sample.log_files(PAYMENTS_BUCKET))
    assert world.recorded() == {PAYMENTS_BUCKET: {LogFileState.COMMITTED: committed}}
    assert world.server.counts.faults[fault] <= 12, "a few are tried, not all"
    world.assert_whole(payments)
    world.server.heal()
    assert world.sync().ok
    world.assert_whole()


@pytest.mark.parametrize("at", [0, -1])
def test_one_denied_log_file_does_not_make_its_trail_unreadable(
    make_world: Callable[..., World], sample: Sample, at: int
) -> None:
    """A run may even read one source prefix only, whose first or last log file is denied."""
    region = "222233334444", "us-east-1"
    keys = sample.log_files(pattern="_".join((region[0], "CloudTrail", region[1], "*")))
    world = make_world(Faults(denied={keys[at]}))
    summary = world.sync(Selection(trails=["organization"], partitions=["/".join(region)]))
    assert [problem.state for problem in summary.problems] == ["failed"]
    assert world.recorded() == {
        ORGANIZATION_BUCKET: {LogFileState.COMMITTED: len(keys) - 1, LogFileState.FAILED: 1}
    }
    world.server.heal()
    assert world.sync().ok
    world.assert_whole()


def test_old_log_files_under_a_key_that_is_gone_do_not_keep_the_new_ones_away(
    make_world: Callable[..., World], sample: Sample
) -> None:
    old = {key for key in sample.log_files() if "/2026/01/14/" in key}
    new = set(sample.log_files()) - old
    world = make_world(Faults(kms_denied=old))
    world.sync()
    assert world.recorded()[ORGANIZATION_BUCKET] == {
        LogFileState.COMMITTED: len(new),
        LogFileState.FAILED: len(old),
    }


@pytest.mark.parametrize("account", EVERYBODY)
def test_a_source_prefix_that_may_not_be_listed_costs_itself_only(
    make_world: Callable[..., World], sample: Sample, account: str
) -> None:
    key = next(key for key in sample.log_files() if f"/{account}/" in key)
    folder = key[: key.index("/2026/") + 1]
    world = make_world(Faults(denied={folder}))
    [problem] = world.sync().problems
    assert problem.where == "/".join((account, folder.split("/")[-2]))
    assert problem.reason == f"s3://{ORGANIZATION_BUCKET}/{folder}: {LIST_MISSING}"
    lost = [key for key in sample.log_files() if key.startswith(folder)]
    assert world.recorded()[ORGANIZATION_BUCKET] == {
        LogFileState.COMMITTED: len(sample.log_files()) - len(lost)
    }


def test_a_trail_that_may_be_read_costs_one_get_more(
    make_world: Callable[..., World], sample: Sample
) -> None:
    world = make_world()
    assert world.sync().ok
    requests = world.server.counts.requests
    assert requests["get"] == len(sample.log_files()) + len(sample.log_files(PAYMENTS_BUCKET))
    assert requests["get_range"] == len(world.settings.trails)


# --- credentials and region -----------------------------------------------------------------------


def reasons(settings: Settings) -> list[str]:
    """Return why each trail could not be read; nothing else went wrong, and nothing is recorded."""
    summary = sync(settings)
    assert [problem.state for problem in summary.problems] == ["not listed"] * 2
    assert not summary.ok
    assert standing(summary) == {}
    return [problem.reason for problem in summary.problems]


def test_without_any_credentials_each_trail_says_how_to_get_some(
    make_world: Callable[..., World], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name)
    world = make_world()
    assert reasons(world.settings) == [
        f"trail {name!r}: no AWS credentials were found; set AWS_PROFILE, run `aws sso login`, or"
        " give this machine a role"
        for name in ("organization", "payments")
    ]
    assert world.server.counts.requests.total() == 0


AWS_CONFIG = """
[profile expired-sso]
sso_start_url = https://example.awsapps.com/start
sso_region = us-east-1
sso_account_id = 111122223333
sso_role_name = reader
[profile no-source]
role_arn = arn:aws:iam::111122223333:role/reader
source_profile = not-there
[profile half]
aws_access_key_id = AKIAEXAMPLEACCESSKEY
[profile process]
credential_process = sh -c 'echo an-example-secret-key-of-nobody >&2; exit 1'
"""


@pytest.mark.parametrize(
    ("profile", "reason"),
    [
        (
            "mistyped",
            "the AWS credentials of the profile 'mistyped' cannot be used (there is no such"
            " profile); check AWS_PROFILE and the AWS configuration files",
        ),
        (
            "no-source",
            "the AWS credentials of the profile 'no-source' cannot be used (InvalidConfigError: The"
            ' source_profile "not-there" referenced in the profile "no-source" does not exist);',
        ),
        (
            "half",
            "the AWS credentials of the profile 'half' cannot be used (aws_secret_access_key is"
            " missing);",
        ),
        ("process", "from the credential_process of the profile 'process' (it failed): run its"),
        (
            "expired-sso",
            "from single sign-on of the profile 'expired-sso' (there is no valid token): run `aws"
            " sso login --profile expired-sso`",
        ),
    ],
)
def test_a_profile_that_gives_no_credentials_is_no_missing_permission(
    make_world: Callable[..., World],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    profile: str,
    reason: str,
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name)
    (tmp_path / "aws-config").write_text(AWS_CONFIG)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "aws-config"))
    monkeypatch.setenv("AWS_PROFILE", profile)
    messages = reasons(make_world().settings)
    assert all(reason in message for message in messages), messages
    assert SECRET_KEY not in str(messages)


@contextmanager
def refusing_server(status: int, code: str) -> Iterator[tuple[str, list[str]]]:
    """Yield the server's URL, and the requests that it refused."""
    requests: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            requests.append(self.path)
            body = f"<Error><Code>{code}</Code><Message>No: {ACCESS_KEY}.</Message></Error>"
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_arguments: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", requests
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


ELSEWHERE = "the bucket is in another region: correct the trail's `region`, or leave it out"


@pytest.mark.parametrize(
    ("status", "code", "reason"),
    [
        (301, "PermanentRedirect", ELSEWHERE),
        (400, "AuthorizationHeaderMalformed", ELSEWHERE),
        (400, "IllegalLocationConstraintException", ELSEWHERE),
        (403, "InvalidAccessKeyId", "the AWS credentials are not valid (InvalidAccessKeyId)"),
        (400, "ExpiredToken", "the AWS credentials are not valid (ExpiredToken)"),
        (403, "RequestTimeTooSkewed", "this machine's clock is wrong by more than 15 minutes"),
        (404, "NoSuchBucket", "there is no such bucket: check the trail's `bucket`"),
    ],
)
def test_a_wrong_setup_is_said_after_one_request_a_trail(
    tmp_path: Path, status: int, code: str, reason: str
) -> None:
    with refusing_server(status, code) as (url, requests):
        messages = reasons(served_sample_settings(url, tmp_path))
    assert len(requests) == 2, "what no further try mends is not tried again"
    for bucket, message in zip((ORGANIZATION_BUCKET, PAYMENTS_BUCKET), messages, strict=True):
        assert message.startswith(f"s3://{bucket}/")
        assert reason in message
        assert "\n" not in message


# --- who am I -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sts() -> Iterator[str]:
    with moto_server() as address:
        yield address


def test_the_log_says_who_reads(
    make_world: Callable[..., World],
    sts: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", sts)
    world = make_world()
    arn = arn_of_credentials(world.settings.trails)
    assert arn is not None
    assert arn.startswith("arn:aws:sts::123456789012:")
    with caplog.at_level(logging.INFO, "ctrail_pipeline"):
        world.sync()
    assert f"reading as {arn}" in caplog.messages


def test_nobody_is_asked_about_folders_and_endpoints_of_their_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", "http://127.0.0.1:1")
    assert arn_of_credentials([Trail("folder", "file:///srv/logs")]) is None
    monkeypatch.delenv("AWS_ENDPOINT_URL_STS")
    monkeypatch.setattr(URLLib3Session, "send", lambda *_: pytest.fail("somebody was asked"))
    own = Trail("own", "logs", endpoint_url="http://127.0.0.1:1")
    assert arn_of_credentials([own, Trail("folder", "file:///srv/logs")]) is None
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:1")
    assert arn_of_credentials([Trail("by environment", "logs")]) is None


@pytest.mark.parametrize("status", [200, 403, 500, 501])
def test_an_sts_that_does_not_answer_properly_stops_nothing(
    make_world: Callable[..., World], monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    with refusing_server(status, "AccessDenied") as (url, _):
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", url)
        assert arn_of_credentials([Trail("trail", "logs")]) is None
    assert arn_of_credentials([Trail("trail", "logs")]) is None, "nobody there"
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", "not a URL")
    assert arn_of_credentials([Trail("trail", "logs")]) is None
    assert make_world().sync().ok


def test_an_endpoint_set_in_the_environment_is_every_trails(
    make_world: Callable[..., World], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    world = make_world()
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", world.server.endpoint_url)
    summary = sync(served_sample_settings(None, tmp_path, region=None))
    assert summary.problems == []
    world.assert_whole()


def test_a_bucket_that_is_not_there_is_said_though_its_region_is_unknown(
    make_world: Callable[..., World], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "nothing").mkdir()
    world = make_world(root=tmp_path / "nothing")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", world.server.endpoint_url)
    assert reasons(served_sample_settings(None, tmp_path, region=None)) == [
        f"s3://{bucket}/{root}: there is no such bucket: check the trail's `bucket`"
        for bucket, root in (
            (ORGANIZATION_BUCKET, "AWSLogs/"),
            (PAYMENTS_BUCKET, f"{PAYMENTS_PREFIX}/AWSLogs/"),
        )
    ]


# --- what is never said ---------------------------------------------------------------------------


def test_no_credential_is_ever_logged_or_reported(
    make_world: Callable[..., World],
    sample: Sample,
    sts: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", sts)
    messages = []
    with caplog.at_level(logging.DEBUG, "ctrail_pipeline"):
        for faults in (
            Faults(),
            Faults(denied={"AWSLogs/"}),
            Faults(kms_denied=set(sample.log_files())),
            Faults(denied=set(sample.log_files()[:3]), gone=set(sample.log_files()[3:6])),
        ):
            summary = make_world(faults).sync()
            messages += [failure_message(summary), summary_line(summary), str(summary)]
        for status, code in ((403, "InvalidAccessKeyId"), (403, "SignatureDoesNotMatch")):
            with refusing_server(status, code) as (url, _):
                monkeypatch.setenv("AWS_ENDPOINT_URL_STS", url)
                messages += reasons(served_sample_settings(url, tmp_path / code))
    text = "\n".join(
        [*messages, caplog.text, *map(str, (record.args for record in caplog.records))]
    )
    assert "is missing" in text
    for secret in (ACCESS_KEY, SECRET_KEY, SESSION_TOKEN, "Credential=", "Signature="):
        assert secret not in text
