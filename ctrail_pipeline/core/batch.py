"""One batch, up to its staging folder: split log files, route records, drop what is known, stage.

Nothing of a batch counts before it is committed (`commit`), so none of this needs undoing. It reads
the ledger and never writes to it: it may run in a worker process.
"""

import base64
import json
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import groupby
from typing import TYPE_CHECKING, Final, NamedTuple

from .dedup import (
    IDENTITY_BYTES,
    KnownIdentities,
    NewSegment,
    Partition,
    build_segment,
    dedup_partition,
    event_key_of,
    identity_of,
)
from .fetch import FetchedLogFile
from .layout import SourcePrefix, day_folder, is_account, is_region
from .ledger import LogFileState, Outcome
from .listing import LogFileRef
from .output import Kind, NewFile, NewParquetFile, Scatter, StagedFile, Staging
from .records import LogFileContent, Rejected, split
from .settings import Settings
from .store import unpack_etag

if TYPE_CHECKING:
    from .parquet import ParquetFile

MOST_FOLDERS: Final = 500
"""Output partitions that one batch touches at most, a single log file's apart."""
USUAL_HOURS_A_LOG_FILE: Final = 24
"""Output partitions that any log file may touch: real ones touch two or three."""
_HOUR_LENGTH: Final = len("2026/01/31/23")
_LONGEST_TIME: Final = len("2026-01-31T23:59:59.123456789Z")
_LONGEST_TEXT: Final = 1024 * 1024
"""Bytes that are quarantined as text at most; nobody reads more of them."""
_MOST_ESCAPED: Final = 3
"""How many times longer JSON may make them: all but control characters need no more than this."""
_VISIT_AFTER_SECONDS: Final = (0, 300, 1_800, 7_200, 21_600, 86_400)
"""When a log file that failed or is damaged is tried again, by the number of tries so far."""


@dataclass(slots=True)
class LogFileInBatch:
    """A fetched log file, split."""

    ref: LogFileRef
    etag: bytes
    size: int
    content: LogFileContent | None
    state: LogFileState
    reason: str | None
    may_pass: bool


@dataclass(slots=True)
class BatchContent:
    """The log files of the batch in hand."""

    log_files: list[LogFileInBatch] = field(default_factory=list)
    bytes: int = 0
    folders: set[tuple[str | None, str | None, str]] = field(default_factory=set)
    since: float = field(default_factory=time.monotonic)

    def add(self, fetched: FetchedLogFile) -> None:
        """Take a fetched log file in, split into records."""
        content = None
        state, reason = fetched.state, fetched.reason
        if fetched.content is not None:
            content = split(fetched.content)
            if content.damage is not None:
                state, reason = LogFileState.DAMAGED, content.damage
            self.bytes += content.size
            self.folders.update((r.account, r.region, r.hour) for r in content.records)
        self.log_files.append(
            LogFileInBatch(
                fetched.ref, fetched.etag, fetched.size, content, state, reason, fetched.may_pass
            )
        )

    def has_room(self, fetched: FetchedLogFile, settings: Settings) -> bool:
        """Whether a log file fits in; a large one is a batch of its own."""
        size = len(fetched.content.data) if fetched.content else 0
        return not self.log_files or self.bytes + size <= settings.batch_bytes

    def is_full(self, settings: Settings) -> bool:
        """Whether it should be committed before anything more is taken in."""
        return (
            len(self.log_files) >= settings.batch_log_files
            or self.bytes >= settings.batch_bytes
            or len(self.folders) >= MOST_FOLDERS
        )

    @property
    def age(self) -> float:
        """Seconds since it was begun."""
        return time.monotonic() - self.since


@dataclass(slots=True)
class _Line:
    line: bytes
    position: int
    kind: Kind
    folder: str
    name: str = ""
    """The event's name, for counting."""
    event_key: bytes = b""
    """Stands for its eventID; empty without one."""
    time: str = ""
    """The event's eventTime."""
    index: int = 0
    """The event's position in its log file."""


