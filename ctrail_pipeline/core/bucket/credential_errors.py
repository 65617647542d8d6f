"""Why there are no credentials for a bucket: a sentence for each source of them, with what to do.

An error's text is not shown: it may hold what a credential process printed, or a credential. There
is one exception: what botocore says of a configuration that contradicts itself, which holds names.
"""

import os
import re
from collections.abc import Mapping
from typing import Final

from ctrail_pipeline.core.exceptions import AccessDenied, CredentialsError, StoreError
from ctrail_pipeline.core.settings import BucketAccess
from ctrail_pipeline.core.untrusted_text import printable

from .foreign_errors import no_answer

ROLE_OF_TRAIL: Final = "ctrail-role"
"""The source that assumes a configured role; botocore names all others."""
_SIGN_IN: Final = "run `aws sso login`"
_SOURCES: Final[Mapping[str, tuple[str, str]]] = {
    ROLE_OF_TRAIL: (
        "the role {role}",
        "check that sts:AssumeRole on it is allowed, and by the role's trust policy too (its"
        " external id?)",
    ),
    "assume-role": (
        "the role of the profile {profile}",
        "check that sts:AssumeRole on it is allowed, and by the role's trust policy too",
    ),
    "assume-role-with-web-identity": (
        "the web identity",
        "check AWS_WEB_IDENTITY_TOKEN_FILE and AWS_ROLE_ARN, or the profile's"
        " web_identity_token_file and role_arn",
    ),
    "custom-process": (
        "the credential_process of the profile {profile}",
        "run its command by hand: it must print credentials that are valid",
    ),
    "sso": ("single sign-on of the profile {profile}", "run `aws sso login --profile {name}`"),
    "login": ("`aws login`", "run `aws login`"),
    "container-role": ("the role of the container", "check the container's or pod's role"),
    "iam-role": ("the role of the machine", "check the instance's role"),
}
"""By botocore's name of a source: how messages call the source, and what to do."""
_OTHER_SOURCE: Final = ("{source}", "check AWS_PROFILE and the AWS configuration files")
_SIGN_IN_ERRORS: Final = frozenset(
    {"SSOTokenLoadError", "UnauthorizedSSOTokenError", "TokenRetrievalError"}
)
_UNUSABLE: Final = frozenset(
    {
        *("ConfigNotFound", "ConfigParseError", "InfiniteLoopConfigError", "InvalidConfigError"),
        *("PartialCredentialsError", "ProfileNotFound", "UnknownCredentialError"),
    }
)
"""Errors of botocore for configuration files that it cannot use."""
_CAUSES: Final = {
    "CredentialRetrievalError": "it failed",
    "ResponseParserError": "its answer cannot be read",
    "SSOTokenLoadError": "there is no valid token",
    "TimeoutExpired": "it took too long",
    "TokenRetrievalError": "its token cannot be renewed",
    "UnauthorizedSSOTokenError": "its token is not valid",
}
"""By the class of an error, what went wrong."""
_DETAIL_LENGTH: Final = 200
_CALL_FAILED: Final = re.compile(r"An error occurred \((\w+)\) when calling the (\w+) operation")


class NotObtained(Exception):
    """No credentials could be obtained."""


class SourceFailed(NotObtained):
    """A source of credentials raised an error, which is the cause of this one."""

    def __init__(self, source: str) -> None:
        """`source`: botocore's name of it."""
        super().__init__(source)
        self.source = source


class CodeWanted(NotObtained):
    """A profile asks for an MFA code, and nobody is asked for one."""


def no_credentials(access: BucketAccess, error: BaseException, source: str = "") -> StoreError:
    """Return what is wrong with the credentials for a bucket.

    `source`: botocore's name of the source that failed, if the error does not say so.
    """
    if isinstance(error, SourceFailed) and error.__cause__ is not None:
        return no_credentials(access, error.__cause__, error.source)
    kind = type(error).__name__
    profile = repr(_profile(access))
    if isinstance(error, CodeWanted):
        return AccessDenied(
            f"{access.title}: the profile {profile} wants an MFA code, which nobody is asked"
            " for here: take a profile without `mfa_serial`, or set the variables that `aws"
            f" configure export-credentials --profile {profile[1:-1]} --format env` prints, and no"
            " profile"
        )
    if kind in _UNUSABLE or not source:
        setting = access.key("profile") if access.profile else "AWS_PROFILE"
        whose, where = f"the profile {profile}", f"{setting} and the AWS configuration files"
        if source == "env":
            whose, where = "the environment", "the AWS_* variables"
        return AccessDenied(
            f"{access.title}: the AWS credentials of {whose} cannot be used"
            f" ({_fault(error)}); check {where}"
        )
    name, advice = _SOURCES.get(source, _OTHER_SOURCE)
    name = name.format(role=access.role_arn, profile=profile, source=source)
    if kind in _SIGN_IN_ERRORS and source != "sso":
        advice = _SIGN_IN  # the profile that signs on may be another one, which this one names
    silence = no_answer(error)
    if silence:
        advice = "check the network, the proxies and the AWS_* variables"
    return CredentialsError(
        f"{access.title}: AWS credentials could not be obtained from {name}"
        f" ({silence or _cause(error)}): {advice.format(name=profile[1:-1])}"
    )


def _profile(access: BucketAccess) -> str:
    """The name of the profile whose credentials are looked for."""
    return printable(access.profile or os.environ.get("AWS_PROFILE") or "default")


def not_a_credential(access: BucketAccess, name: str, source: str, *, is_empty: bool) -> StoreError:
    """Return the error for a credential with a character that no credential has.

    `name`: which part of the credentials. Such a character is mostly a line feed at the end, from
    the file or the secret that a variable was filled from.
    """
    called = _SOURCES.get(source, _OTHER_SOURCE)[0].format(
        role=access.role_arn, profile=repr(_profile(access)), source=source
    )
    if is_empty:
        return AccessDenied(f"{access.title}: the {name} from {called} is empty: write it")
    return AccessDenied(
        f"{access.title}: the {name} from {called} holds a line feed, a space or another"
        " character that no credential has: write it anew, without a line end"
    )


def _fault(error: BaseException) -> str:
    """What is wrong with a configuration, by its names of files, profiles and settings."""
    kind = type(error).__name__
    details = getattr(error, "kwargs", {})
    if kind == "PartialCredentialsError":
        return f"{details['cred_var']} is missing"
    if kind == "ProfileNotFound":
        return "there is no such profile"
    named = details.get("path") or (details.get("error_msg") if kind in _UNUSABLE else None)
    return f"{kind}: {printable(str(named))[:_DETAIL_LENGTH].rstrip('.')}" if named else kind


def _cause(error: BaseException) -> str:
    """What went wrong, in our words, without any text of the error."""
    call = _CALL_FAILED.search(str(error))
    if call:
        return f"{call[2]}: {call[1]}"
    if isinstance(error, OSError) and error.filename and error.strerror:
        return printable(f"{error.filename}: {error.strerror}")
    if isinstance(error, RuntimeError) and "expired" in str(error):
        return "they have expired already"
    if isinstance(error, (ValueError, LookupError, TypeError, AttributeError)):
        return "its answer cannot be read"
    kind = type(error).__name__
    return _CAUSES.get(kind, kind)
