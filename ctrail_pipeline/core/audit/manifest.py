"""A list of output files with their hashes and where their lines came from, for a case file.

The manifest is JSON Lines: a header, a line for each file (of Parquet, too), and a last line. The
last line has counts and the SHA-256 over all bytes before it, so that any change of the list shows.
A line for each accepted log file of the same accounts, regions and days says what is not in these
files, and who settled that.
Everything comes from one snapshot of the ledger. Whether the files are still as they were written
belongs to `compare_output`.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from functools import lru_cache
from hashlib import sha256
from typing import Any, Final

from ctrail_pipeline.core.bucket.etag import unpack_etag
from ctrail_pipeline.core.exceptions import ConfigurationError, LedgerError
from ctrail_pipeline.core.keys.log_file_key import key_of
from ctrail_pipeline.core.keys.minutes import MINUTES_PER_DAY, minute_of
from ctrail_pipeline.core.keys.source_prefix import SourcePrefix
from ctrail_pipeline.core.ledger.accepted import acceptance_of, acceptances
from ctrail_pipeline.core.ledger.ledger import Ledger
from ctrail_pipeline.core.ledger.presence import ledger_exists
from ctrail_pipeline.core.ledger.queries_lineage import BatchOrigin, batch_origin, line_runs_of_file
from ctrail_pipeline.core.ledger.queries_output import OutputFile, output_files, output_folders
from ctrail_pipeline.core.ledger.source_prefixes import source_ids
from ctrail_pipeline.core.matching_ledger import check_belongs
from ctrail_pipeline.core.output.open_output import open_output
from ctrail_pipeline.core.output.parquet import hours_of_date
from ctrail_pipeline.core.output_files import Kind
from ctrail_pipeline.core.settings import Settings

from .sought import Sought

FORMAT: Final = "ctrail-manifest/1"
_BATCHES_KEPT: Final = 64
"""Batches whose log files are kept in memory. An hour's files come from neighbouring batches, so
the ledger is asked for a batch's log files once."""


def manifest(settings: Settings, sought: Sought) -> Iterator[bytes]:
    """Yield the lines of the manifest of the output files whose folder may hold what is sought.

    Raises ConfigurationError if there is no ledger, LedgerError if it cannot be trusted or read.
    """
    if not ledger_exists(settings.ledger):
        raise ConfigurationError(f"{settings.ledger}: there is no ledger, so nothing to list")
    with closing(Ledger(settings.ledger)) as ledger:
        check_belongs(ledger, open_output(settings))
        with ledger.snapshot():
            yield from _signed_off(_entries(ledger, settings, sought))


def _signed_off(entries: Iterator[dict[str, Any]]) -> Iterator[bytes]:
    """Yield the entries as lines, and a last line with the hash of all of them."""
    digest, files, lines, size, parquet_files = sha256(), 0, 0, 0, 0
    for entry in entries:
        parquet_files += entry["kind"] == "parquet"
        if entry["kind"] == "file":
            files, lines, size = files + 1, lines + entry["lines"], size + entry["bytes"]
        line = _line(entry)
        digest.update(line)
        yield line
    yield _line(
        {
            "kind": "end",
            "files": files,
            "lines": lines,
            "bytes": size,
            "parquet_files": parquet_files,
            "sha256": digest.hexdigest(),
        }
    )


def _entries(ledger: Ledger, settings: Settings, sought: Sought) -> Iterator[dict[str, Any]]:
    yield {
        "kind": "header",
        "format": FORMAT,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "ledger": ledger.uuid,
        "generation": ledger.generation,
        "events_dir": str(settings.events),
        "accounts": list(sought.accounts),
        "regions": list(sought.regions),
        "start": _text(sought.start),
        "end": _text(sought.end),
    }
    source_prefixes = {id_: prefix for prefix, id_ in source_ids(ledger).items()}
    batch_of = lru_cache(_BATCHES_KEPT)(lambda batch: batch_origin(ledger, batch))
    for folder in filter(sought.may_lie_in, output_folders(ledger, Kind.EVENTS)):
        for file in output_files(ledger, Kind.EVENTS, folder):
            if file.is_expected:
                yield _file(ledger, file, source_prefixes, batch_of)
    for folder in output_folders(ledger, Kind.PARQUET):
        if _may_hold(sought, hours_of_date(folder)):
            for file in output_files(ledger, Kind.PARQUET, folder):
                if file.is_expected:
                    yield _parquet_file(file)
    for acceptance in acceptances(ledger):
        source_prefix = source_prefixes[acceptance.source_id]
        if _may_have_been_in(sought, source_prefix, acceptance.day):
            log_file = _log_file(source_prefix, acceptance.day, acceptance.name, acceptance.etag)
            yield {"kind": "accepted", **log_file, **acceptance.as_json}


