"""The status as a table for a terminal, and the notes below it."""

from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from .status import PartitionStatus, Status
from .units import duration, size

if TYPE_CHECKING:
    from rich.table import Table


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
