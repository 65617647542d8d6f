"""Where a bucket in S3 is, and how it is asked: decided once, then told to every client.

Botocore, the engine of boto3, knows all rules of AWS: partitions, FIPS, dual-stack, endpoints of a
profile, path style, access points, proxies. So botocore is asked for the request that it would
send, and the request is stopped before it is sent. Only the region is chosen here, since boto3
does not look where the region can be learned.

Not here: requests to the bucket (`s3`), and credentials.
"""

import os
import re
import ssl
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from ctrail_pipeline.core.exceptions import StoreError
from ctrail_pipeline.core.settings import BucketAccess, Settings

from .boundary import is_of_others
from .bucket_name import access_point
from .curl_request import Target
from .foreign_errors import without_password

_SCOPE: Final = re.compile(r"Credential=[^/]*/\d+/(?P<region>[^/]+)/(?P<service>[^/]+)/")
"""What a signature of SigV4 is good for, in the header Authorization."""
_REGION_IN_LABEL: Final = re.compile(r"(?:s3-(?:fips-)?)?(?P<region>.+)")
"""A part of a host's name, such as `eu-west-1`, or `s3-eu-west-1` of old."""
BODY: Final = "CtrailBody"
"""Under this name a client's errors have the body of the answer (bytes)."""
_OTHER_SCHEME: Final = re.compile(r"https?://[a-z0-9]+://", re.IGNORECASE)
"""The beginning of a URL such as `socks5://host`, before which botocore puts `http://`."""
_ERROR: Final = 300
_DEFAULT_REGION: Final = "us-east-1"
_CLIENTS_KEPT: Final = 16

_clients: dict[object, Any] = {}
"""Clients of botocore that are asked for their requests: 8 ms of CPU to open one, 1 ms to ask."""


class RegionSource(Enum):
    """Where a bucket's region was learned."""

    CONFIGURED = "configured"
    """The configuration names it."""
    NAMED = "named"
    """The access point's ARN or the endpoint's host names it."""
    ANSWERED = "answered"
    """S3 named it in an answer."""
    ASSUMED = "assumed"
    """It is the region of the environment, of the profile or of the trail's home."""
    GUESSED = "guessed"
    """Nothing names a region, so us-east-1 is asked."""


@dataclass(frozen=True)
class Endpoint:
    """Where a bucket is, and how it is asked. With it, no client looks anything up for itself."""

    bucket_url: str
    """The bucket's URL, without a slash at its end. The bucket is part of the host or the path."""
    region: str
    """The region that requests are signed for."""
    service: str
    """The service that requests are signed for."""
    partition: str
    """AWS's partition, as ARNs name it: "aws", "aws-cn", "aws-us-gov" and others."""
    bucket_arn: str
    """The ARN of the bucket or access point, with AWS's partition in it."""
    client_region: str
    """The region that a client of boto3 is given so that it finds this endpoint."""
    region_source: RegionSource
    is_at_aws: bool
    """Whether the host is one of AWS, as far as its name tells."""
    proxy: str
    """URL of the proxy, with its user and password; "" for none."""
    authorities_file: str
    """Certificate authorities, in PEM form."""
    authorities_folder: str | None
    """Further authorities, in files that are named by OpenSSL's hash."""

    @property
    def host(self) -> str:
        """The host's name."""
        return _host(self.bucket_url)

    @property
    def proxy_host(self) -> str:
        """The proxy's host and port, without user and password; "" for none."""
        return urlsplit(self.proxy).netloc.rpartition("@")[2]

    @property
    def list_permission(self) -> str:
        """The permission that a LIST needs, as messages name it."""
        return f"s3:ListBucket on {self.bucket_arn}"

    @property
    def get_permission(self) -> str:
        """The permission that a GET needs, as messages name it."""
        return f"s3:GetObject on {self._objects}"

    @property
    def put_permission(self) -> str:
        """The permission that a PUT or a COPY needs, as messages name it."""
        return f"s3:PutObject on {self._objects}"

    @property
    def delete_permission(self) -> str:
        """The permission that a DELETE needs, as messages name it."""
        return f"s3:DeleteObject on {self._objects}"

    @property
    def _objects(self) -> str:
        """The ARN of all objects of the bucket."""
        return self.bucket_arn + ("/object/*" if ":accesspoint" in self.bucket_arn else "/*")


