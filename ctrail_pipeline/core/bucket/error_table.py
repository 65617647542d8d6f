"""What each error code of S3 means: may it pass, what to say, what to do. A table and its rules.

The codes: https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html. S3 hands on codes of
KMS with `KMS.` before them: https://docs.aws.amazon.com/kms/latest/APIReference/API_Decrypt.html.
Not here: errors without an answer, such as a broken connection (`s3_errors`), and answers that name
another region or host (`misdirected`).
"""

import re
from collections.abc import Mapping
from typing import Final, NamedTuple

from ctrail_pipeline.core.exceptions import (
    AccessDenied,
    CredentialsError,
    ObjectArchived,
    ObjectChanged,
    ObjectGone,
    StoreError,
    StoreUnavailable,
)


class Meaning(NamedTuple):
    """What an error means.

    In its texts stand `{at}`, `{code}`, `{done}` ("read", "written"), `{permission}`, `{kms_key}`,
    `{kms_permission}`, and the names of settings: `{bucket}`, `{endpoint_url}`, `{region}`.
    """

    kind: type[StoreError]
    """StoreUnavailable and its subclasses may pass by themselves; all others are final."""
    says: str
    do: str = ""


_MAY_PASS_LATER: Final = Meaning(
    StoreUnavailable, "{at} cannot be {done}: {code}, after several tries"
)
_NOT_VALID: Final = Meaning(CredentialsError, "{at}: the AWS credentials are not valid ({code})")
_NO_DECRYPT: Final = Meaning(
    AccessDenied, "{at}: access denied by KMS: {kms_permission} on {kms_key} is missing"
)
_NO_ACCOUNT: Final = Meaning(
    AccessDenied,
    "{at}: S3 serves this account or bucket no more ({code})",
    "the bucket's owner asks AWS Support",
)

CODES: Final[Mapping[str, Meaning]] = {
    # Of one object.
    "InvalidObjectState": Meaning(
        ObjectArchived, "{at} is archived", "restore it from Glacier; syncs look for it once a day"
    ),
    "NoSuchKey": Meaning(ObjectGone, "{at} is no longer there"),
    "PreconditionFailed": Meaning(ObjectChanged, "{at} was written again since it was listed"),
    "InvalidRequest, Server Side Encryption": Meaning(
        StoreError,
        "{at}: encrypted with a key that only its writer has (SSE-C), so it cannot be read"
        " ({code})",
        "whoever wrote it writes it again without SSE-C; CloudTrail itself never uses SSE-C",
    ),
    # Of the bucket, and how it is asked.
    "NoSuchBucket": Meaning(StoreError, "{at}: there is no such bucket", "check {bucket}"),
    "InvalidBucketName": Meaning(
        StoreError, "{at}: this is no name of a bucket ({code})", "check {bucket}"
    ),
    "InvalidRequest": Meaning(
        StoreError,
        "{at}: the server refuses the request ({code})",
        "check {endpoint_url}, and that the server knows SigV4",
    ),
    "MethodNotAllowed": Meaning(
        StoreError, "{at}: the server refuses to read it ({code})", "check the `endpoint_url`"
    ),
    "RequestTimeTooSkewed": Meaning(
        AccessDenied, "{at}: this machine's clock is wrong by more than 15 minutes"
    ),
    # Permissions.
    "AccessDenied": Meaning(AccessDenied, "{at}: access denied: {permission} is missing"),
    "AccessDenied, kms:": _NO_DECRYPT,
    "AllAccessDisabled": _NO_ACCOUNT,
    "AccountProblem": _NO_ACCOUNT,
    "NotSignedUp": _NO_ACCOUNT,
    # Credentials.
    "ExpiredToken": _NOT_VALID,
    "ExpiredTokenException": _NOT_VALID,
    "InvalidAccessKeyId": _NOT_VALID,
    "InvalidToken": _NOT_VALID,
    "TokenRefreshRequired": _NOT_VALID,
    "SignatureDoesNotMatch": Meaning(
        AccessDenied, "{at}: the AWS credentials are not valid ({code})"
    ),
    # KMS.
    "KMS.AccessDeniedException": _NO_DECRYPT,
    "KMS.DisabledException": Meaning(
        AccessDenied,
        "{at}: {kms_key} is disabled in KMS",
        "enable it (kms:EnableKey), then sync again",
    ),
    "KMS.KMSInvalidStateException, pending deletion": Meaning(
        AccessDenied,
        "{at}: {kms_key} is pending deletion in KMS",
        "cancel that (kms:CancelKeyDeletion) and enable the key before its last day, or these log"
        " files can never be read again",
    ),
    "KMS.KMSInvalidStateException, pending import": Meaning(
        AccessDenied,
        "{at}: {kms_key} has no key material in KMS (pending import)",
        "import its key material again, then sync again",
    ),
    "KMS.KMSInvalidStateException": Meaning(
        AccessDenied,
        "{at}: {kms_key} is in a state of KMS in which nothing can be decrypted",
        "look at its KeyState (`aws kms describe-key`)",
    ),
    "KMS.NotFoundException": Meaning(
        AccessDenied,
        "{at}: {kms_key} does not exist in KMS",
        "if it was deleted, these log files can never be read again; else check the account and"
        " region of the key",
    ),
    # What may pass.
    **dict.fromkeys(
        (
            *("BandwidthLimitExceeded", "ConditionalRequestConflict", "EC2ThrottledException"),
            *("LimitExceededException", "PriorRequestNotComplete"),
            "ProvisionedThroughputExceededException",
            *("RequestLimitExceeded", "RequestThrottled", "RequestThrottledException"),
            *("RequestTimeout", "RequestTimeoutException", "SlowDown", "Throttling"),
            *("ThrottledException", "ThrottlingException", "TooManyRequestsException"),
            *("TransactionInProgressException", "KMS.DependencyTimeoutException"),
            *("KMS.KMSInternalException", "KMS.KeyUnavailableException"),
            *("KMS.LimitExceededException", "KMS.ThrottlingException"),
        ),
        _MAY_PASS_LATER,
    ),
}
"""The meaning of a code; behind a comma, of a code whose message holds one of the PHRASES."""

