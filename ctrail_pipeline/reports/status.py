"""How far each trail is, from the ledger alone: for people, as JSON, and for Prometheus.

Nothing is listed and nothing is written. A cursor is the end of the newest stretch of key time that
is wholly done; where nothing is delivered it stands still, so its lag is no failure by itself.
"""

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from datetime import datetime
from itertools import groupby
from typing import TYPE_CHECKING, Any

from ctrail_pipeline.core.keys.coverage import cursor
from ctrail_pipeline.core.keys.key_time import datetime_of
from ctrail_pipeline.core.keys.source_prefix import SourcePrefix
from ctrail_pipeline.core.ledger.ledger import Ledger
from ctrail_pipeline.core.ledger.queries_reports import (
    open_by_source,
    output_sizes,
    quarantined_by_source,
)
from ctrail_pipeline.core.ledger.rows import LogFileState, OutputSize
from ctrail_pipeline.core.ledger.source_prefixes import covered_ranges, source_ids, source_totals
from ctrail_pipeline.core.opening import check_belongs
from ctrail_pipeline.core.output_files import Kind
from ctrail_pipeline.core.settings import Settings

if TYPE_CHECKING:
    from rich.table import Table

NOT_CONFIGURED = "(not configured)"


@dataclass(frozen=True)
class PartitionStatus:
    """One account and region of a trail."""

    trail: str
    account: str
    region: str
    cursor: datetime | None
    """None: nothing of it is wholly done yet."""
    lag_seconds: float | None
    log_files: int
    """Committed."""
    events: int
    """That it brought, duplicates apart; pruned ones too."""
    newest_event: str | None
    failed: int
    """Log files that failed or whose output was lost: to be done again."""
    damaged: int
    waiting: int
    """Log files that a look at the bucket found, and no run has fetched yet."""
    archived: int
    gone: int
    quarantined: int
    """Records in quarantine."""


@dataclass(frozen=True)
class OutputStatus:
    """What lies on disk of one account and region, whichever trail it came from."""

    account: str
    region: str
    files: int
    events: int
    bytes: int
    pruned_files: int
    parquet_files: int
    parquet_bytes: int
    """The files in `parquet_dir`, which hold the same events."""


@dataclass(frozen=True)
class Status:
    """Everything that is shown."""

    partitions: list[PartitionStatus] = field(default_factory=list)
    output: list[OutputStatus] = field(default_factory=list)
    quarantine_bytes: int = 0
    ledger_bytes: int = 0
    never_synced: list[str] = field(default_factory=list)
    """Configured trails of which the ledger knows nothing."""

    @property
    def stands_open(self) -> int:
        """Log files that failed or are damaged."""
        return sum(one.failed + one.damaged for one in self.partitions)


def read_status(settings: Settings) -> Status:
    """The status as the ledger has it. Raises LedgerError if it cannot be trusted or read."""
    if not settings.state_db.exists():
        return Status(never_synced=[trail.name for trail in settings.trails])
    with closing(Ledger(settings.state_db)) as ledger:
        check_belongs(ledger, settings.events_dir)
        partitions = list(_partitions(settings, ledger))
        parquet = {size.folder: size for size in output_sizes(ledger, Kind.PARQUET)}
        nothing = OutputSize("", 0, 0, 0, 0)
        output = [
            _output(size, parquet.get(size.folder, nothing))
            for size in output_sizes(ledger, Kind.EVENTS)
        ]
        quarantine = sum(size.bytes for size in output_sizes(ledger, Kind.QUARANTINE))
    files = (settings.state_db, settings.state_db.with_name(f"{settings.state_db.name}-wal"))
    names = {one.trail for one in partitions}
    return Status(
        sorted(partitions, key=lambda one: (one.trail, one.account, one.region)),
        output,
        quarantine,
        sum(path.stat().st_size for path in files if path.exists()),
        [trail.name for trail in settings.trails if trail.name not in names],
    )


