"""The credentials for a bucket: where they are found, and the role that may be assumed.

boto3 finds them (environment, profile, SSO, web identity, container, instance role), for all
clients alike. No message holds a credential.

Not here: reading a bucket, and looking for other credentials when these expire
(`credential_renewal`).
"""

import logging
import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, NoReturn

from ctrail_pipeline.core.exceptions import AccessDenied
from ctrail_pipeline.core.settings import BucketAccess

from .boundary import is_of_others
from .credential_errors import (
    ROLE_OF_TRAIL,
    CodeWanted,
    NotObtained,
    SourceFailed,
    no_credentials,
    not_a_credential,
)
from .curl_request import Keys

SESSION_NAME: Final = "ctrail"
"""The session name under which CloudTrail shows what we do with a configured role."""
_STS_ATTEMPTS: Final = 5
PROCESS_SECONDS: Final = 60
"""How long a credential process may take: as long as with AWS's SDKs for Go and Java. boto3 waits
without an end, so one bucket would hold up all others."""
_CHARACTERS: Final = {
    "access key ID": re.compile(r"[!-~]+"),
    "secret access key": re.compile(r"[^\x00-\x1f\x7f]+"),
    "session token": re.compile(r"[!-~]*"),
}
"""What the parts of credentials consist of, as far as a request can carry it."""

# Without a handler, Python prints botocore's warnings with a traceback that holds answers of
# servers. The caller who needs the credentials says what went wrong.
logging.getLogger("botocore").addHandler(logging.NullHandler())


class Credentials:
    """The credentials for a bucket. Clients call it for credentials that are good now.

    They are obtained at once. Raises AccessDenied if there are none, or if the AWS configuration
    cannot be used, and CredentialsError if they could not be obtained now.
    """

    def __init__(self, access: BucketAccess) -> None:
        self._access = access
        with _obtaining(access):
            self.session = open_session(access)
            """The botocore session that clients are made of."""
            self._found: Any = self.session.get_credentials()
        if self._found is None:
            raise AccessDenied(
                f"{access.title}: no AWS credentials were found; set AWS_PROFILE, run "
                "`aws sso login`, or give this machine a role"
            )
        self()

    def __call__(self) -> Keys:
        """Return credentials that are good now. They are fetched anew where they expire soon."""
        source = str(self._found.method)
        with _obtaining(self._access, source):
            frozen = self._found.get_frozen_credentials()
        keys = Keys(frozen.access_key, frozen.secret_key, frozen.token)
        for (name, characters), value in zip(_CHARACTERS.items(), keys, strict=True):
            if not isinstance(value, str | None):  # a credential process prints any JSON
                raise no_credentials(self._access, TypeError(), source)
            if not characters.fullmatch(value or ""):
                raise not_a_credential(self._access, name, source, is_empty=not value)
        return keys

    def has_key_of(self, other: "Credentials") -> bool:
        """Whether both are the same key of the same session."""
        own, others = self(), other()
        return (own.access_key, own.token) == (others.access_key, others.token)


def check_obtainable(access: BucketAccess) -> None:
    """Raise what `Credentials` raises, except where there are no credentials at all."""
    with _obtaining(access):
        found = open_session(access).get_credentials()
    if found is not None:
        Credentials(access)


@contextmanager
def _obtaining(access: BucketAccess, source: str = "") -> Iterator[None]:
    """Raise our error for whatever goes wrong. `source`: botocore's name of what is asked."""
    try:
        yield
    except BaseException as error:
        if not isinstance(error, NotObtained) and not is_of_others(error):
            raise
        raise no_credentials(access, error, source) from error


