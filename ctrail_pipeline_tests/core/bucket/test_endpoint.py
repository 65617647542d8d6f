"""Where a bucket is, we decide as boto3 does.

Each combination of settings is tried twice: in `endpoint_of`, and in a boto3 client whose request
is stopped where boto3 would open a connection. Regions, partitions and suffixes come from botocore,
so a new botocore is compared with itself.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import boto3
import botocore.loaders
import botocore.session
import pytest
from botocore.exceptions import BotoCoreError
from botocore.httpsession import URLLib3Session

from ctrail_pipeline.core.bucket.credentials import Credentials
from ctrail_pipeline.core.bucket.endpoint import endpoint_of
from ctrail_pipeline.core.bucket.sessions import new_session
from ctrail_pipeline.core.exceptions import StoreError
from ctrail_pipeline.core.settings import Trail

STOCK = botocore.loaders.create_loader()
"""Botocore's data as botocore itself reads them."""
PARTITIONS = STOCK.load_data("partitions")["partitions"]
REFUSALS = (BotoCoreError, ValueError, AttributeError, TypeError)
"""What boto3 raises for settings that cannot be."""
CERTIFICATE = "-----BEGIN CERTIFICATE-----\n"


@pytest.fixture(autouse=True)
def aws_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Set credentials of nobody, and nothing else that boto3 reads."""
    for name in list(os.environ):
        if name.startswith("AWS_") or name.lower().endswith("_proxy") or name.endswith("_BUNDLE"):
            monkeypatch.delenv(name)
    for name, value in {
        "AWS_ACCESS_KEY_ID": "access",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": str(tmp_path / "config"),
        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "none"),
    }.items():
        monkeypatch.setenv(name, value)


# --- what boto3 does ------------------------------------------------------------------------------


class Choice(NamedTuple):
    """Where a request goes, and how."""

    url: str
    region: str
    service: str
    proxy: str
    authorities: str
    """The configured file; "": none is configured."""


class Sent(Exception):
    """Carries what boto3 was about to send."""


@pytest.fixture(autouse=True)
def nothing_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    def send(session: Any, request: Any) -> None:
        proxy = session._proxy_config.proxy_url_for(request.url)
        verify = session._verify
        signed = request.headers["Authorization"].decode()
        scope = re.search(r"Credential=\w+/\d+/([^/]+)/([^/]+)/", signed)
        assert scope
        url = request.url.partition("?")[0].rstrip("/")
        raise Sent(Choice(url, scope[1], scope[2], proxy or "", "" if verify is True else verify))

    monkeypatch.setattr(URLLib3Session, "send", send)


class Boto3:
    """A plain boto3 session, with clients as a trail would have them."""

    def __init__(self, profile: str | None = None) -> None:
        session = botocore.session.Session(profile=profile)
        session.register_component("data_loader", STOCK)
        self._session = boto3.session.Session(botocore_session=session)
        self._clients: dict[object, Any] = {}

    def choice(self, trail: Trail) -> Choice | str:
        """Where boto3 would send its request, or "refused"."""
        key = trail.region, trail.endpoint_url
        try:
            if key not in self._clients:
                self._clients[key] = self._session.client(
                    "s3", region_name=trail.region, endpoint_url=trail.endpoint_url
                )
            self._clients[key].list_objects_v2(Bucket=trail.bucket)
        except Sent as sent:
            [choice] = sent.args
            assert isinstance(choice, Choice)
            return choice
        except REFUSALS:
            return "refused"
        raise AssertionError("the request was sent")


def our_choice(trail: Trail, session: Any) -> Choice | str:
    try:
        endpoint = endpoint_of(trail, session)
    except StoreError:
        return "refused"
    configured = {
        os.environ.get("AWS_CA_BUNDLE"),
        os.environ.get("REQUESTS_CA_BUNDLE"),
        session.get_config_variable("ca_bundle"),
    }
    return Choice(
        endpoint.bucket_url,
        endpoint.region,
        endpoint.service,
        endpoint.proxy,
        endpoint.authorities_file if endpoint.authorities_file in configured else "",
    )


# --- partitions, FIPS, dual-stack, spellings of buckets -------------------------------------------


def some_regions() -> Iterator[tuple[str, str]]:
    """A partition and its region, for each partition; and us-east-1, which has rules of its own."""
    yield "aws", "us-east-1"
    for partition in PARTITIONS:
        regions = [name for name in partition["regions"] if not name.endswith("global")]
        yield partition["id"], min(regions)


REGIONS = list(some_regions())
VARIANTS = [
    {"AWS_USE_FIPS_ENDPOINT": fips, "AWS_USE_DUALSTACK_ENDPOINT": dual_stack}
    for fips, dual_stack in product(("true", "false"), repeat=2)
]
NAMES = ["logs", "my.old.logs", "My_Old_Bucket", "b" * 70, "logs-0a1b2c3d4e5f-s3alias"]


@pytest.mark.parametrize(("partition", "region"), REGIONS)
def test_each_partition_variant_and_spelling_is_as_with_boto3(
    monkeypatch: pytest.MonkeyPatch, partition: str, region: str
) -> None:
    arn = f"arn:{partition}:s3:{region}:111122223333:accesspoint/logs"
    hosts = set()
    for variant in VARIANTS:
        for name, value in variant.items():
            monkeypatch.setenv(name, value)
        theirs, session = Boto3(), new_session(None)
        for bucket in (*NAMES, arn):
            trail = Trail("trail", bucket, region=region)
            choice = our_choice(trail, session)
            assert choice == theirs.choice(trail), (variant, bucket)
            hosts.add(choice if isinstance(choice, str) else choice.url)
    assert len(hosts - {"refused"}) >= len(NAMES)


# --- where a setting may be made ------------------------------------------------------------------


LOGS = Trail("trail", "logs")


@dataclass(frozen=True)
class Case:
    """Settings of the environment, of AWS's configuration file and of a trail."""

    variables: dict[str, str] = field(default_factory=dict)
    config: str = ""
    """Lines of the default profile."""
    trail: Trail = LOGS
    more_config: str = ""
    """Further sections of the configuration file."""


