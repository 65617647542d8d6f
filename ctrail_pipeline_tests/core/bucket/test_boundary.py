"""Whatever session, credentials or client raise for a trail is that trail's problem, in a sentence.

Two trails lie in one bucket of a sample. The set-up of one is broken; the other must be synced.
"""

import json
import logging
import os
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, NoReturn

import pytest

from ctrail_pipeline.config.generate import describe_trails
from ctrail_pipeline.core.bucket import credentials, endpoint
from ctrail_pipeline.core.bucket.boundary import boundary
from ctrail_pipeline.core.bucket.open_bucket import open_bucket
from ctrail_pipeline.core.exceptions import AccessDenied, CredentialsError, StoreError
from ctrail_pipeline.core.keys.minutes import minute_of
from ctrail_pipeline.core.listing.look import look
from ctrail_pipeline.core.listing.look_cursor import LookCursor
from ctrail_pipeline.core.run.sync import sync
from ctrail_pipeline.core.settings import Settings, Trail
from ctrail_pipeline.sample.bucket import (
    PAYMENTS_BUCKET,
    PAYMENTS_PREFIX,
    write_sample,
)
from ctrail_pipeline_tests.support.fault_server import FaultServer
from ctrail_pipeline_tests.support.oracle import check_output
from ctrail_pipeline_tests.support.sync_process import served_sample_settings

ROLE = "arn:aws:iam::111122223333:role/reader"
PRIVATE = "private-text-of-a-process"
EXPIRED = {
    "Version": 1,
    "AccessKeyId": "ASIAX",
    "SecretAccessKey": "x",
    "SessionToken": "t",
    "Expiration": (datetime.now(UTC) - timedelta(minutes=5)).isoformat(),
}
NUMBERS = {"Version": 1, "AccessKeyId": 1, "SecretAccessKey": 2}
CONFIG = f"""
[profile good]
aws_access_key_id = AKIAGOOD
aws_secret_access_key = secret
[profile mfa]
role_arn = {ROLE}
source_profile = good
mfa_serial = arn:aws:iam::111122223333:mfa/somebody
[profile fails]
credential_process = sh -c 'echo {PRIVATE} >&2; exit 1'
[profile absent]
credential_process = /not/there/helper
[profile nonsense]
credential_process = echo {PRIVATE}
[profile list]
credential_process = echo '[1]'
[profile variable]
credential_process = ${{HOME}}/helper {{0}}
[profile numbers]
credential_process = echo '{json.dumps(NUMBERS)}'
[profile slow]
credential_process = sleep 30
[profile slow-role]
role_arn = {ROLE}
source_profile = slow
[profile authorities]
aws_access_key_id = AKIAGOOD
aws_secret_access_key = secret
ca_bundle = /not/there.pem
[profile empty]
aws_access_key_id =
aws_secret_access_key =
[profile expired]
credential_process = echo '{json.dumps(EXPIRED)}'
[profile pod]
role_arn = {ROLE}
web_identity_token_file = /not/there/token
[profile role]
role_arn = {ROLE}
source_profile = good
[profile no-source]
role_arn = {ROLE}
source_profile = not-there
[profile sign-on]
sso_start_url = https://example.awsapps.com/start
sso_region = us-east-1
sso_account_id = 111122223333
sso_role_name = reader
"""


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("boundary") / "sample"
    write_sample(root, log_files=20)
    return root


