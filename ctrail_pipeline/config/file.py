"""The configuration file, read and checked: JSON in, `core.settings.Settings` out.

What comes out can be used as it is. What cannot be right is a ConfigurationError before anything
is touched, naming file, key, value, and what would be right. The keys, and their defaults (which
stand in `Settings`), are those of a gocloudtrail `config.json`, plus ours: such a file works as it
is, and one warning says which of its keys have no effect here. Values of keys that are not known
are never shown: somebody may have put a secret there.
"""

import difflib
import json
import logging
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import unquote, urlsplit

from ctrail_pipeline.core.exceptions import ConfigurationError
from ctrail_pipeline.core.settings import Settings, Trail

from .gocloudtrail import own_state_db

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class DagsterSettings:
    """What only the Dagster layer is told."""

    materialization_interval: float = 3_600
    """Seconds in which the job reports a partition at most once; runs carry their totals."""
    keep_runs_days: int = 30
    """Days after which Dagster's record of a finished run is deleted."""
    no_events_hours: int = 24
    """Hours without a new event after which a trail counts as silent."""
    owners: tuple[str, ...] = ()
    """Owners of the assets: e-mail addresses or `team:name`."""
    sensor: str = "running"
    """Whether the sensor `new_log_files` runs from the start, or is `stopped` until it is told."""
    sensor_interval: int = 300
    """Seconds between two looks of the sensor at least."""
    failure_webhook: str | None = field(default=None, repr=False)
    """URL that is told of failed runs and of a sensor that is not at work; it may hold a secret."""


@dataclass(frozen=True)
class Config:
    """A configuration, and where it was read."""

    settings: Settings
    source: Path | None
    """The configuration file; None: there is none, these are the sample trails."""
    dagster: DagsterSettings = DagsterSettings()


def load_config(environ: Mapping[str, str] | None = None, folder: Path | None = None) -> Config:
    """Read the file that CTRAIL_CONFIG names, else `config.json`, else take the sample trails.

    Relative paths in the file are relative to the file's own folder.

    Args:
        environ: Where CTRAIL_CONFIG is looked up; the process environment if not given.
        folder: Where `config.json` and the sample are; the current folder if not given.

    Raises:
        ConfigurationError: There is something wrong with the file, or it is not there.
    """
    folder = (folder or Path.cwd()).absolute()
    named = (os.environ if environ is None else environ).get("CTRAIL_CONFIG")
    source = folder / (named or "config.json")
    if not named and not os.path.lexists(source):
        logger.info("No CTRAIL_CONFIG and no %s: using the sample trails", source)
        return Config(_sample_settings(folder), None)
    top = _Place(str(source))
    given = _checked(top, _parse(top, _text(top, source)), KEYS, required=("trails",))
    dagster = DagsterSettings(**{key: given[key] for key in _DAGSTER_KEYS if key in given})
    return Config(_settings(top, given, source.parent), source, dagster)


def parse_time(key: str, text: str) -> datetime:
    """A date or time of a run's config, as the configuration file has it: UTC without a zone.

    Raises:
        ConfigurationError: It cannot be read; the message names `key`.
    """
    moment: datetime = _fit(_Place("run config").key(key), text, _moment)
    return moment


def parse_duration(key: str, text: str) -> timedelta:
    """A length of time such as `6h`, of a run's config or the command line.

    Raises:
        ConfigurationError: It cannot be read; the message names `key`.
    """
    return timedelta(seconds=_fit(_Place("run config").key(key), text, _duration))


def window_start(start: str | None, since: str | None) -> datetime | None:
    """Where a run's window begins: at `start`, or `since` so long ago."""
    if start is not None and since is not None:
        raise ConfigurationError("start and since: give one of the two")
    if since is not None:
        return datetime.now(UTC) - parse_duration("since", since)
    return None if start is None else parse_time("start", start)


