"""The file `accepted.jsonl` in the quarantine folder: who accepted which log files, line by line.

The file outlives the ledger: `rebuild` reads it. A line is appended for each acceptance, and for
each acceptance that is taken back; of the lines of one log file the last one counts. A line has the
key, the version and the state of a log file, who settled it, and why. Not here: what may be
accepted (`accept`).
"""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Final, Literal, NamedTuple

import msgspec

from ctrail_pipeline.core.bucket.etag import pack_etag, unpack_etag
from ctrail_pipeline.core.keys.log_file_key import key_of, parse_key
from ctrail_pipeline.core.keys.source_prefix import SourcePrefix
from ctrail_pipeline.core.ledger.accepted import Acceptance
from ctrail_pipeline.core.ledger.rows import LogFileState
from ctrail_pipeline.core.output.interface import Output
from ctrail_pipeline.core.output_files import FileName, Kind

ACCEPTED_FILE: Final = FileName(Kind.QUARANTINE, "", "accepted.jsonl")
_STATES: Final = {state.name.lower(): state for state in LogFileState} | {
    "lost": LogFileState.FAILED  # what earlier versions called a log file whose output vanished
}

Decision = Literal["accepted", "undone"]


class _Line(msgspec.Struct):
    """A line of the file, as it is written."""

    decision: Decision
    at: str
    by: str
    reason: str
    state: str
    etag: str
    bucket: str
    key: str
    prefix: str
    organization: str
    account: str
    kind: str
    region: str


class Decided(NamedTuple):
    """What a line says: who accepted a log file, or took that back."""

    decision: Decision
    source_prefix: SourcePrefix
    acceptance: Acceptance
    """Its `source_id` is 0: a file outlives the ids of a ledger."""


def append_decisions(
    output: Output, decision: Decision, decided: Iterable[tuple[SourcePrefix, Acceptance]]
) -> None:
    """Append a line for each acceptance, durably. Raises OutputError.

    Call this inside the ledger's transaction that notes the same: then there is one writer, and the
    lines stand in the order in which the ledger noted them.
    """
    lines = (msgspec.json.encode(_line_of(decision, *one)) + b"\n" for one in decided)
    output.append(ACCEPTED_FILE, b"".join(lines))


def read_decisions(output: Output) -> Iterator[Decided | None]:
    """Yield what each line says, in order; None for a line that is not as it was written.

    Raises OSError.
    """
    with output.open(ACCEPTED_FILE) as file:
        for line in file:
            try:
                yield _decided(msgspec.json.decode(line, type=_Line))
            except (ValueError, KeyError):  # no JSON, another JSON, no time, an unknown state
                yield None


def _line_of(decision: Decision, source_prefix: SourcePrefix, acceptance: Acceptance) -> _Line:
    return _Line(
        decision,
        at=datetime.fromtimestamp(acceptance.at, UTC).isoformat(),
        by=acceptance.by,
        reason=acceptance.reason,
        state=acceptance.state.name.lower(),
        etag=unpack_etag(acceptance.etag).strip('"') if acceptance.etag else "",
        bucket=source_prefix.bucket,
        key=key_of(source_prefix, acceptance.day, acceptance.name),
        prefix=source_prefix.prefix,
        organization=source_prefix.organization,
        account=source_prefix.account,
        kind=source_prefix.kind,
        region=source_prefix.region,
    )


def _decided(line: _Line) -> Decided:
    """Return what a line says. Raises ValueError or KeyError if it is not as it was written."""
    source_prefix = SourcePrefix(
        line.bucket, line.prefix, line.organization, line.account, line.region, line.kind
    )
    parts = parse_key(source_prefix, line.key)
    acceptance = Acceptance(
        0,
        parts.day,
        parts.name,
        pack_etag(line.etag) if line.etag else b"",
        _STATES[line.state],
        line.reason,
        line.by,
        int(datetime.fromisoformat(line.at).timestamp()),
    )
    return Decided(line.decision, source_prefix, acceptance)
