"""What verify found, as an HTML page: a calendar of days and partitions, and the findings.

The page loads nothing and runs nothing. All text in it is escaped, since keys are whatever somebody
wrote into a bucket. The page is written piece by piece: its size grows with partitions and days.
"""

from collections.abc import Iterator
from html import escape
from itertools import groupby
from operator import itemgetter
from typing import Final

from ctrail_pipeline.core.audit.compare_report import COUNTS, DayStatus, PrefixReport, Report
from ctrail_pipeline.core.audit.findings import EXPLANATIONS, HourState
from ctrail_pipeline.core.untrusted_text import printable

from .sentences import problem_line
from .verify_text import (
    by_kind,
    day_text,
    hours_text,
    notes,
    output_line,
    summary_line,
)

_ROW: Final = 14
"""Height of a row of the calendar, in pixels."""
_WIDEST: Final = 1_800
"""Greatest width of the calendar, in pixels. A day is two pixels wide even if that is wider."""
_DAYS_ONE_BY_ONE: Final = 400
"""Most days for which each day is a box with its numbers. Beyond, equal neighbours share a box."""
_MEANINGS: Final = {
    DayStatus.COMPLETE: "every log file that the bucket holds is in",
    DayStatus.GAP: "log files were never brought in, or nobody has looked yet",
    DayStatus.LATE: "log files turned up after the day was done; the next sync fetches them",
    DayStatus.DAMAGED: "log files failed or are damaged, or digests contradict the ledger",
}
_STYLE: Final = """
:root{color-scheme:light dark;--ground:#fff;--text:#1f2328;--faint:#656d76;--line:#d0d7de;
--complete:#1b9e77;--gap:#7570b3;--late:#e6ab02;--damaged:#d62728}
@media(prefers-color-scheme:dark){:root{--ground:#0d1117;--text:#e6edf3;--faint:#8d96a0;
--line:#30363d;--complete:#2bb58c;--gap:#958fe0;--late:#f0bf2b;--damaged:#ff5c57}}
body{background:var(--ground);color:var(--text);font:14px/1.5 system-ui,sans-serif;margin:2rem}
h1{font-size:1.5rem;margin:0}h2{font-size:1.1rem;margin:2rem 0 .5rem}
p{max-width:60rem}.faint{color:var(--faint)}
.calendar{overflow-x:auto;border:1px solid var(--line);border-radius:6px;padding:.5rem 0}
.calendar table{border-collapse:collapse}.calendar td,.calendar th{padding:0 .5rem;
white-space:nowrap;text-align:left;font-weight:normal;line-height:18px}
.calendar .name{position:sticky;left:0;background:var(--ground);border-right:1px solid var(--line)}
.calendar th.name{font-weight:600}svg{display:block}svg text{fill:var(--faint);font-size:10px}
.complete{fill:var(--complete);background:var(--complete)}.gap{fill:var(--gap);background:var(--gap)}
.late{fill:var(--late);background:var(--late)}
.damaged{fill:var(--damaged);background:var(--damaged)}
.legend span{display:inline-block;width:12px;height:12px;border-radius:2px;margin:0 .4rem 0 0}
.legend div{margin-right:1.5rem}table.list{border-collapse:collapse;width:100%}
.list td,.list th{border-bottom:1px solid var(--line);padding:.3rem .6rem;text-align:left;
vertical-align:top}.list .n{text-align:right;font-variant-numeric:tabular-nums}
.list .where{font-family:ui-monospace,monospace;font-size:12px;word-break:break-all}
.error{color:var(--damaged);font-weight:600}.warning{color:var(--late);font-weight:600}
.ok{color:var(--complete)}.bad{color:var(--damaged)}
"""


def as_html(report: Report) -> Iterator[bytes]:
    """Yield the page, piece by piece."""
    for piece in _pieces(report):
        yield piece.encode()


def _pieces(report: Report) -> Iterator[str]:
    verdict = "everything is here" if report.is_complete else "not everything is as it should be"
    yield (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; style-src'
        " 'unsafe-inline'\">"
        '<meta name="viewport" content="width=device-width">'
        f"<title>ctrail verify, {report.at:%Y-%m-%d}</title><style>{_STYLE}</style></head><body>"
        f'<h1>ctrail verify: <span class="{"ok" if report.is_complete else "bad"}">{verdict}</span>'
        f'</h1><p class="faint">{report.at:%Y-%m-%d %H:%M} UTC, {report.seconds:.1f} s,'
        f" {report.requests:,} LIST requests</p><p>{_text(summary_line(report))}.<br>"
        f"{_text(output_line(report))}</p>"
    )
    other_notes = notes(report)[: -len(report.problems) or None]
    if other_notes:
        yield "<ul>" + "".join(f"<li>{_text(line)}</li>" for line in other_notes) + "</ul>"
    if report.problems:
        yield "<h2>Not listed</h2><ul>"
        for problem in report.problems:
            yield f'<li class="where">{_text(problem_line(problem).removeprefix("- "))}</li>'
        yield "</ul>"
    yield from _calendar(report)
    yield from _findings(report)
    yield from _partitions(report)
    yield "</body></html>\n"


# --- the calendar ---------------------------------------------------------------------------------


