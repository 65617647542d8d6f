"""A trail is read with a profile or a role, and with new keys when the old ones expire in a run.

STS is moto's server. The S3 server refuses the keys that it is told to, as S3 refuses expired ones.
libcurl lists folders and reads ordinary keys, boto3 reads a key such as `a/./b.json.gz`: both must
use the same credentials.
"""

import hashlib
import json
import logging
import os
import re
import shutil
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import boto3
import pytest

from ctrail_pipeline.core.bucket.credentials import Credentials
from ctrail_pipeline.core.bucket.open_bucket import get_all, open_bucket
from ctrail_pipeline.core.exceptions import AccessDenied, CredentialsError
from ctrail_pipeline.core.run.summary import Summary
from ctrail_pipeline.core.run.sync import sync
from ctrail_pipeline.core.settings import Settings, Trail
from ctrail_pipeline.sample.bucket import ORGANIZATION_BUCKET, write_sample
from ctrail_pipeline_tests.support.fault_server import Faults, FaultServer
from ctrail_pipeline_tests.support.moto_server import moto_server
from ctrail_pipeline_tests.support.oracle import check_output
from ctrail_pipeline_tests.support.sync_process import leave_all_to_workers

ROLE = "arn:aws:iam::111122223333:role/log-archive/ctrail-reader"
KEY = "AWSLogs/ordinary.json.gz"
ODD_KEY = "AWSLogs/./odd.json.gz"
LOG_FILES = 60
PRIVATE = "private-text-of-an-answer"
_KEY_ID = re.compile(r"Credential=([^/]+)/")


@dataclass
class World:
    """An S3 server that notes by which key each request was signed."""

    server: FaultServer
    folder: Path
    keys: list[str] = field(default_factory=list)
    payers: set[str | None] = field(default_factory=set)
    refused: Callable[[str], bool] = lambda _key: False

    def refuse(self, headers: Message) -> str:
        found = _KEY_ID.search(headers.get("Authorization", ""))
        self.keys.append(found[1] if found else "")
        self.payers.add(headers.get("x-amz-request-payer"))
        return "ExpiredToken" if self.refused(self.keys[-1]) else ""

    def trail(self, **options: Any) -> Trail:
        trail = Trail("organization", ORGANIZATION_BUCKET, region="us-east-1")
        return replace(trail, endpoint_url=self.server.endpoint_url, **options)

    def settings(self, **options: Any) -> Settings:
        return Settings(
            (self.trail(**options),),
            self.folder / "events",
            self.folder / "quarantine",
            self.folder / "state.db",
            download_workers=2,
            batch_log_files=5,
        )

    def assert_whole(self) -> None:
        buckets = [(self.server.root / ORGANIZATION_BUCKET, "")]
        check_output(self.folder / "events", self.folder / "quarantine", buckets).assert_clean()

    def states(self) -> dict[int, int]:
        with closing(sqlite3.connect(self.folder / "state.db")) as ledger:
            rows = ledger.execute("SELECT state, count(*) FROM log_file GROUP BY state").fetchall()
        return dict(rows)


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("credentials") / "sample"
    write_sample(root, log_files=LOG_FILES, days=2)
    return root


@pytest.fixture(autouse=True)
def aws_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("AWS_") or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    for name, value in {
        "AWS_ACCESS_KEY_ID": "AKIASTATIC",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    }.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def world(sample: Path, tmp_path: Path) -> Iterator[World]:
    with FaultServer(sample) as server:
        world = World(server, tmp_path)
        server.refuse = world.refuse
        yield world


@pytest.fixture
def sts(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    with moto_server() as address:
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", address)
        yield address


def without_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)


# --- one chain for all clients  -------------------------------------------------------------------


def assert_all_clients_use(world: World, key: str, **trail: Any) -> None:
    """List and read a key through libcurl, and read one that only boto3 reads."""
    bucket = open_bucket(world.trail(**trail), world.settings())
    world.keys.clear()
    bucket.list_folder("AWSLogs/")
    for object_key in (KEY, ODD_KEY):
        with pytest.raises(Exception, match="no longer there"):
            bucket.get(object_key, None)
    assert len(world.keys) >= 3
    assert set(world.keys) == {key}


def test_a_profile_of_a_trail_is_used_by_both_clients(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "credentials").write_text(
        "[audit]\naws_access_key_id = AKIAAUDIT\naws_secret_access_key = x\n"
        "[other]\naws_access_key_id = AKIAOTHER\naws_secret_access_key = x\n"
    )
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_PROFILE", "other")
    without_keys(monkeypatch)
    assert_all_clients_use(world, "AKIAAUDIT", profile="audit")
    assert_all_clients_use(world, "AKIAOTHER")