@dataclass(slots=True)
class _Routed:
    """The lines of a batch by dedup partition, each once."""

    groups: dict[str, dict[bytes, _Line]] = field(default_factory=dict)
    duplicates: dict[int, int] = field(default_factory=dict)
    quarantined: dict[int, int] = field(default_factory=dict)
    conflicts: dict[int, int] = field(default_factory=dict)
    bytes_out: dict[int, int] = field(default_factory=dict)
    """Bytes of the new lines of each log file."""
    times: dict[int, tuple[str, str]] = field(default_factory=dict)
    """First and last eventTime of each log file."""

    def events_by_hour(self) -> Counter[str]:
        """New events by the hour of their eventTime, `YYYY/MM/DD/HH`."""
        return Counter(
            line.folder[-_HOUR_LENGTH:]
            for group in self.groups.values()
            for line in group.values()
            if line.kind is Kind.EVENTS
        )

    def events_by_name(self) -> Counter[str]:
        """New events by eventName."""
        return Counter(
            line.name
            for group in self.groups.values()
            for line in group.values()
            if line.kind is Kind.EVENTS
        )


class Staged(NamedTuple):
    """A batch that lies in its staging folders, and what its transaction will write."""

    outcomes: list[Outcome]
    files: list[StagedFile]
    segments: list[NewSegment]
    seen: dict[str, int]
    """The newest segment of each dedup partition that the batch's dedup knew of."""
    removed: int
    """The ledger's count of removed segments then."""
    bytes_in: int
    """Uncompressed bytes of its log files."""
    events_by_hour: Counter[str]
    events_by_name: Counter[str]
    misfits: int
    """Rows of its Parquet files of which something is in `_other`."""


def stage(
    log_files: Sequence[LogFileInBatch],
    staging: Staging,
    known: KnownIdentities,
    settings: Settings,
) -> Staged:
    """Drop what the ledger has already, write the rest into the staging folders."""
    routed = route(log_files, settings, staging.scatter)
    seen = drop_known(routed, known)
    new_files: list[NewFile | NewParquetFile] = [*output_files(routed, settings.events_per_file)]
    misfits = 0
    if "parquet" in settings.output_formats:
        for file in _parquet_files(log_files, routed):
            new_files.append(NewParquetFile(file.folder, file.content, file.rows))
            misfits += file.misfits
    files = staging.write(new_files)
    segments = [
        build_segment(
            name,
            group.keys(),
            (line.event_key for line in group.values() if line.event_key),
            settings.bloom_false_positive,
        )
        for name, group in routed.groups.items()
        if group
    ]
    return Staged(
        outcomes_of(log_files, routed),
        files,
        segments,
        seen,
        known.removed,
        sum(one.content.size for one in log_files if one.content),
        routed.events_by_hour(),
        routed.events_by_name(),
        misfits,
    )


def route(log_files: Sequence[LogFileInBatch], settings: Settings, scatter: Scatter) -> _Routed:
    """Sort the records of a batch into dedup partitions; copies inside the batch are dropped."""
    routed = _Routed()
    for position, one in enumerate(log_files):
        if one.content is not None:
            places = _Places(routed, one.ref.source.place, settings, scatter)
            _route_log_file(routed, position, one, one.content, places)
    return routed


def drop_known(routed: _Routed, known: KnownIdentities) -> dict[str, int]:
    """Drop the lines that the ledger has already, and count what the new ones come to.

    Returns up to which segment each dedup partition was looked at, for the commit to check.
    """
    known.begin()
    seen = {}
    for name, group in routed.groups.items():
        partition = known.partition(name)
        seen[name] = partition.version
        for identity in partition.known_among(group.keys()):
            dropped = group.pop(identity)
            if dropped.kind is Kind.EVENTS:
                routed.duplicates[dropped.position] = routed.duplicates.get(dropped.position, 0) + 1
        _count_new(routed, group, partition)
    return seen


def _count_new(routed: _Routed, group: dict[bytes, _Line], partition: Partition) -> None:
    """Count, by log file, what its new lines come to.

    Their bytes; and conflicts: an eventID that another record has too, somebody's forgery or AWS's
    mistake.
    """
    seen: set[bytes] = set()
    taken = partition.event_keys_among(
        {line.event_key for line in group.values() if line.event_key}
    )
    for line in group.values():
        if line.event_key and (line.event_key in taken or line.event_key in seen):
            routed.conflicts[line.position] = routed.conflicts.get(line.position, 0) + 1
        seen.add(line.event_key)
        if line.kind is Kind.EVENTS:
            size = routed.bytes_out.get(line.position, 0)
            routed.bytes_out[line.position] = size + len(line.line) + 1


