"""`ctrail generate-config` against moto's CloudTrail: every trail once, and a file that loads."""

import json
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import boto3
import pytest
from dagster import DagsterInstance

from ctrail_pipeline.config.file import load_config
from ctrail_pipeline.config.generate import Described, config_of, describe_trails
from ctrail_pipeline.definitions import build_definitions
from ctrail_pipeline_tests.support.anywhere import Anywhere
from ctrail_pipeline_tests.support.authority import Authority
from ctrail_pipeline_tests.support.command import ctrail
from ctrail_pipeline_tests.support.fault_server import FaultServer
from ctrail_pipeline_tests.support.moto_server import moto_server

KEY = "arn:aws:kms:eu-west-1:123456789012:key/0e1f"
ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "x",
    "AWS_SECRET_ACCESS_KEY": "x",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": "/dev/null",
    "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
}
PASSWORD = "private"
AWS_CONFIG = """
[profile absent]
credential_process = /not/there/helper
[profile half]
aws_access_key_id = AKIAX
"""
REGIONS = ["us-east-1", "eu-west-1", "ap-southeast-2"]
ASKED = [part for region in REGIONS for part in ("--region", region)]


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    with moto_server() as address:
        access = {"aws_access_key_id": "x", "aws_secret_access_key": "x", "endpoint_url": address}

        def client(service: str, region: str) -> Any:
            return boto3.client(service, region_name=region, **access)

        for bucket in ("org-logs", "team-logs"):
            client("s3", "us-east-1").create_bucket(Bucket=bucket)
        client("cloudtrail", "eu-west-1").create_trail(
            Name="organization",
            S3BucketName="org-logs",
            IsMultiRegionTrail=True,
            IsOrganizationTrail=True,
            EnableLogFileValidation=True,
            KmsKeyId=KEY,
        )
        for region in ("us-east-1", "ap-southeast-2"):
            client("cloudtrail", region).create_trail(
                Name="team", S3BucketName="team-logs", S3KeyPrefix=f"trails/{region}"
            )
        client("cloudtrail", "us-east-1").create_trail(
            Name="twin", S3BucketName="org-logs", EnableLogFileValidation=False
        )
        yield address


@pytest.fixture
def environment(moto: str) -> dict[str, str]:
    return ENVIRONMENT | {"AWS_ENDPOINT_URL_CLOUDTRAIL": moto}


EXPECTED = [
    {
        "name": "organization+twin",
        "bucket": "org-logs",
        "prefix": "",
        "kms_key_id": KEY,
        "home_region": "eu-west-1",
        "log_file_validation": True,
        "is_organization": True,
    },
    *(
        {
            "name": f"team-123456789012-{region}",
            "bucket": "team-logs",
            "prefix": f"trails/{region}",
            "home_region": region,
            "log_file_validation": False,
            "is_organization": False,
        }
        for region in ("ap-southeast-2", "us-east-1")
    ),
]


def test_every_trail_is_written_once_with_what_is_known_of_it(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    done = ctrail(tmp_path, "generate-config", *ASKED, env=environment)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "config.json").read_text()) == {"trails": EXPECTED}
    lines = done.stdout.splitlines()
    assert len(lines) == 5
    assert lines[0] == (
        "organization: s3://org-logs/AWSLogs/ (home region eu-west-1, an organization's, encrypted"
        f" with {KEY}, with digests)"
    )
    assert lines[1].startswith("team: s3://team-logs/trails/ap-southeast-2/AWSLogs/ (home region ")
    settings = load_config({}, tmp_path).settings
    assert [trail.kms_key_id for trail in settings.trails] == [KEY, None, None]
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