def _sample_settings(folder: Path) -> Settings:
    def bucket(name: str) -> str:
        return (folder / "sample" / name).as_uri()

    # Invented digests hold no signature of AWS's.
    trails = (
        Trail("organization", bucket("example-org-trail"), log_file_validation=False),
        Trail(
            "payments",
            bucket("example-payments-trail"),
            "audit/payments",
            log_file_validation=False,
        ),
    )
    return Settings(trails, **_paths(_Place("sample trails"), {}, folder))


# --- Reading ------------------------------------------------------------------------------------

# A string, or a comment: a URL in a string has `//` too.
_STRING_OR_COMMENT = re.compile(r'("(?:[^"\\\n]|\\.)*")|//[^\n]*')


@dataclass(frozen=True)
class _Place:
    """Where in which file something stands, for messages: `trails[1].bucket`."""

    file: str
    path: str = ""

    def key(self, name: str) -> "_Place":
        name = name if name.isidentifier() else _shown(name)
        return _Place(self.file, f"{self.path}.{name}" if self.path else name)

    def item(self, index: int) -> "_Place":
        return _Place(self.file, f"{self.path}[{index}]")

    def wrong(self, problem: str) -> NoReturn:
        raise ConfigurationError(": ".join(filter(None, (self.file, self.path, problem))))