def _may_have_been_in(sought: Sought, source_prefix: SourcePrefix, day: int) -> bool:
    """Whether what is sought may have been in a log file with a key of this day.

    The day is that of delivery. Events of the last hours of a day are delivered on the next one.
    """
    if not replace(sought, start=None, end=None).may_lie_in(f"{source_prefix.partition_key}/"):
        return False
    first, last = (
        None if moment is None else minute_of(moment) // MINUTES_PER_DAY
        for moment in (sought.start, sought.end)
    )
    return not day or ((first is None or first <= day) and (last is None or day <= last + 1))


def _log_file(source_prefix: SourcePrefix, day: int, name: str, etag: bytes) -> dict[str, Any]:
    """Return where a log file is, and which version of it is meant."""
    return {
        "bucket": source_prefix.bucket,
        "key": key_of(source_prefix, day, name),
        "etag": unpack_etag(etag).strip('"') if etag else None,
    }


def _may_hold(sought: Sought, hours: tuple[str, str]) -> bool:
    """Whether a date may hold what is sought; `hours` are its first and last hour's folders."""
    first, last = hours
    return replace(sought, start=None).may_lie_in(first) and replace(sought, end=None).may_lie_in(
        last
    )


def _parquet_file(file: OutputFile) -> dict[str, Any]:
    """Return the entry of a Parquet file, whose rows say themselves where they came from."""
    return {
        "kind": "parquet",
        "path": f"{file.folder}/{file.published.name}",
        "sha256": file.sha256.hex(),
        "bytes": file.size,
        "rows": file.lines,
    }


def _file(
    ledger: Ledger,
    file: OutputFile,
    source_prefixes: dict[int, SourcePrefix],
    batch_of: Callable[[int], BatchOrigin],
) -> dict[str, Any]:
    """Return the entry of a file, with the log files that its lines came from, in their order."""
    batch = batch_of(file.batch)
    log_files = []
    for run in line_runs_of_file(ledger, file):
        of_run = batch_of(run.batch)
        if of_run.is_rebuilt:
            log_files.append({"lines": run.lines, "unknown": "from before a rebuild of the ledger"})
            continue
        origin = of_run.log_files.get(run.position)
        if origin is None:
            raise LedgerError(
                f"{ledger.path}: the ledger lacks a log file of {file.folder}/"
                f"{file.published.name}: damaged; restore it from a backup as new as the output"
            )
        source_prefix = source_prefixes[origin.source_id]
        accepted = acceptance_of(ledger, origin.row, origin.etag)
        log_files.append(
            {
                **_log_file(source_prefix, origin.day, origin.name, origin.etag),
                "sha256": origin.sha256.hex() if origin.sha256 else None,
                **({"accepted": accepted.as_json} if accepted else {}),
                "lines": run.lines,
                "run": of_run.run_id,
                "committed": datetime.fromtimestamp(of_run.committed_at, UTC).isoformat(),
            }
        )
    return {
        "kind": "file",
        "path": f"{file.folder}/{file.published.name}",
        "sha256": file.sha256.hex(),
        "bytes": file.size,
        "lines": file.lines,
        "merged": file.merged,
        "run": batch.run_id,
        "committed": datetime.fromtimestamp(batch.committed_at, UTC).isoformat(),
        "log_files": log_files,
    }


def _line(entry: dict[str, Any]) -> bytes:
    return json.dumps(entry, separators=(",", ":")).encode() + b"\n"


def _text(moment: datetime | None) -> str | None:
    return None if moment is None else moment.astimezone(UTC).isoformat()
