"""What a reconcile found, in words: for a terminal, as JSON, and for Dagster's run page.

The picture is `verify_html`'s; what is found, and what it means, is `core`'s.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from itertools import groupby
from typing import TYPE_CHECKING, Any, Final

from ctrail_pipeline.core.audit.compare_report import COUNTS, PartitionReport, Report
from ctrail_pipeline.core.audit.findings import (
    EXPLANATIONS,
    Finding,
    FindingKind,
    HourState,
    Severity,
)
from ctrail_pipeline.core.keys.key_time import MINUTES_PER_DAY, MINUTES_PER_HOUR, datetime_of

from .sentences import problem_line
from .status import size

if TYPE_CHECKING:
    from rich.table import Table

_NAMED: Final = 10
"""Findings of a kind that a terminal or a run's message names; JSON and HTML have more."""
_SHOWN_COUNTS: Final = ("listed", "committed", "failed", "damaged", "missing", "new", "expired")
_BAD: Final = frozenset({"failed", "damaged", "missing", "archived"})


def shown(text: str) -> str:
    """Text from a bucket as a person may see it: nothing in it moves a cursor or turns a line."""
    return "".join(one if one.isprintable() else f"\\u{ord(one):04x}" for one in text)


def day_text(day: int) -> str:
    """`YYYY-MM-DD` of days since 1970; of 0, that it is none."""
    return f"{datetime_of(day * MINUTES_PER_DAY):%Y-%m-%d}" if day else "no date"


def hours_text(hours: tuple[int, int] | None) -> str:
    """The hours that a finding touches."""
    if hours is None:
        return ""
    start, end = (datetime_of(hour * MINUTES_PER_HOUR) for hour in hours)
    return f"{start:%Y-%m-%d %H:00}" + (
        "" if hours[1] - hours[0] == 1 else f" to {end:%m-%d %H:00}"
    )


def summary_line(report: Report) -> str:
    """One sentence on what was compared and found."""
    output = report.output
    how = "by every byte" if report.deep else "by size"
    text = (
        f"{report.total('listed'):,} log files listed, {report.total('committed'):,} committed,"
        f" {report.total('missing'):,} missing, {report.total('failed'):,} failed,"
        f" {report.total('damaged'):,} damaged; {output.files:,} output files compared {how}:"
        f" {output.missing:,} missing, {output.altered:,} altered, {output.foreign:,} foreign"
    )
    if report.digests:
        text += (
            f"; {report.digests:,} digests, {report.digests_sound:,} of them sound:"
            f" {report.log_files_proved:,} log files proved"
        )
    if report.queued:
        text += f"; {report.queued:,} log files are queued for the next sync"
    return text


def notes(report: Report) -> list[str]:
    """What else is to be said, a line each."""
    lines = []
    new, expired = report.total("new"), report.total("expired")
    archived, strays = report.total("archived"), report.output.others
    if new:
        lines.append(f"{new:,} log files came in within the last hour: the next sync's work")
    if expired:
        lines.append(
            f"{expired:,} committed log files are no longer in the bucket: normal where a"
            " lifecycle rule removes old ones"
        )
    if archived:
        lines.append(f"{archived:,} log files are archived: restore them, then sync again")
    if strays:
        lines.append(f"{strays:,} other files lie in the output folders: no harm")
    lines += [problem_line(problem) for problem in report.problems]
    return lines


def by_kind(report: Report) -> Iterator[tuple[FindingKind, int, list[Finding]]]:
    """Findings by kind, the gravest first: how many, and those that are named."""
    order = list(Severity)
    kinds = sorted(report.counts, key=lambda kind: order.index(EXPLANATIONS[kind].severity))
    for kind in kinds:
        yield kind, report.counts[kind], [one for one in report.findings if one.kind is kind]


