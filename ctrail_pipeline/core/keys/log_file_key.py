"""Keys of CloudTrail log files: parse and build, nothing else. Pure.

A key is `[prefix/]AWSLogs/[o-id/]account/KIND/region/YYYY/MM/DD/` and then
`account_KIND_region_YYYYMMDDTHHmmZ_<16 characters>.json.gz` (AWS CloudTrail user guide, "Finding
your CloudTrail log files"). Real buckets hold variations of this form: AWS's own example lacks the
last underscore, and people keep files uncompressed or rename them. So parsing is tolerant: a key
that is not understood is still a log file, only without day or time.
"""

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from .minutes import (
    MINUTES_PER_DAY,
    MINUTES_PER_HOUR,
    Minute,
    day_folder,
    day_number,
)
from .source_prefix import SourcePrefix

_DAY_FOLDER: Final = re.compile(r"([0-9]{4})/([0-9]{2})/([0-9]{2})/")
_TIME_IN_NAME: Final = re.compile(r"[_-]([0-9]{8})T([0-9]{2})([0-9]{2})(?:[0-9]{2})?(?![0-9])")
_STANDARD_REST: Final = re.compile(r"T([0-9]{4})Z_([A-Za-z0-9]{16})\.json\.gz")
_COMPACT_NAME: Final = re.compile(r"[0-9]{4}[A-Za-z0-9]{16}")
_USUAL_ENDINGS: Final = (".json.gz", ".json")
_ENDINGS: Final = (".json", ".gz", ".zst")
_NAME_WITHOUT_ENDING: Final = re.compile(
    r"[0-9]{12}_CloudTrail(?:-[A-Za-z]+)?_[a-z0-9-]+_[0-9]{8}T[0-9]{4}Z_?[A-Za-z0-9]{16}"
)

LISTING_RULE: Final = 2
"""The version of the rule that says which keys are log files. Coverage notes the version: where the
rule changes, everything is listed once more."""


@dataclass(frozen=True, slots=True)
class KeyParts:
    """Where a key belongs inside its source prefix."""

    day: int
    """Days since 1970 of the day folder; 0 for a key outside any day folder."""
    name: str
    """The rest of the key, so short that the key can still be built again (`compact_name`)."""
    minute: Minute | None
    """The time in the key. None where no time is readable, and where the time lies on another day
    than the folder: a listing of some days' folders has then seen every key of these days."""


def is_log_file(key: str) -> bool:
    """Whether a key below a region folder is a log file by its name.

    The ending decides, in any case; or the name is CloudTrail's own without an ending. An object
    without a name, whose key ends in a slash, is none.
    """
    # The usual endings come first: a listing asks this for each of its keys.
    return key.endswith(_USUAL_ENDINGS) or (
        key.lower().endswith(_ENDINGS)
        or _NAME_WITHOUT_ENDING.fullmatch(key, key.rfind("/") + 1) is not None
    )


def parse_key(source_prefix: SourcePrefix, key: str) -> KeyParts:
    """Return day, short name and time of a key of this source prefix.

    Raises ValueError if the key is not below the source prefix's folder.
    """
    folder = source_prefix.folder
    if not key.startswith(folder):
        raise ValueError(f"{key!r} is not below {folder!r}")
    relative = key[len(folder) :]
    day = day_of(relative)
    minute = _minute_in_name(relative)
    if minute is not None and minute // MINUTES_PER_DAY != day:
        minute = None
    return KeyParts(day, compact_name(source_prefix, day, relative), minute)


def day_of(relative: str) -> int:
    """Return the days since 1970 of the day folder of a key below a region folder, or 0."""
    match = _DAY_FOLDER.match(relative)
    if match is None:
        return 0
    return max(0, day_number(int(match[1]), int(match[2]), int(match[3])) or 0)


def compact_name(source_prefix: SourcePrefix, day: int, relative: str) -> str:
    """Return the form in which the ledger keeps a key.

    A key in CloudTrail's own form is kept as `HHmm` and the random suffix: 20 bytes instead of
    about 130. Source prefix and day are enough to build the key again. Any other key is kept whole,
    behind a slash. Within a day, short names sort as their keys do.
    """
    if day:
        head = _standard_head(source_prefix, day)
        if relative.startswith(head):
            rest = _STANDARD_REST.fullmatch(relative, len(head))
            if rest is not None:
                return rest[1] + rest[2]
    return "/" + relative


def key_of(source_prefix: SourcePrefix, day: int, name: str) -> str:
    """Build the key of which `parse_key` returned this day and name."""
    if name.startswith("/"):
        return source_prefix.folder + name[1:]
    if _COMPACT_NAME.fullmatch(name) is None:
        raise ValueError(f"{name!r} is not a log file name of the ledger")
    return (
        f"{source_prefix.folder}{_standard_head(source_prefix, day)}T{name[:4]}Z_{name[4:]}.json.gz"
    )


def address_of(source_prefix: SourcePrefix, day: int, name: str) -> str:
    """Return the address of a log file: `s3://bucket/key`, or a `file://` URL."""
    bucket = source_prefix.bucket
    root = bucket if "://" in bucket else f"s3://{bucket}"
    return f"{root}/{key_of(source_prefix, day, name)}"


@lru_cache(maxsize=4096)
def _standard_head(source_prefix: SourcePrefix, day: int) -> str:
    folder = day_folder(day)
    stamp = folder.replace("/", "")
    account, kind, region = source_prefix.account, source_prefix.kind, source_prefix.region
    return f"{folder}{account}_{kind}_{region}_{stamp}"


def _minute_in_name(relative: str) -> Minute | None:
    """The last text in a log file's name that is a real time; None where there is no such text."""
    name = relative.rpartition("/")[2]
    for match in reversed(list(_TIME_IN_NAME.finditer(name))):
        stamp, hour, minute = match[1], int(match[2]), int(match[3])
        day = day_number(int(stamp[:4]), int(stamp[4:6]), int(stamp[6:]))
        if day is not None and day > 0 and hour < 24 and minute < 60:
            return Minute(day * MINUTES_PER_DAY + hour * MINUTES_PER_HOUR + minute)
    return None
