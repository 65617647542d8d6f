"""What verify found, as a table for a terminal.

Not here: findings and the other lines around the table (`verify_text`).
"""

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
    """Return a table: each trail, and below it its accounts and regions."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_footer=True)
    prefixes = sorted(
        report.prefixes, key=lambda prefix: (prefix.trail, prefix.source_prefix.label)
    )
    table.add_column("trail, account/region", f"all {len(prefixes)}", overflow="fold")
    for name, footer in zip(_SHOWN_COUNTS, _counts(prefixes), strict=True):
        table.add_column(name, footer, justify="right", no_wrap=True)
    for name in ("hours complete", "open"):
        table.add_column(name, justify="right", no_wrap=True)
    for trail, group in groupby(prefixes, key=lambda prefix: prefix.trail):
        of_trail = list(group)
        table.add_row(Text(trail, style="bold"), *_counts(of_trail), "", "", style="bold")
        for prefix in of_trail:
            hours = prefix.hours_by_state()
            contradicted = hours.get(HourState.CONTRADICTED, 0)
            complete = hours.get(HourState.LISTED_COMPLETE, 0) + hours.get(HourState.PROVED, 0)
            table.add_row(
                Text(
                    f"  {prefix.source_prefix.label}"
                    + ("" if prefix.is_listed else " (not listed)")
                ),
                *_counts([prefix]),
                f"{complete:,}",
                f"{hours.get(HourState.OPEN, 0):,}"
                + (f" [red]+{contradicted:,}[/]" if contradicted else ""),
            )
    return table


def _counts(prefixes: Sequence[PrefixReport]) -> list[str]:
    """Return sums over source prefixes, as cells of the table; bad counts are red."""
    sums = {name: sum(prefix.total(name) for prefix in prefixes) for name in _SHOWN_COUNTS}
    return [
        f"[red]{count:,}[/]" if count and name in _BAD else f"{count:,}"
        for name, count in sums.items()
    ]