def test_a_role_is_assumed_with_its_external_id_and_session_name(
    world: World, sts: str, caplog: pytest.LogCaptureFixture
) -> None:
    from moto.sts.models import sts_backends

    settings = world.settings(
        role_arn=ROLE, external_id="an-id-of-two:companies", session_name="night-shift"
    )
    caplog.set_level(logging.INFO)
    assert sync(settings).ok
    world.assert_whole()
    assert all(key.startswith("ASIA") for key in world.keys)
    role = sts_backends["111122223333"]["aws"].assumed_roles[-1]
    assert (role.role_arn, role.external_id, role.session_name) == (
        ROLE,
        "an-id-of-two:companies",
        "night-shift",
    )
    assert "assumed-role/ctrail-reader/night-shift" in caplog.text
    bucket = open_bucket(settings.trails[0], settings)
    world.keys.clear()
    bucket.list_folder("AWSLogs/")
    with pytest.raises(Exception, match="no longer there"):
        bucket.get(ODD_KEY, None)
    assert len(set(world.keys)) == 1


def test_a_session_is_called_ctrail_where_nothing_else_is_said(world: World, sts: str) -> None:
    from moto.sts.models import sts_backends

    open_bucket(world.trail(role_arn=ROLE), world.settings()).list_folder("AWSLogs/")
    role = sts_backends["111122223333"]["aws"].assumed_roles[-1]
    assert role.session_name == "ctrail"
    assert not role.external_id


def test_web_identity_is_used_by_both_clients(
    world: World, sts: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_keys(monkeypatch)
    (tmp_path / "token").write_text("a-token-of-a-cluster")
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(tmp_path / "token"))
    monkeypatch.setenv("AWS_ROLE_ARN", ROLE)
    assert sync(world.settings()).ok
    assert all(key.startswith("ASIA") for key in world.keys)


