"""A configuration file from what CloudTrail says of an account's trails.

Asks DescribeTrails in every region. A trail of several regions has a shadow in each of them, and an
organization's trail in every member account. A shadow has the ARN of its trail, so each trail is
written once. Not here: what the file means (`file`), and reading a bucket (`core`).
"""

import json
import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ctrail_pipeline.core.bucket.boundary import boundary
from ctrail_pipeline.core.bucket.credentials import check_obtainable, open_session
from ctrail_pipeline.core.bucket.foreign_errors import no_answer, without_password
from ctrail_pipeline.core.durable import write_whole
from ctrail_pipeline.core.exceptions import AccessDenied, ConfigurationError, StoreUnavailable
from ctrail_pipeline.core.keys.source_prefix import logs_root, meant_prefix
from ctrail_pipeline.core.settings import Trail
from ctrail_pipeline.core.threads import DaemonThreads

logger = logging.getLogger(__name__)

_CAUSES_NAMED: Final = 2
"""Causes that are named where no region answered: each may name the host of its region."""
_ASKED_AT_ONCE = 8
_NOT_ENABLED = {"UnrecognizedClientException", "InvalidClientTokenId", "OptInRequired"}
"""Error codes of a region that the account has not enabled."""


@dataclass(frozen=True)
class Described:
    """A trail as CloudTrail describes it."""

    name: str
    arn: str
    bucket: str
    prefix: str
    """As CloudTrail was told: what stands before `/AWSLogs/` in keys, with slashes at its ends."""
    home_region: str
    kms_key_id: str | None
    log_file_validation: bool
    """Whether digests are written."""
    is_organization: bool

    def __str__(self) -> str:
        """Return a line for people."""
        about = [f"home region {self.home_region}"]
        about += ["an organization's"] if self.is_organization else []
        about += [f"encrypted with {self.kms_key_id}"] if self.kms_key_id else []
        about += ["with digests" if self.log_file_validation else "without digests"]
        url = f"s3://{self.bucket}/{logs_root(self.prefix)}"
        return f"{self.name}: {url} ({', '.join(about)})"


def describe_trails(
    profile: str | None = None, regions: Sequence[str] = ()
) -> tuple[list[Described], list[str]]:
    """Return every trail that these credentials may see, and the regions that did not answer.

    Raises AccessDenied or StoreUnavailable if no region answered or credentials cannot be obtained,
    ConfigurationError for a profile or region that does not exist.
    """
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError

    config = Config(connect_timeout=10, read_timeout=20, retries={"mode": "standard"})
    reader = Trail("generate-config", "", profile=profile)
    with boundary(reader):
        try:
            session = open_session(reader)
            check_obtainable(reader)
            home = session.get_config_variable("region") or "us-east-1"
            partition = session.get_partition_for_region(home)
            asked = list(regions) or session.get_available_regions("cloudtrail", partition)
            clients = [
                session.create_client("cloudtrail", region_name=name, config=config)
                for name in asked
            ]
        except (BotoCoreError, ValueError) as error:
            raise ConfigurationError(
                f"the AWS configuration cannot be used: {without_password(error)}"
            ) from error
    with DaemonThreads(_ASKED_AT_ONCE, "ctrail-trails") as threads:
        answers = list(threads.map(_ask, clients))
    trails: dict[str, Described] = {}
    failed: dict[str, str] = {}
    for region, answer in zip(asked, answers, strict=True):
        if isinstance(answer, str):
            failed[region] = answer
        else:
            trails.update((trail.arn, trail) for trail in answer)
    if len(failed) == len(asked):
        raise _none_answered(failed)
    unasked = [region for region, code in failed.items() if code not in _NOT_ENABLED]
    if unasked:
        causes = ", ".join(f"{region} ({failed[region]})" for region in unasked)
        logger.warning(
            "these regions did not answer, so trails of these regions only are missing: %s", causes
        )
    return sorted(trails.values(), key=lambda trail: (trail.name, trail.arn)), unasked