def endpoint_of(access: BucketAccess, session: Any, answered_region: str | None = None) -> Endpoint:
    """Return where a bucket is. Nothing is sent.

    `session`: a botocore session with the configured profile. `answered_region`: the region that S3
    named in an answer.

    Raises StoreError if boto3 would find no endpoint with these settings, and for a URL of a proxy
    or a file of certificate authorities that cannot be used.
    """
    region, source = _first_region(access, session, answered_region)
    try:
        asked = _ask(access, session, region)
        named = region_of_host(_host(asked.server_url), session)
        if named not in {None, region} and source in {RegionSource.ASSUMED, RegionSource.GUESSED}:
            region, source = str(named), RegionSource.NAMED
            asked = _ask(access, session, region)
        proxy = _proxy_of(asked, access)
    except Exception as error:  # botocore raises all sorts of errors for odd configurations
        if not is_of_others(error):
            raise
        raise StoreError(
            f"{access.title}: boto3 finds no endpoint for s3://{access.bucket}"
            f" ({type(error).__name__}: {without_password(error)}): check"
            f" {access.key('region')} and {access.key('endpoint_url')}, the AWS_* variables and the"
            " AWS configuration files"
        ) from error
    setting, configured = _configured_authorities(session)
    speaks_tls = any(url.startswith("https:") for url in (asked.bucket_url, proxy))
    fault = _fault_of_authorities(configured) if configured is not None and speaks_tls else ""
    if fault:
        raise StoreError(f"{access.title}: {setting}={configured} {fault}")
    point = access_point(access.bucket)
    return Endpoint(
        bucket_url=asked.bucket_url,
        region=asked.region,
        service=asked.service,
        partition=point.partition if point else asked.partition,
        bucket_arn=access.bucket if point else f"arn:{asked.partition}:s3:::{access.bucket}",
        client_region=region,
        region_source=source,
        is_at_aws=_partition_of_host(_host(asked.bucket_url), session) is not None,
        proxy=proxy,
        authorities_file=authorities_of(session),
        authorities_folder=ssl.get_default_verify_paths().capath,  # reads SSL_CERT_DIR
    )


def first_region(access: BucketAccess, session: Any) -> str:
    """Return the region that is asked first, by the configuration and its surroundings."""
    return _first_region(access, session, None)[0]


def authorities_of(session: Any) -> str:
    """Return the file of certificate authorities that servers are checked with."""
    _, configured = _configured_authorities(session)
    system = ssl.get_default_verify_paths()  # reads SSL_CERT_FILE
    return configured or system.cafile or _authorities_of_botocore()


def region_of_host(host: str, session: Any) -> str | None:
    """Return the region that the name of one of AWS's hosts holds; None for other names."""
    found = _partition_of_host(host, session)
    return None if found is None else found[1]


def target_at(endpoint: Endpoint, access: BucketAccess, settings: Settings) -> Target:
    """Return a bucket for libcurl."""
    return Target(
        endpoint.bucket_url,
        endpoint.region,
        settings.connect_timeout,
        settings.client_timeout,
        endpoint.authorities_file,
        endpoint.authorities_folder,
        endpoint.proxy,
        settings.max_stored_bytes,
        ("x-amz-request-payer: requester",) if access.requester_pays else (),
        endpoint.service,
    )


def open_client(endpoint: Endpoint, access: BucketAccess, settings: Settings, session: Any) -> Any:
    """Open a client of boto3 that asks the same endpoint in the same way."""
    from botocore.config import Config

    scheme = urlsplit(endpoint.bucket_url).scheme
    client = session.create_client(
        "s3",
        region_name=endpoint.client_region,
        endpoint_url=access.endpoint_url,
        verify=endpoint.authorities_file,
        config=Config(
            connect_timeout=settings.connect_timeout,
            read_timeout=settings.client_timeout,
            proxies={scheme: endpoint.proxy} if endpoint.proxy else {},
            retries={"total_max_attempts": 1},  # see `s3_retry`
        ),
    )
    client.meta.events.register_last("before-parameter-build.s3", _forbid_redirects)
    client.meta.events.register("before-parse.s3", _keep_body)
    return client


def _forbid_redirects(context: Any, **_arguments: Any) -> None:
    """Let botocore take a request for one that it has sent on already.

    Botocore follows S3 to other regions by rules of its own (`current_endpoint` has ours). Where no
    answer names the region, it asks for the region, is sent on again, and so without an end.
    """
    context["s3_redirect"]["redirected"] = True


def _keep_body(
    response_dict: Any, customized_response_dict: dict[str, Any], **_arguments: Any
) -> None:
    """Keep the body of an answer that is an error, of which botocore keeps code and message."""
    if response_dict["status_code"] >= _ERROR:
        customized_response_dict[BODY] = response_dict["body"]


def _first_region(
    access: BucketAccess, session: Any, answered_region: str | None
) -> tuple[str, RegionSource]:
    """The region to ask first."""
    point = access_point(access.bucket)
    known = (
        (answered_region, RegionSource.ANSWERED),
        (access.region, RegionSource.CONFIGURED),
        (point.region if point else None, RegionSource.NAMED),
        (session.get_config_variable("region"), RegionSource.ASSUMED),
        # Lambda, ECS and the AWS CLI set this variable, which boto3 does not read.
        (os.environ.get("AWS_REGION"), RegionSource.ASSUMED),
        (access.home_region, RegionSource.ASSUMED),
    )
    found = ((region, source) for region, source in known if region)
    return next(found, (_DEFAULT_REGION, RegionSource.GUESSED))


class _Asked(NamedTuple):
    """What botocore would do."""

    server_url: str
    """The URL that proxies are chosen by, without the bucket in the host's name."""
    bucket_url: str
    region: str
    service: str
    partition: str


class _Stopped(Exception):
    """Carries the request that botocore was about to send."""


