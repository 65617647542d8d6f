"""Checks of values: each takes a JSON value and returns ours, or `Unfit` says what would be right.

Not here: which key has which check (`keys`), and checks of times (`times`).
"""

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from ctrail_pipeline.core.bucket.bucket_name import access_point, is_readable, unreadable_kind
from ctrail_pipeline.core.keys.source_prefix import KINDS
from ctrail_pipeline.core.ledger_address import POSTGRES_SCHEMES
from ctrail_pipeline.core.output_address import BUCKET_SCHEME

from .location import ConfigLocation, quoted


class Unfit(Exception):
    """The value is not what it must be; the message says what that is."""


class UnfitSecret(Unfit):
    """The value is not what it must be, and a message must not show it."""


Check = Callable[[Any], Any]
"""Takes a JSON value and returns the value of a setting. Raises Unfit."""

YEAR_SECONDS = 365 * 24 * 3600
_UNUSABLE = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
_NOT_UTF8 = "\ufffd"
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_PREFIX = re.compile(r"(/[A-Za-z0-9_=-][A-Za-z0-9._=-]*)+/?")
_QUEUE = re.compile(r"/\d{12}/[A-Za-z0-9_-]{1,80}(\.fifo)?")
_OWNER = re.compile(r"team:[A-Za-z0-9_ -]+|[^@\s]+@[^@\s]+\.[^@\s]+")


def fit(location: ConfigLocation, value: Any, check: Check) -> Any:
    """Return the value as its check returns it.

    Raises ConfigurationError, which names the key and says what would be right.
    """
    try:
        return check(value)
    except UnfitSecret as expectation:
        location.refuse(
            f"it must be {expectation} (what is there is not shown here: it may be a secret)"
        )
    except Unfit as expectation:
        location.refuse(
            f"{'missing' if value is None else quoted(value)}: it must be {expectation}"
        )


def whole_number(low: int, high: int) -> Check:
    """Return a check for whole numbers of a range, both ends included."""

    def check(value: object) -> int:
        if isinstance(value, int) and not isinstance(value, bool) and low <= value <= high:
            return value
        raise Unfit(f"a whole number from {low} to {high}")

    return check


def one_of(*values: str) -> Check:
    """Return a check for a text that must be one of a few."""

    def check(value: object) -> str:
        if isinstance(value, str) and value in values:
            return value
        raise Unfit(" or ".join(f'"{text}"' for text in values))

    return check


def check_seconds(value: object) -> float:
    """Return a number of seconds that is above 0 and below a year."""
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < YEAR_SECONDS:
        return value
    raise Unfit("a number of seconds above 0")


def check_seconds_or_zero(value: object) -> float:
    """Return a number of seconds that is 0 or above."""
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 10**9:
        return value
    raise Unfit("a number of seconds, 0 or above")


def check_dollars(value: object) -> float:
    """Return a number of dollars that is 0 or above."""
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 10**9:
        return value
    raise Unfit("a number of dollars, 0 or above")


def check_owners(value: object) -> tuple[str, ...]:
    """Return owners of assets in the form that Dagster takes."""
    if isinstance(value, list) and all(
        isinstance(item, str) and _OWNER.fullmatch(item) for item in value
    ):
        return tuple(value)
    raise Unfit('a list of e-mail addresses or team names, such as ["team:security"]')


def check_probability(value: object) -> float:
    """Return a number between 0 and 1, both ends excluded."""
    if isinstance(value, float) and 0 < value < 1:
        return value
    raise Unfit("a number between 0 and 1, such as 0.001")


def check_name(value: object) -> str:
    """Return a name: text that is not blank, without control characters."""
    if isinstance(value, str) and value.strip() and not _UNUSABLE.search(value):
        return value
    raise Unfit("a name")


def check_path(value: object) -> str:
    """Return a path. A leading ~ is refused, since nothing here expands it."""
    if isinstance(value, str) and value.strip() and not _UNUSABLE.search(value):
        if not value.startswith("~"):
            return value
        raise Unfit("a path written out, since ~ is not expanded")
    raise Unfit("a path")


def check_output_address(value: object) -> str:
    """Return a path, or the URL of a prefix in a bucket.

    A prefix has letters, digits and a few other characters: whatever reads the output takes those
    for what they are. A part that begins with a dot is ours.
    """
    if not (isinstance(value, str) and _URL.match(value)):
        return check_path(value)
    bucket, slash, prefix = value.removeprefix(BUCKET_SCHEME).partition("/")
    if (
        value.startswith(BUCKET_SCHEME)
        and is_readable(bucket)
        and _PREFIX.fullmatch(slash + prefix)
    ):
        return value
    kind = unreadable_kind(bucket)
    raise Unfit(
        'a path, or a bucket and a prefix such as "s3://my-output/ctrail/events", with letters,'
        " digits and - _ = . in the prefix" + (f"; {kind} cannot be written" if kind else "")
    )


def check_output(value: object) -> object:
    """Return the object of the key `output`, whose keys are checked later."""
    if isinstance(value, dict):
        return value
    raise Unfit('an object such as {"region": "eu-central-1"}')


def check_ledger_address(value: object) -> str:
    """Return a path, or the URL of a PostgreSQL database without a password."""
    if not (isinstance(value, str) and value.startswith(POSTGRES_SCHEMES)):
        return check_path(value)
    try:
        parts = urlsplit(value)
        has_password = parts.password is not None or "password" in parse_qs(parts.query)
    except ValueError as error:
        raise Unfit("a path, or a URL such as postgresql://user@host/database") from error
    if has_password or _UNUSABLE.search(value):
        raise Unfit(
            "a URL without a password, which Dagster's UI would show: put the password into"
            " PGPASSWORD, or into a file that PGPASSFILE or PGSERVICEFILE names"
        )
    return value


