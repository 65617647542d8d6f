"""The credentials of a trail: where they are found, and the role that a trail may name.

boto3 finds them (environment, profile, SSO, web identity, container, instance role), for all
clients alike. No message holds a credential.

Not here: reading a bucket, and looking for other credentials when these expire
(`credential_renewal`).
"""

import logging
from typing import Any, Final

from ctrail_pipeline.core.exceptions import AccessDenied
from ctrail_pipeline.core.settings import Trail

from .curl_request import Keys

SESSION_NAME: Final = "ctrail"
"""The session name under which CloudTrail shows what we read with a trail's role."""
_STS_ATTEMPTS: Final = 5
_OTHER_ERRORS: Final = (RuntimeError, LookupError, TypeError, ValueError)
"""What botocore raises besides its own errors: for credentials that have expired already when they
come, and for output of a credential process that it cannot read."""

# Without a handler, Python prints botocore's warnings with a traceback that holds answers of
# servers. The caller who needs the credentials says what went wrong.
logging.getLogger("botocore").addHandler(logging.NullHandler())


class Credentials:
    """The credentials that a trail is read with. Clients call it for credentials that are good now.

    Raises AccessDenied if there are no credentials, or if the AWS configuration cannot be used.
    """

    def __init__(self, trail: Trail) -> None:
        from botocore.exceptions import BotoCoreError

        try:
            self.session = open_session(trail)
            """The boto3 session that clients are made of."""
            self._found: Any = self.session.get_credentials()
        except (BotoCoreError, *_OTHER_ERRORS) as error:
            # The error's text may hold what a credential process printed.
            raise AccessDenied(
                f"trail {trail.name!r}: the AWS credentials cannot be used"
                f" ({type(error).__name__}); check AWS_PROFILE and the AWS configuration files"
            ) from error
        if self._found is None:
            raise AccessDenied(
                f"trail {trail.name!r}: no AWS credentials were found; set AWS_PROFILE, run "
                "`aws sso login`, or give this machine a role"
            )

    def __call__(self) -> Keys:
        """Return credentials that are good now. They are fetched anew where they expire soon."""
        from botocore.exceptions import CredentialRetrievalError

        try:
            frozen = self._found.get_frozen_credentials()
        except _OTHER_ERRORS as error:
            raise CredentialRetrievalError(
                provider=type(self._found).__name__, error_msg=type(error).__name__
            ) from None
        return Keys(frozen.access_key, frozen.secret_key, frozen.token)

    def has_key_of(self, other: "Credentials") -> bool:
        """Whether both are the same key of the same session."""
        own, others = self(), other()
        return (own.access_key, own.token) == (others.access_key, others.token)


def open_session(trail: Trail) -> Any:
    """Open a boto3 session with a trail's profile and role."""
    import boto3

    base = boto3.session.Session(profile_name=trail.profile)
    if trail.role_arn is None:
        return base
    import botocore.session

    session = botocore.session.get_session()
    chain = session.get_component("credential_provider")
    chain.insert_before("env", _role_provider(trail, base))
    return boto3.session.Session(botocore_session=session, region_name=base.region_name)


def _role_provider(trail: Trail, base: Any) -> Any:
    """The provider that boto3 asks first: it assumes the trail's role with what `base` finds."""
    from botocore.config import Config
    from botocore.credentials import CredentialProvider, DeferredRefreshableCredentials

    request = {"RoleArn": trail.role_arn, "RoleSessionName": trail.session_name or SESSION_NAME}
    if trail.external_id is not None:
        request["ExternalId"] = trail.external_id

    def assume() -> dict[str, str]:
        client = base.client(
            "sts",
            region_name=trail.region or base.region_name or _home_of(str(trail.role_arn)),
            config=Config(retries={"total_max_attempts": _STS_ATTEMPTS, "mode": "standard"}),
        )
        credentials = client.assume_role(**request)["Credentials"]
        return {
            "access_key": credentials["AccessKeyId"],
            "secret_key": credentials["SecretAccessKey"],
            "token": credentials["SessionToken"],
            "expiry_time": credentials["Expiration"].isoformat(),
        }

    class RoleOfTrail(CredentialProvider):  # type: ignore[misc]
        METHOD = "ctrail-role"

        def load(self) -> Any:
            if base.get_credentials() is None:
                return None
            return DeferredRefreshableCredentials(refresh_using=assume, method=self.METHOD)

    return RoleOfTrail()


def _home_of(role_arn: str) -> str:
    """A region of the role's AWS partition, for a trail and a profile that name none."""
    partition = role_arn.split(":")[1]
    return {"aws-cn": "cn-north-1", "aws-us-gov": "us-gov-west-1"}.get(partition, "us-east-1")