def open_session(access: BucketAccess) -> Any:
    """Open a session with a configured profile and role. It never asks anybody for an MFA code.

    A code is good for one session. A run opens several: one for each bucket and process, and others
    when they expire.
    """
    from .sessions import new_session

    base = new_session(access.profile)
    chain = base.get_component("credential_provider")
    chain.get_provider("assume-role")._prompter = _refuse_to_ask  # noqa: SLF001
    _limit_processes(chain)
    chain.providers[:] = map(_Source, chain.providers)
    if access.role_arn is None:
        return base
    session = new_session(access.profile)
    chain = session.get_component("credential_provider")
    chain.providers.insert(0, _role_provider(access, base))
    return session


def _refuse_to_ask(_prompt: str) -> NoReturn:
    raise CodeWanted


class _Process(subprocess.Popen[bytes]):
    """A credential process. Its time is limited."""

    def communicate(self, *arguments: Any, **options: Any) -> tuple[Any, Any]:
        """Return what it prints; raises TimeoutExpired."""
        with self:  # closes what it prints into
            try:
                return super().communicate(*arguments, **{"timeout": PROCESS_SECONDS} | options)
            except subprocess.TimeoutExpired:
                self.kill()
                raise


def _limit_processes(chain: Any) -> None:
    """Limit the time of credential processes, also where a role's source profile has one."""
    builder = chain.get_provider("assume-role")._profile_provider_builder  # noqa: SLF001
    create = builder._create_process_provider  # noqa: SLF001

    def create_limited(profile: str) -> Any:
        provider = create(profile)
        provider._popen = _Process  # noqa: SLF001
        return provider

    builder._create_process_provider = create_limited  # noqa: SLF001
    chain.get_provider("custom-process")._popen = _Process  # noqa: SLF001


class _Source:
    """A source of botocore's chain that says which one it is when it fails."""

    def __init__(self, provider: Any) -> None:
        self._provider = provider
        self.METHOD: str = provider.METHOD

    def load(self) -> Any:
        """Return credentials, or None if this source has none."""
        with _named(self.METHOD):
            return self._provider.load()


@contextmanager
def _named(source: str) -> Iterator[None]:
    try:
        yield
    except BaseException as error:
        if not is_of_others(error):
            raise
        raise SourceFailed(source) from error


def _role_provider(access: BucketAccess, base: Any) -> Any:
    """The provider that boto3 asks first: it assumes the configured role with what `base` finds."""
    from botocore.config import Config
    from botocore.credentials import CredentialProvider, DeferredRefreshableCredentials

    request = {"RoleArn": access.role_arn, "RoleSessionName": access.session_name or SESSION_NAME}
    if access.external_id is not None:
        request["ExternalId"] = access.external_id

    def assume() -> dict[str, str]:
        found = base.get_credentials()
        with _named(found.method):
            found.get_frozen_credentials()
        region = base.get_config_variable("region") or os.environ.get("AWS_REGION")
        client = base.create_client(
            "sts",
            region_name=access.region or region or _home_of(str(access.role_arn), base),
            config=Config(retries={"total_max_attempts": _STS_ATTEMPTS, "mode": "standard"}),
        )
        answer = client.assume_role(**request)
        try:
            credentials = answer["Credentials"]
            return {
                "access_key": credentials["AccessKeyId"],
                "secret_key": credentials["SecretAccessKey"],
                "token": credentials["SessionToken"],
                "expiry_time": credentials["Expiration"].isoformat(),
            }
        except LookupError as error:
            raise SourceFailed(ROLE_OF_TRAIL) from error

    class RoleOfTrail(CredentialProvider):  # type: ignore[misc]
        METHOD = ROLE_OF_TRAIL

        def load(self) -> Any:
            if base.get_credentials() is None:
                return None
            return DeferredRefreshableCredentials(refresh_using=assume, method=self.METHOD)

    return RoleOfTrail()


def _home_of(role_arn: str, session: Any) -> str:
    """A region of the role's AWS partition, where neither configuration nor profile names one."""
    partition_id = role_arn.split(":")[1]
    for partition in session.get_component("data_loader").load_data("partitions")["partitions"]:
        if partition["id"] == partition_id:
            return str(partition["outputs"]["implicitGlobalRegion"])
    return "us-east-1"
