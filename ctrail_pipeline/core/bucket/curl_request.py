"""What a request through libcurl is told, and what comes of it: an answer or an error. Values only.

The requests are made in `curl`. What an error means for a bucket is told in `s3_errors`.
"""

import re
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from .error_table import hints_in

_RESOLVED: Final = re.compile(r"(?:^|/)\.\.?(?:/|$)")
_HEADER_VALUE: Final = re.compile(r"[ -~]*")
_ERROR_CODE: Final = re.compile(rb"<Code>([A-Za-z0-9.]{1,64})</Code>")
_REGION: Final = re.compile(
    rb"^x-amz-bucket-region: *([a-z0-9-]{1,40})\r?$|<Region>([a-z0-9-]{1,40})</Region>",
    re.IGNORECASE | re.MULTILINE,
)
_REDIRECT: Final = re.compile(rb"^location: *(https?://[!-~]+)", re.IGNORECASE | re.MULTILINE)
_OTHER_REGION: Final = frozenset(
    {"AuthorizationHeaderMalformed", "IllegalLocationConstraintException", "PermanentRedirect"}
    | {"TemporaryRedirect"}
)
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_TEMPORARY: Final = 307
"""The status by which S3 sends a single request on."""
NOT_TRUSTED: Final = 60
"""libcurl's number for a certificate that no authority vouches for, or for another host."""
TOO_LONG: Final = 63
"""libcurl's number for an answer that is longer than the limit."""


class CurlError(Exception):
    """A request that brought nothing. Its text holds nothing of an answer but S3's error code."""

    seconds: float = 0
    """How long the request took, without waiting for its turn."""


class NoAnswer(CurlError):
    """The connection failed, broke or took too long."""

    def __init__(self, number: int, text: str) -> None:
        """`number`: libcurl's error (https://curl.se/libcurl/c/libcurl-errors.html)."""
        super().__init__(text)
        self.number = number


class Elsewhere(NamedTuple):
    """What an answer says of another place to ask."""

    region: str
    """The bucket's region; "" if the answer names none."""
    redirects_to: str
    """The host that the answer sends the request to; "" for none."""
    is_temporary: bool
    """Whether only this request is sent on."""


class OtherAnswer(CurlError):
    """The server answered with something other than what was asked for."""

    def __init__(
        self, status: int, body: bytes = b"", reason: str = "", *, head: bytes = b""
    ) -> None:
        """`reason`: what is wrong with the answer, if its status does not say so."""
        match = _ERROR_CODE.search(body)
        self.status = status
        self.code = match[1].decode() if match else ""
        """S3's error code; "" for an answer without one, which may not be S3's."""
        self.is_page = is_page(body)
        """Whether the answer is a page for browsers."""
        self.elsewhere: Elsewhere | None = None
        """Where else the bucket is, if the answer says so."""
        if status in _REDIRECTS or self.code in _OTHER_REGION:
            region, redirect = _REGION.search(head) or _REGION.search(body), _REDIRECT.search(head)
            if region or redirect or self.code:
                self.elsewhere = Elsewhere(
                    (region[1] or region[2]).decode() if region else "",
                    _host_of(redirect[1].decode()) if redirect else "",
                    status == _TEMPORARY,
                )
        self.hints = hints_in(body.decode("latin-1"))
        super().__init__(reason or f"HTTP {status} {self.code}".rstrip())


class ProxyAnswer(CurlError):
    """The proxy answered itself, instead of connecting to the server."""

    def __init__(self, status: int) -> None:
        super().__init__(f"HTTP {status} of the proxy")
        self.status = status


def is_page(body: bytes) -> bool:
    """Whether a body is a page for browsers, as filters, portals and proxies send."""
    return body[:200].lstrip().lower().startswith((b"<!doctype html", b"<html"))


def _host_of(url: str) -> str:
    """The host of a URL that somebody else wrote; "" for none."""
    try:
        return urlsplit(url).hostname or ""
    except ValueError:  # half an IPv6 address
        return ""


class Answer(NamedTuple):
    """A body, and the etag that came with it (in quotes; "" if none came)."""

    body: bytes
    etag: str


class Target(NamedTuple):
    """A bucket, and how to ask it."""

    url: str
    """The bucket's URL, without a slash at the end."""
    region: str
    connect_timeout: float
    """Seconds."""
    timeout: float
    """Seconds that a whole request may take."""
    authorities_file: str | None
    """Certificate authorities, in PEM form."""
    authorities_folder: str | None
    """Further authorities, in files that are named by OpenSSL's hash."""
    proxy: str
    """URL of a proxy; "" for none."""
    max_answer_bytes: int
    """A longer answer is broken off."""
    headers: tuple[str, ...] = ()
    """Headers that are sent in addition."""
    service: str = "s3"
    """The service that requests are signed for."""


class Keys(NamedTuple):
    """What requests are signed with."""

    access_key: str
    secret_key: str
    token: str | None


class Wanted(NamedTuple):
    """An object to ask for, or with a query a list of a bucket's keys."""

    key: str
    etag: str | None = None
    """The only version that is wanted, in quotes; None: whatever version there is."""
    is_probe: bool = False
    """Whether the first byte is enough. S3 answers with status 206, or 416 if there is none."""
    query: str = ""
    """The query of a LIST, sorted and encoded as SigV4 signs it."""


def can_ask_for(wanted: Wanted) -> bool:
    """Whether libcurl asks for this key as it is.

    libcurl resolves `.` and `..` in the path that it signs.
    """
    return not _RESOLVED.search(wanted.key) and (
        wanted.etag is None or _HEADER_VALUE.fullmatch(wanted.etag) is not None
    )
