"""One batch, up to its staging folder: split log files, route records, drop what is known, stage.

Nothing of a batch counts before it is committed (`commit`), so none of this needs undoing. It reads
the ledger and never writes to it: it may run in a worker process.
"""

import base64
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import groupby, islice
from operator import attrgetter
from typing import TYPE_CHECKING, Final, NamedTuple, cast

import msgspec

from ctrail_pipeline.core.bucket.interface import unpack_etag
from ctrail_pipeline.core.keys.names import SourcePrefix, day_folder, is_account, is_region
from ctrail_pipeline.core.ledger.dedup_partition import dedup_partition
from ctrail_pipeline.core.ledger.known_identities import DedupPartition, KnownIdentities
from ctrail_pipeline.core.ledger.packed_identities import held_among
from ctrail_pipeline.core.ledger.rows import LogFileState, NewSegment, Outcome
from ctrail_pipeline.core.ledger.segment_building import build_segment
from ctrail_pipeline.core.listing.walk import LogFileRef
from ctrail_pipeline.core.log_file.identity import (
    EVENT_KEY_BYTES,
    IDENTITY_BYTES,
    event_key_of,
    identity_of,
)
from ctrail_pipeline.core.log_file.long_lines import (
    LARGEST_JOIN,
    EncodedLine,
    LongLine,
    UnbrokenLine,
)
from ctrail_pipeline.core.log_file.mapped_text import pieces_of
from ctrail_pipeline.core.log_file.records import CutLogFile, LogFileContent, Own, Rejected, cut_up
from ctrail_pipeline.core.log_file.streaming import StreamedLogFile
from ctrail_pipeline.core.output.staging import NewFile, NewParquetFile, Scatter, Staging
from ctrail_pipeline.core.output_files import Kind, StagedFile
from ctrail_pipeline.core.settings import Settings

from .fetch import FetchedLogFile

if TYPE_CHECKING:
    from ctrail_pipeline.core.output.parquet import ParquetFile

MOST_FOLDERS: Final = 500
"""Output partitions that one batch touches at most, a single log file's apart."""
PIECES_AT_ONCE: Final = 50_000
"""Records of a log file that are routed, compared and written at once: a kilobyte of memory each,
beside their text. Real log files have less."""
USUAL_HOURS_A_LOG_FILE: Final = 24
"""Output partitions that any log file may touch: real ones touch two or three."""
_BYTES_A_RECORD: Final = 640
"""What a record of a batch counts as at least: a shorter one takes more memory than its text."""
_HOUR_LENGTH: Final = len("2026/01/31/23")
_EVENT_KEY: Final = attrgetter("event_key")
_NAME: Final = attrgetter("name")
_OWN: Final = attrgetter("own")
_POSITION: Final = attrgetter("position")
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
    content: CutLogFile | StreamedLogFile | None
    state: LogFileState
    reason: str | None
    may_pass: bool
    whole: LogFileContent | None = None
    """All of the content; None where it is too much to be held at once."""

    @property
    def rounds(self) -> int:
        """How many parts its content has."""
        return 0 if self.content is None else self.content.rounds(PIECES_AT_ONCE)

    def part(self, number: int) -> LogFileContent | None:
        """The `number`-th part of its content, from 0; None behind the last."""
        if self.content is None or number >= self.rounds:
            return None
        if number == 0 and self.whole is not None:
            return self.whole
        return self.content.part(number, PIECES_AT_ONCE)


@dataclass(slots=True)
class BatchContent:
    """The log files of the batch in hand."""

    log_files: list[LogFileInBatch] = field(default_factory=list)
    bytes: int = 0
    """Of text, decompressed; where records are short, what they are reckoned at."""
    folders: set[Own] = field(default_factory=set)
    since: float = field(default_factory=time.monotonic)

    def add(self, fetched: FetchedLogFile) -> None:
        """Take a fetched log file in, split into records."""
        content: CutLogFile | StreamedLogFile | None = None
        whole = None
        state, reason = fetched.state, fetched.reason
        if fetched.content is not None:
            if isinstance(fetched.content, StreamedLogFile):
                content = fetched.content
            else:
                content = cut_up(fetched.content)
            if content.damage is not None:
                state, reason = LogFileState.DAMAGED, content.damage
            rounds = content.rounds(PIECES_AT_ONCE)
            records = rounds * PIECES_AT_ONCE
            if rounds == 1:
                whole = content.part(0, PIECES_AT_ONCE)
                records = len(whole.records) + len(whole.rejected)
                self.folders.update(map(_OWN, whole.records))
            self.bytes += max(content.size, records * _BYTES_A_RECORD)
        self.log_files.append(
            LogFileInBatch(
                fetched.ref,
                fetched.etag,
                fetched.size,
                content,
                state,
                reason,
                fetched.may_pass,
                whole,
            )
        )

    def has_room(self, fetched: FetchedLogFile, settings: Settings) -> bool:
        """Whether a log file fits in; a large one is a batch of its own."""
        size = fetched.content.size if fetched.content else 0
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