def output_files(routed: _Routed, lines_a_file: int) -> list[NewFile]:
    """The files that hold a batch's lines, in the order of their log files."""
    by_folder: dict[tuple[Kind, str], list[_Line]] = {}
    for group in routed.groups.values():
        for line in group.values():
            by_folder.setdefault((line.kind, line.folder), []).append(line)
    files = []
    for (kind, folder), lines in by_folder.items():
        lines.sort(key=lambda line: line.position)
        for at in range(0, len(lines), lines_a_file):
            some = lines[at : at + lines_a_file]
            runs = [
                (position, sum(1 for _ in run))
                for position, run in groupby(some, key=lambda line: line.position)
            ]
            files.append(NewFile(kind, folder, [line.line for line in some], runs))
    return files


def _parquet_files(log_files: Sequence[LogFileInBatch], routed: _Routed) -> Iterator["ParquetFile"]:
    """The events among a batch's lines once more, as rows."""
    # Here, as most runs write none: it costs each process 5 ms.
    from .parquet import ParquetRecord, parquet_files, parquet_folder

    events = [
        line
        for group in routed.groups.values()
        for line in group.values()
        if line.kind is Kind.EVENTS
    ]
    folders = {folder: parquet_folder(folder) for folder in {line.folder for line in events}}
    records = [
        ParquetRecord(folders[line.folder], line.time, line.line, line.position, line.index)
        for line in events
    ]
    sources = [(one.ref.source.place.bucket, one.ref.key) for one in log_files]
    return parquet_files(records, sources)


def outcomes_of(log_files: Sequence[LogFileInBatch], routed: _Routed) -> list[Outcome]:
    """What the ledger will say of each log file."""
    now = int(time.time())
    outcomes = []
    for position, one in enumerate(log_files):
        ref = one.ref
        attempts = 0 if one.state is LogFileState.COMMITTED else ref.attempts + 1
        quarantined = routed.quarantined.get(position, 0)
        records = 0
        if one.content is not None:
            unroutable = quarantined - len(one.content.rejected)
            records = len(one.content.records) - unroutable
        outcomes.append(
            Outcome(
                source_id=ref.source.id,
                day=ref.day,
                name=ref.name,
                expected=ref.expected,
                etag=one.etag,
                size=one.size,
                sha256=one.content.sha256 if one.content else None,
                records=records,
                duplicates=routed.duplicates.get(position, 0),
                quarantined=quarantined,
                conflicts=routed.conflicts.get(position, 0),
                state=one.state,
                attempts=attempts,
                next_visit=next_visit(one.state, attempts, now),
                reason=one.reason,
                position=position,
                times=routed.times.get(position),
                bytes_out=routed.bytes_out.get(position, 0),
                may_pass=one.may_pass,
            )
        )
    return outcomes


def next_visit(state: LogFileState, attempts: int, now: int) -> int | None:
    """When a log file is to be tried again (seconds since 1970); None: not until it changes."""
    if state in (LogFileState.COMMITTED, LogFileState.GONE):
        return None
    if state is LogFileState.ARCHIVED:
        return now + _VISIT_AFTER_SECONDS[-1]
    return now + _VISIT_AFTER_SECONDS[min(attempts, len(_VISIT_AFTER_SECONDS)) - 1]


_Own = tuple[str | None, str | None, str]
"""A record's own account, region and hour."""
_Target = tuple[dict[bytes, _Line], str] | str
"""The dedup group and the folder that records go to; or why they go to quarantine."""