def config_of(trails: Iterable[Described]) -> dict[str, Any]:
    """Return the configuration that brings these trails in.

    Trails that deliver to the same bucket and prefix become one: their log files lie together.
    """
    groups: dict[tuple[str, str], list[Described]] = {}
    for trail in trails:
        groups.setdefault((trail.bucket, trail.prefix), []).append(trail)
    count = Counter("+".join(trail.name for trail in group) for group in groups.values())
    entries = []
    for (bucket, prefix), group in groups.items():
        name = "+".join(trail.name for trail in group)
        if count[name] > 1:  # two regions or accounts may each have a trail of one name
            name = "-".join((name, group[0].arn.split(":")[4], group[0].home_region))
        key = next((trail.kms_key_id for trail in group if trail.kms_key_id), None)
        entries.append(
            {"name": name, "bucket": bucket, "prefix": prefix}
            | ({} if meant_prefix(prefix) == prefix else {"exact_prefix": True})
            | ({"kms_key_id": key} if key else {})
            | {
                "home_region": group[0].home_region,
                "log_file_validation": any(trail.log_file_validation for trail in group),
                "is_organization": any(trail.is_organization for trail in group),
            }
        )
    return {"trails": entries}


def write_config(path: Path, content: dict[str, Any], *, force: bool = False) -> None:
    """Write a configuration file; `force` replaces a file that is there.

    Raises ConfigurationError if the file is there, or cannot be written.
    """
    text = json.dumps(content, indent=2) + "\n"
    try:
        write_whole(path, [text.encode()], replace=force)
    except FileExistsError:
        raise ConfigurationError(
            f"{path} is there already and stays as it is: name another file, or add --force"
            " (in a run's config, `force: true`)"
        ) from None
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be written: {error.strerror}") from error


def generate_config(
    path: Path, *, force: bool = False, profile: str | None = None, regions: Sequence[str] = ()
) -> tuple[list[Described], list[str]]:
    """Describe the trails and write the file; returns what `describe_trails` returned.

    Raises ConfigurationError if there are no trails, and if the file is there: that before AWS is
    asked.
    """
    if path.exists() and not force:
        write_config(path, {})
    trails, unasked = describe_trails(profile, regions)
    if not trails:
        raise ConfigurationError(
            "these credentials see no trail: use credentials of the account that has the trails (in"
            " an organization, the management account), or write the file by hand"
        )
    write_config(path, config_of(trails), force=force)
    return trails, unasked


def _ask(client: Any) -> list[Described] | str:
    """Return the trails that a region shows, or the code that says why it did not answer."""
    from botocore.exceptions import BotoCoreError, ClientError
    from botocore.parsers import ResponseParserError

    try:
        described = client.describe_trails(includeShadowTrails=True)["trailList"]
        return [
            Described(
                trail["Name"],
                trail["TrailARN"],
                trail["S3BucketName"],
                trail.get("S3KeyPrefix", ""),
                trail["HomeRegion"],
                trail.get("KmsKeyId") or None,
                trail.get("LogFileValidationEnabled", False),
                trail.get("IsOrganizationTrail", False),
            )
            for trail in described
            if trail.get("S3BucketName")
        ]
    except ClientError as error:
        return str(error.response.get("Error", {}).get("Code", "ClientError"))
    except BotoCoreError as error:
        return no_answer(error) or type(error).__name__
    except (LookupError, TypeError, AttributeError, ValueError, ResponseParserError):
        return "an answer that is not CloudTrail's"  # such as the page of a filter


def _none_answered(failed: dict[str, str]) -> AccessDenied | StoreUnavailable:
    """Return the error that says why no region answered, and what to do."""
    causes = sorted(set(failed.values()))
    codes = ", ".join(causes[:_CAUSES_NAMED])
    if len(causes) > _CAUSES_NAMED:
        codes += f" and {len(causes) - _CAUSES_NAMED} more"
    if any("Denied" in code for code in failed.values()):
        return AccessDenied(
            f"CloudTrail did not show its trails ({codes}): these credentials need the permission"
            " cloudtrail:DescribeTrails"
        )
    if any("Credential" in code or "Token" in code for code in failed.values()):
        return AccessDenied(
            f"CloudTrail did not show its trails ({codes}): set AWS_PROFILE, run `aws sso login`,"
            " or give this machine a role"
        )
    return StoreUnavailable(
        f"CloudTrail did not answer in any region ({codes}): check the network, the proxies and the"
        " region names"
    )