HTTP = "http://127.0.0.1:9000"
VPC = "https://vpce-0a1b2c3d-4e5f.s3.eu-west-1.vpce.amazonaws.com"
OWN = replace(LOGS, endpoint_url="https://s3.example.com")
IRELAND = {"AWS_DEFAULT_REGION": "eu-west-1"}
PROXY = "http://proxy.example.com:3128"
SERVICES = "[services tools]\ns3 =\n  endpoint_url = https://services.example.com\n"
CASES = {
    # Regions.
    "no region": Case(),
    "region of the variable": Case(IRELAND),
    "region of the profile": Case(config="region = eu-west-2"),
    "variable and profile": Case(IRELAND, "region = eu-west-2"),
    "region of the trail": Case(IRELAND, "region = eu-west-2", replace(LOGS, region="eu-west-3")),
    "profile of the trail": Case(
        trail=replace(LOGS, profile="audit"),
        more_config="[profile audit]\nregion = us-gov-west-1\nuse_fips_endpoint = true\n"
        "aws_access_key_id = access\naws_secret_access_key = secret\n",
    ),
    "profile of the variable": Case(
        {"AWS_PROFILE": "audit"}, more_config="[profile audit]\nregion = cn-northwest-1\n"
    ),
    "absent profile": Case(trail=replace(LOGS, profile="nobody")),
    "region that is too new": Case(trail=replace(LOGS, region="eu-far-7")),
    "region with FIPS in it": Case(trail=replace(LOGS, region="fips-us-gov-west-1")),
    "region that is none": Case({"AWS_DEFAULT_REGION": "eu west"}),
    # FIPS and dual-stack.
    "FIPS of the profile": Case(IRELAND, "use_fips_endpoint = true"),
    "dual-stack of the profile": Case(IRELAND, "use_dualstack_endpoint = true"),
    "dual-stack of S3": Case(IRELAND, "s3 =\n  use_dualstack_endpoint = true"),
    "variable against profile": Case(
        IRELAND | {"AWS_USE_FIPS_ENDPOINT": "false"}, "use_fips_endpoint = true"
    ),
    # How the bucket is addressed.
    "path": Case(IRELAND, "s3 =\n  addressing_style = path"),
    "virtual": Case(IRELAND, "s3 =\n  addressing_style = virtual"),
    "auto": Case(IRELAND, "s3 =\n  addressing_style = auto"),
    "virtual, own endpoint": Case(IRELAND, "s3 =\n  addressing_style = virtual", OWN),
    "accelerate": Case(IRELAND, "s3 =\n  use_accelerate_endpoint = true"),
    "regional us-east-1": Case(
        {"AWS_DEFAULT_REGION": "us-east-1", "AWS_S3_US_EAST_1_REGIONAL_ENDPOINT": "regional"}
    ),
    "regional by the mode": Case(IRELAND | {"AWS_DEFAULTS_MODE": "standard"}),
    "access point, other region": Case(
        IRELAND, trail=Trail("trail", "arn:aws:s3:eu-west-2:111122223333:accesspoint/logs")
    ),
    "access point, its region refused": Case(
        IRELAND | {"AWS_S3_USE_ARN_REGION": "false"},
        trail=Trail(
            "trail", "arn:aws:s3:eu-west-2:111122223333:accesspoint/logs", region="eu-west-1"
        ),
    ),
    "access point, other partition": Case(
        trail=Trail(
            "trail", "arn:aws-cn:s3:cn-north-1:111122223333:accesspoint/logs", region="eu-west-1"
        )
    ),
    "access point, own endpoint": Case(
        IRELAND,
        trail=Trail(
            "trail",
            "arn:aws:s3:eu-west-1:111122223333:accesspoint/logs",
            endpoint_url="https://accesspoint.vpce-0a.s3.eu-west-1.vpce.amazonaws.com",
        ),
    ),
    # Endpoints.
    "endpoint of the variable": Case(IRELAND | {"AWS_ENDPOINT_URL_S3": "https://s3.example.com/"}),
    "endpoint of all services": Case(IRELAND | {"AWS_ENDPOINT_URL": HTTP}),
    "endpoint of S3 and of all": Case(
        IRELAND | {"AWS_ENDPOINT_URL": HTTP, "AWS_ENDPOINT_URL_S3": "https://s3.example.com"}
    ),
    "endpoint of the profile": Case(IRELAND, "endpoint_url = https://profile.example.com"),
    "endpoint of a services section": Case(IRELAND, "services = tools", more_config=SERVICES),
    "variable against services": Case(
        IRELAND | {"AWS_ENDPOINT_URL_S3": HTTP}, "services = tools", more_config=SERVICES
    ),
    "services against all": Case(
        IRELAND | {"AWS_ENDPOINT_URL": HTTP}, "services = tools", more_config=SERVICES
    ),
    "endpoints ignored": Case(
        IRELAND | {"AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true", "AWS_ENDPOINT_URL_S3": HTTP}
    ),
    "endpoints ignored by the profile": Case(
        IRELAND,
        "ignore_configured_endpoint_urls = true\nservices = tools",
        more_config=SERVICES,
    ),
    "own endpoint": Case(IRELAND, trail=OWN),
    "own endpoint against the variable": Case(IRELAND | {"AWS_ENDPOINT_URL_S3": HTTP}, trail=OWN),
    "own endpoint, others ignored": Case(
        IRELAND | {"AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true"}, trail=OWN
    ),
    "own endpoint with a path": Case(
        IRELAND, trail=replace(OWN, endpoint_url="https://s3.example.com/gateway")
    ),
    "own endpoint with FIPS": Case(IRELAND | {"AWS_USE_FIPS_ENDPOINT": "true"}, trail=OWN),
    "own endpoint with dual-stack": Case(
        IRELAND | {"AWS_USE_DUALSTACK_ENDPOINT": "true"}, trail=OWN
    ),
    "VPC endpoint": Case(IRELAND, trail=replace(LOGS, endpoint_url=VPC)),
    "VPC endpoint for buckets": Case(
        IRELAND, trail=replace(LOGS, endpoint_url=VPC.replace("//", "//bucket."))
    ),
    "endpoint that is none": Case(IRELAND | {"AWS_ENDPOINT_URL": "s3.example.com"}),
    "section that is none": Case(IRELAND, "s3 = path"),
    # Proxies.
    **{
        f"proxy {number}": Case(IRELAND | variables, trail=trail)
        for number, (variables, trail) in enumerate(
            [
                ({"HTTPS_PROXY": PROXY}, LOGS),
                ({"https_proxy": PROXY}, LOGS),
                ({"HTTP_PROXY": PROXY}, LOGS),
                ({"HTTP_PROXY": PROXY}, replace(OWN, endpoint_url=HTTP)),
                ({"ALL_PROXY": PROXY}, LOGS),
                ({"HTTPS_PROXY": "proxy.example.com:3128"}, LOGS),
                ({"HTTPS_PROXY": "//proxy.example.com:3128"}, LOGS),
                ({"HTTPS_PROXY": "http://user:p%40ss@proxy.example.com"}, LOGS),
                ({"HTTPS_PROXY": "https://proxy.example.com"}, LOGS),
                ({"HTTPS_PROXY": ""}, LOGS),
            ]
        )
    },
    **{
        f"no proxy for {hosts!r}": Case(
            IRELAND | {"HTTPS_PROXY": PROXY, "HTTP_PROXY": PROXY, "NO_PROXY": hosts}, trail=trail
        )
        for hosts, trail in [
            ("*", LOGS),
            ("amazonaws.com", LOGS),
            (".amazonaws.com", LOGS),
            ("*.amazonaws.com", LOGS),
            ("s3.eu-west-1.amazonaws.com", LOGS),
            ("logs.s3.eu-west-1.amazonaws.com", LOGS),
            ("localhost, amazonaws.com", LOGS),
            ("localhost amazonaws.com", LOGS),
            ("azonaws.com", LOGS),
            ("S3.EXAMPLE.COM", OWN),
            ("s3.example.com:443", OWN),
            ("127.0.0.1", replace(OWN, endpoint_url=HTTP)),
            ("127.0.0.1:9000", replace(OWN, endpoint_url=HTTP)),
            ("127.0.0.0/8", replace(OWN, endpoint_url=HTTP)),
        ]
    },
    # Certificate authorities.
    "authorities of the variable": Case(IRELAND | {"AWS_CA_BUNDLE": "one.pem"}),
    "authorities of requests": Case(IRELAND | {"REQUESTS_CA_BUNDLE": "one.pem"}),
    "authorities of the profile": Case(IRELAND, "ca_bundle = two.pem"),
    "authorities of all three": Case(
        IRELAND | {"AWS_CA_BUNDLE": "one.pem", "REQUESTS_CA_BUNDLE": "three.pem"},
        "ca_bundle = two.pem",
    ),
    "authorities of two": Case(
        IRELAND | {"REQUESTS_CA_BUNDLE": "three.pem"}, "ca_bundle = two.pem"
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_each_setting_counts_as_with_boto3(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    case = CASES[name]
    monkeypatch.chdir(tmp_path)
    for authorities in ("one.pem", "two.pem", "three.pem"):
        (tmp_path / authorities).write_text(CERTIFICATE)
    (tmp_path / "config").write_text(f"[default]\n{case.config}\n{case.more_config}")
    for variable, value in case.variables.items():
        monkeypatch.setenv(variable, value)
    try:
        theirs: Choice | str = Boto3(case.trail.profile).choice(case.trail)
    except REFUSALS:
        theirs = "refused"
    try:
        ours = our_choice(case.trail, new_session(case.trail.profile))
    except REFUSALS:  # what the session itself refuses is told by `credentials`
        ours = "refused"
    assert ours == theirs


@pytest.mark.parametrize("partition", PARTITIONS, ids=lambda partition: str(partition["id"]))
def test_a_role_is_asked_for_in_its_own_partition(partition: Any) -> None:
    """Neither the trail nor its surroundings name a region."""
    role = f"arn:{partition['id']}:iam::111122223333:role/reader"
    with pytest.raises(BaseException) as stopped:  # noqa: PT011 - `Sent`, as a cause
        Credentials(replace(LOGS, role_arn=role))
    error: BaseException | None = stopped.value
    while error and not isinstance(error, Sent):
        error = error.__cause__
    assert error
    assert error.args[0].url.endswith(f".{partition['outputs']['dnsSuffix']}")


PASSWORD = "private"


@pytest.mark.parametrize(
    ("variable", "url", "says"),
    [
        (
            "AWS_ENDPOINT_URL_S3",
            f"https://user:{PASSWORD}@local host",
            "Invalid endpoint: https://",
        ),
        ("AWS_ENDPOINT_URL_S3", f"https://user:{PASSWORD}@host:port", "`https://host:port`"),
        ("HTTPS_PROXY", f"http://user:{PASSWORD}/x@proxy:3128", "/ is written %2F"),
        ("HTTPS_PROXY", f"http://user:{PASSWORD}#x@proxy:3128", "# is %23"),
        ("HTTPS_PROXY", f"http://user:{PASSWORD}?x@proxy:3128", "? is %3F"),
        (
            "HTTPS_PROXY",
            f"http://user:{PASSWORD}@proxy:port",
            "the URL of the proxy cannot be read",
        ),
        ("HTTPS_PROXY", f"http://user:{PASSWORD}[@proxy", "the URL of the proxy cannot be read"),
        ("HTTPS_PROXY", f"socks5://user:{PASSWORD}@proxy", "begins with http:// or https://"),
        ("HTTPS_PROXY", "socks5h://proxy:1080", "begins with http:// or https://"),
    ],
)
def test_no_password_of_a_url_that_cannot_be_is_shown(
    monkeypatch: pytest.MonkeyPatch, variable: str, url: str, says: str
) -> None:
    monkeypatch.setenv(variable, url)
    with pytest.raises(StoreError) as caught:
        endpoint_of(LOGS, new_session(None))
    assert says in str(caught.value)
    assert PASSWORD not in str(caught.value)


def test_the_combinations_are_many() -> None:
    assert len(REGIONS) * len(VARIANTS) * (len(NAMES) + 1) >= 200
    assert len(CASES) >= 60
