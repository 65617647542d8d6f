"""Errors of libcurl, boto3 and S3 -> errors of ours, which say what to do.

A message names bucket, key, permission and S3's error code. The rest of an answer may hold private
data, and is left out. What each code means is in `error_table`.
"""

import re
from typing import Final

from ctrail_pipeline.core.exceptions import StoreError, StoreUnavailable
from ctrail_pipeline.core.settings import BucketAccess

from .curl_request import NOT_TRUSTED, TOO_LONG, CurlError, NoAnswer, OtherAnswer
from .error_table import Hints, hints_in, meaning_of

_CURL_CAUSES: Final = {
    1: "the server does not speak HTTP",
    8: "the server does not speak HTTP",
    18: "the connection broke",
    52: "the connection broke",
    55: "the connection broke",
    56: "the connection broke",
}
"""By libcurl's number (https://curl.se/libcurl/c/libcurl-errors.html);
other numbers are named in libcurl's own words. Where no connection comes about is in
`misdirected`."""
_BOTO3_CAUSES: Final = {
    "ConnectTimeoutError": "it timed out",
    "ConnectionClosedError": "the connection broke",
    "EndpointConnectionError": "no connection to the server",
    "IncompleteReadError": "the connection broke",
    "ReadTimeoutError": "it timed out",
    "ResponseStreamingError": "the connection broke",
}
"""By the names of botocore's errors; other errors are called by their names."""
_NO_AUTHORITIES: Final = 77
_PUT: Final = "s3:PutObject"
_DELETE: Final = "s3:DeleteObject"
_NOT_TRUSTED: Final = re.compile(r"certificate verify failed: ([^(]+?) \(")


def client_errors() -> tuple[type[Exception], ...]:
    """The errors that libcurl, boto3 and the network raise; they share no base class.

    No other error is caught: our own mistake must not be recorded as a bucket's failure.
    """
    from botocore.exceptions import BotoCoreError, ClientError
    from botocore.parsers import ResponseParserError

    return (
        StoreError,
        OSError,
        BotoCoreError,
        ClientError,
        ResponseParserError,
        CurlError,
    )


def translate(error: Exception, location: str, permission: str, access: BucketAccess) -> StoreError:
    """Return our error for a client's error, which becomes its cause.

    `permission`: what the request needed, such as "s3:GetObject on …". It says what was done, too.
    """
    if isinstance(error, StoreError):
        return error
    failure = _translated(error, location, permission, access)
    failure.__cause__ = error
    return failure


def _translated(
    error: Exception, location: str, permission: str, access: BucketAccess
) -> StoreError:
    """Translate an answer by the table, and an error without an answer by its class."""
    status, code, hints = _answer_of(error)
    if status or code:
        meaning = meaning_of(status, code, hints)
        text = meaning.says + (f": {meaning.do}" if meaning.do else "")
        writes = permission.startswith(_PUT)
        return meaning.kind(
            text.format(
                at=location,
                code=code or (str(error) if isinstance(error, CurlError) else f"HTTP {status}"),
                done=done_with(permission),
                permission=permission,
                kms_key=hints.kms_key or access.kms_key,
                kms_permission="kms:GenerateDataKey" if writes else "kms:Decrypt",
                bucket=access.key("bucket"),
                endpoint_url=access.key("endpoint_url"),
                region=access.key("region"),
            )
        )
    setup = _wrong_setup(error)
    if setup:
        return StoreError(f"{location}: {setup}")
    cause = _cause(error)
    return StoreUnavailable(
        f"{location} cannot be {done_with(permission)}: {cause}, after several tries"
    )


def done_with(permission: str) -> str:
    """Return what a request does to an object, as messages say it."""
    if permission.startswith(_PUT):
        return "written"
    return "removed" if permission.startswith(_DELETE) else "read"


def _wrong_setup(error: Exception) -> str:
    """What to mend, for an error that no further try mends; "" for other errors."""
    text = str(error)
    number = error.number if isinstance(error, NoAnswer) else 0
    if number == TOO_LONG:
        return "the object is larger than a log file may be, and was not read"
    if number == _NO_AUTHORITIES:
        return (
            "the file of certificate authorities cannot be used: check AWS_CA_BUNDLE and"
            " SSL_CERT_FILE"
        )
    certificate = _NOT_TRUSTED.search(text)
    if certificate or number == NOT_TRUSTED:
        reason = certificate[1] if certificate else text
        return (
            f"the server's certificate is not trusted ({reason}): if a private authority signed"
            " it, set AWS_CA_BUNDLE to a file with that authority's certificate"
        )
    return ""


def _cause(error: Exception) -> str:
    """The cause below S3's protocol, in our words: boto3's text may hold URLs."""
    if isinstance(error, NoAnswer):
        return _CURL_CAUSES.get(error.number, str(error))
    if isinstance(error, CurlError):
        return str(error)
    kind = type(error).__name__
    return _BOTO3_CAUSES.get(kind, kind)


def _answer_of(error: Exception) -> tuple[int, str, Hints]:
    """The HTTP status, S3's error code and the hints of an answer; 0 and "" if none came."""
    if isinstance(error, OtherAnswer):
        return error.status, error.code, error.hints
    response = getattr(error, "response", None)
    if not isinstance(response, dict):
        return 0, "", Hints()
    status = int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    code = str(response.get("Error", {}).get("Code", ""))
    hints = hints_in(str(response.get("Error", {}).get("Message", "")))
    return status, "" if code.isdecimal() else code, hints  # without a code boto3 takes the status
