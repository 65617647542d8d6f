"""The paths that we write to: absolute, and apart from each other."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ctrail_pipeline.core.ledger_address import PostgresAddress, ledger_address

from .gocloudtrail import own_state_db
from .location import ConfigLocation, quoted


def output_paths(top: ConfigLocation, values: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Return the paths we write to, absolute. `..` is resolved; links are kept as they are."""

    def path(key: str, default: str | Path) -> Path:
        return Path(os.path.normpath(folder / values.get(key, default)))

    events_dir = path("events_dir", "events")
    quarantine_dir = path("quarantine_dir", events_dir.parent / "quarantine")
    parquet_dir = path("parquet_dir", events_dir.parent / "parquet")
    _keep_apart(top, "events_dir", events_dir, "quarantine_dir", quarantine_dir)
    if "parquet" in values.get("output_formats", ()) or "parquet_dir" in values:
        _keep_apart(top, "events_dir", events_dir, "parquet_dir", parquet_dir)
        _keep_apart(top, "quarantine_dir", quarantine_dir, "parquet_dir", parquet_dir)
    return {
        "events_dir": events_dir,
        "quarantine_dir": quarantine_dir,
        "parquet_dir": parquet_dir,
        **_ledger(values.get("state_db", "state.db"), folder, events_dir),
    }


def _ledger(text: str, folder: Path, events_dir: Path) -> dict[str, Any]:
    """Return where the ledger is; for a URL, temporary files lie beside the output."""
    address = ledger_address(text)
    if isinstance(address, PostgresAddress):
        return {"postgres": address, "state_db": events_dir.parent / "state.db"}
    return {"state_db": own_state_db(Path(os.path.normpath(folder / address)), events_dir)}


def _keep_apart(
    top: ConfigLocation, key: str, path: Path, other_key: str, other_path: Path
) -> None:
    """Refuse two folders if one lies inside the other.

    Somebody who reads events/**/*.jsonl must find events and nothing else. The same holds for
    quarantine and Parquet.
    """
    first, second = (Path(os.path.realpath(folder)) for folder in (path, other_path))
    if first.is_relative_to(second) or second.is_relative_to(first):
        top.key(other_key).refuse(
            f"{quoted(str(other_path))} and {key}, {quoted(str(path))}, must be two folders,"
            " neither inside the other"
        )