class _Object(dict[str, Any]):
    """A JSON object that remembers which keys were given twice; `dict` keeps the last silently."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        keys = [key for key, _ in pairs]
        self.repeated = [key for key in self if keys.count(key) > 1]


def _text(top: _Place, source: Path) -> str:
    try:
        return source.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        top.wrong("is not there; write it, or correct CTRAIL_CONFIG")
    except OSError as error:
        top.wrong(f"cannot be read: {error.strerror}")
    except UnicodeDecodeError as error:
        top.wrong(f"is not UTF-8 at byte {error.start}")


def _parse(top: _Place, text: str) -> Any:
    def no_constant(name: str) -> NoReturn:
        top.wrong(f"{name} is not a JSON number")

    bare = _STRING_OR_COMMENT.sub(lambda match: match[1] or "", text)
    try:
        return json.loads(bare, object_pairs_hook=_Object, parse_constant=no_constant)
    except json.JSONDecodeError as error:
        top.wrong(f"is not valid JSON: line {error.lineno} column {error.colno}: {error.msg}")
    except (ValueError, RecursionError) as error:  # a number of 5,000 digits, 1,000 levels
        top.wrong(f"is not a configuration: {error}")


# --- Checks: a JSON value becomes ours, or _Unfit says what would be right ------------------------


class _Unfit(Exception):
    """The value is not what it must be; the message says what that is."""


class _UnfitSecret(_Unfit):
    """The same of a value that must not be shown."""


_Check = Callable[[Any], Any]

_YEAR_SECONDS = 365 * 24 * 3600
_UNUSABLE = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
_NOT_UTF8 = "\ufffd"
# What S3 allows today is 3-63 of a-z 0-9 . and -; older buckets have capitals, _ and more letters.
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{2,254}")
_OWNER = re.compile(r"team:[A-Za-z0-9_ -]+|[^@\s]+@[^@\s]+\.[^@\s]+")
_ACCESS_POINT = re.compile(
    r"arn:aws[a-z-]*:s3(-outposts|-object-lambda)?:[a-z0-9-]*:\d{12}"
    r":(outpost[:/][a-zA-Z0-9-]+[:/])?accesspoint[:/][a-zA-Z0-9.-]+"
)


def _integer(low: int, high: int) -> _Check:
    def check(value: object) -> int:
        if isinstance(value, int) and not isinstance(value, bool) and low <= value <= high:
            return value
        raise _Unfit(f"a whole number from {low} to {high}")

    return check


def _one_of(*values: str) -> _Check:
    def check(value: object) -> str:
        if isinstance(value, str) and value in values:
            return value
        raise _Unfit(" or ".join(f'"{one}"' for one in values))

    return check


def _seconds(value: object) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < _YEAR_SECONDS:
        return value
    raise _Unfit("a number of seconds above 0")


def _seconds_or_none(value: object) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 10**9:
        return value
    raise _Unfit("a number of seconds, 0 or above")


def _owners(value: object) -> tuple[str, ...]:
    if isinstance(value, list) and all(
        isinstance(item, str) and _OWNER.fullmatch(item) for item in value
    ):
        return tuple(value)
    raise _Unfit('a list of e-mail addresses or team names, such as ["team:security"]')


def _probability(value: object) -> float:
    if isinstance(value, float) and 0 < value < 1:
        return value
    raise _Unfit("a number between 0 and 1, such as 0.001")


def _name(value: object) -> str:
    if isinstance(value, str) and value.strip() and not _UNUSABLE.search(value):
        return value
    raise _Unfit("a name")


def _path(value: object) -> str:
    if isinstance(value, str) and value.strip() and not _UNUSABLE.search(value):
        if not value.startswith("~"):
            return value
        raise _Unfit("a path written out, since ~ is not expanded")
    raise _Unfit("a path")


def _moment(value: object) -> datetime | None:
    """A date or time as UTC; one without a zone is UTC already, as the times in keys are."""
    if value is None:
        return None
    try:
        if isinstance(value, str):
            moment = datetime.fromisoformat(value)
            moment = moment.replace(tzinfo=moment.tzinfo or UTC).astimezone(UTC)
            if 2000 <= moment.year < 2100:  # arithmetic around it cannot overflow
                return moment
    except (ValueError, OverflowError):
        pass
    raise _Unfit('an ISO date or time, such as "2024-05-31" or "2024-05-31T18:00:00+02:00"')


_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}


def _duration(value: object) -> float | None:
    """Seconds of `90m`, `6h`, `2d`, `1w`."""
    if value is None:
        return None
    if isinstance(value, str):
        match = re.fullmatch(r"([0-9]{1,6})([smhdw])", value)
        if match and 0 < int(match[1]) * _UNITS[match[2]] <= 100 * _YEAR_SECONDS:
            return float(int(match[1]) * _UNITS[match[2]])
    raise _Unfit("a length of time such as 90m, 6h, 2d or 1w")


def _formats(value: object) -> tuple[str, ...]:
    """JSONL is the truth, byte for byte: Parquet comes beside it, never in its place."""
    if (
        isinstance(value, list)
        and "jsonl" in value
        and set(map(str, value)) <= {"jsonl", "parquet"}
        and len(value) == len(set(value))
    ):
        return tuple(value)
    raise _Unfit('["jsonl"] or ["jsonl", "parquet"]: JSONL is always written, as delivered')


def _patterns(wanted: str) -> _Check:
    def check(value: object) -> tuple[str, ...]:
        if isinstance(value, list) and all(
            isinstance(item, str) and re.fullmatch(r"[A-Za-z0-9*?-]+", item) for item in value
        ):
            return tuple(value)
        raise _Unfit(f"a list of {wanted}, with * and ? as wildcards")

    return check


def _bucket(value: object) -> str:
    """A bucket name as it is, a `file://` URL in one form: two spellings are one bucket."""
    text = value if isinstance(value, str) and not _UNUSABLE.search(value) else ""
    if text.lower().startswith("file://"):
        path = unquote(text[len("file://") :].removeprefix("localhost"))
        if path.startswith("/") and not _UNUSABLE.search(path) and _NOT_UTF8 not in path:
            return Path("/" + os.path.normpath(path).lstrip("/")).as_uri()
        raise _Unfit('an absolute URL such as "file:///srv/logs/my-bucket"')
    if _BUCKET.fullmatch(text) or _ACCESS_POINT.fullmatch(text):
        return text
    raise _Unfit(
        "a bucket name (3 to 63 of a-z, 0-9, . and -), an access point ARN, or a file:///… URL"
    )


def _prefix(value: object) -> str:
    """What stands before `AWSLogs/`: people copy it with slashes, or with AWSLogs itself."""
    if not isinstance(value, str) or _UNUSABLE.search(value):
        raise _Unfit('the part of the keys before "AWSLogs/", or ""')
    stripped = value.strip("/")
    return "" if stripped == "AWSLogs" else stripped.removesuffix("/AWSLogs").strip("/")


def _region(value: object) -> str | None:
    if value is None or (isinstance(value, str) and re.fullmatch(r"[A-Za-z0-9_-]{1,40}", value)):
        return value
    raise _Unfit('a region such as "eu-central-1"')


def _endpoint(value: object) -> str | None:
    if value is None:
        return None
    try:
        parts = urlsplit(value) if isinstance(value, str) and not _UNUSABLE.search(value) else None
        if parts and parts.scheme in ("http", "https") and parts.hostname and parts.port != 0:
            return parts.geturl().rstrip("/")
    except ValueError:  # a port that is none, half an IPv6 address
        pass
    raise _Unfit('a URL such as "https://s3.example.com:9000"')


def _one_line(value: object) -> str | None:
    if value is None or (isinstance(value, str) and value.strip() and not _UNUSABLE.search(value)):
        return value
    raise _Unfit("a text of one line")


def _matching(pattern: str, wanted: str) -> _Check:
    def check(value: object) -> str | None:
        if value is None or (isinstance(value, str) and re.fullmatch(pattern, value)):
            return value
        raise _Unfit(wanted)

    return check


def _flag(value: object) -> bool:
    if isinstance(value, bool):
        return value
    raise _Unfit("true or false")


def _flag_or_none(value: object) -> bool | None:
    return None if value is None else _flag(value)


def _webhook(value: object) -> str | None:
    """A URL of which path and query are somebody's secret: left as it is, and never shown."""
    try:
        if value is None or _endpoint(value):
            return value if isinstance(value, str) else None
    except _Unfit:
        pass
    raise _UnfitSecret('a URL such as "https://hooks.example.com/services/..."')