class _Line(msgspec.Struct, frozen=True, gc=False):
    """A line of the output: a Struct, as `Record` is, since there is one for each record."""

    line: bytes | LongLine
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
    """The lines of a batch by dedup partition, each once; and, by log file, what they come to.

    Where a log file of the batch is too large to be held at once, it goes through in rounds: the
    lines are those of one round, the counts those of all up to now.
    """

    groups: dict[str, dict[bytes, _Line]] = field(default_factory=dict)
    earlier: dict[str, list[NewSegment]] = field(default_factory=dict)
    """What the rounds before this one added to each dedup partition."""
    event_keys: dict[str, set[bytes]] = field(default_factory=dict)
    """Those of the round's new lines, by dedup partition."""
    places: "dict[int, _Places]" = field(default_factory=dict)
    records: dict[int, int] = field(default_factory=dict)
    """Events of each log file, new or not."""
    duplicates: dict[int, int] = field(default_factory=dict)
    quarantined: dict[int, int] = field(default_factory=dict)
    conflicts: dict[int, int] = field(default_factory=dict)
    bytes_out: dict[int, int] = field(default_factory=dict)
    """Bytes of the new lines of each log file."""
    with_lines: set[int] = field(default_factory=set)
    """Log files that new lines came from, of quarantine too."""
    times: dict[int, tuple[str, str]] = field(default_factory=dict)
    """First and last eventTime of each log file."""
    events_by_hour: Counter[str] = field(default_factory=Counter)
    """New events by the hour of their eventTime, `YYYY/MM/DD/HH`."""
    events_by_name: Counter[str] = field(default_factory=Counter)
    """New events by eventName."""

    def end_round(self, segments: Sequence[NewSegment]) -> None:
        """Count the round's new events, remember what it added, and let go of its lines."""
        for group in self.groups.values():
            lines = group.values()
            kind, folder = next(((line.kind, line.folder) for line in lines), (None, ""))
            if kind is Kind.EVENTS:  # a group is of one kind, and of one hour
                self.events_by_hour[folder[-_HOUR_LENGTH:]] += len(lines)
                self.events_by_name.update(map(_NAME, lines))
        for segment in segments:
            self.earlier.setdefault(segment.partition, []).append(segment)
        for group in self.groups.values():
            group.clear()


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
    return prepare(log_files, staging, known, settings)()


def prepare(
    log_files: Sequence[LogFileInBatch],
    staging: Staging,
    known: KnownIdentities,
    settings: Settings,
) -> Callable[[], Staged]:
    """The same up to what is left to be written, which the result does when it is called.

    That asks nothing of the ledger, so it may be another thread's to do.
    """
    routed = _Routed()
    files: list[StagedFile] = []
    segments: list[NewSegment] = []
    seen: dict[str, int] = {}
    misfits = 0
    last: list[NewFile | NewParquetFile] = []
    rounds = max((one.rounds for one in log_files), default=0)
    known.begin()
    for number in range(rounds):
        route(routed, _parts(log_files, number), settings, staging.scatter)
        drop_known(routed, known, seen)
        new: list[NewFile | NewParquetFile] = [*output_files(routed, settings.events_per_file)]
        if "parquet" in settings.output_formats:
            for file in _parquet_files(log_files, routed):
                new.append(NewParquetFile(file.folder, file.content, file.rows))
                misfits += file.misfits
        if number < rounds - 1:
            files += staging.write(new, first_part=len(files))
        else:
            last = new
        added = [
            build_segment(
                name,
                group.keys(),
                routed.event_keys[name],
                settings.bloom_false_positive,
            )
            for name, group in routed.groups.items()
            if group
        ]
        routed.end_round(added)
        segments += added
    staged = Staged(
        outcomes_of(log_files, routed),
        files,
        segments,
        seen,
        known.removed,
        sum(one.content.size for one in log_files if one.content),
        routed.events_by_hour,
        routed.events_by_name,
        misfits,
    )

    return lambda: staged._replace(files=[*files, *staging.write(last, first_part=len(files))])


_Part = tuple[int, LogFileInBatch, LogFileContent]
"""A log file's position in its batch, the log file, and a part of what it holds."""


def _parts(log_files: Sequence[LogFileInBatch], number: int) -> list[_Part]:
    """What a round is about: of nearly all log files there is one part only."""
    return [
        (position, one, part)
        for position, one in enumerate(log_files)
        if (part := one.part(number)) is not None
    ]


