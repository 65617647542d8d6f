"""Source prefixes, and the folder names that they are made of.

Log files lie under `[prefix/]AWSLogs/[o-id/]account/KIND/region/`. Here these folder names are
built, and it is decided which names are plausible.

Not here: the names of the files in these folders (`log_file_key`), and asking a bucket which
folders there are.
"""

import re
from dataclasses import dataclass
from typing import Final

DIGEST_KIND: Final = "CloudTrail-Digest"
CLOUDTRAIL: Final = "CloudTrail"
"""The kind of management and data events."""
KINDS: Final = (
    CLOUDTRAIL,
    "CloudTrail-NetworkActivity",
    "CloudTrail-Insight",
    "CloudTrail-Aggregated",
)
"""The folder names of event types, which lie side by side under an account."""

_ORGANIZATION: Final = re.compile(r"o-[a-z0-9]{1,62}")
_FOLDER_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,62}")
_ACCOUNT: Final = re.compile(r"[0-9]{12}")
_REGION: Final = re.compile(r"[a-z0-9-]{1,40}")


@dataclass(frozen=True, slots=True)
class SourcePrefix:
    """The place in a bucket where one kind of log files of an account and region of a trail lies.

    The trail's display name is not part of it, so renaming a trail forgets nothing.
    """

    bucket: str
    prefix: str
    organization: str
    """The organization's id as it stands in the key, or "" for a plain account."""
    account: str
    """The account's folder name; normally 12 digits, but real buckets hold other names."""
    region: str
    kind: str = CLOUDTRAIL
    """One of KINDS."""

    @property
    def partition_key(self) -> str:
        """The Dagster partition key, `account/region`: all kinds are in one partition."""
        return f"{self.account}/{self.region}"

    @property
    def label(self) -> str:
        """What people read: `account/region`, with the kind if it is another than CloudTrail."""
        of_kind = "" if self.kind == CLOUDTRAIL else f" {self.kind}"
        return f"{self.partition_key}{of_kind}"

    @property
    def folder(self) -> str:
        """The folder that holds the year folders, ending in a slash."""
        root = kind_root(self.prefix, self.organization, self.account, self.kind)
        return f"{root}{self.region}/"


def meant_prefix(written: str) -> str:
    """The prefix that is meant by one that people have copied, with slashes or with `AWSLogs`.

    CloudTrail keeps both: a trail with the prefix `foo/` delivers to `foo//AWSLogs/`. So the prefix
    as it is written may be meant, too.
    """
    stripped = written.strip("/")
    return "" if stripped == "AWSLogs" else stripped.removesuffix("/AWSLogs").strip("/")


def bucket_address(bucket: str) -> str:
    """The address of a configured bucket: `s3://name`, or its `file://` URL."""
    return bucket if "://" in bucket else f"s3://{bucket}"


def logs_root(prefix: str) -> str:
    """The folder that CloudTrail delivers to under a trail's prefix, ending in a slash."""
    return f"{prefix}/AWSLogs/" if prefix else "AWSLogs/"


def account_root(prefix: str, organization: str, account: str) -> str:
    """The folder that holds the folders of kinds of one account, ending in a slash."""
    owner = f"{organization}/{account}" if organization else account
    return f"{logs_root(prefix)}{owner}/"


def kind_root(prefix: str, organization: str, account: str, kind: str) -> str:
    """The folder that holds the region folders of one kind of one account, ending in a slash."""
    return f"{account_root(prefix, organization, account)}{kind}/"


def digest_root(prefix: str, organization: str, account: str) -> str:
    """The folder that holds the region folders of one account's digests, ending in a slash."""
    return kind_root(prefix, organization, account, DIGEST_KIND)


def is_organization(name: str) -> bool:
    """Whether a folder directly under `AWSLogs/` is an organization's (`o-…`)."""
    return _ORGANIZATION.fullmatch(name) is not None


def is_plausible_folder(name: str) -> bool:
    """Whether a folder name may be that of an account or a region.

    Any name of letters, digits and hyphens is plausible. Real buckets hold accounts that are not 12
    digits, and a stricter rule would lose their log files. Other names are counted and reported.
    """
    return _FOLDER_NAME.fullmatch(name) is not None


def is_of_flow_logs(name: str) -> bool:
    """Whether a folder beside the accounts' holds VPC flow logs, in their Hive-compatible form.

    See "Amazon S3 path for flow log files" in the Amazon VPC user guide.
    """
    return name.startswith("aws-account-id=")


def is_account(text: str) -> bool:
    """Whether `text` is an AWS account id, and so may become a folder of the output."""
    return _ACCOUNT.fullmatch(text) is not None


def is_region(text: str) -> bool:
    """Whether `text` may become a region's folder of the output."""
    return _REGION.fullmatch(text) is not None