def finding_lines(report: Report, kinds: Iterable[FindingKind] | None = None) -> list[str]:
    """Each kind of finding with what it means and what to do, and some of its findings."""
    chosen = None if kinds is None else set(kinds)
    lines = []
    for kind, count, named in by_kind(report):
        if chosen is not None and kind not in chosen:
            continue
        explanation = EXPLANATIONS[kind]
        lines.append(
            f"{explanation.severity.value.upper()}: {kind.value} ({count:,}):"
            f" {explanation.meaning}. What to do: {explanation.advice}"
        )
        lines += [f"  {shown(one.where)}: {shown(one.detail)}" for one in named[:_NAMED]]
        if count > _NAMED:
            lines.append(f"  and {count - min(count, _NAMED):,} more")
    return lines


# --- for machines ---------------------------------------------------------------------------------


def as_json(report: Report) -> dict[str, Any]:
    """The report as JSON has it. Keys are only ever added."""
    return {
        "ok": report.is_complete,
        "at": report.at.isoformat(timespec="seconds"),
        "deep": report.deep,
        "seconds": round(report.seconds, 3),
        "list_requests": report.requests,
        "queued": report.queued,
        "digests": report.digests,
        "digests_sound": report.digests_sound,
        "log_files_proved": report.log_files_proved,
        "totals": {name: report.total(name) for name in COUNTS},
        "output": asdict(report.output),
        "partitions": [_partition(one) for one in report.partitions],
        "finding_counts": {kind.value: count for kind, count in report.counts.items()},
        "findings": [_finding(one) for one in report.findings],
        "problems": [problem_line(problem) for problem in report.problems],
    }


def _partition(one: PartitionReport) -> dict[str, Any]:
    return {
        "trail": one.trail,
        "account": one.place.account,
        "region": one.place.region,
        "listed_to_its_end": one.is_listed,
        **{name: one.total(name) for name in COUNTS},
        "hours": {state.value: count for state, count in one.hours_by_state().items()},
        "hour_ranges": [
            {
                "start": _hour(item.start),
                "end": _hour(item.end),
                "state": item.state.value,
            }
            for item in one.hours
        ],
        "days": [
            {
                "day": day_text(number) if number else None,
                "status": _status(one, number),
                **{name: getattr(day, name) for name in COUNTS if getattr(day, name)},
            }
            for number, day in sorted(one.days.items())
        ],
    }


def _status(one: PartitionReport, number: int) -> str | None:
    status = one.status_of(number)
    return None if status is None else status.value


def _finding(one: Finding) -> dict[str, Any]:
    explanation = EXPLANATIONS[one.kind]
    return {
        "kind": one.kind.value,
        "severity": explanation.severity.value,
        "trail": one.trail,
        "partition": one.partition,
        "where": one.where,
        "detail": one.detail,
        "hours": None if one.hours is None else [_hour(hour) for hour in one.hours],
        "meaning": explanation.meaning,
        "advice": explanation.advice,
    }


def _hour(hour: int) -> str:
    return f"{datetime_of(hour * MINUTES_PER_HOUR):%Y-%m-%dT%H:00Z}"


# --- for people -----------------------------------------------------------------------------------


def as_table(report: Report) -> "Table":
    """The report as a table for a terminal: each trail, and below it its accounts and regions."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_footer=True)
    parts = sorted(report.partitions, key=lambda one: (one.trail, one.place.partition_key))
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
                Text(f"  {one.place.partition_key}" + ("" if one.is_listed else " (not listed)")),
                *_counts([one]),
                f"{well:,}",
                f"{hours.get(HourState.OPEN, 0):,}" + (f" [red]+{bad:,}[/]" if bad else ""),
            )
    return table


def _counts(partitions: Sequence[PartitionReport]) -> list[str]:
    sums = {name: sum(one.total(name) for one in partitions) for name in _SHOWN_COUNTS}
    return [
        f"[red]{count:,}[/]" if count and name in _BAD else f"{count:,}"
        for name, count in sums.items()
    ]


def output_line(report: Report) -> str:
    """What was compared on disk."""
    output = report.output
    how = "counted" if report.deep else "by the ledger"
    return (
        f"output: {output.files:,} files, {output.lines:,} lines {how}, {size(output.bytes)},"
        f" {output.seconds:.1f} s"
    )