def _calendar(report: Report) -> Iterator[str]:
    prefixes = _sorted_prefixes(report)
    spans = [span for span in map(_days_of, prefixes) if span is not None]
    yield "<h2>Days</h2>"
    if not spans:
        yield "<p>There is no log file.</p>"
        return
    first, end = min(span[0] for span in spans), max(span[1] for span in spans)
    width = max(2, min(_ROW, _WIDEST // (end - first)))
    yield '<div class="legend" style="display:flex;flex-wrap:wrap">'
    for status, meaning in _MEANINGS.items():
        yield f'<div><span class="{status.value}"></span>{status.value}: {_text(meaning)}</div>'
    yield (
        '</div><p class="faint">By the time in the keys of log files (UTC). Nothing is drawn'
        " before the first log file of an account and region, and behind its newest.</p>"
        f'<div class="calendar"><table><tr><td class="name"></td><td>{_axis(first, end, width)}'
        "</td></tr>"
    )
    for trail, group in groupby(prefixes, key=lambda prefix: prefix.trail):
        yield f'<tr><th class="name">{_text(trail)}</th><td></td></tr>'
        for prefix in group:
            name = _text(prefix.source_prefix.label)
            yield f'<tr><td class="name">{name}</td><td>'
            yield from _row(prefix, first, end, width)
            yield "</td></tr>"
    yield "</table></div>"


def _days_of(prefix: PrefixReport) -> tuple[int, int] | None:
    """Return the first day of which something is known, and the day after the last."""
    days = [day for day in prefix.days if day]
    if prefix.hours:
        days += [prefix.hours[0].start // 24, (prefix.hours[-1].end - 1) // 24]
    return (min(days), max(days) + 1) if days else None


def _axis(first: int, end: int, width: int) -> str:
    """Return the names of months below the days, as far as there is room for them."""
    parts = [f'<svg width="{(end - first) * width}" height="14" role="presentation">']
    last_x = -100
    for day in range(first, end):
        text = day_text(day)
        x = (day - first) * width
        is_month = text.endswith("-01")
        if (day == first or is_month) and x - last_x >= 60:
            parts.append(f'<text x="{x}" y="11">{text[:7]}</text>')
            last_x = x
    return "".join([*parts, "</svg>"])


def _row(prefix: PrefixReport, first: int, end: int, width: int) -> Iterator[str]:
    """Yield a box for each day or, if there are many days, for neighbours of equal status."""
    yield f'<svg width="{(end - first) * width}" height="{_ROW}" role="img">'
    statuses = ((day, prefix.status_of(day)) for day in range(first, end))
    if end - first <= _DAYS_ONE_BY_ONE:
        gap = 1 if width > 3 else 0
        for day, status in statuses:
            if status is not None:
                title = f"{day_text(day)}: {status.value}{_numbers(prefix, day)}"
                yield _box((day - first) * width, width - gap, status, title)
    else:
        for shared_status, group in groupby(statuses, key=itemgetter(1)):
            days = [day for day, _ in group]
            if shared_status is not None:
                title = f"{day_text(days[0])} to {day_text(days[-1])}: {shared_status.value}"
                yield _box((days[0] - first) * width, len(days) * width, shared_status, title)
    yield "</svg>"


def _numbers(prefix: PrefixReport, day_number: int) -> str:
    """Return the counts of a day, for the title of its box."""
    day = prefix.days.get(day_number)
    if day is None:
        return ", no log files"
    counts = [f"{getattr(day, name):,} {name}" for name in COUNTS if getattr(day, name)]
    return ", " + ", ".join(counts) if counts else ""


def _box(x: int, width: int, status: DayStatus, title: str) -> str:
    return (
        f'<rect x="{x}" width="{width}" height="{_ROW - 1}" class="{status.value}">'
        f"<title>{_text(title)}</title></rect>"
    )


# --- the tables -----------------------------------------------------------------------------------


def _findings(report: Report) -> Iterator[str]:
    yield "<h2>Findings</h2>"
    if not report.counts:
        yield "<p>None.</p>"
        return
    for kind, count, named in by_kind(report):
        explanation = EXPLANATIONS[kind]
        yield (
            f'<h3><span class="{explanation.severity.value}">{explanation.severity.value}</span>:'
            f" {_text(kind.value)} ({count:,})</h3><p>What it means: {_text(explanation.meaning)}."
            f"<br>What to do: {_text(explanation.advice)}.</p>"
            '<table class="list"><tr><th>where</th><th>detail</th><th>trail</th>'
            "<th>account/region</th><th>hour (UTC)</th></tr>"
        )
        for finding in named:
            cells = (finding.detail, finding.trail, finding.partition, hours_text(finding.hours))
            yield f'<tr><td class="where">{_text(finding.where)}</td>'
            yield "".join(f"<td>{_text(cell)}</td>" for cell in cells) + "</tr>"
        yield "</table>"
        if count > len(named):
            yield f'<p class="faint">and {count - len(named):,} more</p>'


def _partitions(report: Report) -> Iterator[str]:
    heads = (*COUNTS, *(f"hours {state.value}" for state in HourState))
    yield (
        '<h2>Accounts and regions</h2><table class="list"><tr><th>trail</th><th>account/region</th>'
        + "".join(f'<th class="n">{_text(head)}</th>' for head in heads)
        + "</tr>"
    )
    for prefix in _sorted_prefixes(report):
        hours = prefix.hours_by_state()
        numbers = [prefix.total(name) for name in COUNTS]
        numbers += [hours.get(state, 0) for state in HourState]
        name = prefix.source_prefix.label + ("" if prefix.is_listed else " (not listed)")
        yield f"<tr><td>{_text(prefix.trail)}</td><td>{_text(name)}</td>"
        yield "".join(f'<td class="n">{number:,}</td>' for number in numbers) + "</tr>"
    yield "</table>"


def _sorted_prefixes(report: Report) -> list[PrefixReport]:
    return sorted(report.prefixes, key=lambda prefix: (prefix.trail, prefix.source_prefix.label))


def _text(text: str) -> str:
    """Return text that may come from a bucket so that it is text and nothing else in HTML."""
    return escape(printable(text))
