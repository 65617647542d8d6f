"""An oracle for the Parquet output: its rows hold the lines of the JSONL and name their records.

The oracle shares only the names of the columns with the code that it judges. It rebuilds a record
from each row with Python's JSON, and compares it with the record in the log file that the row
names.
"""

import json
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator
from contextlib import suppress
from copy import deepcopy
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import polars as pl

from ctrail_pipeline.core.output.local.local_output import LocalOutput
from ctrail_pipeline.core.output_files import Kind
from ctrail_pipeline.core.settings import Settings

from .log_file_texts import oracle_elements
from .oracle import _uncompressed, text_of

JSON_COLUMNS = (
    *("requestParameters", "responseElements", "additionalEventData", "serviceEventDetails"),
    "edgeDeviceDetails",
)
_FILE = re.compile(
    r"account=([0-9]{12})/region=([a-z0-9-]+)/date=([0-9]{4}-[0-9]{2}-[0-9]{2})/part-[0-9]{5}\.parquet"
)


def parquet_files(settings: Settings) -> list[Path]:
    """All published Parquet files."""
    return sorted(LocalOutput.of(settings).roots[Kind.PARQUET].rglob("*.parquet"))


def rows(settings: Settings) -> list[dict[str, Any]]:
    """All rows of all files."""
    return [
        row
        for path in parquet_files(settings)
        for row in pl.read_parquet(path, hive_partitioning=False).to_dicts()
    ]


def assert_rows(settings: Settings) -> None:
    """Assert that the Parquet files hold the JSONL files' events: each once, whole, in its file.

    A row that does not say where in its log file the record stood is the first record there that it
    may be, and that no other row is.
    """
    lines = Counter(_lines(settings.events_dir))
    found: Counter[tuple[str, bytes]] = Counter()
    root = LocalOutput.of(settings).roots[Kind.PARQUET]
    for path in parquet_files(settings):
        name = _FILE.fullmatch(path.relative_to(root).as_posix())
        assert name, path
        assert path.stat().st_mode & 0o777 == 0o600
        frame = pl.read_parquet(path, hive_partitioning=False)
        assert pl.read_parquet_metadata(path)["ctrail_schema_version"] == "1"
        assert len(frame), path
        assert frame["eventTime"].is_sorted(), path
        assert frame["eventTime"].null_count() == 0
        for row in frame.to_dicts():
            folder = "/".join(name.groups())
            line = next(
                line
                for record in _records_of(row)
                if is_row(row, line := record.replace(b"\r", b" ").replace(b"\n", b" "))
                and found[folder, line] < lines[folder, line]
            )
            found[folder, line] += 1
    assert found == lines
    for path in (root, *root.rglob("*")):
        if path.is_dir():
            assert path.stat().st_mode & 0o777 == 0o700, path
            assert any(path.iterdir()) or path.name == ".staging", path


def _records_of(row: dict[str, Any]) -> list[bytes]:
    """Return the records that a row may be, by what it says of its log file."""
    records = _records(row["_bucket"], row["_key"])
    return records if row["_index"] is None else [records[row["_index"]]]


def is_row(row: dict[str, Any], record: bytes) -> bool:
    """Whether a row holds every field of a record, and nothing else."""
    with suppress(AssertionError, KeyError, ValueError):  # the record is another, or was altered
        assert_row(deepcopy(row), record)  # `assert_row` decodes parts of a row where they are
        return True
    return False


