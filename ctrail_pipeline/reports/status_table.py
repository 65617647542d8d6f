"""The status as a table for a terminal, and the notes below it."""

from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from .left_aside import left_aside_text
from .queue_status import queue_lines
from .sentences import open_lines
from .status import PartitionStatus, Status
from .units import duration, size

if TYPE_CHECKING:
    from rich.table import Table


_COUNTED = ("log_files", "events", "failed", "damaged", "quarantined")
_BAD = _COUNTED[2:]
_REASONS_NAMED = 10


def as_table(status: Status) -> "Table":
    """Return a table: each trail, and below it its accounts and regions."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_footer=True)
    disk = {
        (output.account, output.region): output.bytes + output.parquet_bytes
        for output in status.output
    }
    footers = [*_counts(status.partitions), size(sum(disk.values()))]
    table.add_column("trail, account/region", f"all {len(status.partitions)}", overflow="fold")
    table.add_column("cursor (UTC)", no_wrap=True)
    table.add_column("lag", justify="right", no_wrap=True)
    for name, footer in zip((*_COUNTED, "disk"), footers, strict=True):
        table.add_column(name.replace("_", " "), footer, justify="right", no_wrap=True)
    for trail, group in groupby(status.partitions, key=lambda partition: partition.trail):
        partitions = list(group)
        table.add_row(Text(trail, style="bold"), "", "", *_counts(partitions), style="bold")
        for partition in partitions:
            table.add_row(
                f"  {partition.account}/{partition.region}",
                "–" if partition.cursor is None else f"{partition.cursor:%Y-%m-%d %H:%M}",
                "–" if partition.lag_seconds is None else duration(partition.lag_seconds),
                *_counts([partition]),
                size(disk.get((partition.account, partition.region), 0)),
            )
    return table


def notes(status: Status) -> list[str]:
    """Return what the table does not show, a line each."""
    lines = [f"{name}: not synced yet" for name in status.never_synced]
    waiting = sum(partition.waiting for partition in status.partitions)
    archived = sum(partition.archived for partition in status.partitions)
    gone = sum(partition.gone for partition in status.partitions)
    accepted = sum(partition.accepted for partition in status.partitions)
    pruned = sum(output.pruned_files for output in status.output)
    if waiting:
        lines.append(f"{waiting:,} log files were found by the sensor; the next sync fetches them")
    lines += queue_lines(status.queues, sum(partition.missed for partition in status.partitions))
    lines += open_lines(status.open_log_files, _REASONS_NAMED)
    lines += [f"lost: {lost}" for lost in status.lost_files]
    if archived:
        lines.append(
            f"{archived:,} log files are archived: restore them in S3; syncs look for them once a"
            " day"
        )
    if gone:
        lines.append(f"{gone:,} log files were deleted from their bucket before they were read")
    if status.left_aside:
        lines.append(left_aside_text(status.left_aside))
    if accepted:
        lines.append(
            f"{accepted:,} log files are accepted as they are, with what they lack: `ctrail accept"
            " --list` shows them"
        )
    if pruned:
        lines.append(
            f"{pruned:,} output files were pruned; the column events still counts their events"
        )
    if (lacking := status.not_in_parquet) and lacking.events:
        text = f"{lacking.events:,} events are not in Parquet"
        if lacking.perhaps:
            text += f" (some of {lacking.perhaps:,} may be, which the ledger does not know)"
        lines.append(f"{text}: `ctrail parquet` writes them")
    if cold := status.ledger_cold_bytes:
        years = ", ".join(f"{size(cold[year])} of {year}" for year in sorted(cold))
        lines.append(
            f"cold rows of the ledger, by year: {years}; hot ones:"
            f" {size(status.ledger_bytes - sum(cold.values()))}"
        )
    lines.append(
        f"ledger {size(status.ledger_bytes)}, quarantine {size(status.quarantine_bytes)}; disk is"
        " by account and region of the events, whichever trail brought them"
    )
    return lines


def _counts(partitions: Sequence[PartitionStatus]) -> list[str]:
    """Return sums over partitions, as cells of the table; bad ones are red."""
    sums = {name: sum(getattr(partition, name) for partition in partitions) for name in _COUNTED}
    return [
        f"[red]{count:,}[/]" if count and name in _BAD else f"{count:,}"
        for name, count in sums.items()
    ]
