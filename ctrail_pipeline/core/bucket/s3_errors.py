"""Errors of obstore, libcurl, boto3 and S3 -> errors of ours, which say what to do.

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

_ERROR_CODE: Final = re.compile(r"<Code>([A-Za-z0-9.]{1,64})</Code>")
_CURL_CAUSES: Final = {
    5: "no connection to the proxy",
    6: "no connection to the server",
    7: "no connection to the server",
    18: "the connection broke",
    28: "it timed out",
    52: "the connection broke",
    55: "the connection broke",
    56: "the connection broke",
    97: "no connection to the proxy",
}
"""By libcurl's number (https://curl.se/libcurl/c/libcurl-errors.html);
other numbers are named in libcurl's own words."""
_NO_AUTHORITIES: Final = 77
_KINDS: Final = {
    401: "UnauthenticatedError",
    403: "PermissionDeniedError",
    404: "NotFoundError",
    412: "PreconditionError",
}
"""obstore's names for answers by HTTP status."""
_OBSTORE_CAUSE: Final = re.compile(r"HttpError \{\s*kind: (\w+)|source: (InvalidListResponse) \{")
_CAUSES: Final = {
    "Connect": "no connection to the server",
    "Timeout": "it timed out",
    "Interrupted": "the connection broke",
    "InvalidListResponse": "the listing was cut short",
}
_NO_CREDENTIALS: Final = re.compile(r"External AWS credential provider: (\w+)")
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
_NOT_TRUSTED: Final = re.compile(
    r"error: InvalidCertificate\(\s*(\w+)|certificate verify failed: ([^(]+?) \("
)
_OTHER_REGION: Final = frozenset(
    {"PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException"}
)


def client_errors() -> tuple[type[Exception], ...]:
    """The errors that obstore, libcurl, boto3 and the network raise; they share no base class.

    No other error is caught: our own mistake must not be recorded as a bucket's failure.
    """
    from botocore.exceptions import BotoCoreError, ClientError
    from botocore.parsers import ResponseParserError
    from obstore.exceptions import BaseError

    return (
        StoreError,
        OSError,
        BaseError,
        BotoCoreError,
        ClientError,
        ResponseParserError,
        CurlError,
        CredentialsFailed,
    )


class CredentialsFailed(Exception):
    """No credentials could be obtained for a request; its text is in obstore's form."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(f"External AWS credential provider: {type(cause).__name__}: {cause}")


def translate(error: Exception, location: str, permission: str, trail: Trail) -> StoreError:
    """Return our error for a client's error, which becomes its cause."""
    if isinstance(error, StoreError):
        return error
    failure = _translated(error, location, permission, trail)
    failure.__cause__ = error
    return failure


def _translated(error: Exception, location: str, permission: str, trail: Trail) -> StoreError:
    """Translate by S3's error code or the error's class."""
    kind, text = type(error).__name__, str(error)
    code = _error_code(error, text)
    if isinstance(error, OtherAnswer):
        kind = _KINDS.get(error.status, text)
    if code == "InvalidObjectState":
        return ObjectArchived(f"{location} is archived: restore it from Glacier, then sync again")
    if code == "NoSuchBucket":
        return no_such_bucket(location)
    if code in {"NoSuchKey", "404"}:
        return ObjectGone(f"{location} is no longer there")
    if kind == "PreconditionError" or code in {"PreconditionFailed", "412"}:
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
    failure = _unusable_credentials(kind, code, text, location, trail) or _wrong_setup(
        error, code, text, location
    )
    if failure is not None:
        return failure
    if kind in {"PermissionDeniedError", "UnauthenticatedError"} or code in {"AccessDenied", "403"}:
        return AccessDenied(f"{location}: access denied: {permission} is missing")
    return _unavailable(kind, code, _cause(error, text), location)


def _unusable_credentials(
    kind: str, code: str, text: str, location: str, trail: Trail
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
    provider = _NO_CREDENTIALS.search(text)
    if provider or kind in _CREDENTIAL_ERRORS:
        cause = f"{call[2]}: {call[1]}" if call else provider[1] if provider else kind
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
    if code in _OTHER_REGION or "inner: BareRedirect" in text:
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
        reason = certificate[1] or certificate[2] if certificate else text
        return StoreError(
            f"{location}: the server's certificate is not trusted ({reason}): if a private"
            " authority signed it, set AWS_CA_BUNDLE to a file with that authority's certificate"
        )
    return None


def no_such_bucket(location: str) -> StoreError:
    """The error for a bucket that does not exist."""
    return StoreError(f"{location}: there is no such bucket: check the trail's `bucket`")


def _unavailable(kind: str, code: str, cause: str, location: str) -> StoreUnavailable:
    if not code and kind in {
        "NotFoundError",
        "FileNotFoundError",
    }:  # S3 names the key or bucket that is missing
        return StoreUnavailable(
            f"{location}: a 404 came that is not S3's: check proxies and the trail's `endpoint_url`"
        )
    return StoreUnavailable(
        f"{location} cannot be read: {code or cause or kind}, after several tries"
    )


def _cause(error: Exception, text: str) -> str:
    """The cause below HTTP, in our words: obstore's text holds URLs and a dump of its error."""
    if isinstance(error, NoAnswer):
        return _CURL_CAUSES.get(error.number, text)
    match = _OBSTORE_CAUSE.search(text)
    return _CAUSES.get(match[1] or match[2], "") if match else ""


def _error_code(error: Exception, text: str) -> str:
    """S3's error code, and no more: the rest of an answer may hold private data."""
    if isinstance(error, OtherAnswer):
        return error.code
    response = getattr(error, "response", None)
    if isinstance(response, dict):
        return str(response.get("Error", {}).get("Code", ""))
    match = _ERROR_CODE.search(text)
    return match[1] if match else ""
