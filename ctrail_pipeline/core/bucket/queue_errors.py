"""Errors of SQS and of the way to it -> errors of ours, which say what to do.

The codes: https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/CommonErrors.html
and those of ReceiveMessage. A message names the queue, the permission and the code. The rest of
an answer is left out. Not here: errors of S3 (`s3_errors`).
"""

from collections.abc import Mapping
from typing import Final, NamedTuple

from ctrail_pipeline.core.exceptions import (
    AccessDenied,
    CredentialsError,
    StoreError,
    StoreUnavailable,
)

from .foreign_errors import no_answer


class _Meaning(NamedTuple):
    kind: type[StoreError]
    says: str


_GONE: Final = _Meaning(
    StoreError,
    "there is no such queue ({code}): check account, name and region in the trail's `queue`",
)
_DENIED: Final = _Meaning(AccessDenied, "access denied: {permission} is missing ({code})")
_KEY: Final = _Meaning(
    AccessDenied,
    "the key that the queue is encrypted with may not be used ({code}): allow kms:Decrypt on it,"
    " and check that it is enabled",
)
_NOT_VALID: Final = _Meaning(CredentialsError, "the AWS credentials are not valid ({code})")
_SCOPE: Final = _Meaning(
    StoreError,
    "the request is signed for another region, or with a wrong secret ({code}): check the region"
    " in the trail's `queue`",
)
_CODES: Final[Mapping[str, _Meaning]] = {
    "AWS.SimpleQueueService.NonExistentQueue": _GONE,
    "QueueDoesNotExist": _GONE,
    "InvalidAddress": _GONE,
    "AccessDenied": _DENIED,
    "AccessDeniedException": _DENIED,
    "KmsAccessDenied": _KEY,
    "KmsDisabled": _KEY,
    "KmsInvalidKeyUsage": _KEY,
    "KmsInvalidState": _KEY,
    "KmsNotFound": _KEY,
    "KmsOptInRequired": _KEY,
    "ExpiredToken": _NOT_VALID,
    "ExpiredTokenException": _NOT_VALID,
    "InvalidAccessKeyId": _NOT_VALID,
    "InvalidClientTokenId": _NOT_VALID,
    "InvalidSecurity": _NOT_VALID,
    "UnrecognizedClientException": _NOT_VALID,
    "InvalidSignatureException": _SCOPE,
    "SignatureDoesNotMatch": _SCOPE,
}
_KMS: Final = "KMS."
"""What KMS's own codes begin with: `KMS.AccessDeniedException` is `KmsAccessDenied`."""
_SERVER_FAULT: Final = 500
_MAY_PASS: Final = _Meaning(StoreUnavailable, "it gives no answer ({code}), after several tries")
_OTHER: Final = _Meaning(StoreError, "it refuses the request ({code})")


def translate_queue_error(error: Exception, url: str, permission: str) -> StoreError:
    """Return the error of ours for a request that needs a permission."""
    if isinstance(error, StoreError):
        return error
    response = getattr(error, "response", None)
    if not isinstance(response, dict):
        cause = no_answer(error) or type(error).__name__
        return StoreUnavailable(f"{url} cannot be asked: {cause}, after several tries")
    code = str(response.get("Error", {}).get("Code", ""))
    status = int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    meaning = _CODES.get(code)
    if code.startswith(_KMS):
        meaning = _CODES.get("Kms" + code.removeprefix(_KMS).removesuffix("Exception"), _KEY)
    if meaning is None:
        is_throttled = "Throttl" in code or code in ("OverLimit", "RequestLimitExceeded")
        meaning = _MAY_PASS if is_throttled or status >= _SERVER_FAULT else _OTHER
    says = meaning.says.format(code=code or f"HTTP {status}", permission=permission)
    return meaning.kind(f"{url}: {says}")
