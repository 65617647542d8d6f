"""What verify found, as a table for a terminal."""

from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Final

from ctrail_pipeline.core.audit.compare_report import PrefixReport, Report
from ctrail_pipeline.core.audit.findings import HourState

if TYPE_CHECKING:
    from rich.table import Table

_SHOWN_COUNTS: Final = ("listed", "committed", "failed", "damaged", "missing", "new", "expired")
_BAD: Final = frozenset({"failed", "damaged", "missing", "archived"})


def as_table(report: Report) -> "Table":
    """The report as a table for a terminal: each trail, and below it its accounts and regions."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_footer=True)
    parts = sorted(report.prefixes, key=lambda one: (one.trail, one.source_prefix.partition_key))
    table.add_column("trail, account/region", f"all {len(parts)}", overflow="fold")
    for name, footer in zip(_SHOWN_COUNTS, _counts(parts), strict=True):
        table.add_column(name, footer, justify="right", no_wrap=True)
    for name in ("hours complete", "open"):
        table.add_column(name, justify="right", no_wrap=True)
    for trail, group in groupby(parts, key=lambda one: one.trail):
        some = list(group)
        table.add_row(Text(trail, style="bold"), *_counts(some), "", "", style="bold")
        for one in some:
            hours = one.hours_by_state()
            bad = hours.get(HourState.CONTRADICTED, 0)
            well = hours.get(HourState.LISTED_COMPLETE, 0) + hours.get(HourState.PROVED, 0)
            table.add_row(
                Text(
                    f"  {one.source_prefix.partition_key}"
                    + ("" if one.is_listed else " (not listed)")
                ),
                *_counts([one]),
                f"{well:,}",
                f"{hours.get(HourState.OPEN, 0):,}" + (f" [red]+{bad:,}[/]" if bad else ""),
            )
    return table


def _counts(partitions: Sequence[PrefixReport]) -> list[str]:
    sums = {name: sum(one.total(name) for one in partitions) for name in _SHOWN_COUNTS}
    return [
        f"[red]{count:,}[/]" if count and name in _BAD else f"{count:,}"
        for name, count in sums.items()
    ]
