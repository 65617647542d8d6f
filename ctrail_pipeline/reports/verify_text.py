"""What verify found, in sentences: for a terminal and for Dagster's run page.

Not here: the table (`verify_table`), JSON (`verify_json`), the page (`verify_html`), and what is
compared and what a finding means (`core.audit`).
"""

from collections.abc import Iterator
from typing import Final

from ctrail_pipeline.core.audit.compare_report import Report
from ctrail_pipeline.core.audit.findings import (
    EXPLANATIONS,
    Finding,
    FindingKind,
    Severity,
)
from ctrail_pipeline.core.keys.minutes import MINUTES_PER_DAY, MINUTES_PER_HOUR, datetime_of
from ctrail_pipeline.core.listing.discovery import NOT_YET
from ctrail_pipeline.core.untrusted_text import printable

from .sentences import problem_line
from .units import size

_NAMED: Final = 10
"""Findings of a kind that a terminal or the message of a run names. JSON and HTML have more."""


def day_text(day: int) -> str:
    """Return a number of days since 1970 as `YYYY-MM-DD`. 0 stands for no date."""
    return f"{datetime_of(day * MINUTES_PER_DAY):%Y-%m-%d}" if day else "no date"


def hours_text(hours: tuple[int, int] | None) -> str:
    """Return the hours that a finding touches, as text."""
    if hours is None:
        return ""
    start, end = (datetime_of(hour * MINUTES_PER_HOUR) for hour in hours)
    return f"{start:%Y-%m-%d %H:00}" + (
        "" if hours[1] - hours[0] == 1 else f" to {end:%m-%d %H:00}"
    )


def summary_line(report: Report) -> str:
    """Return a sentence on what was compared and found."""
    output = report.output
    how = "by every byte" if report.deep else "by size"
    text = (
        f"{report.total('listed'):,} log files listed, {report.total('committed'):,} committed,"
        f" {report.total('missing'):,} missing, {report.total('failed'):,} failed,"
        f" {report.total('damaged'):,} damaged; {output.files:,} output files compared {how}:"
        f" {output.missing:,} missing, {output.altered:,} altered, {output.foreign:,} foreign"
    )
    if output.not_in_parquet:
        text += f", {output.not_in_parquet:,} events not in Parquet"
    if report.digests:
        text += (
            f"; {report.digests:,} digests, {report.digests_sound:,} of them sound:"
            f" {report.log_files_proved:,} log files as their digests say"
        )
        if report.log_files_agreeing:
            text += f", {report.log_files_agreeing:,} as digests say that are not proved themselves"
    if report.queued:
        text += f"; {report.queued:,} log files are queued for the next sync"
    return text


def notes(report: Report) -> list[str]:
    """Return what is no finding but worth knowing, a line each, and the problems of the run."""
    lines = []
    recent, expired = report.total("new"), report.total("expired")
    strays = report.output.others
    if recent:
        lines.append(
            f"{recent:,} log files came in within the last hour: the next sync fetches them"
        )
    if expired:
        lines.append(
            f"{expired:,} committed log files are no longer in the bucket: normal where a"
            " lifecycle rule removes old ones"
        )
    if report.log_files_not_selected:
        lines.append(
            f"{report.log_files_not_selected:,} log files that digests list are not selected: they"
            " are neither missing nor proved"
        )
    if strays:
        lines.append(f"{strays:,} other files lie in the output folders; they do no harm")
    lines += [f"trail {trail}: {NOT_YET}" for trail in report.not_yet]
    lines += [problem_line(problem) for problem in report.problems]
    return lines


def by_kind(report: Report) -> Iterator[tuple[FindingKind, int, list[Finding]]]:
    """Yield kinds of finding, the gravest first, each with its count and its named findings."""
    order = list(Severity)
    kinds = sorted(report.counts, key=lambda kind: order.index(EXPLANATIONS[kind].severity))
    for kind in kinds:
        yield (
            kind,
            report.counts[kind],
            [finding for finding in report.findings if finding.kind is kind],
        )


def finding_lines(report: Report) -> list[str]:
    """Return each kind of finding with its meaning, what to do, and some of its findings."""
    lines = []
    for kind, count, named in by_kind(report):
        explanation = EXPLANATIONS[kind]
        lines.append(
            f"{explanation.severity.value.upper()}: {kind.value} ({count:,}):"
            f" {explanation.meaning}. What to do: {explanation.advice}"
        )
        lines += [
            f"  {printable(finding.where)}: {printable(finding.detail)}"
            for finding in named[:_NAMED]
        ]
        if count > _NAMED:
            lines.append(f"  and {count - min(count, _NAMED):,} more")
    return lines


def output_line(report: Report) -> str:
    """Return a line on the output files that were compared."""
    output = report.output
    how = "counted" if report.deep else "by the ledger"
    return (
        f"output: {output.files:,} files, {output.lines:,} lines {how}, {size(output.bytes)},"
        f" {output.seconds:.1f} s"
    )