def _partitions(settings: Settings, ledger: Ledger) -> Iterator[PartitionStatus]:
    trails = {(trail.bucket, trail.prefix): trail.name for trail in settings.trails}
    coverage, totals = covered_ranges(ledger), source_totals(ledger)
    opened, quarantined = open_by_source(ledger), quarantined_by_source(ledger)
    now = time.time()
    for source, id_ in source_ids(ledger).items():
        end = cursor(coverage.get(id_, []))
        states = opened.get(id_, {})
        yield PartitionStatus(
            trails.get((source.bucket, source.prefix)) or _unknown(source),
            source.account,
            source.region,
            None if end is None else datetime_of(end),
            None if end is None else max(0.0, now - end * 60),
            totals[id_].log_files,
            totals[id_].events,
            totals[id_].last_event,
            states.get(LogFileState.FAILED, 0) + states.get(LogFileState.LOST, 0),
            states.get(LogFileState.DAMAGED, 0),
            states.get(LogFileState.FOUND, 0),
            states.get(LogFileState.ARCHIVED, 0),
            states.get(LogFileState.GONE, 0),
            quarantined.get(id_, 0),
        )


def _unknown(source: SourcePrefix) -> str:
    prefix = f"/{source.prefix}" if source.prefix else ""
    return f"{NOT_CONFIGURED} {source.bucket}{prefix}"


def _output(size: OutputSize, parquet: OutputSize) -> OutputStatus:
    account, _, region = size.folder.partition("/")
    return OutputStatus(
        account,
        region,
        size.files,
        size.lines,
        size.bytes,
        size.pruned_files + parquet.pruned_files,
        parquet.files,
        parquet.bytes,
    )


# --- for machines ---------------------------------------------------------------------------------


def as_json(status: Status) -> dict[str, Any]:
    """The status as JSON has it."""
    plain = asdict(status)
    for one in plain["partitions"]:
        one["cursor"] = one["cursor"] and one["cursor"].strftime("%Y-%m-%dT%H:%MZ")
        one["lag_seconds"] = one["lag_seconds"] and round(one["lag_seconds"])
    return plain


def as_prometheus(status: Status) -> str:
    """The status in Prometheus's text format, for node_exporter's textfile collector."""
    lines: list[str] = []

    def metric(
        name: str, text: str, samples: Iterable[tuple[Sequence[tuple[str, str]], float | None]]
    ) -> None:
        known = [(labels, value) for labels, value in samples if value is not None]
        if known:
            lines.extend((f"# HELP {name} {text}", f"# TYPE {name} gauge"))
        for labels, value in known:
            shown = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels)
            lines.append(f"{name}{f'{{{shown}}}' if shown else ''} {value:.0f}")

    def of_partitions(name: str, text: str, values: Iterable[float | None]) -> None:
        metric(name, text, zip(places, values, strict=True))

    places = [
        (("trail", one.trail), ("account", one.account), ("region", one.region))
        for one in status.partitions
    ]
    of_partitions(
        "ctrail_cursor_timestamp_seconds",
        "End of the newest stretch of log file time that is wholly done.",
        [one.cursor.timestamp() if one.cursor else None for one in status.partitions],
    )
    of_partitions(
        "ctrail_newest_event_timestamp_seconds",
        "Time of the newest event.",
        [_seconds(one.newest_event) for one in status.partitions],
    )
    of_partitions(
        "ctrail_log_files", "Log files committed.", [one.log_files for one in status.partitions]
    )
    of_partitions(
        "ctrail_events",
        "Events brought, duplicates apart.",
        [one.events for one in status.partitions],
    )
    metric(
        "ctrail_log_files_open",
        "Log files that are not committed, by state.",
        [
            ((*place, ("state", state)), getattr(one, state))
            for place, one in zip(places, status.partitions, strict=True)
            for state in ("failed", "damaged", "waiting", "archived", "gone")
        ],
    )
    of_partitions(
        "ctrail_quarantined_records",
        "Records in quarantine.",
        [one.quarantined for one in status.partitions],
    )
    metric(
        "ctrail_output_bytes",
        "Bytes of event files on disk.",
        [((("account", one.account), ("region", one.region)), one.bytes) for one in status.output],
    )
    metric(
        "ctrail_parquet_bytes",
        "Bytes of Parquet files on disk.",
        [
            ((("account", one.account), ("region", one.region)), one.parquet_bytes)
            for one in status.output
        ],
    )
    metric("ctrail_quarantine_bytes", "Bytes of quarantine files.", [((), status.quarantine_bytes)])
    metric("ctrail_ledger_bytes", "Bytes of the ledger.", [((), status.ledger_bytes)])
    metric("ctrail_status_timestamp_seconds", "When this was written.", [((), time.time())])
    return "".join(f"{line}\n" for line in lines)


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _seconds(event_time: str | None) -> float | None:
    try:
        return None if event_time is None else datetime.fromisoformat(event_time).timestamp()
    except ValueError:
        return None


