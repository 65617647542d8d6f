"""Where a bucket in S3 is, and how libcurl asks there.

libcurl gets the same URL, authorities and proxies that boto3 has. Nothing here asks a
bucket for anything, except for a region that the configuration does not name.
"""

import os
import ssl
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit
from urllib.request import getproxies

from ctrail_pipeline.core.exceptions import ConfigurationError
from ctrail_pipeline.core.settings import Settings, Trail

from .credentials import Credentials
from .curl_request import Target
from .s3_errors import no_such_bucket, translate


class Endpoint(NamedTuple):
    """Where a bucket is, for clients that do not find out for themselves."""

    region: str
    bucket_url: str
    """The bucket's URL: its name is a part of the host's name, or the path."""


def endpoint_of(trail: Trail, credentials: Credentials) -> Endpoint:
    """Return where a trail's bucket is; asks S3 if the configuration names no region."""
    region = trail.region or _bucket_region(trail, credentials.session)
    server_url = trail.endpoint_url or endpoint_of_environment()
    domain = "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
    if not server_url and "." not in trail.bucket:
        return Endpoint(region, f"https://{trail.bucket}.s3.{region}.{domain}")
    # As a part of a host's name, a bucket name with dots matches no certificate.
    server_url = (server_url or f"https://s3.{region}.{domain}").rstrip("/")
    return Endpoint(region, f"{server_url}/{trail.bucket}")


def target_at(endpoint: Endpoint, trail: Trail, settings: Settings) -> Target:
    """Return a bucket for libcurl, with the authorities and proxies that boto3 uses."""
    system = ssl.get_default_verify_paths()  # reads SSL_CERT_FILE and SSL_CERT_DIR
    configured = os.environ.get("AWS_CA_BUNDLE")
    if configured:
        _read_authorities(configured)
    proxies = getproxies()
    scheme = urlsplit(endpoint.bucket_url).scheme
    return Target(
        endpoint.bucket_url,
        endpoint.region,
        settings.connect_timeout,
        settings.client_timeout,
        configured or system.cafile or _authorities_of_botocore(),
        system.capath,
        proxies.get(scheme) or proxies.get("all", ""),
        proxies.get("no", ""),
        settings.max_stored_bytes,
        ("x-amz-request-payer: requester",) if trail.requester_pays else (),
    )


def _authorities_of_botocore() -> str:
    """The file of authorities that boto3 brings, for systems without such a file."""
    import botocore

    return str(Path(botocore.__file__).with_name("cacert.pem"))


def endpoint_of_environment() -> str | None:
    """The endpoint for trails without an `endpoint_url`, from the variables that boto3 reads."""
    found = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    return found.rstrip("/") if found else None


def _bucket_region(trail: Trail, session: Any) -> str:
    """The region that a bucket is in. HeadBucket names it even in an answer that denies access."""
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