def route(routed: _Routed, parts: Sequence[_Part], settings: Settings, scatter: Scatter) -> None:
    """Sort records into dedup partitions; copies inside the round are dropped."""
    for position, one, part in parts:
        if position not in routed.places:
            place = one.ref.source.source_prefix
            routed.places[position] = _Places(routed.groups, place, settings, scatter)
        _route_log_file(routed, position, one, part)


def drop_known(routed: _Routed, known: KnownIdentities, seen: dict[str, int]) -> None:
    """Drop the lines that the ledger or an earlier round has, and count what the new ones come to.

    Notes in `seen` up to which segment each dedup partition was looked at, by the first round that
    did, for the commit to check.
    """
    for name, group in routed.groups.items():
        if not group:
            continue
        partition = known.partition(name)
        seen.setdefault(name, partition.version)
        dropped = partition.known_among(group.keys())
        for segment in routed.earlier.get(name, ()):
            dropped |= held_among(group.keys(), segment.identities)
        for identity in dropped:
            line = group.pop(identity)
            if line.kind is Kind.EVENTS:
                routed.duplicates[line.position] = routed.duplicates.get(line.position, 0) + 1
        lines = [line for line in group.values() if line.event_key]
        event_keys = set(map(_EVENT_KEY, lines))
        _count_conflicts(routed, name, lines, event_keys, partition)
        routed.event_keys[name] = event_keys


def _count_conflicts(
    routed: _Routed,
    name: str,
    lines: Sequence[_Line],
    event_keys: set[bytes],
    partition: DedupPartition,
) -> None:
    """Count new events whose eventID another one has too: a forgery, or AWS's mistake."""
    taken = partition.event_keys_among(event_keys)
    for segment in routed.earlier.get(name, ()):
        taken |= held_among(event_keys, segment.event_keys, EVENT_KEY_BYTES)
    if not taken and len(event_keys) == len(lines):
        return
    for line in lines:
        if line.event_key in taken:
            routed.conflicts[line.position] = routed.conflicts.get(line.position, 0) + 1
        taken.add(line.event_key)


def output_files(routed: _Routed, lines_a_file: int) -> list[NewFile]:
    """The files that hold a round's lines, in the order of their log files.

    Notes the log files that they came from, and counts, by log file, the bytes of its new events.
    """
    by_folder: dict[tuple[Kind, str], list[_Line]] = {}
    for group in routed.groups.values():
        folder = None
        together: list[_Line] = []
        for line in group.values():
            if line.folder is not folder:
                folder = line.folder
                together = by_folder.setdefault((line.kind, folder), [])
            together.append(line)
    files = []
    for (kind, folder), lines in by_folder.items():
        lines.sort(key=_POSITION)
        for at in range(0, len(lines), lines_a_file):
            some = lines[at : at + lines_a_file]
            texts = [line.line for line in some]
            runs = [(position, len(list(run))) for position, run in groupby(map(_POSITION, some))]
            files.append(NewFile(kind, folder, texts, runs))
            routed.with_lines.update(position for position, _ in runs)
            if kind is Kind.EVENTS:
                _count_bytes(routed, texts, runs)
    return files


def _count_bytes(
    routed: _Routed, texts: Sequence[bytes | LongLine], runs: Sequence[tuple[int, int]]
) -> None:
    sizes = map(len, texts)
    for position, lines in runs:
        size = sum(islice(sizes, lines)) + lines
        routed.bytes_out[position] = routed.bytes_out.get(position, 0) + size


def _parquet_files(log_files: Sequence[LogFileInBatch], routed: _Routed) -> Iterator["ParquetFile"]:
    """The events among a batch's lines once more, as rows."""
    # Here, as most runs write none: it costs each process 5 ms.
    from ctrail_pipeline.core.output.parquet import ParquetRecord, parquet_files, parquet_folder

    events = [
        line
        for group in routed.groups.values()
        for line in group.values()
        if line.kind is Kind.EVENTS
    ]
    folders = {folder: parquet_folder(folder) for folder in {line.folder for line in events}}
    records = [
        ParquetRecord(
            folders[line.folder], line.time, _bytes_of(line.line), line.position, line.index
        )
        for line in events
    ]
    sources = [(one.ref.source.source_prefix.bucket, one.ref.key) for one in log_files]
    return parquet_files(records, sources)


def _bytes_of(line: bytes | LongLine) -> bytes:
    return bytes(line) if isinstance(line, LongLine) else line


