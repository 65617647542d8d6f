"""Every client asks the host that boto3 would ask, and gives no other host anything.

Hosts are played by a proxy on the loopback (`support.anywhere`), which notes each request. Listings
and ordinary keys go through libcurl, a key such as `a/./b.json.gz` through boto3.
"""

import logging
import os
import re
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from ctrail_pipeline.core.bucket import s3_retry
from ctrail_pipeline.core.bucket.interface import Bucket
from ctrail_pipeline.core.bucket.open_bucket import open_bucket
from ctrail_pipeline.core.exceptions import ObjectGone, StoreError, StoreUnavailable
from ctrail_pipeline.core.run.sync import sync
from ctrail_pipeline.core.settings import Settings, Trail
from ctrail_pipeline.sample.bucket import ORGANIZATION_BUCKET, write_sample
from ctrail_pipeline_tests.support.anywhere import Anywhere, Reply, Seen
from ctrail_pipeline_tests.support.authority import Authority
from ctrail_pipeline_tests.support.fault_server import FaultServer
from ctrail_pipeline_tests.support.oracle import check_output
from ctrail_pipeline_tests.support.sync_process import leave_all_to_workers

KEY = "AWSLogs/ordinary.json.gz"
ODD_KEY = "AWSLogs/./odd.json.gz"
LEGACY = "My_Old_Bucket"
LONG = "b" * 70
ARN = "arn:aws:s3:eu-west-1:111122223333:accesspoint/logs"
LOGS = Trail("trail", "logs")
IRELAND = {"AWS_DEFAULT_REGION": "eu-west-1"}
DUBLIN = "logs.s3.eu-west-1.amazonaws.com"
OWN = "s3.example.com"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("hosts") / "sample"
    write_sample(root, log_files=20, days=1)
    (root / ORGANIZATION_BUCKET).rename(root / "logs")
    for name in (LEGACY, LONG):
        (root / name).symlink_to("logs")
    return root


@pytest.fixture
def hosts(root: Path, authority: Authority) -> Iterator[Anywhere]:
    with FaultServer(root) as server, Anywhere(server, authority) as hosts:
        yield hosts