class _OddSts(BaseHTTPRequestHandler):
    """Answers every call with 200 and a document that says nothing."""

    def do_POST(self) -> None:
        body = b"<AssumeRoleResponse><AssumeRoleResult/></AssumeRoleResponse>"
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_arguments: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def sts() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _OddSts)
    thread = Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def settings(
    sample: Path, sts: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Settings]:
    """Trails `broken` and `payments`. STS is asked who reads, as for a bucket at AWS."""
    for name in list(os.environ):
        if name.startswith("AWS_") or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    (tmp_path / "config").write_text(CONFIG)
    for name, value in {
        "AWS_CONFIG_FILE": str(tmp_path / "config"),
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_ENDPOINT_URL_STS": sts,
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    with FaultServer(sample) as server:
        served = served_sample_settings(server.endpoint_url, tmp_path)
        organization, payments = served.trails
        trails = replace(organization, name="broken"), replace(payments, profile="good")
        yield replace(served, trails=trails)


OBTAINED = "AWS credentials could not be obtained from"
BY_HAND = "run its command by hand: it must print credentials that are valid"
WEB_IDENTITY = (
    "check AWS_WEB_IDENTITY_TOKEN_FILE and AWS_ROLE_ARN, or the profile's web_identity_token_file"
    " and role_arn"
)


BROKEN: list[tuple[dict[str, Any], str]] = [
    (
        {"profile": "mfa"},
        "the profile 'mfa' wants an MFA code, which nobody is asked for here: take a profile"
        " without `mfa_serial`, or set the variables that `aws configure export-credentials"
        " --profile mfa --format env` prints, and no profile",
    ),
    (
        {"profile": "fails"},
        f"{OBTAINED} the credential_process of the profile 'fails' (it failed): {BY_HAND}",
    ),
    (
        {"profile": "absent"},
        f"{OBTAINED} the credential_process of the profile 'absent' (/not/there/helper: No such"
        f" file or directory): {BY_HAND}",
    ),
    (
        {"profile": "nonsense"},
        f"{OBTAINED} the credential_process of the profile 'nonsense' (its answer cannot be"
        f" read): {BY_HAND}",
    ),
    (
        {"profile": "list"},
        f"{OBTAINED} the credential_process of the profile 'list' (its answer cannot be read):"
        f" {BY_HAND}",
    ),
    (
        {"profile": "variable"},
        f"{OBTAINED} the credential_process of the profile 'variable' (${{HOME}}/helper: No such"
        f" file or directory): {BY_HAND}",
    ),
    (
        {"profile": "numbers"},
        f"{OBTAINED} the credential_process of the profile 'numbers' (its answer cannot be"
        f" read): {BY_HAND}",
    ),
    (
        {"profile": "authorities", "endpoint_url": "https://127.0.0.1:1"},
        "ca_bundle=/not/there.pem cannot be read: No such file or directory",
    ),
    ({"profile": "empty"}, "the access key ID from config-file is empty: write it"),
    (
        {"profile": "expired"},
        f"{OBTAINED} the credential_process of the profile 'expired' (they have expired"
        f" already): {BY_HAND}",
    ),
    (
        {"profile": "pod"},
        f"{OBTAINED} the web identity (/not/there/token: No such file or directory):"
        f" {WEB_IDENTITY}",
    ),
    (
        {"profile": "good", "role_arn": ROLE},
        f"{OBTAINED} the role {ROLE} (its answer cannot be read): check that sts:AssumeRole on"
        " it is allowed, and by the role's trust policy too (its external id?)",
    ),
    (
        {"profile": "role"},
        f"{OBTAINED} the role of the profile 'role' (its answer cannot be read): check that"
        " sts:AssumeRole on it is allowed, and by the role's trust policy too",
    ),
    (
        {"profile": "absent", "role_arn": ROLE},
        f"{OBTAINED} the credential_process of the profile 'absent' (/not/there/helper: No such"
        f" file or directory): {BY_HAND}",
    ),
    (
        {"profile": "mistyped"},
        "the AWS credentials of the profile 'mistyped' cannot be used (there is no such profile);"
        " check the trail's `profile` and the AWS configuration files",
    ),
    (
        {"profile": "no-source"},
        "the AWS credentials of the profile 'no-source' cannot be used (InvalidConfigError: The"
        ' source_profile "not-there" referenced in the profile "no-source" does not exist); check'
        " the trail's `profile` and the AWS configuration files",
    ),
    (
        {"profile": "sign-on"},
        f"{OBTAINED} single sign-on of the profile 'sign-on' (there is no valid token): run `aws"
        " sso login --profile sign-on`",
    ),
]
"""Options of trails that get no credentials, and what is said of each."""


def test_each_broken_trail_is_one_sentence_and_the_other_trail_is_synced(
    settings: Settings, sample: Path, caplog: pytest.LogCaptureFixture
) -> None:
    broken, other = settings.trails
    trails = [
        replace(broken, name=f"broken-{at}", **options) for at, (options, _) in enumerate(BROKEN)
    ]
    with caplog.at_level(logging.DEBUG, "ctrail_pipeline"):
        summary = sync(replace(settings, trails=(*trails, other)))
    assert [problem.reason for problem in summary.problems] == [
        f"trail 'broken-{at}': {reason}" for at, (_, reason) in enumerate(BROKEN)
    ]
    assert {problem.state for problem in summary.problems} == {"not listed"}
    assert PRIVATE not in caplog.text
    buckets = [(sample / PAYMENTS_BUCKET, PAYMENTS_PREFIX)]
    check_output(settings.events_dir, settings.quarantine_dir, buckets).assert_clean()


@pytest.mark.parametrize(
    ("variable", "value", "part"),
    [
        ("AWS_ACCESS_KEY_ID", "AKIAX\n", "access key ID"),
        ("AWS_ACCESS_KEY_ID", "AKIAX\r", "access key ID"),
        ("AWS_ACCESS_KEY_ID", " AKIAX", "access key ID"),
        ("AWS_SECRET_ACCESS_KEY", "secret\n", "secret access key"),
        ("AWS_SESSION_TOKEN", "token\n", "session token"),
    ],
    ids=repr,
)
def test_credentials_with_a_line_end_are_named(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, part: str
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAX")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv(variable, value)
    with pytest.raises(AccessDenied) as caught:
        open_bucket(settings.trails[0], settings)
    assert str(caught.value) == (
        f"trail 'broken': the {part} from env holds a line feed, a space or another character that"
        " no credential has: write it anew, without a line end"
    )


@pytest.mark.parametrize(
    ("variables", "cause"),
    [
        ({"AWS_ENDPOINT_URL_STS": "https://127.0.0.1:1"}, "no answer of 127.0.0.1"),
        (
            {
                "AWS_ENDPOINT_URL_STS": "https://sts.example.com",
                "HTTPS_PROXY": f"http://me:{PRIVATE}@127.0.0.1:1",
            },
            "no connection through the proxy 127.0.0.1:1",
        ),
    ],
)
@pytest.mark.parametrize("options", [{"profile": "role"}, {"profile": "good", "role_arn": ROLE}])
def test_who_gives_no_answer_is_named_and_no_permission_is_blamed(
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    options: dict[str, Any],
    variables: dict[str, str],
    cause: str,
) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setattr(credentials, "_STS_ATTEMPTS", 1)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(CredentialsError) as caught:
        open_bucket(replace(settings.trails[0], **options), settings)
    assert str(caught.value).endswith(
        f" ({cause}): check the network, the proxies and the AWS_* variables"
    )
    assert PRIVATE not in str(caught.value)


def test_half_a_key_in_the_environment_is_no_profiles_fault(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAX")
    with pytest.raises(AccessDenied) as caught:
        open_bucket(settings.trails[0], settings)
    assert str(caught.value) == (
        "trail 'broken': the AWS credentials of the environment cannot be used"
        " (AWS_SECRET_ACCESS_KEY is missing); check the AWS_* variables"
    )


@pytest.mark.parametrize("profile", ["slow", "slow-role"])
def test_a_credential_process_that_hangs_is_ended(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, profile: str
) -> None:
    monkeypatch.setattr(credentials, "PROCESS_SECONDS", 0.05)
    with pytest.raises(CredentialsError, match=r"\(it took too long\)"):
        open_bucket(replace(settings.trails[0], profile=profile), settings)


def test_a_configuration_file_that_is_none_is_named(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "config").write_text("[profile good]\n[profile good]\n")
    with pytest.raises(AccessDenied) as caught:
        open_bucket(settings.trails[1], settings)
    assert f"cannot be used (ConfigParseError: {tmp_path / 'config'});" in str(caught.value)


@pytest.mark.parametrize("name", ["endpoints", "partitions", "s3/2006-03-01/service-2"])
@pytest.mark.parametrize("content", ["nonsense", "[1]"])
def test_data_of_botocore_that_are_none_are_named(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, content: str
) -> None:
    monkeypatch.setenv("AWS_DATA_PATH", str(tmp_path / "models"))
    file = tmp_path / "models" / f"{name}.json"
    file.parent.mkdir(parents=True)
    file.write_text(content)
    monkeypatch.setattr(endpoint, "_clients", {})
    with pytest.raises(StoreError, match=f"^{file} cannot be read as botocore's data"):
        open_bucket(settings.trails[1], settings)


class PanicException(BaseException):
    """What a panic in Rust becomes."""

    __module__ = "pyo3_runtime"


@pytest.mark.parametrize("error", [PanicException("invalid URL"), KeyError(PRIVATE)], ids=repr)
def test_an_error_that_nobody_declares_is_one_trails_problem(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    """It is raised while a bucket is opened, and in a request."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAX")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    trail = settings.trails[0]
    bucket = open_bucket(trail, settings)

    def fail(*_arguments: object, **_options: object) -> NoReturn:
        raise error

    monkeypatch.setattr("ctrail_pipeline.core.bucket.boto3_client.Boto3Client.get", fail)
    monkeypatch.setattr("ctrail_pipeline.core.bucket.current_endpoint.endpoint_of", fail)
    odd_key = "AWSLogs/./a.json.gz"  # boto3 asks for it
    for request in (
        lambda: open_bucket(trail, settings),
        lambda: bucket.get(odd_key, None),
        lambda: bucket.probe(odd_key),
    ):
        with pytest.raises(StoreError) as caught:
            request()
        client = "obstore" if isinstance(error, PanicException) else "boto3"
        assert str(caught.value).startswith(
            f"trail 'broken': {client} failed with {type(error).__name__} (test_boundary.py:"
        )
        assert PRIVATE not in str(caught.value)


def test_our_own_mistakes_are_no_trails_problem() -> None:
    with pytest.raises(TypeError), boundary(Trail("trail", "bucket")):
        minute_of(None)  # type: ignore[arg-type]


def test_what_stops_the_program_passes() -> None:
    with pytest.raises(KeyboardInterrupt), boundary(Trail("trail", "bucket")):
        raise KeyboardInterrupt


def test_a_look_tells_of_the_broken_trail_and_finds_the_others_log_files(
    settings: Settings,
) -> None:
    trail, other = settings.trails
    sync(replace(settings, trails=(other,)))  # registers the other trail's source prefixes
    broken = replace(settings, trails=(replace(trail, profile="absent"), other))
    seen = look(broken, LookCursor(), 20)
    [problem] = seen.problems
    assert "the credential_process of the profile 'absent'" in problem.reason
    assert seen.partitions.keys() == {"payments"}


def test_credentials_that_break_in_mid_run_are_no_log_files_fault(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The credentials expire so soon that botocore asks for others before each request."""
    soon = EXPIRED | {"Expiration": (datetime.now(UTC) + timedelta(minutes=5)).isoformat()}
    printed = tmp_path / "printed"
    printed.write_text(json.dumps(soon))
    with (tmp_path / "config").open("a") as config:
        config.write(f"[profile short]\ncredential_process = cat {printed}\n")
    bucket = open_bucket(replace(settings.trails[0], profile="short"), settings)
    printed.unlink()
    for key in ("AWSLogs/a.json.gz", "AWSLogs/./a.json.gz"):  # by libcurl, by boto3
        with pytest.raises(CredentialsError, match=r"profile 'short' \(it failed\)"):
            bucket.get(key, None)


def test_nobody_is_asked_for_a_code_to_describe_trails(settings: Settings) -> None:
    assert settings.trails
    with pytest.raises(AccessDenied, match="the profile 'mfa' wants an MFA code"):
        describe_trails("mfa", ["us-east-1"])
