"""Key names of CloudTrail log files: parse and build, nothing else.

A key is `[prefix/]AWSLogs/[o-id/]account/TYPE/region/YYYY/MM/DD/` and then
`account_TYPE_region_YYYYMMDDTHHmmZ_<16 characters>.json.gz` (AWS CloudTrail user guide, "Finding
your CloudTrail log files"). Buckets hold variations of it (AWS's own example lacks the last
underscore; people keep files uncompressed and renamed), so parsing is tolerant, and what cannot be
understood is still a log file: it only has no day or no time. No input or output here; times are
UTC minutes since 1970.
"""

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import Final, NewType

Minute = NewType("Minute", int)
"""UTC minutes since 1970: the resolution of the time in a key."""

MINUTES_PER_HOUR: Final = 60
MINUTES_PER_DAY: Final = 1440

DIGEST_KIND: Final = "CloudTrail-Digest"
LOG_FILE_KIND: Final = "CloudTrail"
"""The folder of management and data events. Its siblings are CloudTrail-Digest, CloudTrail-Insight,
CloudTrail-NetworkActivity and CloudTrail-Aggregated."""

_EPOCH_ORDINAL: Final = date(1970, 1, 1).toordinal()
FOREVER: Final = Minute((date.max.toordinal() + 1 - _EPOCH_ORDINAL) * MINUTES_PER_DAY)
"""The end of 9999-12-31, behind any key's time: the end of a window without one."""
_ORGANIZATION: Final = re.compile(r"o-[a-z0-9]{1,62}")
_FOLDER_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,62}")
_ACCOUNT: Final = re.compile(r"[0-9]{12}")
_REGION: Final = re.compile(r"[a-z0-9-]{1,40}")
_DAY_FOLDER: Final = re.compile(r"([0-9]{4})/([0-9]{2})/([0-9]{2})/")
_TIME_IN_NAME: Final = re.compile(r"[_-]([0-9]{8})T([0-9]{2})([0-9]{2})(?:[0-9]{2})?(?![0-9])")
_STANDARD_REST: Final = re.compile(r"T([0-9]{4})Z_([A-Za-z0-9]{16})\.json\.gz")
_COMPACT_NAME: Final = re.compile(r"[0-9]{4}[A-Za-z0-9]{16}")


@dataclass(frozen=True, slots=True)
class SourcePrefix:
    """Where one account and region of a trail lie in a bucket: the identity of a source partition.

    The trail's display name is not part of it, so renaming a trail forgets nothing.
    """

    bucket: str
    prefix: str
    organization: str
    """The organization's id as it stands in the key, or "" for a plain account."""
    account: str
    """The account's folder name; normally 12 digits, but real buckets hold others."""
    region: str

    @property
    def partition_key(self) -> str:
        """The Dagster partition key, `account/region`."""
        return f"{self.account}/{self.region}"

    @property
    def folder(self) -> str:
        """The folder that holds the year folders, ending in a slash."""
        return f"{region_root(self.prefix, self.organization, self.account)}{self.region}/"


@dataclass(frozen=True, slots=True)
class KeyParts:
    """Where a key belongs inside its source partition."""

    day: int
    """Days since 1970 of the day folder; 0 for a key that is in none."""
    name: str
    """The rest of the key, as short as it can be told back (see `compact_name`)."""
    minute: Minute | None
    """The time in the key; None where none is readable, or where it is of another day than the
    folder, so that whoever lists the folders of some days has seen every key of these days."""


def logs_root(prefix: str) -> str:
    """The folder that CloudTrail delivers to under a trail's prefix, ending in a slash."""
    return f"{prefix}/AWSLogs/" if prefix else "AWSLogs/"


def region_root(prefix: str, organization: str, account: str) -> str:
    """The folder that holds the region folders of one account, ending in a slash."""
    return _kind_root(prefix, organization, account, LOG_FILE_KIND)


def digest_root(prefix: str, organization: str, account: str) -> str:
    """The same of digests."""
    return _kind_root(prefix, organization, account, DIGEST_KIND)


def _kind_root(prefix: str, organization: str, account: str, kind: str) -> str:
    owner = f"{organization}/{account}" if organization else account
    return f"{logs_root(prefix)}{owner}/{kind}/"


