"""What a trail's `bucket` may be in S3: a bucket's name, or the ARN of an access point.

An access point's alias is a name like any other. Names and ARNs of other kinds look alike, but what
they name cannot be listed in key order or does not give log files as they were delivered. Not here:
`file://` URLs of local folders.
"""

import re
from typing import Final, NamedTuple

# What S3 allows today is 3-63 of a-z 0-9 . and -; older buckets have capitals, _ and more letters.
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{2,254}")
_ACCESS_POINT: Final = re.compile(
    r"arn:(?P<partition>aws[a-z-]*):s3:(?P<region>[a-z0-9-]+):(?P<account>\d{12})"
    r":accesspoint[:/](?P<name>[a-z0-9][a-z0-9-]{1,48}[a-z0-9])"
)
_KINDS: Final = (
    (re.compile(r"arn:.*\.mrap|.*\.mrap"), "a multi-Region access point"),
    (re.compile(r"arn:[a-z-]*:s3-outposts:.*|.*--op-s3"), "a bucket on Outposts"),
    (re.compile(r"arn:[a-z-]*:s3-object-lambda:.*|.*--ol-s3"), "an Object Lambda access point"),
    (re.compile(r"arn:[a-z-]*:s3express:.*|.*--xa?-s3"), "a directory bucket"),
    (re.compile(r"arn:[a-z-]*:s3tables:.*|.*--table-s3"), "a table bucket"),
)
"""Kinds of buckets and access points that cannot be read. They have reserved endings
(https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html)."""


class AccessPoint(NamedTuple):
    """The parts of an access point's ARN that say where it is."""

    partition: str
    region: str
    account: str
    name: str


def access_point(bucket: str) -> AccessPoint | None:
    """Return the parts of an access point's ARN; None for a name."""
    match = _ACCESS_POINT.fullmatch(bucket)
    return None if match is None else AccessPoint(**match.groupdict())


def unreadable_kind(bucket: str) -> str | None:
    """Return what kind of bucket this names if it is a kind that cannot be read."""
    return next((kind for pattern, kind in _KINDS if pattern.fullmatch(bucket)), None)


def is_readable(bucket: str) -> bool:
    """Whether this is the name of a bucket, the ARN of an access point, or its alias."""
    is_spelled_well = _NAME.fullmatch(bucket) or _ACCESS_POINT.fullmatch(bucket)
    return bool(is_spelled_well) and unreadable_kind(bucket) is None