def _list(value: object) -> list[Any]:
    if isinstance(value, list) and value:
        return value
    raise _Unfit('a list of at least one trail, such as [{"name": "main", "bucket": "my-bucket"}]')


# --- Keys -----------------------------------------------------------------------------------------

_ACCOUNTS = _patterns('accounts such as ["111122223333", "4*"]')
_REGIONS = _patterns('regions such as ["eu-*", "us-east-1"]')
_PLACE_KEYS: dict[str, _Check] = {
    "accounts": _ACCOUNTS,
    "exclude_accounts": _ACCOUNTS,
    "regions": _REGIONS,
    "exclude_regions": _REGIONS,
}
TRAIL_KEYS: dict[str, _Check] = {
    "name": _name,
    "bucket": _bucket,
    "prefix": _prefix,
    "region": _region,
    "endpoint_url": _endpoint,
    "profile": _one_line,
    "role_arn": _matching(
        r"arn:aws[a-z-]*:iam::\d{12}:role/[\w+=,.@/-]{1,576}",
        'a role such as "arn:aws:iam::111122223333:role/ctrail-reader"',
    ),
    "external_id": _matching(r"[\w+=,.@:/-]{2,1224}", "an external id of 2 to 1224 characters"),
    "session_name": _matching(
        r"[\w+=,.@-]{2,64}", "2 to 64 letters, digits and characters of +=,.@-_"
    ),
    "requester_pays": _flag,
    "kms_key_id": _one_line,
    "home_region": _region,
    "log_file_validation": _flag_or_none,
    "is_organization": _flag_or_none,
    "public_keys": _path,
    "object_metadata": _path,
    **_PLACE_KEYS,
}
_KEYS: dict[str, _Check] = {
    "trails": _list,
    "events_dir": _path,
    "quarantine_dir": _path,
    "output_formats": _formats,
    "parquet_dir": _path,
    "state_db": _path,
    "events_per_file": _integer(1, 10**9),
    "list_batch_size": _integer(1, 1000),
    "download_workers": _integer(0, 10_000),
    "process_workers": _integer(0, 10_000),
    "start": _moment,
    "end": _moment,
    "since": _duration,
    **_PLACE_KEYS,
    "lookback_hours": _integer(0, 24 * 36_500),
    "horizon_days": _integer(1, 36_500),
    "max_log_file_bytes": _integer(1, 2**40),
    "max_hours_per_log_file": _integer(1, 10**6),
    "max_scattered_hours": _integer(0, 10**9),
    "hash_log_files": _flag,
    "batch_log_files": _integer(1, 10**6),
    "batch_bytes": _integer(1, 2**40),
    "bloom_false_positive": _probability,
    "state_save_interval": _seconds,
    "jsonl_flush_interval": _seconds,
    "progress_interval": _seconds,
    "dial_timeout": _seconds,
    "client_timeout": _seconds,
}
_DAGSTER_KEYS: dict[str, _Check] = {
    "materialization_interval": _seconds_or_none,
    "keep_runs_days": _integer(1, 36_500),
    "no_events_hours": _integer(1, 24 * 365),
    "owners": _owners,
    "sensor": _one_of("running", "stopped"),
    "sensor_interval": _integer(10, 24 * 3600),
    "failure_webhook": _webhook,
}
_FIELDS = {"dial_timeout": "connect_timeout", "since": "since_seconds"}
"""Keys whose field in Settings has another name."""

