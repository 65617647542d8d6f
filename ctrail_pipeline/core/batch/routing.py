"""Sorts the records of a batch into dedup partitions and output partitions.

An event goes to the account, region and hour that it names itself; where it names no account or
region, the key's are taken. What has no usable partition goes to quarantine. Copies inside the
batch are dropped here; copies of what the ledger knows are dropped in `stage`.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Final, cast

import msgspec

from ctrail_pipeline.core.keys.key_time import day_folder
from ctrail_pipeline.core.keys.source_prefix import SourcePrefix, is_account, is_region
from ctrail_pipeline.core.ledger.dedup import (
    NewSegment,
    dedup_partition,
)
from ctrail_pipeline.core.log_file.identity import (
    event_key_of,
    identity_of,
)
from ctrail_pipeline.core.log_file.long_lines import (
    LongLine,
    UnbrokenLine,
)
from ctrail_pipeline.core.log_file.records import LogFileContent, Own, Rejected
from ctrail_pipeline.core.output.scatter_limit import ScatterLimit
from ctrail_pipeline.core.output_files import Kind
from ctrail_pipeline.core.settings import Settings

from .content import LogFileInBatch
from .quarantine import quarantine_identity, quarantine_line

USUAL_HOURS_A_LOG_FILE: Final = 24
"""Output partitions that any log file may touch: real ones touch two or three."""
_HOUR_LENGTH: Final = len("2026/01/31/23")
_NAME: Final = attrgetter("name")
_LONGEST_TIME: Final = len("2026-01-31T23:59:59.123456789Z")


class OutputLine(msgspec.Struct, frozen=True, gc=False):
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
class RoutedBatch:
    """The lines of a batch by dedup partition, each once; and, by log file, what they come to.

    Where a log file of the batch is too large to be held at once, it goes through in rounds: the
    lines are those of one round, the counts those of all up to now.
    """

    groups: dict[str, dict[bytes, OutputLine]] = field(default_factory=dict)
    earlier: dict[str, list[NewSegment]] = field(default_factory=dict)
    """What the rounds before this one added to each dedup partition."""
    event_keys: dict[str, set[bytes]] = field(default_factory=dict)
    """Those of the round's new lines, by dedup partition."""
    places: "dict[int, LogFileTargets]" = field(default_factory=dict)
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


LogFilePart = tuple[int, LogFileInBatch, LogFileContent]
"""A log file's position in its batch, the log file, and a part of what it holds."""


def parts_of_round(log_files: Sequence[LogFileInBatch], number: int) -> list[LogFilePart]:
    """What a round is about: of nearly all log files there is one part only."""
    return [
        (position, one, part)
        for position, one in enumerate(log_files)
        if (part := one.part(number)) is not None
    ]


def route(
    routed: RoutedBatch, parts: Sequence[LogFilePart], settings: Settings, scatter: ScatterLimit
) -> None:
    """Sort records into dedup partitions; copies inside the round are dropped."""
    for position, one, part in parts:
        if position not in routed.places:
            place = one.ref.source.source_prefix
            routed.places[position] = LogFileTargets(routed.groups, place, settings, scatter)
        _route_log_file(routed, position, one, part)


_Target = tuple[dict[bytes, OutputLine], str] | str
"""The dedup group and the folder that records go to; or why they go to quarantine."""


class LogFileTargets:
    """Where the records of one log file go, as far as it may be scattered over hours.

    It may name as many hours as it has records, and each costs a folder and a file: whoever writes
    to the bucket could fill the disk with a million of them by a thousand small log files.
    """

    def __init__(
        self,
        groups: dict[str, dict[bytes, OutputLine]],
        place: SourcePrefix,
        settings: Settings,
        scatter: ScatterLimit,
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
    routed: RoutedBatch, position: int, one: LogFileInBatch, content: LogFileContent
) -> None:
    places = routed.places[position]
    duplicates = unroutable = 0
    own: Own | None = None
    target: _Target = ""
    group: dict[bytes, OutputLine] | None = None
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
            group[identity] = OutputLine(
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


def _quarantine(
    routed: RoutedBatch, position: int, one: LogFileInBatch, rejected: Rejected
) -> None:
    """Put what cannot become an event where it is kept with where it came from, and why."""
    ref = one.ref
    folder = day_folder(ref.day).rstrip("/") if ref.day else "undated"
    bucket = ref.source.source_prefix.bucket
    identity = quarantine_identity(bucket, ref.key, rejected.kind, rejected.data)
    group = routed.groups.setdefault(f"quarantine/{folder}", {})
    routed.quarantined[position] = routed.quarantined.get(position, 0) + 1
    if identity not in group:
        line = quarantine_line(bucket, ref.key, one.etag, rejected)
        group[identity] = OutputLine(line, position, Kind.QUARANTINE, folder)
