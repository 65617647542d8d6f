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
from ctrail_pipeline.core.untrusted_text import printable


def as_text(event: Explained) -> list[str]:
    """Return what is known of an event: a fact a line."""
    log_file, batch, record = event.log_file, event.batch, event.record
    facts = {"line": f"{event.path}:{event.line.number}"}
    if record is not None:
        facts["event"] = f"{record.event_id or 'no eventID'} {record.name} {record.time}"
    facts |= {
        "log file": event.where,
        "etag": _etag(event) or "unknown",
        "sha256": f"{log_file.sha256.hex() if log_file.sha256 else 'unknown'} (uncompressed)",
        "index": _index(event),
        "trail": f"{event.trail or '(no longer configured)'}, {event.source_prefix.label}",
        "committed": f"{_committed(event)} by run {batch.run_id or '(unnamed)'}, batch {batch.id}",
        "log file's state": log_file.state.name.lower()
        + (", and a later version was processed since" if log_file.superseded else ""),
        "duplicates": _duplicates(event),
        "digest": event.digest or "not checked: --fetch checks it",
    }
    if event.accepted is not None:
        facts["settled"] = str(event.accepted)
    if not event.is_as_written:
        facts["WARNING"] = "the output file is not as it was written: run ctrail verify --deep"
    return [f"{name + ':':<18} {printable(text)}" for name, text in facts.items()]


def as_json(event: Explained) -> dict[str, Any]:
    """Return what is known of an event, for machines. Keys are only ever added."""
    log_file, record = event.log_file, event.record
    return {
        "path": str(event.path),
        "line": event.line.number,
        "event_id": record.event_id if record else None,
        "event_name": record.name if record else None,
        "event_time": record.time if record else None,
        "is_as_written": event.is_as_written,
        "trail": event.trail,
        "partition": event.source_prefix.partition_key,
        "bucket": event.source_prefix.bucket,
        "key": event.key,
        "etag": _etag(event) or None,
        "sha256": log_file.sha256.hex() if log_file.sha256 else None,
        "stored_bytes": log_file.size,
        "index": event.index,
        "index_note": event.note,
        "new_line": event.new_line,
        "new_lines": event.new_lines,
        "state": log_file.state.name.lower(),
        "superseded": log_file.superseded,
        "accepted": event.accepted.as_json if event.accepted else None,
        "duplicates_in_log_file": log_file.duplicates,
        "copies": list(event.copies.found) if event.copies.looked_at else None,
        "copies_may_be_in": event.copies.candidates,
        "run": event.batch.run_id,
        "batch": event.batch.id,
        "committed": _committed(event),
        "digest": event.digest,
        "text": event.line.data.decode(errors="backslashreplace"),
    }


def differences(events: Iterable[Explained]) -> list[str]:
    """Return the names of the top-level fields in which events differ."""
    fields = []
    for event in events:
        try:
            value = json.loads(event.line.data)
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
    return [printable(name) for name in differ] or ["the way they are written only"]


def _index(event: Explained) -> str:
    if event.index is not None:
        return f"{event.index} of its Records" + (f"; {event.note}" if event.note else "")
    position = (
        f"{event.new_line} of the {event.new_lines} new lines of the log file in this output file"
    )
    return f"{position}; {event.note or '--fetch finds its index in Records'}"


def _duplicates(event: Explained) -> str:
    copies = event.copies
    if not copies.candidates:
        return "no other log file of the account held duplicates around that time"
    if not copies.looked_at:
        return (
            f"{copies.candidates} other log files of the account held duplicates around that time:"
            " --fetch checks whether they held this event"
        )
    text = f"{len(copies.found)} copies in {copies.looked_at} log files looked at"
    if copies.candidates > COPIES_LOOKED_AT:
        text += f" (of {copies.candidates})"
    return text + "".join(f"; {url}" for url in copies.found)


def _etag(event: Explained) -> str:
    return unpack_etag(event.log_file.etag).strip('"') if event.log_file.etag else ""


def _committed(event: Explained) -> str:
    return datetime.fromtimestamp(event.batch.committed_at, UTC).isoformat()