@contextmanager
def metadata_server() -> Iterator[tuple[str, str]]:
    """An address that gives credentials of an instance, of a container and of single sign-on."""
    expires = (datetime.now(UTC) + timedelta(hours=6)).strftime("%Y-%m-%dT%H:%M:%SZ")
    secret = {"SecretAccessKey": "x", "Token": "t", "Expiration": expires, "Code": "Success"}
    answers = {
        "/latest/api/token": "token",
        "/latest/meta-data/iam/security-credentials/": "reader",
        "/latest/meta-data/iam/security-credentials/reader": json.dumps(
            secret | {"AccessKeyId": "ASIAINSTANCE", "Type": "AWS-HMAC"}
        ),
        "/container": json.dumps(secret | {"AccessKeyId": "ASIACONTAINER"}),
        "/federation/credentials": json.dumps(
            {
                "roleCredentials": {
                    "accessKeyId": "ASIASIGNEDON",
                    "secretAccessKey": "x",
                    "sessionToken": "t",
                    "expiration": int((time.time() + 6 * 3600) * 1000),
                }
            }
        ),
    }

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = answers.get(self.path.partition("?")[0], "")
            self.send_response(200 if body else 404)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

        do_PUT = do_GET  # noqa: N815 - http.server's name

        def do_POST(self) -> None:
            """An STS that refuses."""
            body = f"<ErrorResponse><Error><Code>AccessDenied</Code>{PRIVATE}</Error>"
            self.send_response(403)
            self.send_header("Content-Length", str(len(body + "</ErrorResponse>")))
            self.end_headers()
            self.wfile.write((body + "</ErrorResponse>").encode())

        def log_message(self, *_arguments: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        url = f"http://127.0.0.1:{server.server_address[1]}"
        yield url, f"{url}/container"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_roles_of_an_instance_and_of_a_container_are_used_by_both_clients(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_keys(monkeypatch)
    with metadata_server() as (instance, container):
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "false")
        monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", instance)
        assert_all_clients_use(world, "ASIAINSTANCE")
        monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", container)
        assert_all_clients_use(world, "ASIACONTAINER")


def test_single_sign_on_is_used_by_both_clients(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody has run `aws sso login`, which leaves a token in a file."""
    without_keys(monkeypatch)
    start = "https://example.awsapps.com/start"
    (tmp_path / "config").write_text(
        f"[profile work]\nsso_start_url = {start}\nsso_region = eu-west-1\n"
        "sso_account_id = 111122223333\nsso_role_name = reader\n"
    )
    cache = tmp_path / "cache"
    cache.mkdir()
    expires = (datetime.now(UTC) + timedelta(hours=6)).strftime("%Y-%m-%dT%H:%M:%SZ")
    token = {"startUrl": start, "accessToken": "token", "expiresAt": expires}
    name = hashlib.sha1(start.encode(), usedforsecurity=False).hexdigest()
    (cache / f"{name}.json").write_text(json.dumps(token))
    # ~/.aws/sso/cache, as botocore found it when it was imported.
    monkeypatch.setattr("botocore.credentials.SSOProvider._SSO_TOKEN_CACHE_DIR", str(cache))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    with metadata_server() as (url, _):
        monkeypatch.setenv("AWS_ENDPOINT_URL_SSO", url)
        assert_all_clients_use(world, "ASIASIGNEDON", profile="work")


@pytest.mark.parametrize("pays", [False, True])
def test_whoever_agrees_to_pay_says_so_in_every_request(world: World, pays: bool) -> None:
    bucket = open_bucket(world.trail(requester_pays=pays), world.settings())
    world.payers.clear()
    [first, *_] = bucket.list_page("AWSLogs/", "").objects
    bucket.get(first.key, first.etag)
    bucket.probe(first.key)
    for odd in (bucket.probe, lambda key: bucket.get(key, None)):
        with pytest.raises(Exception, match="no longer there"):
            odd(ODD_KEY)
    assert world.payers == {"requester" if pays else None}


def test_a_role_that_may_not_be_assumed_is_said_once_with_what_is_missing(
    world: World, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    with metadata_server() as (refusing, _):
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", refusing)
        [problem] = sync(world.settings(role_arn=ROLE)).problems
    assert f"from the role {ROLE} (AssumeRole: AccessDenied): check that" in problem.reason
    assert not world.keys
    assert PRIVATE not in problem.reason
    assert capfd.readouterr() == ("", "")
    assert any(
        isinstance(handler, logging.NullHandler)
        for handler in logging.getLogger("botocore").handlers
    ), "else Python prints botocore's tracebacks, with what servers answered"


def test_the_key_that_may_not_be_used_is_named_where_it_is_known(world: World) -> None:
    keys = {
        path.relative_to(world.server.root / ORGANIZATION_BUCKET).as_posix()
        for path in (world.server.root / ORGANIZATION_BUCKET).rglob("*.json.gz")
    }
    world.server.faults = Faults(kms_denied=keys)
    key = "arn:aws:kms:eu-west-1:111122223333:key/0e1f"
    [problem] = sync(world.settings(kms_key_id=key)).problems
    assert problem.reason.endswith(f"kms:Decrypt on {key} is missing")


# --- expiry in mid-run ----------------------------------------------------------------------------


def slowly(world: World) -> None:
    world.server.faults = Faults(latency=0.1)


@pytest.mark.thorough
def test_a_role_s_credentials_are_renewed_while_a_run_lasts(
    world: World, sts: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every key lives for a second; the run takes several."""
    from moto.sts.models import AssumedRole

    lives = 1.0
    issued: dict[str, float] = {}

    assume = AssumedRole.__init__

    def for_a_second(role: AssumedRole, *arguments: Any, **options: Any) -> None:
        assume(role, *arguments, **options)
        role.expiration = datetime.now(UTC).replace(tzinfo=None) + timedelta(seconds=lives)
        issued[role.access_key_id] = time.monotonic()

    monkeypatch.setattr(AssumedRole, "__init__", for_a_second)
    world.refused = lambda key: time.monotonic() - issued.get(key, -9e9) > lives + 0.5
    slowly(world)
    started = time.monotonic()
    summary = sync(world.settings(role_arn=ROLE))
    assert time.monotonic() - started > 2 * lives
    assert summary.problems == []
    assert len(set(world.keys)) > 2
    world.assert_whole()


def expired_after(world: World, count: int, key: str) -> None:
    """The key is refused after so many requests."""
    world.refused = lambda used: used == key and len(world.keys) > count


def test_keys_that_expire_in_mid_run_are_one_problem_and_no_log_file_s(world: World) -> None:
    expired_after(world, 60, "AKIASTATIC")
    first_sync = sync(world.settings())
    assert_one_problem(first_sync)
    assert world.states().keys() == {1}, "no log file is blamed"
    assert 0 < world.states()[1] < LOG_FILES
    requests = len(world.keys)
    assert requests < 60 + 10, "what must fail is not asked for every log file"
    world.refused = lambda _key: False
    assert sync(world.settings()).ok
    world.assert_whole()


def test_other_keys_are_looked_for_once_for_all_that_failed_together(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each look for other keys may ask STS, or wait for a credential process."""
    bucket = open_bucket(world.trail(), world.settings())
    looks: list[Trail] = []

    class Noted(Credentials):
        def __init__(self, trail: Trail) -> None:
            looks.append(trail)
            super().__init__(trail)

    monkeypatch.setattr("ctrail_pipeline.core.bucket.credential_renewal.Credentials", Noted)
    world.refused = lambda _key: True
    with ThreadPoolExecutor(4) as threads:
        groups = [[(f"{group}/{number}", None) for number in range(20)] for group in range(4)]
        for found in threads.map(lambda wanted: get_all(bucket, wanted), groups):
            assert {type(error) for error in found} == {CredentialsError}
    assert len(looks) == 1


@pytest.mark.parametrize("minutes", [-5, None])
def test_a_credential_process_that_has_nothing_good_any_more_is_said(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, minutes: int | None
) -> None:
    """The process prints keys that have expired, or no JSON: botocore has no error for these."""
    without_keys(monkeypatch)
    printed, configuration = tmp_path / "printed", tmp_path / "config"
    configuration.write_text(f"[default]\ncredential_process = cat {printed}\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(configuration))

    def text(minutes: int) -> str:
        expiry = (datetime.now(UTC) + timedelta(minutes=minutes)).isoformat()
        keys = {"AccessKeyId": "ASIAX", "SecretAccessKey": "x", "SessionToken": "t"}
        return json.dumps({"Version": 1, **keys, "Expiration": expiry})

    printed.write_text(text(5))  # the keys expire so soon that botocore asks for others at once
    bucket = open_bucket(world.trail(), world.settings())
    printed.write_text(PRIVATE if minutes is None else text(minutes))
    with pytest.raises(CredentialsError, match="could not be obtained") as caught:
        bucket.get(KEY, None)
    assert PRIVATE not in str(caught.value)


def test_keys_that_expire_while_workers_fetch_are_one_problem_too(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ctrail_pipeline.core.run.sync._Run._process", leave_all_to_workers)
    settings = replace(world.settings(), process_workers=2)
    expired_after(world, 60, "AKIASTATIC")
    assert_one_problem(sync(settings))
    assert world.states().keys() <= {1}, "no log file is blamed"
    assert world.states().get(1, 0) < LOG_FILES
    world.refused = lambda _key: False
    assert sync(settings).ok
    world.assert_whole()


def assert_one_problem(summary: Summary) -> None:
    [problem] = summary.problems
    assert (problem.state, problem.where) == ("not readable", f"s3://{ORGANIZATION_BUCKET}")
    assert re.search(
        r"the AWS credentials are not valid \(ExpiredToken\); \d+ listed log files are left to the"
        " next run",
        problem.reason,
    )
    assert problem.may_pass
    assert summary.may_pass


def test_keys_that_expire_while_source_prefixes_are_listed_are_one_problem(world: World) -> None:
    expired_after(world, 25, "AKIASTATIC")
    assert_one_problem(sync(world.settings()))
    world.refused = lambda _key: False
    assert sync(world.settings()).ok
    world.assert_whole()


def test_new_keys_in_the_credentials_file_are_taken_up_in_mid_run(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tools for single sign-on write new keys into this file; a session would keep the old ones."""
    without_keys(monkeypatch)
    file = tmp_path / "credentials"
    text = "[default]\naws_access_key_id = {}\naws_secret_access_key = x\naws_session_token = t\n"
    file.write_text(text.format("ASIAOLD"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))

    def refused(used: str) -> bool:
        if len(world.keys) == 60:
            file.write_text(text.format("ASIANEW"))
        return used == "ASIAOLD" and len(world.keys) >= 60

    world.refused = refused
    assert sync(world.settings()).problems == []
    assert set(world.keys) == {"ASIAOLD", "ASIANEW"}
    world.assert_whole()


def test_boto3_takes_up_new_keys_too(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = open_bucket(world.trail(), world.settings())
    odd = world.server.root / ORGANIZATION_BUCKET / "odd"
    odd.mkdir()
    try:
        with pytest.raises(Exception, match="no longer there"):
            bucket.get(ODD_KEY, None)
        world.refused = lambda key: key == "AKIASTATIC"
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIANEW")
        with pytest.raises(Exception, match="no longer there"):
            bucket.get(ODD_KEY, None)
        assert world.keys[-1] == "AKIANEW"
        world.refused = lambda _key: True
        with pytest.raises(CredentialsError, match="ExpiredToken"):
            bucket.get(ODD_KEY, None)
    finally:
        shutil.rmtree(odd)


def test_there_is_no_bucket_without_credentials(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_keys(monkeypatch)
    for trail in (world.trail(), world.trail(role_arn=ROLE)):
        with pytest.raises(AccessDenied, match="no AWS credentials were found"):
            open_bucket(trail, world.settings())
    assert boto3.session.Session().get_credentials() is None
