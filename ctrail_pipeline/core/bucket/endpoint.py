"""Where a bucket in S3 is, and the clients that ask there: the same place, authorities and proxies.

Nothing here asks a bucket for anything, except for a region that nobody said.
"""

import os
import ssl
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit
from urllib.request import getproxies

from ctrail_pipeline.core.exceptions import ConfigurationError
from ctrail_pipeline.core.settings import Settings, Trail

from .credentials import Credentials
from .curl import Target
from .s3_errors import no_such_bucket, translate

if TYPE_CHECKING:
    from obstore.store import S3Store


class Endpoint(NamedTuple):
    """Where a bucket is, for the clients that are told so."""

    region: str
    endpoint: str
    """Without the bucket's name, unless it is a part of the host's."""
    has_own_host: bool
    url: str
    """Of the bucket."""


def endpoint_of(trail: Trail, credentials: Credentials) -> Endpoint:
    """Where a trail's bucket is; asks S3 if nobody said which region that is."""
    region = trail.region or _bucket_region(trail, credentials.session)
    endpoint = trail.endpoint_url or endpoint_of_environment()
    domain = "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
    if not endpoint and "." not in trail.bucket:
        url = f"https://{trail.bucket}.s3.{region}.{domain}"
        return Endpoint(region, url, has_own_host=True, url=url)
    # A dotted name matches no certificate as a host's name.
    endpoint = (endpoint or f"https://s3.{region}.{domain}").rstrip("/")
    return Endpoint(region, endpoint, has_own_host=False, url=f"{endpoint}/{trail.bucket}")


def target_at(place: Endpoint, trail: Trail, settings: Settings) -> Target:
    """A bucket for libcurl, with the authorities and proxies that boto3 and obstore go by."""
    system = ssl.get_default_verify_paths()  # heeds SSL_CERT_FILE and SSL_CERT_DIR
    own = os.environ.get("AWS_CA_BUNDLE")
    if own:
        _read_authorities(own)
    proxies = getproxies()
    scheme = urlsplit(place.url).scheme
    return Target(
        place.url,
        place.region,
        settings.connect_timeout,
        settings.client_timeout,
        own or system.cafile or _authorities_of_botocore(),
        system.capath,
        proxies.get(scheme) or proxies.get("all", ""),
        proxies.get("no", ""),
        settings.max_stored_bytes,
        ("x-amz-request-payer: requester",) if trail.requester_pays else (),
    )


def _authorities_of_botocore() -> str:
    """The file of authorities that boto3 brings, for systems without one."""
    import botocore

    return str(Path(botocore.__file__).with_name("cacert.pem"))


def open_store(
    place: Endpoint, trail: Trail, settings: Settings, credentials: Credentials
) -> "S3Store":
    """An obstore store with boto3's credentials: one chain (profiles, SSO, roles) for all."""
    from obstore.store import S3Store

    client_options: dict[str, Any] = {
        "connect_timeout": timedelta(seconds=settings.connect_timeout),
        "timeout": timedelta(seconds=settings.client_timeout),
        "allow_http": place.endpoint.startswith("http://"),
    }
    authorities = os.environ.get("AWS_CA_BUNDLE")
    if authorities:
        client_options["root_certificate"] = _read_authorities(authorities)
    return S3Store(
        trail.bucket,
        credential_provider=credentials,
        client_options=client_options,  # type: ignore[arg-type]
        retry_config={"max_retries": 0},  # see `s3_retry`
        request_payer=trail.requester_pays,
        region=place.region,
        endpoint=place.endpoint,
        virtual_hosted_style_request=place.has_own_host,
    )


def endpoint_of_environment() -> str | None:
    """An S3 endpoint that is set for every trail without one of its own, as boto3 takes it."""
    found = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    return found.rstrip("/") if found else None


def _bucket_region(trail: Trail, session: Any) -> str:
    """The region that a bucket is in: HeadBucket answers with it even when it denies."""
    if trail.endpoint_url:
        return session.region_name or "us-east-1"
    from botocore.exceptions import BotoCoreError, ClientError

    client = session.client("s3", region_name=session.region_name or "us-east-1")
    permission = f"s3:ListBucket on arn:aws:s3:::{trail.bucket}"
    try:
        reply = client.head_bucket(Bucket=trail.bucket)
    except ClientError as error:
        headers = error.response["ResponseMetadata"].get("HTTPHeaders", {})
        region = headers.get("x-amz-bucket-region")
        if region:
            return str(region)
        if error.response.get("Error", {}).get("Code") == "404":
            raise no_such_bucket(f"s3://{trail.bucket}") from error
        raise translate(error, f"s3://{trail.bucket}", permission, trail) from error
    except BotoCoreError as error:
        raise translate(error, f"s3://{trail.bucket}", permission, trail) from error
    return str(reply["ResponseMetadata"]["HTTPHeaders"].get("x-amz-bucket-region", "us-east-1"))


def _read_authorities(path: str) -> bytes:
    try:
        authorities = Path(path).read_bytes()
    except OSError as error:
        raise ConfigurationError(
            f"AWS_CA_BUNDLE={path} cannot be read: {error.strerror}"
        ) from error
    if b"-----BEGIN CERTIFICATE-----" not in authorities:
        raise ConfigurationError(f"AWS_CA_BUNDLE={path} holds no certificate in PEM form")
    return authorities