class _Places:
    """Where the records of one log file go, as far as it may be scattered over hours.

    It may name as many hours as it has records, and each costs a folder and a file: whoever writes
    to the bucket could fill the disk with a million of them by a thousand small log files.
    """

    def __init__(
        self, routed: _Routed, place: SourcePrefix, settings: Settings, scatter: Scatter
    ) -> None:
        self._routed = routed
        self._place = place
        self._most = settings.max_hours_per_log_file
        self._most_new = settings.max_scattered_hours
        self._scatter = scatter
        self.found: dict[_Own, _Target] = {}

    def find(self, own: _Own) -> _Target:
        """The place of records with an account, region and hour that is not among the found."""
        if len(self.found) >= self._most:
            return f"scattered: the log file has records of more than {self._most} hours"
        target = self.found[own] = self._find(own)
        return target

    def _find(self, own: _Own) -> _Target:
        """By their own account and region, else by the key's."""
        account, region, hour = own
        account = account or (self._place.account if is_account(self._place.account) else None)
        region = region or (self._place.region if is_region(self._place.region) else None)
        if account is None:
            return "no usable account in the record or in the key"
        if region is None:
            return "no usable region in the record or in the key"
        folder = f"{account}/{region}/{hour}"
        is_usual = len(self.found) < USUAL_HOURS_A_LOG_FILE
        if not (is_usual or self._scatter.allows(folder, self._most_new)):
            return f"scattered: more than {self._most_new} new hours in log files of many"
        return self._routed.groups.setdefault(dedup_partition(*own), {}), folder


def _route_log_file(
    routed: _Routed, position: int, one: LogFileInBatch, content: LogFileContent, places: _Places
) -> None:
    duplicates = 0
    for record in content.records:
        own = (record.account, record.region, record.hour)
        target = places.found.get(own) or places.find(own)
        if isinstance(target, str):
            rejected = Rejected(record.index, "record", target, bytes(record.line))
            _quarantine(routed, position, one, rejected)
            continue
        group, folder = target
        identity = identity_of(record.line)
        if identity in group:
            duplicates += 1
        else:
            event_key = event_key_of(record.event_id) if record.event_id else b""
            group[identity] = _Line(
                record.line,
                position,
                Kind.EVENTS,
                folder,
                record.name,
                event_key,
                record.time,
                record.index,
            )
    for rejected in content.rejected:
        _quarantine(routed, position, one, rejected)
    if duplicates:
        routed.duplicates[position] = duplicates
    if content.records:
        times = [record.time for record in content.records]
        routed.times[position] = _noted(min(times)), _noted(max(times))


def _noted(time: str) -> str:
    """An eventTime for the ledger and for Dagster: a fraction may have a million digits."""
    return time if len(time) <= _LONGEST_TIME else f"{time[: _LONGEST_TIME - 1]}Z"


def _quarantine(routed: _Routed, position: int, one: LogFileInBatch, rejected: Rejected) -> None:
    """Put what cannot become an event where it is kept with where it came from, and why."""
    ref = one.ref
    folder = day_folder(ref.day).rstrip("/") if ref.day else "undated"
    bucket = ref.source.place.bucket
    identity = quarantine_identity(bucket, ref.key, rejected.kind, rejected.data)
    group = routed.groups.setdefault(f"quarantine/{folder}", {})
    routed.quarantined[position] = routed.quarantined.get(position, 0) + 1
    if identity in group:
        return
    entry = {
        "bucket": bucket,
        "key": ref.key,
        "etag": unpack_etag(one.etag).strip('"') if one.etag else None,
        "index": rejected.index,
        "kind": rejected.kind,
        "verified": rejected.kind != "unverified",
        "reason": rejected.reason,
    }
    line = _with_data(json.dumps(entry).encode(), rejected.data)
    group[identity] = _Line(line, position, Kind.QUARANTINE, folder)


def _with_data(entry: bytes, data: bytes) -> bytes:
    """A JSON object with `data` as its last member: as text where that is readable, and short.

    JSON writes a NUL in six bytes: a log file of 256 MB of them (a gzip of 250 KB) would take
    1.5 GB of quarantine, and 3.6 GB of memory on the way there.
    """
    if len(data) <= _LONGEST_TEXT:
        try:
            text = json.dumps(data.decode()).encode()
        except UnicodeDecodeError:
            pass
        else:
            if len(text) <= _MOST_ESCAPED * len(data) + len('""'):
                return b'%s, "data": %s}' % (entry[:-1], text)
    return b"".join((entry[:-1], b', "data_base64": "', base64.b64encode(data), b'"}'))


def quarantine_identity(bucket: str, key: str, kind: str, data: bytes) -> bytes:
    """What makes a line of quarantine the same as another one."""
    text = b"\0".join((bucket.encode(), key.encode(), kind.encode(), data))
    return sha256(text).digest()[:IDENTITY_BYTES]
