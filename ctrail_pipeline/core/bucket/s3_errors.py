"""Errors of libcurl, boto3 and S3 -> errors of ours, which say what to do.

A message names bucket, key, permission and S3's error code. The rest of an answer may hold private
data, and is left out.
"""

import re
from typing import Final

from ctrail_pipeline.core.exceptions import (
    AccessDenied,
    CredentialsError,
    ObjectArchived,
    ObjectChanged,
    ObjectGone,
    StoreError,
    StoreUnavailable,
)
from ctrail_pipeline.core.settings import Trail

from .curl_request import NOT_TRUSTED, TOO_LONG, CurlError, NoAnswer, OtherAnswer

_CURL_CAUSES: Final = {
    1: "the server does not speak HTTP",
    5: "no connection to the proxy",
    6: "no connection to the server",
    7: "no connection to the server",
    8: "the server does not speak HTTP",
    18: "the connection broke",
    28: "it timed out",
    52: "the connection broke",
    55: "the connection broke",
    56: "the connection broke",
    97: "no connection to the proxy",
}
"""By libcurl's number (https://curl.se/libcurl/c/libcurl-errors.html);
other numbers are named in libcurl's own words."""
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
_UNAUTHENTICATED: Final = 401
_FORBIDDEN: Final = 403
_NOT_FOUND: Final = 404
_PRECONDITION_FAILED: Final = 412
_CALL_FAILED: Final = re.compile(r"An error occurred \((\w+)\) when calling the (\w+) operation")
_CREDENTIAL_ERRORS: Final = frozenset(
    {
        "CredentialRetrievalError",
        "NoCredentialsError",
        "PartialCredentialsError",
        "SSOTokenLoadError",
        "TokenRetrievalError",
        "UnauthorizedSSOTokenError",
    }
)
_NOT_VALID: Final = frozenset(
    {"ExpiredToken", "ExpiredTokenException", "InvalidAccessKeyId", "InvalidToken"}
    | {"TokenRefreshRequired"}
)
_UNKNOWN_KMS_KEY: Final = "the trail's key"
_NOT_TRUSTED: Final = re.compile(r"certificate verify failed: ([^(]+?) \(")
_OTHER_REGION: Final = frozenset(
    {"PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException"}
)


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
        CredentialsFailed,
    )


class CredentialsFailed(Exception):
    """No credentials could be obtained for a request, because of `cause`."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(str(cause))
        self.cause = cause


def translate(error: Exception, location: str, permission: str, trail: Trail) -> StoreError:
    """Return our error for a client's error, which becomes its cause."""
    if isinstance(error, StoreError):
        return error
    failure = _translated(error, location, permission, trail)
    failure.__cause__ = error
    return failure


def _translated(error: Exception, location: str, permission: str, trail: Trail) -> StoreError:
    """Translate by S3's error code, the HTTP status or the error's class."""
    text = str(error)
    status, code = _status_and_code(error)
    if code == "InvalidObjectState":
        return ObjectArchived(f"{location} is archived: restore it from Glacier, then sync again")
    if code == "NoSuchBucket":
        return no_such_bucket(location)
    if code == "NoSuchKey":
        return ObjectGone(f"{location} is no longer there")
    if status == _PRECONDITION_FAILED:
        return ObjectChanged(f"{location} was written again since it was listed")
    if code.startswith("KMS.") or "kms:" in text or getattr(error, "names_kms", False):
        return AccessDenied(
            f"{location}: access denied by KMS: kms:Decrypt on"
            f" {trail.kms_key_id or _UNKNOWN_KMS_KEY} is missing"
        )
    if isinstance(error, NoAnswer) and error.number == TOO_LONG:
        return StoreError(
            f"{location}: the object is larger than a log file may be, and was not read"
        )
    failure = _unusable_credentials(error, code, text, location, trail) or _wrong_setup(
        error, code, text, location
    )
    if failure is not None:
        return failure
    if status in {_UNAUTHENTICATED, _FORBIDDEN} or code == "AccessDenied":
        return AccessDenied(f"{location}: access denied: {permission} is missing")
    if status == _NOT_FOUND and not code:  # S3 names the key or bucket that is missing
        return StoreUnavailable(
            f"{location}: a 404 came that is not S3's: check proxies and the trail's `endpoint_url`"
        )
    cause = code or _cause(error, text, status)
    return StoreUnavailable(f"{location} cannot be read: {cause}, after several tries")