def test_all_regions_are_asked_unless_some_are_named(
    moto: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (ENVIRONMENT | {"AWS_ENDPOINT_URL_CLOUDTRAIL": moto}).items():
        monkeypatch.setenv(name, value)
    trails, unasked = describe_trails()
    assert [trail.name for trail in trails] == ["organization", "team", "team", "twin"]
    assert unasked == []
    trails, _ = describe_trails(regions=["us-west-2"])
    assert [trail.name for trail in trails] == ["organization"], "its shadow is seen from there"


def test_the_file_that_ctrail_config_names_is_written(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    named = environment | {"CTRAIL_CONFIG": "mine.json"}
    assert ctrail(tmp_path, "generate-config", *ASKED, env=named).returncode == 0
    assert [path.name for path in tmp_path.iterdir()] == ["mine.json"]


def test_a_file_that_is_there_is_replaced_only_if_that_is_asked_for(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    (tmp_path / "trails.json").write_text("mine")
    refused = ctrail(tmp_path, "generate-config", "trails.json", *ASKED, env=environment)
    assert refused.returncode == 2
    assert "trails.json is there already and stays as it is" in refused.stderr
    assert (tmp_path / "trails.json").read_text() == "mine"
    done = ctrail(tmp_path, "generate-config", "trails.json", "--force", *ASKED, env=environment)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "trails.json").read_text())["trails"]
    assert [path.name for path in tmp_path.iterdir()] == ["trails.json"]


@pytest.mark.parametrize(
    ("overrides", "arguments", "code", "message"),
    [
        ({"AWS_ACCESS_KEY_ID": ""}, [], 1, "set AWS_PROFILE, run `aws sso login`"),
        ({}, ["--profile", "nope"], 2, "The config profile (nope) could not be found"),
        ({}, ["elsewhere/config.json"], 2, "cannot be written: No such file or directory"),
        (
            {"AWS_ENDPOINT_URL_CLOUDTRAIL": "http://127.0.0.1:9", "AWS_MAX_ATTEMPTS": "1"},
            ["--region", "us-east-1"],
            1,
            "did not answer in any region (no answer of 127.0.0.1): check the network, the proxies",
        ),
        (
            {
                "AWS_ENDPOINT_URL_CLOUDTRAIL": "http://cloudtrail.example.com",
                "AWS_MAX_ATTEMPTS": "1",
                "HTTP_PROXY": f"http://me:{PASSWORD}@127.0.0.1:9",
            },
            [],
            1,
            "did not answer in any region (no connection through the proxy 127.0.0.1:9)",
        ),
        (
            {"AWS_ENDPOINT_URL_CLOUDTRAIL": f"https://me:{PASSWORD}@local host"},
            [],
            2,
            "the AWS configuration cannot be used: Invalid endpoint: https://local host",
        ),
        (
            {"AWS_PROFILE": "absent"},
            [],
            1,
            "could not be obtained from the credential_process of the profile 'absent'",
        ),
        ({"AWS_PROFILE": "half"}, [], 1, "(aws_secret_access_key is missing)"),
        ({}, ["--profile", "absent"], 1, "the credential_process of the profile 'absent'"),
        ({}, ["--profile", "half"], 1, "(aws_secret_access_key is missing)"),
    ],
)
def test_what_goes_wrong_is_one_sentence(
    tmp_path: Path,
    environment: dict[str, str],
    overrides: dict[str, str],
    arguments: list[str],
    code: int,
    message: str,
) -> None:
    config = tmp_path.with_name(f"{tmp_path.name}-aws")
    config.write_text(AWS_CONFIG)
    chosen = environment | {"AWS_CONFIG_FILE": str(config)} | overrides
    if "AWS_PROFILE" in overrides:  # else the keys of the environment come first
        chosen |= {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}
    chosen = {name: value for name, value in chosen.items() if value}
    region = [] if "--region" in arguments else ["--region", "eu-west-1"]
    done = ctrail(tmp_path, "generate-config", *arguments, *region, env=chosen)
    assert done.returncode == code
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert PASSWORD not in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "body",
    [
        b"<!DOCTYPE html>",
        b"{}",
        b'{"trailList": [1]}',
        b'{"trailList": [{"S3BucketName": "logs"}]}',
    ],
)
def test_an_answer_that_is_not_cloudtrails_is_called_so(
    tmp_path: Path, environment: dict[str, str], body: bytes
) -> None:
    class Odd(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_arguments: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Odd)
    thread = Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    address = f"http://127.0.0.1:{server.server_port}"
    odd = environment | {"AWS_ENDPOINT_URL_CLOUDTRAIL": address}
    done = ctrail(tmp_path, "generate-config", "--region", "eu-west-1", env=odd)
    server.shutdown()
    server.server_close()
    thread.join()
    assert done.returncode == 1
    assert "in any region (an answer that is not CloudTrail's): check" in done.stderr
    assert "Traceback" not in done.stderr


def test_of_many_hosts_that_do_not_answer_a_few_are_named(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Nobody trusts the authority that vouches for the hosts."""
    regions = ["eu-west-1", "eu-west-2", "eu-west-3", "us-east-1", "us-east-2"]
    authority = Authority(tmp_path_factory.mktemp("authority"))
    with FaultServer(tmp_path / "none") as server, Anywhere(server, authority) as hosts:
        hosts.buckets |= {f"cloudtrail.{region}.amazonaws.com": "none" for region in regions}
        variables = {"HTTPS_PROXY": hosts.url, "AWS_MAX_ATTEMPTS": "1"}
        asked = [part for region in regions for part in ("--region", region)]
        done = ctrail(tmp_path, "generate-config", *asked, env=ENVIRONMENT | variables)
    assert done.returncode == 1
    assert (
        "(TLS with cloudtrail.eu-west-1.amazonaws.com failed, TLS with"
        " cloudtrail.eu-west-2.amazonaws.com failed and 3 more): check"
    ) in done.stderr


def test_the_job_writes_it_too(
    tmp_path: Path, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    path = tmp_path / "config.json"
    job = build_definitions(load_config({}, tmp_path)).get_job_def("generate_config")
    run_config = {"ops": {"generate_config": {"config": {"path": str(path), "regions": REGIONS}}}}
    with DagsterInstance.ephemeral() as instance:
        assert job.execute_in_process(run_config=run_config, instance=instance).success
        assert json.loads(path.read_text()) == {"trails": EXPECTED}
        again = job.execute_in_process(
            run_config=run_config, instance=instance, raise_on_error=False
        )
    assert not again.success


def test_a_prefix_is_written_so_that_it_means_what_cloudtrail_was_told(tmp_path: Path) -> None:
    prefixes = ["", "foo", "foo/", "/foo", "a//b", "/", "AWSLogs", "AWSLogs/", "foo/AWSLogs"]
    described = [
        Described(f"t{number}", f"{number}", "logs", prefix, "r1", None, True, False)
        for number, prefix in enumerate(prefixes)
    ]
    written = config_of(described)
    (tmp_path / "config.json").write_text(json.dumps(written))
    trails = load_config({}, tmp_path).settings.trails
    assert [trail.prefixes for trail in trails] == [(prefix,) for prefix in prefixes]
    plain = [trail["prefix"] for trail in written["trails"] if "exact_prefix" not in trail]
    assert plain == ["", "foo", "a//b"]
    assert str(described[2]).startswith("t2: s3://logs/foo//AWSLogs/ (")


def test_trails_that_cannot_be_told_apart_by_name_get_longer_ones() -> None:
    first = Described(
        "t", "arn:aws:cloudtrail:eu-west-1:1:trail/t", "b", "", "r1", None, True, False
    )
    second = replace(first, arn="arn:aws:cloudtrail:eu-west-1:2:trail/t", bucket="c")
    assert [trail["name"] for trail in config_of([first, second])["trails"]] == ["t-1-r1", "t-2-r1"]
