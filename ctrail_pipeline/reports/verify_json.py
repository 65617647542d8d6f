"""What verify found, as JSON."""

from dataclasses import asdict
from typing import Any

from ctrail_pipeline.core.audit.compare_report import COUNTS, PrefixReport, Report
from ctrail_pipeline.core.audit.findings import EXPLANATIONS, Finding
from ctrail_pipeline.core.keys.minutes import MINUTES_PER_HOUR, datetime_of

from .left_aside import left_aside_as_json
from .sentences import problem_line
from .verify_text import day_text


def as_json(report: Report) -> dict[str, Any]:
    """Return the report for machines. Keys are only ever added."""
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
        "log_files_agreeing": report.log_files_agreeing,
        "log_files_not_selected": report.log_files_not_selected,
        "not_yet": report.not_yet,
        "left_aside": left_aside_as_json(report.left_aside),
        "totals": {name: report.total(name) for name in COUNTS},
        "output": asdict(report.output),
        "partitions": [_partition(prefix) for prefix in report.prefixes],
        "finding_counts": {kind.value: count for kind, count in report.counts.items()},
        "findings": [_finding(finding) for finding in report.findings],
        "problems": [problem_line(problem) for problem in report.problems],
    }


def _partition(prefix: PrefixReport) -> dict[str, Any]:
    return {
        "trail": prefix.trail,
        "account": prefix.source_prefix.account,
        "region": prefix.source_prefix.region,
        "kind": prefix.source_prefix.kind,
        "listed_to_its_end": prefix.is_listed,
        **{name: prefix.total(name) for name in COUNTS},
        "hours": {state.value: count for state, count in prefix.hours_by_state().items()},
        "hour_ranges": [
            {
                "start": _hour(hours.start),
                "end": _hour(hours.end),
                "state": hours.state.value,
            }
            for hours in prefix.hours
        ],
        "days": [
            {
                "day": day_text(day_number) if day_number else None,
                "status": _status(prefix, day_number),
                **{name: getattr(day, name) for name in COUNTS if getattr(day, name)},
            }
            for day_number, day in sorted(prefix.days.items())
        ],
    }


def _status(prefix: PrefixReport, day_number: int) -> str | None:
    status = prefix.status_of(day_number)
    return None if status is None else status.value


def _finding(finding: Finding) -> dict[str, Any]:
    explanation = EXPLANATIONS[finding.kind]
    return {
        "kind": finding.kind.value,
        "severity": explanation.severity.value,
        "trail": finding.trail,
        "partition": finding.partition,
        "where": finding.where,
        "detail": finding.detail,
        "hours": None if finding.hours is None else [_hour(hour) for hour in finding.hours],
        "meaning": explanation.meaning,
        "advice": explanation.advice,
    }


def _hour(hour: int) -> str:
    return f"{datetime_of(hour * MINUTES_PER_HOUR):%Y-%m-%dT%H:00Z}"