# --- for people -----------------------------------------------------------------------------------


def as_table(status: Status) -> "Table":
    """The status as a table for a terminal: each trail, and below it its accounts and regions."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_footer=True)
    disk = {(one.account, one.region): one.bytes + one.parquet_bytes for one in status.output}
    everything = [*_counts(status.partitions), size(sum(disk.values()))]
    table.add_column("trail, account/region", f"all {len(status.partitions)}", overflow="fold")
    table.add_column("cursor (UTC)", no_wrap=True)
    table.add_column("lag", justify="right", no_wrap=True)
    for name, footer in zip((*_COUNTED, "disk"), everything, strict=True):
        table.add_column(name.replace("_", " "), footer, justify="right", no_wrap=True)
    for trail, group in groupby(status.partitions, key=lambda one: one.trail):
        partitions = list(group)
        table.add_row(Text(trail, style="bold"), "", "", *_counts(partitions), style="bold")
        for one in partitions:
            table.add_row(
                f"  {one.account}/{one.region}",
                "–" if one.cursor is None else f"{one.cursor:%Y-%m-%d %H:%M}",
                "–" if one.lag_seconds is None else duration(one.lag_seconds),
                *_counts([one]),
                size(disk.get((one.account, one.region), 0)),
            )
    return table


_COUNTED = ("log_files", "events", "failed", "damaged", "quarantined")
_BAD = _COUNTED[2:]


def _counts(partitions: Sequence[PartitionStatus]) -> list[str]:
    sums = {name: sum(getattr(one, name) for one in partitions) for name in _COUNTED}
    return [
        f"[red]{count:,}[/]" if count and name in _BAD else f"{count:,}"
        for name, count in sums.items()
    ]


def notes(status: Status) -> list[str]:
    """What else is to be said, a line each."""
    lines = [f"{name}: not synced yet" for name in status.never_synced]
    waiting = sum(one.waiting for one in status.partitions)
    archived = sum(one.archived for one in status.partitions)
    gone = sum(one.gone for one in status.partitions)
    pruned = sum(one.pruned_files for one in status.output)
    if waiting:
        lines.append(f"{waiting:,} log files were found by the sensor; the next sync fetches them")
    if archived:
        lines.append(f"{archived:,} log files are archived: restore them, then sync again")
    if gone:
        lines.append(f"{gone:,} log files were deleted from their bucket before they were read")
    if pruned:
        lines.append(f"{pruned:,} output files were pruned; events counts them still")
    lines.append(
        f"ledger {size(status.ledger_bytes)}, quarantine {size(status.quarantine_bytes)}; disk is"
        " by account and region of the events, whichever trail brought them"
    )
    return lines


def size(number: float) -> str:
    """Bytes for people."""
    for unit in ("B", "kB", "MB", "GB"):
        if number < 1000:
            return f"{number:.0f} {unit}"
        number /= 1000
    return f"{number:.1f} TB"


def duration(seconds: float) -> str:
    """A length of time in two figures or so."""
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"