def _unusable_credentials(
    error: Exception, code: str, text: str, location: str, trail: Trail
) -> StoreError | None:
    """The error of credentials that fail, which is no object's fault; None for other errors."""
    call = _CALL_FAILED.search(text)
    if call and call[2] == "AssumeRole":
        return CredentialsError(
            f"{location}: AWS credentials could not be obtained (AssumeRole: {call[1]}): check that"
            f" sts:AssumeRole on {trail.role_arn or 'the role of AWS_PROFILE'} is allowed, and by"
            " the role's trust policy too (its external id?)"
        )
    if code in _NOT_VALID:
        return CredentialsError(f"{location}: the AWS credentials are not valid ({code})")
    cause_of = error.cause if isinstance(error, CredentialsFailed) else error
    kind = type(cause_of).__name__
    if cause_of is not error or kind in _CREDENTIAL_ERRORS:
        cause = f"{call[2]}: {call[1]}" if call else kind
        return CredentialsError(
            f"{location}: AWS credentials could not be obtained ({cause}); run `aws sso login`, or"
            " check AWS_PROFILE and its role"
        )
    return None


def _wrong_setup(error: Exception, code: str, text: str, location: str) -> StoreError | None:
    """The error of a machine or configuration that no further try mends; None for other errors."""
    if code == "RequestTimeTooSkewed":
        return AccessDenied(f"{location}: this machine's clock is wrong by more than 15 minutes")
    if code == "SignatureDoesNotMatch":
        return AccessDenied(f"{location}: the AWS credentials are not valid ({code})")
    if code in _OTHER_REGION:
        return StoreError(
            f"{location}: the bucket is in another region: correct the trail's `region`, or leave"
            " it out"
        )
    if isinstance(error, NoAnswer) and error.number == _NO_AUTHORITIES:
        return StoreError(
            f"{location}: the file of certificate authorities cannot be used: check AWS_CA_BUNDLE"
            " and SSL_CERT_FILE"
        )
    certificate = _NOT_TRUSTED.search(text)
    by_curl = isinstance(error, NoAnswer) and error.number == NOT_TRUSTED
    if certificate or by_curl:
        reason = certificate[1] if certificate else text
        return StoreError(
            f"{location}: the server's certificate is not trusted ({reason}): if a private"
            " authority signed it, set AWS_CA_BUNDLE to a file with that authority's certificate"
        )
    return None


def no_such_bucket(location: str) -> StoreError:
    """The error for a bucket that does not exist."""
    return StoreError(f"{location}: there is no such bucket: check the trail's `bucket`")


def _cause(error: Exception, text: str, status: int) -> str:
    """The cause below S3's protocol, in our words: boto3's text may hold URLs."""
    if isinstance(error, NoAnswer):
        return _CURL_CAUSES.get(error.number, text)
    if isinstance(error, CurlError):
        return text
    kind = type(error).__name__
    return f"HTTP {status}" if status else _BOTO3_CAUSES.get(kind, kind)


def _status_and_code(error: Exception) -> tuple[int, str]:
    """The HTTP status and S3's error code; 0 and "" if there are none.

    No more of an answer is used: the rest may hold private data.
    """
    if isinstance(error, OtherAnswer):
        return error.status, error.code
    response = getattr(error, "response", None)
    if not isinstance(response, dict):
        return 0, ""
    status = int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    code = str(response.get("Error", {}).get("Code", ""))
    return status, "" if code.isdecimal() else code  # boto3 takes the status if S3 sent no code
