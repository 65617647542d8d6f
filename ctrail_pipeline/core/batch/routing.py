"""Sorts the records of a batch into dedup partitions and output partitions.

An event goes to the folder of the account that received it: the recipient that it names, else the
key's account, else the caller's. Region and hour are those that it names; the key's region stands
in for a missing one. Its dedup partition follows a rule of its own (`dedup_partition`). A record
without a usable output partition goes to quarantine. Copies inside the batch are dropped here;
copies of what the ledger knows are dropped in `duplicates`.
"""

from collections.abc import Sequence
from typing import Final, cast

from ctrail_pipeline.core.keys.minutes import day_folder
from ctrail_pipeline.core.keys.source_prefix import SourcePrefix, is_account, is_region
from ctrail_pipeline.core.ledger.dedup_partition import dedup_partition
from ctrail_pipeline.core.log_file.identity import event_key_of, identity_of
from ctrail_pipeline.core.log_file.lines import Line, UnbrokenLine
from ctrail_pipeline.core.log_file.record import LogFileContent, Rejected, RoutingFields
from ctrail_pipeline.core.output.scatter_limit import ScatterLimit
from ctrail_pipeline.core.output_files import Kind
from ctrail_pipeline.core.settings import Settings

from .content import LogFileInBatch
from .quarantine import quarantine_identity, quarantine_line
from .routed_batch import OutputLine, RoutedBatch

USUAL_HOURS_A_LOG_FILE: Final = 24
"""Output partitions that any log file may touch. Real log files touch two or three."""
_LONGEST_TIME: Final = len("2026-01-31T23:59:59.123456789Z")

_Target = tuple[dict[bytes, OutputLine], str] | str
"""The dedup group and the folder that records go to; or why they go to quarantine."""


class Router:
    """Routes the records of one batch."""

    def __init__(
        self, routed: RoutedBatch, settings: Settings, scatter_limit: ScatterLimit
    ) -> None:
        self._routed = routed
        self._settings = settings
        self._scatter_limit = scatter_limit
        self._targets: dict[int, LogFileTargets] = {}
        """Targets by the position of their log file in the batch."""

    def route(self, log_files: Sequence[LogFileInBatch], number: int) -> None:
        """Sort the records of a round into dedup partitions; drop copies inside the round.

        Nearly all log files have one part, and so take part in the first round only.
        """
        for position, log_file in enumerate(log_files):
            part = log_file.part(number)
            if part is None:
                continue
            targets = self._targets.get(position)
            if targets is None:
                targets = self._targets[position] = LogFileTargets(
                    self._routed.groups,
                    log_file.ref.source.source_prefix,
                    self._settings,
                    self._scatter_limit,
                )
            _route_log_file(self._routed, position, log_file, part, targets)


class LogFileTargets:
    """Where the records of one log file go, as far as they may be scattered over hours.

    A log file may name as many hours as it has records, and each hour costs a folder and a file.
    Whoever writes to the bucket could fill the disk with a million folders by a thousand small log
    files.
    """

    def __init__(
        self,
        groups: dict[str, dict[bytes, OutputLine]],
        source_prefix: SourcePrefix,
        settings: Settings,
        scatter_limit: ScatterLimit,
    ) -> None:
        self._groups = groups
        self._source_prefix = source_prefix
        self._limit = settings.max_hours_per_log_file
        self._new_limit = settings.max_scattered_hours
        self._scatter_limit = scatter_limit
        self.found: dict[RoutingFields, _Target] = {}
        """Targets by the account, region and hour that records name."""

    def find(self, routing: RoutingFields) -> _Target:
        """Find the target of records whose account, region and hour are not among the found."""
        if len(self.found) >= self._limit:
            return f"scattered: the log file has records of more than {self._limit} hours"
        target = self.found[routing] = self._find(routing)
        return target

    def _find(self, routing: RoutingFields) -> _Target:
        recipient, caller, own_region, hour = routing
        key = self._source_prefix
        account = recipient or (key.account if is_account(key.account) else caller)
        region = own_region or (key.region if is_region(key.region) else None)
        if account is None:
            return "no usable account in the record or in the key"
        if region is None:
            return "no usable region in the record or in the key"
        folder = f"{account}/{region}/{hour}"
        is_usual = len(self.found) < USUAL_HOURS_A_LOG_FILE
        if not (is_usual or self._scatter_limit.allows(folder, self._new_limit)):
            return f"scattered: more than {self._new_limit} new hours in log files of many"
        partition = dedup_partition(routing.dedup_account, own_region, hour)
        return self._groups.setdefault(partition, {}), folder


def _route_log_file(
    routed: RoutedBatch,
    position: int,
    log_file: LogFileInBatch,
    part: LogFileContent,
    targets: LogFileTargets,
) -> None:
    duplicates = unroutable = 0
    routing: RoutingFields | None = None
    target: _Target = ""
    group: dict[bytes, OutputLine] | None = None
    folder = ""
    for record in part.records:
        if record.routing is not routing:
            routing = record.routing
            target = targets.found.get(routing) or targets.find(routing)
            group, folder = (None, "") if isinstance(target, str) else target
        if group is None:
            rejected = Rejected(record.index, "record", str(target), _data_of(record.line))
            _quarantine(routed, position, log_file, rejected)
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
    for rejected in part.rejected:
        _quarantine(routed, position, log_file, rejected)
    routed.newlines_replaced += part.newlines_replaced
    records = len(part.records) - unroutable
    routed.records[position] = routed.records.get(position, 0) + records
    if duplicates:
        routed.duplicates[position] = routed.duplicates.get(position, 0) + duplicates
    if part.records:
        times = [record.time for record in part.records]
        times += routed.times.get(position, ())
        routed.times[position] = _shortened(min(times)), _shortened(max(times))


def _quarantine(
    routed: RoutedBatch, position: int, log_file: LogFileInBatch, rejected: Rejected
) -> None:
    """Put what cannot become an event among the lines of quarantine, once."""
    ref = log_file.ref
    folder = day_folder(ref.day).rstrip("/") if ref.day else "undated"
    bucket = ref.source.source_prefix.bucket
    identity = quarantine_identity(bucket, ref.key, rejected.kind, rejected.data)
    group = routed.groups.setdefault(f"quarantine/{folder}", {})
    routed.quarantined[position] = routed.quarantined.get(position, 0) + 1
    routed.first_reasons.setdefault(position, rejected.reason)
    if identity not in group:
        line = quarantine_line(bucket, ref.key, log_file.etag, rejected)
        group[identity] = OutputLine(line, position, Kind.QUARANTINE, folder)


def _data_of(line: Line) -> memoryview:
    """Return the bytes of a record that goes to quarantine."""
    return line.record if isinstance(line, UnbrokenLine) else memoryview(cast("bytes", line))


def _shortened(time: str) -> str:
    """Shorten an eventTime for the ledger and for Dagster: a fraction may have a million digits."""
    return time if len(time) <= _LONGEST_TIME else f"{time[: _LONGEST_TIME - 1]}Z"