def outcomes_of(log_files: Sequence[LogFileInBatch], routed: _Routed) -> list[Outcome]:
    """What the ledger will say of each log file."""
    now = int(time.time())
    outcomes = []
    for position, one in enumerate(log_files):
        ref = one.ref
        attempts = 0 if one.state is LogFileState.COMMITTED else ref.attempts + 1
        outcomes.append(
            Outcome(
                source_id=ref.source.id,
                day=ref.day,
                name=ref.name,
                expected=ref.expected,
                etag=one.etag,
                size=one.size,
                sha256=one.content.sha256 if one.content else None,
                records=routed.records.get(position, 0),
                duplicates=routed.duplicates.get(position, 0),
                quarantined=routed.quarantined.get(position, 0),
                conflicts=routed.conflicts.get(position, 0),
                state=one.state,
                attempts=attempts,
                next_visit=next_visit(one.state, attempts, now),
                reason=one.reason,
                position=position,
                times=routed.times.get(position),
                bytes_out=routed.bytes_out.get(position, 0),
                may_pass=one.may_pass,
                has_lines=position in routed.with_lines,
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


_Target = tuple[dict[bytes, _Line], str] | str
"""The dedup group and the folder that records go to; or why they go to quarantine."""


class _Places:
    """Where the records of one log file go, as far as it may be scattered over hours.

    It may name as many hours as it has records, and each costs a folder and a file: whoever writes
    to the bucket could fill the disk with a million of them by a thousand small log files.
    """

    def __init__(
        self,
        groups: dict[str, dict[bytes, _Line]],
        place: SourcePrefix,
        settings: Settings,
        scatter: Scatter,
    ) -> None:
        self._groups = groups  # not what is routed: a cycle would keep all of it in memory
        self._place = place
        self._most = settings.max_hours_per_log_file
        self._most_new = settings.max_scattered_hours
        self._scatter = scatter
        self.found: dict[Own, _Target] = {}

    def find(self, own: Own) -> _Target:
        """The place of records with an account, region and hour that is not among the found."""
        if len(self.found) >= self._most:
            return f"scattered: the log file has records of more than {self._most} hours"
        target = self.found[own] = self._find(own)
        return target

    def _find(self, own: Own) -> _Target:
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
        return self._groups.setdefault(dedup_partition(*own), {}), folder


def _route_log_file(
    routed: _Routed, position: int, one: LogFileInBatch, content: LogFileContent
) -> None:
    places = routed.places[position]
    duplicates = unroutable = 0
    own: Own | None = None
    target: _Target = ""
    group: dict[bytes, _Line] | None = None
    folder = ""
    for record in content.records:
        if record.own is not own:
            own = record.own
            target = places.found.get(own) or places.find(own)
            group, folder = (None, "") if isinstance(target, str) else target
        if group is None:
            rejected = Rejected(record.index, "record", str(target), _data_of(record.line))
            _quarantine(routed, position, one, rejected)
            unroutable += 1
            continue
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
    records = len(content.records) - unroutable
    routed.records[position] = routed.records.get(position, 0) + records
    if duplicates:
        routed.duplicates[position] = routed.duplicates.get(position, 0) + duplicates
    if content.records:
        times = [record.time for record in content.records]
        times += routed.times.get(position, ())
        routed.times[position] = _noted(min(times)), _noted(max(times))


def _data_of(line: bytes | LongLine) -> memoryview:
    """A record that goes to quarantine."""
    return line.record if isinstance(line, UnbrokenLine) else memoryview(cast("bytes", line))


def _noted(time: str) -> str:
    """An eventTime for the ledger and for Dagster: a fraction may have a million digits."""
    return time if len(time) <= _LONGEST_TIME else f"{time[: _LONGEST_TIME - 1]}Z"


def _quarantine(routed: _Routed, position: int, one: LogFileInBatch, rejected: Rejected) -> None:
    """Put what cannot become an event where it is kept with where it came from, and why."""
    ref = one.ref
    folder = day_folder(ref.day).rstrip("/") if ref.day else "undated"
    bucket = ref.source.source_prefix.bucket
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


def _with_data(entry: bytes, data: bytes | memoryview) -> bytes | LongLine:
    """A JSON object with `data` as its last member: as text where that is readable, and short.

    JSON writes a NUL in six bytes: a log file of 256 MB of them (a gzip of 250 KB) would take
    1.5 GB of quarantine, and 3.6 GB of memory on the way there.
    """
    if len(data) <= _LONGEST_TEXT:
        try:
            text = json.dumps(bytes(data).decode()).encode()
        except UnicodeDecodeError:
            pass
        else:
            if len(text) <= _MOST_ESCAPED * len(data) + len('""'):
                return b'%s, "data": %s}' % (entry[:-1], text)
    head, tail = entry[:-1] + b', "data_base64": "', b'"}'
    if len(data) > LARGEST_JOIN:
        return EncodedLine(head, data, tail)
    return b"".join((head, base64.b64encode(data), tail))


def quarantine_identity(bucket: str, key: str, kind: str, data: bytes | memoryview) -> bytes:
    """What makes a line of quarantine the same as another one."""
    digest = sha256(b"\0".join((bucket.encode(), key.encode(), kind.encode(), b"")))
    for piece in pieces_of(data):
        digest.update(piece)
    return digest.digest()[:IDENTITY_BYTES]