def is_organization(name: str) -> bool:
    """Whether a folder directly under `AWSLogs/` is an organization's (`o-…`)."""
    return _ORGANIZATION.fullmatch(name) is not None


def is_plausible_folder(name: str) -> bool:
    """Whether a folder name may stand for an account or a region.

    Anything made of letters, digits and hyphens: real buckets hold accounts that are not 12 digits,
    and a stricter rule would lose their log files. What fails is counted and reported.
    """
    return _FOLDER_NAME.fullmatch(name) is not None


def is_account(text: str) -> bool:
    """Whether `text` is an AWS account id, and so may become a folder of the output."""
    return _ACCOUNT.fullmatch(text) is not None


def is_region(text: str) -> bool:
    """Whether `text` may become a region's folder of the output."""
    return _REGION.fullmatch(text) is not None


def is_log_file(key: str) -> bool:
    """Whether a key below a region folder is a log file by its name."""
    return key.endswith((".json.gz", ".json"))


def day_number(year: int, month: int, day: int) -> int | None:
    """Days since 1970 of a calendar day, or None if there is no such day."""
    try:
        return date(year, month, day).toordinal() - _EPOCH_ORDINAL
    except ValueError:
        return None


def day_folder(day: int) -> str:
    """`YYYY/MM/DD/` of a number of days since 1970."""
    return date.fromordinal(day + _EPOCH_ORDINAL).strftime("%Y/%m/%d/")


def minute_of(moment: datetime) -> Minute:
    """The UTC minute that an aware datetime lies in."""
    return Minute(int(moment.timestamp() // 60))


def datetime_of(minute: int) -> datetime:
    """The aware UTC datetime at the start of a minute."""
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(minutes=minute)


def parse_key(source: SourcePrefix, key: str) -> KeyParts:
    """Day, short name and time of a key of this source partition.

    Raises ValueError if the key is not below the partition's folder.
    """
    folder = source.folder
    if not key.startswith(folder):
        raise ValueError(f"{key!r} is not below {folder!r}")
    relative = key[len(folder) :]
    day = 0
    match = _DAY_FOLDER.match(relative)
    if match is not None:
        day = max(0, day_number(int(match[1]), int(match[2]), int(match[3])) or 0)
    minute = _minute_in_name(relative)
    if minute is not None and minute // MINUTES_PER_DAY != day:
        minute = None
    return KeyParts(day, compact_name(source, day, relative), minute)


def compact_name(source: SourcePrefix, day: int, relative: str) -> str:
    """How the ledger keeps a key: `HHmm` and the random suffix where the key is by the book.

    Such a key is told back from its partition and day (20 bytes instead of about 130); every other
    one is kept whole, behind a slash. Within a day, short names sort as their keys do.
    """
    if day:
        head = _standard_head(source, day)
        if relative.startswith(head):
            rest = _STANDARD_REST.fullmatch(relative, len(head))
            if rest is not None:
                return rest[1] + rest[2]
    return "/" + relative


def key_of(source: SourcePrefix, day: int, name: str) -> str:
    """The key that `parse_key` gave this day and name."""
    if name.startswith("/"):
        return source.folder + name[1:]
    if _COMPACT_NAME.fullmatch(name) is None:
        raise ValueError(f"{name!r} is not a log file name of the ledger")
    return f"{source.folder}{_standard_head(source, day)}T{name[:4]}Z_{name[4:]}.json.gz"


@lru_cache(maxsize=4096)
def _standard_head(source: SourcePrefix, day: int) -> str:
    folder = day_folder(day)
    stamp = folder.replace("/", "")
    return f"{folder}{source.account}_{LOG_FILE_KIND}_{source.region}_{stamp}"


def _minute_in_name(relative: str) -> Minute | None:
    """The time in a log file's name: the last that reads as a real one, None where none does."""
    name = relative.rpartition("/")[2]
    for match in reversed(list(_TIME_IN_NAME.finditer(name))):
        stamp, hour, minute = match[1], int(match[2]), int(match[3])
        day = day_number(int(stamp[:4]), int(stamp[4:6]), int(stamp[6:]))
        if day is not None and day > 0 and hour < 24 and minute < 60:
            return Minute(day * MINUTES_PER_DAY + hour * MINUTES_PER_HOUR + minute)
    return None