_COUNT = _integer(0, 2**63 - 1)
_QUEUES = "batch_log_files and batch_bytes bound what is in flight"
_FILTERS = "filters live in the ledger, each sized by what it holds"
_POOL = "connections follow download_workers"
_CLIENT = "the S3 client keeps connections alive by itself"

NO_EFFECT: dict[str, tuple[_Check, str]] = {
    "download_queue_size": (_COUNT, _QUEUES),
    "process_queue_size": (_COUNT, _QUEUES),
    "bloom_file": (_path, _FILTERS),
    "bloom_expected_items": (_COUNT, _FILTERS),
    "max_idle_conns": (_COUNT, _POOL),
    "max_idle_conns_per_host": (_COUNT, _POOL),
    "max_conns_per_host": (_COUNT, _POOL),
    "idle_conn_timeout": (_COUNT, _CLIENT),
    "keep_alive": (_COUNT, _CLIENT),
}
"""gocloudtrail's keys that do nothing here, each with the reason."""

KEYS = _KEYS | _DAGSTER_KEYS | {key: check for key, (check, _) in NO_EFFECT.items()}


# --- Checking -------------------------------------------------------------------------------------


def _settings(top: _Place, given: Mapping[str, Any], folder: Path) -> Settings:
    _say_what_has_no_effect(top, given)
    start, end = given.get("start"), given.get("end")
    if start and end and start >= end:
        top.key("start").wrong(f"{start.isoformat()} must be before end, {end.isoformat()}")
    if start and given.get("since"):
        top.key("since").wrong("start is given too; keep one of the two")
    fields = {_FIELDS.get(key, key): item for key, item in given.items() if key in _KEYS}
    fields["trails"] = _trails(top.key("trails"), given["trails"], folder)
    return Settings(**fields | _paths(top, given, folder))


def _trails(place: _Place, items: list[Any], folder: Path) -> tuple[Trail, ...]:
    def checked(index: int, item: Any) -> Trail:
        given = _checked(place.item(index), item, TRAIL_KEYS, required=("name", "bucket"))
        for key in ("public_keys", "object_metadata"):
            if key in given:
                given[key] = Path(os.path.normpath(folder / given[key]))
        return Trail(**given)

    trails = tuple(checked(index, item) for index, item in enumerate(items))
    names: dict[str, int] = {}
    sources: dict[tuple[str, str], int] = {}
    for index, trail in enumerate(trails):
        if (first := names.setdefault(trail.name, index)) != index:
            place.item(index).key("name").wrong(
                f"{_shown(trail.name)} is the name of trails[{first}] already; give it another"
            )
        if (first := sources.setdefault((trail.bucket, trail.prefix), index)) != index:
            place.item(index).key("bucket").wrong(
                f"{_shown(trail.bucket)} with prefix {_shown(trail.prefix)} is trails[{first}] "
                "already; keep one of the two"
            )
    return trails


