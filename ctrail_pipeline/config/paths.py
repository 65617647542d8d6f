"""Where we write to: absolute folders or prefixes of a bucket, apart from each other."""

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from ctrail_pipeline.core.ledger_address import PostgresAddress, ledger_address
from ctrail_pipeline.core.output_address import BucketAddress, OutputAddress, bucket_address
from ctrail_pipeline.core.settings import OutputBucket

from .gocloudtrail import own_state_db
from .keys import OUTPUT_KEYS, checked_object
from .location import ConfigLocation, quoted

_NAMES: Final = {"events_dir": "events", "quarantine_dir": "quarantine", "parquet_dir": "parquet"}
"""The keys of the output's roots, with the names that they have beside each other by default."""


def output_paths(top: ConfigLocation, values: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Return the settings that say where we write to.

    Paths are absolute. `..` is resolved; links are kept as they are.
    """
    addresses = _addresses(values, folder)
    events = addresses["events_dir"]
    _keep_apart(top, "events_dir", "quarantine_dir", addresses)
    if "parquet" in values.get("output_formats", ()) or "parquet_dir" in values:
        _keep_apart(top, "events_dir", "parquet_dir", addresses)
        _keep_apart(top, "quarantine_dir", "parquet_dir", addresses)
    if isinstance(events, BucketAddress):
        return _in_bucket(top, values, folder, addresses)
    if "output" in values:
        top.key("output").refuse(
            f"it says how a bucket is asked, and events_dir, {quoted(str(events))}, is a folder:"
            ' leave it out, or name a bucket such as "s3://my-output/ctrail/events"'
        )
    return {**addresses, **_ledger(values.get("state_db", "state.db"), folder, events)}


def _addresses(values: Mapping[str, Any], folder: Path) -> dict[str, OutputAddress]:
    """Return the output's roots by their keys; those that are not given lie beside the events."""

    def path(text: str) -> Path:
        return Path(os.path.normpath(folder / text))

    given = {
        key: bucket_address(values[key]) or path(values[key]) for key in _NAMES if key in values
    }
    events = given.get("events_dir", path(_NAMES["events_dir"]))
    beside = events.beside if isinstance(events, BucketAddress) else events.with_name
    return {
        key: given.get(key, events if key == "events_dir" else beside(name))
        for key, name in _NAMES.items()
    }


def _in_bucket(
    top: ConfigLocation,
    values: Mapping[str, Any],
    folder: Path,
    addresses: Mapping[str, OutputAddress],
) -> dict[str, Any]:
    """Return the settings of an output in a bucket. All of its roots lie in one bucket."""
    options = (
        checked_object(top.key("output"), values["output"], OUTPUT_KEYS, ())
        if "output" in values
        else {}
    )
    events, quarantine, parquet = (
        address for address in addresses.values() if isinstance(address, BucketAddress)
    )
    local = {key: folder / name for key, name in _NAMES.items()}
    return {
        **local,
        "output": OutputBucket(events, quarantine, parquet, **options),
        "jsonl_compression": values.get("jsonl_compression", "gzip"),
        **_ledger(values.get("state_db", "state.db"), folder, None),
    }


def _ledger(text: str, folder: Path, events_dir: Path | None) -> dict[str, Any]:
    """Return where the ledger is. `events_dir`: None if the output lies in a bucket.

    For a URL, temporary files lie beside the output, or else where Python puts such files.
    """
    address = ledger_address(text)
    if isinstance(address, PostgresAddress):
        if events_dir is None:
            return {
                "postgres": address,
                "state_db": Path(tempfile.gettempdir()) / "ctrail-state.db",
            }
        return {"postgres": address, "state_db": events_dir.with_name("state.db")}
    path = Path(os.path.normpath(folder / address))
    return {"state_db": own_state_db(path, events_dir)}


def _keep_apart(
    top: ConfigLocation, key: str, other_key: str, addresses: Mapping[str, OutputAddress]
) -> None:
    """Refuse two roots if one lies inside the other, and a root that is of another kind.

    Somebody who reads events/**/*.jsonl must find events and nothing else. The same holds for
    quarantine and Parquet.
    """
    first, second = addresses[key], addresses[other_key]
    if isinstance(first, BucketAddress) and isinstance(second, BucketAddress):
        overlap = first.is_relative_to(second) or second.is_relative_to(first)
        if first.bucket != second.bucket:
            top.key(other_key).refuse(
                f"{quoted(str(second))} and {key}, {quoted(str(first))}, must lie in one bucket"
            )
    elif isinstance(first, Path) and isinstance(second, Path):
        real, other = Path(os.path.realpath(first)), Path(os.path.realpath(second))
        overlap = real.is_relative_to(other) or other.is_relative_to(real)
    else:
        top.key(other_key).refuse(
            f"{quoted(str(second))} and {key}, {quoted(str(first))}, must both be folders, or both"
            " lie in one bucket"
        )
    if overlap:
        top.key(other_key).refuse(
            f"{quoted(str(second))} and {key}, {quoted(str(first))}, must be two folders,"
            " neither inside the other"
        )
