"""What errors of botocore say, for messages: a host or a proxy, and never a user or a password.

Not here: what the answers of S3 mean (`s3_errors`), and which credentials failed
(`credential_errors`).
"""

import re
from typing import Final
from urllib.parse import urlsplit

from ctrail_pipeline.core.untrusted_text import printable

_UNREACHABLE: Final = frozenset(
    {
        *("ConnectTimeoutError", "ConnectionClosedError", "ConnectionError"),
        *("EndpointConnectionError", "HTTPClientError", "ProxyConnectionError"),
        *("ReadTimeoutError", "SSLError"),
    }
)
"""Errors of botocore where no answer came."""
_USER: Final = re.compile(r"//.*@", re.DOTALL)
"""The user and password of a URL in the text of an error, and more rather than less."""


def without_password(error: BaseException) -> str:
    """Return the text of an error without the user and password of a URL."""
    return printable(_USER.sub("//", str(error)))


def no_answer(error: BaseException) -> str:
    """Return which host or proxy gave no answer; "" for an error of another kind."""
    kind = type(error).__name__
    if kind not in _UNREACHABLE:
        return ""
    details = getattr(error, "kwargs", {})
    proxy, url = (str(details.get(name) or "") for name in ("proxy_url", "endpoint_url"))
    if proxy:
        address = urlsplit(proxy).netloc.rpartition("@")[2]
        return printable(f"no connection through the proxy {address}")
    host = urlsplit(url).hostname or "its server"
    return printable(f"TLS with {host} failed" if kind == "SSLError" else f"no answer of {host}")