def _paths(top: _Place, given: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The places we write to, absolute; `..` is resolved, links are kept as they are."""

    def path(key: str, default: str | Path) -> Path:
        return Path(os.path.normpath(folder / given.get(key, default)))

    events_dir = path("events_dir", "events")
    quarantine_dir = path("quarantine_dir", events_dir.parent / "quarantine")
    parquet_dir = path("parquet_dir", events_dir.parent / "parquet")
    _keep_apart(top, "events_dir", events_dir, "quarantine_dir", quarantine_dir)
    if "parquet" in given.get("output_formats", ()) or "parquet_dir" in given:
        _keep_apart(top, "events_dir", events_dir, "parquet_dir", parquet_dir)
        _keep_apart(top, "quarantine_dir", quarantine_dir, "parquet_dir", parquet_dir)
    return {
        "events_dir": events_dir,
        "quarantine_dir": quarantine_dir,
        "parquet_dir": parquet_dir,
        "state_db": own_state_db(path("state_db", "state.db"), events_dir),
    }


def _keep_apart(top: _Place, key: str, path: Path, other_key: str, other: Path) -> None:
    """A reader's events/**/*.jsonl must find events, and nothing but events; so for the others."""
    first, second = (Path(os.path.realpath(each)) for each in (path, other))
    if first.is_relative_to(second) or second.is_relative_to(first):
        top.key(other_key).wrong(
            f"{_shown(str(other))} and {key}, {_shown(str(path))}, must be two folders, neither"
            " inside the other"
        )


def _checked(
    place: _Place, value: Any, keys: Mapping[str, _Check], required: tuple[str, ...]
) -> dict[str, Any]:
    """The values of a JSON object, each as its key's check returns it."""
    if not isinstance(value, _Object):
        place.wrong(f"{_shown(value)} must be an object, {{…}}")
    for key in value.repeated:
        place.key(key).wrong("is given twice; keep one of them")
    for key in value:
        if key not in keys:
            near = difflib.get_close_matches(key.lower(), keys, n=1)
            advice = f"did you mean {near[0]}?" if near else f"known are {', '.join(sorted(keys))}"
            place.key(key).wrong(f"there is no such key; {advice}")
    missing = {key: None for key in required if key not in value}
    return {
        key: _fit(place.key(key), item, keys[key]) for key, item in {**value, **missing}.items()
    }


def _fit(place: _Place, value: Any, check: _Check) -> Any:
    try:
        return check(value)
    except _UnfitSecret as wanted:
        place.wrong(f"it must be {wanted} (what is there is not shown here: it may be a secret)")
    except _Unfit as wanted:
        place.wrong(f"{'missing' if value is None else _shown(value)}: it must be {wanted}")


def _shown(value: Any) -> str:
    """A value for a message: short, printable, without what stands before the @ of a URL."""
    text = re.sub(r"//[^/\s]*@", "//…@", json.dumps(value, ensure_ascii=False))
    text = text if len(text) <= 80 else f"{text[:80]}…"
    return text.encode(errors="backslashreplace").decode()


def _say_what_has_no_effect(top: _Place, given: Mapping[str, Any]) -> None:
    keys_by_reason: dict[str, list[str]] = {}
    for key in given:
        if key in NO_EFFECT:
            keys_by_reason.setdefault(NO_EFFECT[key][1], []).append(key)
    if keys_by_reason:
        parts = (f"{', '.join(keys)} ({reason})" for reason, keys in keys_by_reason.items())
        logger.warning("%s: without effect here: %s", top.file, "; ".join(parts))