def _stop(request: Any, **_arguments: Any) -> None:
    raise _Stopped(request)


def _ask(access: BucketAccess, session: Any, region: str) -> _Asked:
    """Ask botocore for its request to list a bucket, and stop the request."""
    client = _client(access, session, region)
    try:
        client.list_objects_v2(Bucket=access.bucket)
    except _Stopped as stopped:
        [request] = stopped.args
    else:
        raise AssertionError("the request was not stopped")
    authorization = request.headers.get("Authorization")
    if isinstance(authorization, bytes):
        authorization = authorization.decode()
    scope = _SCOPE.search(authorization or "")
    return _Asked(
        client.meta.endpoint_url,
        request.url.partition("?")[0].rstrip("/"),
        scope["region"] if scope else region,
        scope["service"] if scope else "s3",
        client.meta.partition,
    )


def _client(access: BucketAccess, session: Any, region: str) -> Any:
    """Return a client that stops its requests: another one's, if all that it depends on is equal.

    Its credentials are made up, so none are looked for.
    """
    from botocore.config import Config

    key = access.profile, access.endpoint_url, region, _surroundings(session)
    client = _clients.get(key)
    if client is None:
        client = session.create_client(
            "s3",
            region_name=region,
            endpoint_url=access.endpoint_url,
            aws_access_key_id="nobody",
            aws_secret_access_key="nothing",  # noqa: S106 - nothing is sent
            config=Config(retries={"total_max_attempts": 1}),
        )
        client.meta.events.register("before-send.s3.ListObjectsV2", _stop)
        if len(_clients) >= _CLIENTS_KEPT:
            _clients.clear()
        _clients[key] = client
    return client


def _surroundings(session: Any) -> object:
    """All that botocore reads beside its arguments: variables and configuration files."""
    variables = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
    files = []
    for variable in ("config_file", "credentials_file"):
        path = Path(session.get_config_variable(variable)).expanduser()
        try:
            status = path.stat()
        except OSError:
            files.append((path, 0, 0))
        else:
            files.append((path, status.st_mtime_ns, status.st_size))
    return tuple(sorted(variables.items())), tuple(files)


def _host(url: str) -> str:
    return urlsplit(url).hostname or ""


def _proxy_of(asked: _Asked, access: BucketAccess) -> str:
    """The proxy that boto3 would use, or "". Raises StoreError if no proxy can be meant."""
    from botocore.httpsession import ProxyConfiguration
    from botocore.utils import get_environ_proxies

    proxies = ProxyConfiguration(get_environ_proxies(asked.server_url))
    proxy = str(proxies.proxy_url_for(asked.bucket_url) or "")
    if _is_url_of_server(proxy):
        return proxy
    to_do = "in a user or password, / is written %2F, # is %23, ? is %3F, @ is %40"
    if _OTHER_SCHEME.match(proxy):
        to_do = "boto3 knows proxies whose URL begins with http:// or https://, and no others"
    raise StoreError(
        f"{access.title}: the URL of the proxy cannot be read: check HTTPS_PROXY and"
        f" HTTP_PROXY ({to_do})"
    )


def _is_url_of_server(url: str) -> bool:
    """Whether all of a URL is understood. Else a part of a password would pass for the host."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return False
    is_whole = "@" not in f"{parts.path}{parts.query}{parts.fragment}"
    return is_whole and not _OTHER_SCHEME.match(url)


def _partition_of_host(host: str, session: Any) -> tuple[str, str | None] | None:
    """The partition that a host of AWS belongs to, and the region in the host's name."""
    found = None
    for partition in session.get_component("data_loader").load_data("partitions")["partitions"]:
        outputs = partition["outputs"]
        for suffix in (outputs["dnsSuffix"], outputs["dualStackDnsSuffix"]):
            if not host.endswith(f".{suffix}"):
                continue
            found = found or (partition["id"], None)
            for label in reversed(host.removesuffix(f".{suffix}").split(".")):
                match = _REGION_IN_LABEL.fullmatch(label)
                if match and re.fullmatch(partition["regionRegex"], match["region"]):
                    return partition["id"], match["region"]
    return found


def _configured_authorities(session: Any) -> tuple[str, str | None]:
    """The file of certificate authorities that boto3 is told of, and which setting names it."""
    configured = session.get_config_variable("ca_bundle")
    if configured is None:
        return "REQUESTS_CA_BUNDLE", os.environ.get("REQUESTS_CA_BUNDLE")
    is_variable = configured == os.environ.get("AWS_CA_BUNDLE")
    return "AWS_CA_BUNDLE" if is_variable else "ca_bundle", configured


def _authorities_of_botocore() -> str:
    """The file of authorities that botocore brings, for systems without such a file."""
    import botocore

    return str(Path(botocore.__file__).with_name("cacert.pem"))


def _fault_of_authorities(path: str) -> str:
    """What is wrong with a file of certificate authorities; "" if nothing is."""
    try:
        authorities = Path(path).read_bytes()
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    is_pem = b"-----BEGIN CERTIFICATE-----" in authorities
    return "" if is_pem else "holds no certificate in PEM form"
