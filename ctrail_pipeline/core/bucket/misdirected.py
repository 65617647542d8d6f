"""Answers that do not come from the bucket: redirects, proxies, pages of filters and portals.

Each becomes one sentence that names the host or the proxy. What S3's own answers mean is in
`s3_errors`. No message holds a proxy's user or password, or anything of a page.
"""

from typing import Final

from ctrail_pipeline.core.exceptions import StoreError, StoreUnavailable
from ctrail_pipeline.core.settings import BucketAccess
from ctrail_pipeline.core.untrusted_text import printable

from .curl_request import Answer, CurlError, Elsewhere, NoAnswer, OtherAnswer, ProxyAnswer, is_page
from .endpoint import Endpoint, RegionSource

_NO_CONNECTION: Final = frozenset({5, 6, 7, 97})
"""libcurl's numbers where no connection comes about: the proxy or the host is unknown, or refuses
(https://curl.se/libcurl/c/libcurl-errors.html)."""
_TIMED_OUT: Final = 28
_OK: Final = 200
_SERVER_ERROR: Final = 500
_MAY_PASS: Final = frozenset({408, 425, 429})
_WANTS_PASSWORD: Final = 407


def misdirected(
    answer: Answer | CurlError,
    endpoint: Endpoint,
    location: str,
    access: BucketAccess,
    done: str = "read",
) -> StoreError | None:
    """Return what is wrong with an answer that does not come from the bucket; else None.

    `done`: what the request was to do to an object.
    """
    if isinstance(answer, Answer):
        is_foreign = not answer.etag and is_page(answer.body)
        return _of_page(_OK, endpoint, location, access) if is_foreign else None
    if isinstance(answer, NoAnswer) and answer.number in _NO_CONNECTION:
        there = f"the proxy {endpoint.proxy_host}" if endpoint.proxy else endpoint.host
        return StoreUnavailable(
            f"{location} cannot be {done}: no connection to {there}, after several tries"
        )
    if isinstance(answer, NoAnswer) and answer.number == _TIMED_OUT:
        through = f" through the proxy {endpoint.proxy_host}" if endpoint.proxy else ""
        return StoreUnavailable(
            f"{location} cannot be {done}: it timed out at {endpoint.host}{through}, after several"
            " tries"
        )
    if isinstance(answer, ProxyAnswer):
        return _of_proxy(answer.status, endpoint, location)
    if not isinstance(answer, OtherAnswer):
        return None
    if answer.elsewhere is not None:
        return _of_elsewhere(answer.elsewhere, endpoint, location, access)
    if answer.status == _WANTS_PASSWORD and endpoint.proxy:
        return _of_proxy(answer.status, endpoint, location)
    return _of_page(answer.status, endpoint, location, access) if answer.is_page else None


def _of_elsewhere(
    elsewhere: Elsewhere, endpoint: Endpoint, location: str, access: BucketAccess
) -> StoreError:
    """The error for an answer that names another place, which is not asked."""
    is_configured = endpoint.region_source is RegionSource.CONFIGURED
    to_do = f"correct {access.key('region')}, or leave it out"
    if elsewhere.redirects_to and not elsewhere.region:
        is_same = elsewhere.redirects_to == endpoint.host
        whom = "itself" if is_same else printable(elsewhere.redirects_to)
        why = "" if is_same else ", which is not asked, since it would get the credentials"
        return StoreError(
            f"{location}: {endpoint.host} sends requests on to {whom}{why}: check proxies and"
            f" {access.key('endpoint_url')}"
        )
    there = elsewhere.region or "another region"
    if elsewhere.redirects_to:
        there += f", at {printable(elsewhere.redirects_to)}"
    if not is_configured:
        to_do = f"it was asked in {endpoint.region}; set {access.key('region')}"
    return StoreError(f"{location}: the bucket is in {there}: {to_do}")


def _of_proxy(status: int, endpoint: Endpoint, location: str) -> StoreError:
    if status == _WANTS_PASSWORD:
        return StoreError(
            f"{location}: the proxy {endpoint.proxy_host} wants a user and a password (HTTP"
            f" {status}): the variable that names the proxy gives them, as"
            " http://user:password@host:port"
        )
    return _kind(status)(
        f"{location}: the proxy {endpoint.proxy_host} does not connect to {endpoint.host} (HTTP"
        f" {status}): does it allow that host?"
    )


def _of_page(status: int, endpoint: Endpoint, location: str, access: BucketAccess) -> StoreError:
    to_do = f"check the network's filters and {access.key('endpoint_url')}"
    if endpoint.proxy:
        to_do = f"does the proxy {endpoint.proxy_host} allow {endpoint.host}?"
    return _kind(status)(f"{location}: a web page came, which is not S3's (HTTP {status}): {to_do}")


def _kind(status: int) -> type[StoreError]:
    """The class of the error: whether the failure may pass by itself."""
    may_pass = status >= _SERVER_ERROR or status in _MAY_PASS
    return StoreUnavailable if may_pass else StoreError