def unlike_lines(settings: Settings, pruned: Collection[bytes] = ()) -> list[str]:
    """The differences between Parquet and JSONL. Both must hold each event once and whole.

    The check does not read the buckets: by now they may hold other log files under the same keys.
    `pruned` holds lines of pruned hours. Their rows may stay until their whole date is pruned.
    """
    root = LocalOutput.of(settings).roots[Kind.PARQUET]
    lines: dict[tuple[str, str], list[bytes]] = defaultdict(list)
    for date_folder, line in _lines(settings.events_dir):
        lines[date_folder, _event_id_of(line)].append(line)
    spared: dict[str, list[bytes]] = defaultdict(list)
    for line in pruned:
        spared[_event_id_of(line)].append(line)
    wrong = []
    for path in parquet_files(settings):
        name = _FILE.fullmatch(path.relative_to(root).as_posix())
        if name is None or path.stat().st_mode & 0o777 != 0o600:
            wrong.append(f"{path}: name or permissions")
            continue
        for number, row in enumerate(pl.read_parquet(path, hive_partitioning=False).to_dicts()):
            event_id = _event_id(row | loads((row["_other"] or "{}").encode()))
            if not (
                _taken(row, lines["/".join(name.groups()), event_id])
                or _taken(row, spared[event_id])
            ):
                wrong.append(f"{path}: row {number}, event {event_id}: no line like it, or doubled")
    for (date_folder, event_id), remaining in lines.items():
        wrong += [f"{date_folder}: no row for event {event_id}"] * len(remaining)
    return [f"{len(wrong)} rows: " + "; ".join(wrong[:5])] if wrong else []


def _event_id_of(line: bytes) -> str:
    with suppress(ValueError):
        return _event_id(loads(line))
    return "of a line that is no JSON"


def _event_id(fields: dict[str, Any]) -> str:
    return str(fields.get("eventID"))


def _taken(row: dict[str, Any], lines: list[bytes]) -> bool:
    """Whether the row belongs to one of these lines. If so, remove that line."""
    for line in lines:
        if is_row(row, line):
            lines.remove(line)
            return True
    return False


def assert_row(row: dict[str, Any], record: bytes) -> None:
    """Assert that a row holds every field of its record, and nothing else."""
    expected = loads(record)
    rebuilt: dict[str, Any] = {}
    for name, value in row.items():
        if name.startswith("_") or value is None:
            continue
        if name in JSON_COLUMNS:
            assert value.encode() in record or "\ufffd" in value
            rebuilt[name] = loads(value.encode())
        elif name == "userIdentity":
            rebuilt[name] = _with_attributes(value)
        else:
            rebuilt[name] = value
    unmapped = loads((row["_other"] or "{}").encode())
    assert row["_other"] is None or unmapped
    if "eventTime" not in unmapped:
        # The column holds the whole time, so compare the moments. An aggregated event has a window.
        time = expected.get("eventTime")
        start = time or expected["timeWindow"]["windowStart"]
        assert row["eventTime"] == _moment(start)
        rebuilt["eventTime"] = time
    rebuilt |= unmapped
    for fields in (rebuilt, expected):
        for name in list(fields):
            if name not in JSON_COLUMNS and name not in unmapped:
                fields[name] = without_nulls(fields[name])
            if fields[name] is None:
                del fields[name]
    assert rebuilt == expected


def loads(text: bytes) -> Any:
    """Decode JSON. Numbers stay as they are written, and bytes that are not UTF-8 become U+FFFD."""
    return json.loads(
        text.decode(errors="replace"),
        strict=False,
        parse_int=str,
        parse_float=str,
        parse_constant=str,
    )


def without_nulls(value: Any) -> Any:
    """Return the value without members that are null, since a row cannot tell null from absence."""
    if isinstance(value, dict):
        return {name: without_nulls(member) for name, member in value.items() if member is not None}
    if isinstance(value, list):
        return [without_nulls(member) for member in value]
    return value


def _with_attributes(identity: dict[str, Any]) -> dict[str, Any]:
    """Decode the one member of an identity that a row keeps as JSON text."""
    federation = (identity["sessionContext"] or {}).get("webIdFederationData") or {}
    if federation.get("attributes") is not None:
        federation["attributes"] = loads(federation["attributes"].encode())
    return identity


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text.removesuffix("Z").removesuffix("+00:00")).replace(tzinfo=UTC)


@cache
def _records(bucket: str, key: str) -> list[bytes]:
    return oracle_elements(
        _uncompressed((Path(unquote(urlsplit(bucket).path)) / key).read_bytes())
    )[0]


def _lines(events_dir: Path) -> Iterator[tuple[str, bytes]]:
    for path in events_dir.rglob("*.jsonl*"):
        account, region, year, month, day = path.relative_to(events_dir).parts[:5]
        for line in text_of(path).splitlines():
            yield f"{account}/{region}/{year}-{month}-{day}", line
