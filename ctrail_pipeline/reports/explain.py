"""Where an event came from, in words and as JSON.

Not here: how an event is found and explained (`core.audit.explain`).
"""

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from ctrail_pipeline.core.audit.explain import Explained
from ctrail_pipeline.core.audit.explain_copies import COPIES_LOOKED_AT
from ctrail_pipeline.core.bucket.etag import unpack_etag

from .untrusted_text import shown


def as_text(one: Explained) -> list[str]:
    """What is known of a line, a fact each."""
    log_file, batch, record = one.log_file, one.batch, one.record
    facts = {"line": f"{one.path}:{one.line.number}"}
    if record is not None:
        facts["event"] = f"{record.event_id or 'no eventID'} {record.name} {record.time}"
    facts |= {
        "log file": one.where,
        "etag": _etag(one) or "unknown",
        "sha256": f"{log_file.sha256.hex() if log_file.sha256 else 'unknown'} (uncompressed)",
        "index": _index(one),
        "trail": f"{one.trail or '(no longer configured)'}, {one.source_prefix.partition_key}",
        "committed": f"{_committed(one)} by run {batch.run_id or '(unnamed)'}, batch {batch.id}",
        "log file's state": log_file.state.name.lower()
        + (", and a later version was processed since" if log_file.superseded else ""),
        "duplicates": _duplicates(one),
        "digest": one.digest or "not checked: --fetch asks for it",
    }
    if not one.is_as_written:
        facts["WARNING"] = "the output file is not as it was written: run ctrail verify --deep"
    return [f"{name + ':':<18} {shown(text)}" for name, text in facts.items()]


def as_json(one: Explained) -> dict[str, Any]:
    """The same for machines. Keys are only ever added."""
    log_file, record = one.log_file, one.record
    return {
        "path": str(one.path),
        "line": one.line.number,
        "event_id": record.event_id if record else None,
        "event_name": record.name if record else None,
        "event_time": record.time if record else None,
        "is_as_written": one.is_as_written,
        "trail": one.trail,
        "partition": one.source_prefix.partition_key,
        "bucket": one.source_prefix.bucket,
        "key": one.key,
        "etag": _etag(one) or None,
        "sha256": log_file.sha256.hex() if log_file.sha256 else None,
        "stored_bytes": log_file.size,
        "index": one.index,
        "index_note": one.note,
        "new_line": one.new_line,
        "new_lines": one.new_lines,
        "state": log_file.state.name.lower(),
        "superseded": log_file.superseded,
        "duplicates_in_log_file": log_file.duplicates,
        "copies": list(one.copies.found) if one.copies.looked_at else None,
        "copies_may_be_in": one.copies.candidates,
        "run": one.batch.run_id,
        "batch": one.batch.id,
        "committed": _committed(one),
        "digest": one.digest,
        "text": one.line.data.decode(errors="backslashreplace"),
    }


def differences(events: Iterable[Explained]) -> list[str]:
    """Names of the top-level fields in which events differ."""
    fields = []
    for one in events:
        try:
            value = json.loads(one.line.data)
        except (ValueError, RecursionError):
            return ["their bytes"]
        fields.append(value if isinstance(value, dict) else {})
    names = dict.fromkeys(name for value in fields for name in value)
    missing = object()
    differ = [
        name
        for name in names
        if any(value.get(name, missing) != fields[0].get(name, missing) for value in fields)
    ]
    return [shown(name) for name in differ] or ["the way they are written only"]


def _index(one: Explained) -> str:
    if one.index is not None:
        return f"{one.index} of its Records" + (f"; {one.note}" if one.note else "")
    nth = f"{one.new_line} of the {one.new_lines} new lines of the log file in this output file"
    return f"{nth}; {one.note or '--fetch tells its index in Records'}"


def _duplicates(one: Explained) -> str:
    copies = one.copies
    if not copies.candidates:
        return "no other log file of the account held any around then"
    if not copies.looked_at:
        return (
            f"{copies.candidates} other log files of the account held duplicates of something"
            " around then: --fetch looks whether of this"
        )
    text = f"{len(copies.found)} copies in {copies.looked_at} log files looked at"
    if copies.candidates > COPIES_LOOKED_AT:
        text += f" (of {copies.candidates})"
    return text + "".join(f"; {where}" for where in copies.found)


def _etag(one: Explained) -> str:
    return unpack_etag(one.log_file.etag).strip('"') if one.log_file.etag else ""


def _committed(one: Explained) -> str:
    return datetime.fromtimestamp(one.batch.committed_at, UTC).isoformat()
