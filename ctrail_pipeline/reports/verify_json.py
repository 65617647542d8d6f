"""What verify found, as JSON."""

from dataclasses import asdict
from typing import Any

from ctrail_pipeline.core.audit.compare_report import COUNTS, PrefixReport, Report
from ctrail_pipeline.core.audit.findings import EXPLANATIONS, Finding
from ctrail_pipeline.core.keys.key_time import MINUTES_PER_HOUR, datetime_of

from .sentences import problem_line
from .verify_text import day_text


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
        "partitions": [_partition(one) for one in report.prefixes],
        "finding_counts": {kind.value: count for kind, count in report.counts.items()},
        "findings": [_finding(one) for one in report.findings],
        "problems": [problem_line(problem) for problem in report.problems],
    }


def _partition(one: PrefixReport) -> dict[str, Any]:
    return {
        "trail": one.trail,
        "account": one.source_prefix.account,
        "region": one.source_prefix.region,
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


def _status(one: PrefixReport, number: int) -> str | None:
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