@pytest.fixture(autouse=True)
def surroundings(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, hosts: Anywhere, authority: Authority
) -> None:
    """Set credentials of nobody, the authority, and the proxy through which all hosts are."""
    for name in list(os.environ):
        is_authority = name in {"SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE"}
        if is_authority or name.startswith("AWS_") or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    for name, value in {
        "AWS_ACCESS_KEY_ID": "access",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_SESSION_TOKEN": "token",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": str(tmp_path / "config"),
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_CA_BUNDLE": str(authority.certificate),
        "HTTPS_PROXY": hosts.url,
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(s3_retry, "FIRST_PAUSE_SECONDS", 0.001)


def settings_of(trail: Trail, folder: Path) -> Settings:
    return Settings(
        (trail,),
        folder / "events",
        folder / "quarantine",
        folder / "state.db",
        process_workers=1,
        client_timeout=10,
    )


def open_at(trail: Trail, tmp_path: Path) -> Bucket:
    return open_bucket(trail, settings_of(trail, tmp_path))


def ask_by_all_clients(bucket: Bucket) -> None:
    assert bucket.list_folder("AWSLogs/").folders == ["o-exampleorg1"]
    for key in (KEY, ODD_KEY):
        with pytest.raises(ObjectGone):
            bucket.get(key, None)


def by_all_clients(host: str, region: str) -> dict[str, set[tuple[str, str, str]]]:
    return {client: {(host, region, "s3")} for client in ("ctrail_pipeline", "Botocore")}


# --- one host for every client --------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """A trail with its surroundings, and where its bucket is."""

    host: str
    region: str
    trail: Trail = LOGS
    variables: dict[str, str] = field(default_factory=dict)
    config: str = ""
    """AWS's configuration file."""
    has_path_style: bool = False


CASES = {
    "access point": Case(
        "logs-111122223333.s3-accesspoint.eu-west-1.amazonaws.com", "eu-west-1", Trail("trail", ARN)
    ),
    "access point, other region": Case(
        "logs-111122223333.s3-accesspoint.eu-west-1.amazonaws.com",
        "eu-west-1",
        Trail("trail", ARN),
        {"AWS_DEFAULT_REGION": "us-gov-west-1"},
    ),
    **{
        region: Case(f"logs.s3.{region}.{suffix}", region, replace(LOGS, region=region))
        for region, suffix in [
            ("us-gov-west-1", "amazonaws.com"),
            ("cn-north-1", "amazonaws.com.cn"),
            ("eusc-de-east-1", "amazonaws.eu"),
            ("us-iso-east-1", "c2s.ic.gov"),
            ("us-isob-east-1", "sc2s.sgov.gov"),
            ("eu-isoe-west-1", "cloud.adc-e.uk"),
            ("us-isof-south-1", "csp.hci.ic.gov"),
        ]
    },
    "FIPS": Case(
        "logs.s3-fips.us-east-2.amazonaws.com",
        "us-east-2",
        replace(LOGS, region="us-east-2"),
        {"AWS_USE_FIPS_ENDPOINT": "true"},
    ),
    "dual-stack and FIPS of the profile": Case(
        "logs.s3-fips.dualstack.us-east-2.amazonaws.com",
        "us-east-2",
        config="[default]\nregion = us-east-2\nuse_fips_endpoint = true\n"
        "use_dualstack_endpoint = true\n",
    ),
    "path style of the profile": Case(
        "s3.eu-west-1.amazonaws.com",
        "eu-west-1",
        variables=IRELAND,
        config="[default]\ns3 =\n  addressing_style = path\n",
        has_path_style=True,
    ),
    "endpoint of the profile": Case(
        OWN,
        "eu-west-1",
        variables=IRELAND,
        config=f"[default]\nendpoint_url = https://{OWN}\n",
        has_path_style=True,
    ),
    "endpoint of a services section": Case(
        OWN,
        "eu-west-1",
        variables=IRELAND,
        config="[default]\nservices = tools\n"
        f"[services tools]\ns3 =\n  endpoint_url = https://{OWN}\n",
        has_path_style=True,
    ),
    "endpoint that is ignored": Case(
        DUBLIN,
        "eu-west-1",
        variables=IRELAND
        | {
            "AWS_ENDPOINT_URL_S3": "https://other.example.com",
            "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true",
        },
    ),
    "endpoint of the trail and of a variable": Case(
        OWN,
        "eu-west-1",
        replace(LOGS, endpoint_url=f"https://{OWN}"),
        IRELAND | {"AWS_ENDPOINT_URL_S3": "https://other.example.com"},
        has_path_style=True,
    ),
    "variables of other programs": Case(
        DUBLIN,
        "eu-west-1",
        variables=IRELAND | {"AWS_SKIP_SIGNATURE": "true", "AWS_ENDPOINT": "https://other.example"},
    ),
    "capitals": Case(
        "s3.eu-west-1.amazonaws.com",
        "eu-west-1",
        Trail("trail", LEGACY),
        IRELAND,
        has_path_style=True,
    ),
    "70 letters": Case(
        "s3.eu-west-1.amazonaws.com",
        "eu-west-1",
        Trail("trail", LONG),
        IRELAND,
        has_path_style=True,
    ),
    "region of AWS_REGION only": Case(
        "logs.s3.us-gov-west-1.amazonaws.com",
        "us-gov-west-1",
        variables={"AWS_REGION": "us-gov-west-1"},
    ),
    "region of the trail's home only": Case(
        "logs.s3.cn-north-1.amazonaws.com.cn",
        "cn-north-1",
        replace(LOGS, home_region="cn-north-1"),
    ),
    "region of the VPC endpoint": Case(
        "bucket.vpce-0a1b.s3.eu-west-1.vpce.amazonaws.com",
        "eu-west-1",
        replace(LOGS, endpoint_url="https://bucket.vpce-0a1b.s3.eu-west-1.vpce.amazonaws.com"),
        {"AWS_DEFAULT_REGION": "us-east-1"},
        has_path_style=True,
    ),
}


def set_up(case: Case, hosts: Anywhere, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "config").write_text(case.config)
    for name, value in case.variables.items():
        monkeypatch.setenv(name, value)
    hosts.buckets[case.host] = "" if case.has_path_style else "logs"


@pytest.mark.parametrize("name", CASES)
def test_all_clients_ask_one_host(
    name: str, hosts: Anywhere, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    case = CASES[name]
    set_up(case, hosts, monkeypatch, tmp_path)
    ask_by_all_clients(open_at(case.trail, tmp_path))
    assert hosts.hosts == by_all_clients(case.host, case.region)
    assert set(hosts.connects) == {case.host}
    assert all(seen.has_token for seen in hosts.seen)


@pytest.mark.thorough
@pytest.mark.parametrize("name", CASES)
def test_a_whole_sync_asks_one_host(
    name: str, hosts: Anywhere, root: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    case = CASES[name]
    set_up(case, hosts, monkeypatch, tmp_path)
    settings = replace(settings_of(case.trail, tmp_path), process_workers=2)
    assert sync(settings).ok
    check_output(settings.events_dir, settings.quarantine_dir, [(root / "logs", "")]).assert_clean()
    assert hosts.hosts == {"ctrail_pipeline": {(case.host, case.region, "s3")}}


def test_an_access_point_is_synced_and_named_as_it_is_configured(
    hosts: Anywhere, root: Path, tmp_path: Path
) -> None:
    hosts.buckets["logs-111122223333.s3-accesspoint.eu-west-1.amazonaws.com"] = "logs"
    settings = settings_of(Trail("trail", ARN), tmp_path)
    assert sync(settings).ok
    check_output(settings.events_dir, settings.quarantine_dir, [(root / "logs", "")]).assert_clean()


# --- regions that S3 names ------------------------------------------------------------------------


def moved_to(region: str, status: int = 301, **headers: str) -> Callable[[Seen], Reply | None]:
    """S3's answer to requests that are signed for another region."""
    code = {301: "PermanentRedirect", 307: "TemporaryRedirect"}.get(
        status, "AuthorizationHeaderMalformed"
    )
    body = f"<Error><Code>{code}</Code><Region>{region}</Region></Error>".encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda seen: None if seen.region == region else Reply(status, named, body)


@pytest.mark.parametrize("variables", [{}, IRELAND])
def test_a_bucket_of_another_region_is_asked_there(
    hosts: Anywhere,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    variables: dict[str, str],
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    first = DUBLIN if variables else "logs.s3.amazonaws.com"
    hosts.buckets |= dict.fromkeys((first, "logs.s3.eu-central-1.amazonaws.com"), "logs")
    hosts.answer = moved_to("eu-central-1", x_amz_bucket_region="eu-central-1")
    with caplog.at_level(logging.INFO):
        ask_by_all_clients(open_at(LOGS, tmp_path))
    assert [seen.host for seen in hosts.seen] == [
        first,
        *["logs.s3.eu-central-1.amazonaws.com"] * 3,
    ]
    assert "s3://logs is in eu-central-1, and is asked there" in caplog.messages


@pytest.mark.thorough
def test_workers_ask_where_the_run_has_found_the_bucket(
    hosts: Anywhere, root: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("ctrail_pipeline.core.run.sync._Run._process", leave_all_to_workers)
    hosts.buckets |= dict.fromkeys((DUBLIN, "logs.s3.eu-central-1.amazonaws.com"), "logs")
    hosts.answer = moved_to("eu-central-1", x_amz_bucket_region="eu-central-1")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    settings = replace(settings_of(LOGS, tmp_path), process_workers=2)
    assert sync(settings).ok
    check_output(settings.events_dir, settings.quarantine_dir, [(root / "logs", "")]).assert_clean()
    misdirected = [seen for seen in hosts.seen if seen.host == DUBLIN]
    assert len(misdirected) == 1
    assert "list-type" in misdirected[0].path


def test_an_endpoint_whose_name_holds_no_region_is_asked_for_the_region_that_it_names(
    hosts: Anywhere, tmp_path: Path
) -> None:
    hosts.buckets[OWN] = ""
    hosts.answer = moved_to("eu-west-3", 400)
    ask_by_all_clients(open_at(replace(LOGS, endpoint_url=f"https://{OWN}"), tmp_path))
    assert [(seen.host, seen.region) for seen in hosts.seen] == [
        (OWN, "us-east-1"),
        *[(OWN, "eu-west-3")] * 3,
    ]


# --- redirects ------------------------------------------------------------------------------------


def test_s3_sends_requests_for_a_new_bucket_on_and_they_are_signed_anew(
    hosts: Anywhere, tmp_path: Path
) -> None:
    there = "logs.s3.eu-west-3.amazonaws.com"
    hosts.buckets |= dict.fromkeys(("logs.s3.amazonaws.com", there), "logs")
    hosts.answer = moved_to("eu-west-3", 307, Location="https://logs.s3-eu-west-3.amazonaws.com/")
    ask_by_all_clients(open_at(replace(LOGS, region="us-east-1"), tmp_path))
    assert [(seen.host, seen.region) for seen in hosts.seen] == [
        ("logs.s3.amazonaws.com", "us-east-1"),
        *[(there, "eu-west-3")] * 3,
    ]


@pytest.mark.parametrize("status", [302, 307])
@pytest.mark.parametrize("asked", [DUBLIN, OWN])
@pytest.mark.parametrize(
    "target",
    [
        "elsewhere.example.com",
        "logs.s3.eu-west-3.amazonaws.com.example.com",
        "logs.s3.cn-north-1.amazonaws.com.cn",
    ],
)
def test_no_other_host_gets_anything(
    hosts: Anywhere,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    status: int,
    asked: str,
    target: str,
) -> None:
    hosts.buckets |= {DUBLIN: "logs", OWN: "", target: "logs"}
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    hosts.answer = lambda _seen: Reply(status, {"Location": f"https://{target}/"})
    trail = replace(LOGS, endpoint_url=f"https://{OWN}") if asked == OWN else LOGS
    assert_each_fails(
        open_at(trail, tmp_path), f"{asked} sends requests on to {target}, which is not asked"
    )
    assert set(hosts.connects) == {asked}
    assert len(hosts.seen) == 4, "a redirect does not pass by itself"


def assert_each_fails(bucket: Bucket, reason: str) -> None:
    """Make each kind of request, by both clients."""
    for ask in (
        lambda: bucket.list_folder("AWSLogs/"),
        lambda: bucket.get(KEY, None),
        lambda: bucket.get(ODD_KEY, None),
        lambda: bucket.probe(KEY),
    ):
        with pytest.raises(StoreError) as failure:
            ask()
        assert str(failure.value).startswith("s3://logs/")
        assert reason in str(failure.value)


def test_a_region_that_the_trail_names_is_kept_and_the_right_one_is_named(
    hosts: Anywhere, tmp_path: Path
) -> None:
    hosts.buckets[DUBLIN] = "logs"
    hosts.answer = moved_to("eu-central-1", x_amz_bucket_region="eu-central-1")
    assert_each_fails(
        open_at(replace(LOGS, region="eu-west-1"), tmp_path),
        ": the bucket is in eu-central-1: correct the trail's `region`, or leave it out",
    )


GUESS = (
    "; no region is set, so us-east-1 was asked: set the trail's `region` if the bucket is in"
    " another one"
)


def error_of_s3(code: str) -> bytes:
    return f"<Error><Code>{code}</Code></Error>".encode()


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (403, "AccessDenied"),
        (403, "InvalidAccessKeyId"),
        (403, "SignatureDoesNotMatch"),
        (404, "NoSuchBucket"),
    ],
)
def test_without_any_region_a_denial_says_which_one_was_asked(
    hosts: Anywhere, tmp_path: Path, status: int, code: str
) -> None:
    hosts.buckets["logs.s3.amazonaws.com"] = "logs"
    hosts.answer = lambda _seen: Reply(status, body=error_of_s3(code))
    with pytest.raises(StoreError, match=f"{re.escape(GUESS)}$"):
        open_at(LOGS, tmp_path).list_folder("AWSLogs/")
    if code == "AccessDenied":
        assert_each_fails(open_at(LOGS, tmp_path), f" is missing{GUESS}")


def test_where_the_bucket_has_answered_no_denial_is_due_to_the_region(
    hosts: Anywhere, tmp_path: Path
) -> None:
    hosts.buckets["logs.s3.amazonaws.com"] = "logs"
    denial = Reply(403, body=error_of_s3("AccessDenied"))
    hosts.answer = lambda seen: None if "list-type" in seen.path else denial
    bucket = open_at(LOGS, tmp_path)
    bucket.list_folder("AWSLogs/")
    for ask in (lambda: bucket.get(KEY, None), lambda: bucket.probe(KEY)):
        with pytest.raises(StoreError, match=r"s3:GetObject on arn:aws:s3:::logs/\* is missing$"):
            ask()


@pytest.mark.parametrize(
    ("refusal", "answer", "reason"),
    [
        (Reply(407), None, r"\(HTTP 407\): the variable that names the proxy gives them, as .*"),
        (Reply(403), None, r"\(HTTP 403\): does it allow that host\?"),
        (None, Reply(403, body=b"<html>"), r"does the proxy .* allow logs\.s3\.amazonaws\.com\?"),
        (None, Reply(400, body=error_of_s3("Odd")), "look this code up .*"),
        (
            None,
            Reply(301, {"x-amz-bucket-region": "us-gov-west-1"}, error_of_s3("PermanentRedirect")),
            "the bucket is in us-gov-west-1: it was asked in us-east-1; set the trail's `region`",
        ),
    ],
)
def test_what_is_not_due_to_a_guessed_region_is_not_put_down_to_it(
    hosts: Anywhere, tmp_path: Path, refusal: Reply | None, answer: Reply | None, reason: str
) -> None:
    hosts.buckets["logs.s3.amazonaws.com"] = "logs"
    hosts.refuse = refusal
    hosts.answer = lambda _seen: answer
    with pytest.raises(StoreError, match=reason) as failure:
        open_at(LOGS, tmp_path).list_folder("AWSLogs/")
    assert "no region is set" not in str(failure.value)


@pytest.mark.parametrize(
    ("region", "bucket", "host", "arns"),
    [
        (
            "us-gov-west-1",
            "logs",
            "logs.s3.us-gov-west-1.amazonaws.com",
            ("arn:aws-us-gov:s3:::logs", "arn:aws-us-gov:s3:::logs/*"),
        ),
        (
            "cn-north-1",
            "logs",
            "logs.s3.cn-north-1.amazonaws.com.cn",
            ("arn:aws-cn:s3:::logs", "arn:aws-cn:s3:::logs/*"),
        ),
        (
            None,
            ARN,
            "logs-111122223333.s3-accesspoint.eu-west-1.amazonaws.com",
            (ARN, f"{ARN}/object/*"),
        ),
    ],
)
def test_a_denial_names_the_permission_with_the_right_arn(
    hosts: Anywhere,
    tmp_path: Path,
    region: str | None,
    bucket: str,
    host: str,
    arns: tuple[str, str],
) -> None:
    hosts.buckets[host] = "logs"
    hosts.answer = lambda _seen: Reply(403, body=b"<Error><Code>AccessDenied</Code></Error>")
    opened = open_at(Trail("trail", bucket, region=region), tmp_path)
    with pytest.raises(StoreError, match=rf"s3:ListBucket on {re.escape(arns[0])} is missing$"):
        opened.list_folder("AWSLogs/")
    with pytest.raises(StoreError, match=rf"s3:GetObject on {re.escape(arns[1])} is missing$"):
        opened.get(KEY, None)


# --- proxies and filters --------------------------------------------------------------------------

PAGE = b"<!DOCTYPE html><title>Blocked</title>secret policy"


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (407, "the proxy {proxy} wants a user and a password (HTTP 407)"),
        (403, f"the proxy {{proxy}} does not connect to {DUBLIN} (HTTP 403)"),
    ],
)
def test_a_proxy_that_refuses_is_named_and_not_asked_again(
    hosts: Anywhere, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, status: int, reason: str
) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    address = hosts.url.removeprefix("http://")
    monkeypatch.setenv("HTTPS_PROXY", f"http://user:wrong-password@{address}")
    hosts.refuse = Reply(status, {"Content-Type": "text/html"}, PAGE)
    bucket = open_at(LOGS, tmp_path)
    for ask in (lambda: bucket.list_folder("AWSLogs/"), lambda: bucket.get(KEY, None)):
        with pytest.raises(StoreError) as failure:
            ask()
        assert reason.format(proxy=address) in str(failure.value)
        assert "wrong-password" not in str(failure.value)
    assert hosts.connects == [DUBLIN] * 2
    assert hosts.seen == []


def test_a_proxy_that_is_not_there_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://user:wrong-password@127.0.0.1:1")
    with pytest.raises(StoreError) as failure:
        open_at(LOGS, tmp_path).get(KEY, None)
    assert str(failure.value) == (
        f"s3://logs/{KEY} cannot be read: no connection to the proxy 127.0.0.1:1,"
        " after several tries"
    )


def test_a_host_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("HTTPS_PROXY")
    bucket = open_at(replace(LOGS, endpoint_url="https://127.0.0.1:1"), tmp_path)
    with pytest.raises(StoreError, match=r"no connection to 127\.0\.0\.1, after several tries"):
        bucket.get(KEY, None)


@pytest.mark.parametrize("has_proxy", [False, True])
def test_a_host_that_does_not_answer_is_named_with_the_proxy(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, has_proxy: bool
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        url = f"https://{OWN if has_proxy else address}"
        monkeypatch.delenv("HTTPS_PROXY")
        if has_proxy:
            monkeypatch.setenv("HTTPS_PROXY", f"http://user:password@{address}")
        trail = replace(LOGS, endpoint_url=url)
        settings = replace(settings_of(trail, tmp_path), client_timeout=0.02)
        there = f"{OWN} through the proxy {address}" if has_proxy else "127.0.0.1"
        with pytest.raises(StoreUnavailable, match=f"it timed out at {re.escape(there)}, after"):
            open_bucket(trail, settings).get(KEY, None)


@pytest.mark.parametrize("status", [200, 403])
def test_the_page_of_a_filter_is_no_denial_of_s3(
    hosts: Anywhere, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, status: int
) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    hosts.buckets[DUBLIN] = "logs"
    hosts.answer = lambda _seen: Reply(status, {"Content-Type": "text/html"}, PAGE)
    bucket = open_at(LOGS, tmp_path)
    for ask in (
        lambda: bucket.list_folder("AWSLogs/"),
        lambda: bucket.get(KEY, None),
        lambda: bucket.probe(KEY),
    ):
        with pytest.raises(StoreError) as failure:
            ask()
        assert (
            f": a web page came, which is not S3's (HTTP {status}): does the proxy"
            f" {hosts.url.removeprefix('http://')} allow {DUBLIN}?"
        ) in str(failure.value)
        assert "policy" not in str(failure.value)
    assert len(hosts.seen) == 3


def test_the_authorities_of_a_profile_are_trusted_by_all_clients(
    hosts: Anywhere, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, authority: Authority
) -> None:
    monkeypatch.delenv("AWS_CA_BUNDLE")
    (tmp_path / "config").write_text(
        f"[default]\nregion = eu-west-1\nca_bundle = {authority.certificate}\n"
    )
    hosts.buckets[DUBLIN] = "logs"
    ask_by_all_clients(open_at(LOGS, tmp_path))


@pytest.mark.parametrize("name", ["ALL_PROXY", "all_proxy"])
def test_a_variable_that_boto3_does_not_read_is_read_by_no_client(
    hosts: Anywhere, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    monkeypatch.delenv("HTTPS_PROXY")
    monkeypatch.setenv(name, "http://127.0.0.1:1")
    bucket = open_at(replace(LOGS, endpoint_url=hosts.server.endpoint_url), tmp_path)
    ask_by_all_clients(bucket)


@pytest.mark.parametrize("excepted", ["*", "127.0.0.1", "127.0.0.1:1", "x, 127.0.0.1"])
def test_hosts_without_a_proxy_are_those_of_boto3(
    hosts: Anywhere, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, excepted: str
) -> None:
    """Nobody is at that address, so only whoever asks the proxy would find somebody."""
    monkeypatch.setenv("NO_PROXY", excepted)
    hosts.buckets["127.0.0.1"] = ""
    own = replace(LOGS, endpoint_url="https://127.0.0.1:1", region="eu-west-1")
    bucket = open_at(own, tmp_path)
    for key in (KEY, ODD_KEY):
        with pytest.raises(StoreUnavailable):
            bucket.get(key, None)
    assert hosts.connects == []
