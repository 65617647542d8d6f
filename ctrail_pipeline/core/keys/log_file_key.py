"""Keys of CloudTrail log files: parse and build, nothing else.

A key is `[prefix/]AWSLogs/[o-id/]account/TYPE/region/YYYY/MM/DD/` and then
`account_TYPE_region_YYYYMMDDTHHmmZ_<16 characters>.json.gz` (AWS CloudTrail user guide, "Finding
your CloudTrail log files"). Buckets hold variations of it (AWS's own example lacks the last
underscore; people keep files uncompressed and renamed), so parsing is tolerant, and what cannot be
understood is still a log file: it only has no day or no time. No input or output here; times are
UTC minutes since 1970.
"""

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from .key_time import (
    MINUTES_PER_DAY,
    MINUTES_PER_HOUR,
    Minute,
    day_folder,
    day_number,
)
from .source_prefix import LOG_FILE_KIND, SourcePrefix

_DAY_FOLDER: Final = re.compile(r"([0-9]{4})/([0-9]{2})/([0-9]{2})/")
_TIME_IN_NAME: Final = re.compile(r"[_-]([0-9]{8})T([0-9]{2})([0-9]{2})(?:[0-9]{2})?(?![0-9])")
_STANDARD_REST: Final = re.compile(r"T([0-9]{4})Z_([A-Za-z0-9]{16})\.json\.gz")
_COMPACT_NAME: Final = re.compile(r"[0-9]{4}[A-Za-z0-9]{16}")


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


def is_log_file(key: str) -> bool:
    """Whether a key below a region folder is a log file by its name."""
    return key.endswith((".json.gz", ".json"))


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