def check_formats(value: object) -> tuple[str, ...]:
    """Return the output formats. Parquet comes beside JSONL, which is always written."""
    if (
        isinstance(value, list)
        and "jsonl" in value
        and set(map(str, value)) <= {"jsonl", "parquet"}
        and len(value) == len(set(value))
    ):
        return tuple(value)
    raise Unfit('["jsonl"] or ["jsonl", "parquet"]: JSONL is always written, as delivered')


def patterns(expectation: str) -> Check:
    """Return a check for lists of accounts or regions, with wildcards."""

    def check(value: object) -> tuple[str, ...]:
        if isinstance(value, list) and all(
            isinstance(item, str) and re.fullmatch(r"[A-Za-z0-9*?-]+", item) for item in value
        ):
            return tuple(value)
        raise Unfit(f"a list of {expectation}, with * and ? as wildcards")

    return check


def check_kinds(value: object) -> tuple[str, ...]:
    """Return kinds of log files, which are known by the names of their folders."""
    if isinstance(value, list) and value and all(kind in KINDS for kind in value):
        return tuple(value)
    known = ", ".join(f'"{kind}"' for kind in KINDS)
    raise Unfit(f"a list of one or more of the kinds {known}")


def check_bucket(value: object) -> str:
    """Return a bucket name as it is, and a `file://` URL in one form.

    Two spellings of a URL are one bucket.
    """
    text = value if isinstance(value, str) and not _UNUSABLE.search(value) else ""
    if text.lower().startswith("file://"):
        path = unquote(text[len("file://") :].removeprefix("localhost"))
        if path.startswith("/") and not _UNUSABLE.search(path) and _NOT_UTF8 not in path:
            return Path("/" + os.path.normpath(path).lstrip("/")).as_uri()
        raise Unfit('an absolute URL such as "file:///srv/logs/my-bucket"')
    if is_readable(text):
        return text
    kind = unreadable_kind(text)
    raise Unfit(
        "a bucket name (3 to 63 of a-z, 0-9, . and -), an access point's ARN"
        ' ("arn:aws:s3:eu-west-1:111122223333:accesspoint/logs") or a file:///… URL'
        + (f"; {kind} cannot be read" if kind else "")
    )


def check_prefix(value: object) -> str:
    """Return what stands before `AWSLogs/` in keys, as it is written (see `meant_prefix`)."""
    if isinstance(value, str) and not _UNUSABLE.search(value):
        return value
    raise Unfit('the part of the keys before "AWSLogs/", or ""')


def check_delivered_to(value: object) -> str | None:
    """Return a bucket that digests name, with a slash and a prefix if they are given; or None."""
    if value is None:
        return None
    bucket, slash, prefix = value.partition("/") if isinstance(value, str) else ("", "", "")
    is_name = is_readable(bucket) and access_point(bucket) is None
    if is_name and not _UNUSABLE.search(prefix):
        return f"{bucket}{slash}{prefix}"
    raise Unfit(
        'the bucket that digests name, such as "my-bucket"; "my-bucket/my/prefix" if they name'
        ' another prefix than the trail\'s, "my-bucket/" if they name none'
    )


def check_region(value: object) -> str | None:
    """Return a region, or None."""
    if value is None or (isinstance(value, str) and re.fullmatch(r"[A-Za-z0-9_-]{1,40}", value)):
        return value
    raise Unfit('a region such as "eu-central-1"')


def check_endpoint(value: object) -> str | None:
    """Return the URL of an S3 endpoint without a slash at its end, or None."""
    if value is None:
        return None
    try:
        parts = urlsplit(value) if isinstance(value, str) and not _UNUSABLE.search(value) else None
        if parts and parts.scheme in ("http", "https") and parts.hostname and parts.port != 0:
            return parts.geturl().rstrip("/")
    except ValueError:  # a port that is none, half an IPv6 address
        pass
    raise Unfit('a URL such as "https://s3.example.com:9000"')


def check_queue(value: object) -> str | None:
    """Return the URL of a queue of SQS, or None."""
    try:
        url = check_endpoint(value)
        if url is None or (_QUEUE.fullmatch(urlsplit(url).path) and not set(url) & set("@?#")):
            return url
    except Unfit:
        pass
    raise Unfit(
        'the URL of a queue, such as "https://sqs.eu-central-1.amazonaws.com/111122223333/'
        'trail-events"'
    )


def check_one_line(value: object) -> str | None:
    """Return a text of one line that is not blank, or None."""
    if value is None or (isinstance(value, str) and value.strip() and not _UNUSABLE.search(value)):
        return value
    raise Unfit("a text of one line")


def matching(pattern: str, expectation: str) -> Check:
    """Return a check for text that matches a pattern as a whole, or is null."""

    def check(value: object) -> str | None:
        if value is None or (isinstance(value, str) and re.fullmatch(pattern, value)):
            return value
        raise Unfit(expectation)

    return check


def check_flag(value: object) -> bool:
    """Return true or false."""
    if isinstance(value, bool):
        return value
    raise Unfit("true or false")


def check_flag_or_null(value: object) -> bool | None:
    """Return true, false or None."""
    return None if value is None else check_flag(value)


def check_webhook(value: object) -> str | None:
    """Return a URL as it is, or None.

    Path and query of such a URL are a secret: no message shows them.
    """
    try:
        if value is None or check_endpoint(value):
            return value if isinstance(value, str) else None
    except Unfit:
        pass
    raise UnfitSecret('a URL such as "https://hooks.example.com/services/..."')


def check_trails(value: object) -> list[Any]:
    """Return the list of trails, which must not be empty."""
    if isinstance(value, list) and value:
        return value
    raise Unfit('a list of at least one trail, such as [{"name": "main", "bucket": "my-bucket"}]')