PHRASES: Final = ("kms:", "pending deletion", "pending import", "Server Side Encryption")
_KMS_KEY: Final = re.compile(
    r"arn:aws[a-z-]{0,9}:kms:[a-z0-9-]{1,30}:[0-9]{12}:key/[A-Za-z0-9-]{1,64}"
)

_OF_KMS: Final = Meaning(
    AccessDenied,
    "{at}: KMS does not decrypt it ({code})",
    "check the state and the policy of {kms_key}",
)
_REFUSED: Final = Meaning(
    StoreError,
    "{at}: the server refuses the request ({code})",
    "look this code up in the list of S3's error codes, or in the server's manual",
)
_DENIED: Final = Meaning(
    AccessDenied,
    "{at}: access denied ({code})",
    "look this code up in the list of S3's error codes, or in the server's manual",
)
_NOT_BY_S3: Final = Meaning(
    StoreError,
    "{at}: the request was refused ({code}), and not by S3",
    "check proxies and {endpoint_url}",
)
_SENT_AWAY: Final = Meaning(
    StoreError,
    "{at}: the server sends the request elsewhere ({code})",
    "check proxies, {endpoint_url} and {region}",
)
_WITHOUT_CODE: Final[Mapping[int, Meaning]] = {
    404: Meaning(
        StoreError,
        "{at}: a 404 came that is not S3's",
        "check proxies and {endpoint_url}",
    ),
    412: CODES["PreconditionFailed"],
}
"""The meaning of an HTTP status without a code."""
_DENIALS: Final = frozenset({401, 403})
_MAY_PASS: Final = frozenset({408, 425, 429})
_REDIRECTIONS: Final = range(300, 400)
_REFUSALS: Final = range(300, 500)


class Hints(NamedTuple):
    """What the message of an answer tells beyond its code.

    No more of a message is kept: the rest may hold private data.
    """

    phrases: frozenset[str] = frozenset()
    """Those of PHRASES that it holds."""
    kms_key: str = ""
    """The ARN of the KMS key that it names."""


def hints_in(message: str) -> Hints:
    """Return what the message of an answer tells."""
    key = _KMS_KEY.search(message)
    phrases = frozenset(phrase for phrase in PHRASES if phrase in message)
    return Hints(phrases, key[0] if key else "")


def meaning_of(status: int, code: str, hints: Hints) -> Meaning:
    """Return what an answer means, by its HTTP status, its code ("": none) and its message."""
    if not code and status in _DENIALS:
        code = "AccessDenied"
    for phrase in hints.phrases:
        meaning = CODES.get(f"{code}, {phrase}")
        if meaning is not None:
            return meaning
    if code in CODES:
        return CODES[code]
    if status in _MAY_PASS or status not in _REFUSALS:
        return _MAY_PASS_LATER
    if code.startswith("KMS."):
        return _OF_KMS
    if not code:
        return _SENT_AWAY if status in _REDIRECTIONS else _WITHOUT_CODE.get(status, _NOT_BY_S3)
    return _DENIED if status in _DENIALS else _REFUSED
