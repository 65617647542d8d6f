"""Asset checks: is a trail all right? Each check says what to do if it is not.

The ledger, a run, or a look at the buckets answers a check. Runs of `sync` and of the assets note
the evaluations of the trails that they touched. In the UI the checks can be run by themselves. Not
here: the checks `complete` (`complete_check`) and `notifications_arrive` (`notification_check`),
when an evaluation is worth a note (`check_evaluations`), when the sensor looks (`sensors`), and
what fails a run (`sync_run`).
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from typing import NamedTuple

from dagster import (
    AssetCheckEvaluation,
    AssetCheckExecutionContext,
    AssetCheckResult,
    AssetChecksDefinition,
    AssetCheckSpec,
    AssetKey,
    DagsterInstance,
    MetadataValue,
    multi_asset_check,
)

from ctrail_pipeline.config.file import Config
from ctrail_pipeline.core.ledger.ledger import Ledger
from ctrail_pipeline.core.ledger.presence import ledger_exists
from ctrail_pipeline.core.ledger.queries_reports import Health, read_health
from ctrail_pipeline.core.ledger.source_prefixes import source_ids
from ctrail_pipeline.core.listing.found_prefixes import find_prefixes
from ctrail_pipeline.core.listing.problem import Problem
from ctrail_pipeline.core.listing.selection import Selection, is_of
from ctrail_pipeline.core.run.open_log_files import Archived, OpenLogFiles, SelectedLogFiles
from ctrail_pipeline.core.run.summary import Summary
from ctrail_pipeline.core.settings import Trail
from ctrail_pipeline.reports.sentences import open_lines, problem_line

from .check_evaluations import error_if, last_noted, make_evaluation, worth_noting
from .notification_check import DESCRIPTION, NOTIFIED, notification_evaluations
from .partitions import asset_keys
from .resources import LedgerResource
from .sensor_health import sensor_trouble
from .sync_run import failures_without_traceback, settings_of

LISTED = "can_be_listed"
FAILED = "no_failed_log_files"
QUARANTINE = "nothing_new_in_quarantine"
CONFLICTS = "no_conflicting_events"
SENSOR = "sensor_is_running"
COMPLETE = "complete"
"""The check that the job `verify` notes (`complete_check`). It lists all of a trail, so it is no
check that every sync could evaluate."""

DESCRIPTIONS = {
    LISTED: "Every account and region of the trail can be listed, and log files can be read.",
    FAILED: "No log file is failed, damaged, archived or gone, unless somebody accepted it.",
    QUARANTINE: "Nothing came into quarantine within the last day.",
    CONFLICTS: "No two different events of an hour share an eventID.",
    SENSOR: "The sensor `new_log_files` is at work.",
}

_NEW_SECONDS = 86_400
_PROBLEMS_NAMED = 10
_NOT_LISTED = frozenset({"not listed", "not readable"})


class LedgerVerdict(NamedTuple):
    """What the ledger says of a trail."""

    open_log_files: OpenLogFiles
    """Those that a run could not bring in. Log files that wait for a run are not among them."""
    archived: Archived
    health: Health


def ledger_evaluations(
    key: AssetKey, verdict: LedgerVerdict, quarantine_dir: str
) -> list[AssetCheckEvaluation]:
    """Return the evaluations of the checks that the ledger answers."""
    health, counts = verdict.health, verdict.open_log_files.counts
    archived = verdict.archived.log_files
    states = {state.name.lower(): count for state, count in sorted(counts.items())}
    lines = open_lines(verdict.open_log_files, _PROBLEMS_NAMED)
    if archived:
        lines.append(f"{archived} archived: restore them in S3, such as {verdict.archived.example}")
        states["archived"] = archived
    return [
        make_evaluation(
            key,
            FAILED,
            passed=not states,
            severity=error_if(bool(counts)),
            description="\n".join(lines) or "all log files that were found are in",
            metadata={state: MetadataValue.int(count) for state, count in states.items()},
        ),
        make_evaluation(
            key,
            QUARANTINE,
            passed=not health.new_quarantined,
            description=f"{health.new_quarantined} new in {quarantine_dir}: each line says where it"
            " came from, and why it could not become an event"
            if health.new_quarantined
            else "nothing new",
            metadata={
                "new": MetadataValue.int(health.new_quarantined),
                "all": MetadataValue.int(health.quarantined),
            },
        ),
        make_evaluation(
            key,
            CONFLICTS,
            passed=not health.conflicts,
            severity=error_if(health.new_conflicts > 0),
            description=f"{health.conflicts} events have the eventID of a different event"
            f" ({health.new_conflicts} of them new in the last day). Either AWS made a mistake or"
            " somebody forged an event. All of them are in the output: search it for the eventID"
            if health.conflicts
            else "none",
            metadata={
                "new": MetadataValue.int(health.new_conflicts),
                "all": MetadataValue.int(health.conflicts),
            },
        ),
    ]


def listing_evaluation(key: AssetKey, problems: Sequence[Problem]) -> AssetCheckEvaluation:
    """Return whether a trail could be listed, by the problems that a run or a look had with it."""
    unlisted = [problem for problem in problems if problem.state in _NOT_LISTED]
    shown = "\n".join(map(problem_line, unlisted[:_PROBLEMS_NAMED]))
    unnamed = len(unlisted) - _PROBLEMS_NAMED
    return make_evaluation(
        key,
        LISTED,
        passed=not unlisted,
        severity=error_if(not all(problem.may_pass for problem in unlisted)),
        description=(f"{shown}\nand {unnamed} more" if unnamed > 0 else shown) or "all of it",
        metadata={"problems": MetadataValue.int(len(unlisted))},
    )


def sensor_evaluation(key: AssetKey, trouble: str | None) -> AssetCheckEvaluation:
    """Return whether the sensor is at work; `trouble` says what keeps it from its work."""
    return make_evaluation(key, SENSOR, passed=trouble is None, description=trouble or "it is")


def evaluations_of_run(
    configuration: Config,
    cursor: LedgerResource,
    instance: DagsterInstance,
    summary: Summary,
    *,
    without_listing: bool,
) -> Iterator[AssetCheckEvaluation]:
    """Yield the evaluations of the trails that a run touched, if they are worth a note.

    A run without listing has nothing new to say of listing: it repeats the last evaluation.
    """
    keys = asset_keys(configuration.settings.trails)
    trouble = sensor_trouble(instance, configuration.dagster)
    trails = [trail for trail in configuration.settings.trails if trail.name in summary.trails]
    of_notifications = notification_evaluations(configuration.settings.trails, trails, cursor)
    for name, verdict in _verdicts(configuration, trails, cursor).items():
        key = keys[name]
        evaluations = ledger_evaluations(key, verdict, str(configuration.settings.quarantine))
        evaluations.append(sensor_evaluation(key, trouble))
        problems = [problem for problem in summary.problems if problem.trail == name]
        if problems or not without_listing:
            evaluations.append(listing_evaluation(key, problems))
        else:
            evaluations += last_noted(instance, key, LISTED)
        evaluations += last_noted(instance, key, COMPLETE)
        if key in of_notifications:
            evaluations.append(of_notifications[key])
        yield from worth_noting(
            instance, evaluations, configuration.dagster.materialization_interval
        )


def build_checks(configuration: Config) -> list[AssetChecksDefinition]:
    """Return the checks of every trail, so that the UI can run them by themselves."""
    keys = asset_keys(configuration.settings.trails)
    return [
        _checks_of(configuration, trail, keys[trail.name])
        for trail in configuration.settings.trails
    ]


def _checks_of(configuration: Config, trail: Trail, key: AssetKey) -> AssetChecksDefinition:
    @multi_asset_check(
        name="_".join(("check", key.path[-1])),
        specs=[
            AssetCheckSpec(name, asset=key, description=description)
            for name, description in (
                DESCRIPTIONS if trail.queue is None else DESCRIPTIONS | {NOTIFIED: DESCRIPTION}
            ).items()
        ],
        can_subset=True,
    )
    def trail_checks(
        context: AssetCheckExecutionContext, cursor: LedgerResource
    ) -> Iterator[AssetCheckResult]:
        selected = {check.name for check in context.selected_asset_check_keys}
        settings = replace(settings_of(configuration, cursor), trails=(trail,))
        with failures_without_traceback():
            verdict = _verdicts(configuration, [trail], cursor)[trail.name]
            evaluations = ledger_evaluations(key, verdict, str(settings.quarantine))
            trouble = sensor_trouble(context.instance, configuration.dagster)
            evaluations.append(sensor_evaluation(key, trouble))
            trails = configuration.settings.trails
            evaluations += notification_evaluations(trails, [trail], cursor).values()
            if LISTED in selected:
                problems: list[Problem] = []
                find_prefixes(settings, Selection(), problems.append)
                evaluations.append(listing_evaluation(key, problems))
        for evaluation in evaluations:
            if evaluation.check_name in selected:
                yield AssetCheckResult(
                    passed=evaluation.passed,
                    asset_key=key,
                    check_name=evaluation.check_name,
                    metadata=evaluation.metadata,
                    severity=evaluation.severity,
                    description=evaluation.description,
                )

    return trail_checks


def _verdicts(
    configuration: Config, trails: Sequence[Trail], cursor: LedgerResource
) -> dict[str, LedgerVerdict]:
    """Return what the ledger says of each trail; all is well if there is no ledger yet."""
    if not ledger_exists(cursor.address):
        well = LedgerVerdict(OpenLogFiles(), Archived(), Health(0, 0, 0, 0))
        return {trail.name: well for trail in trails}
    since = int(time.time()) - _NEW_SECONDS
    verdicts = {}
    with closing(Ledger(cursor.address)) as ledger:
        ids = source_ids(ledger)
        for trail in trails:
            settings = replace(configuration.settings, trails=(trail,))
            selected = SelectedLogFiles(ledger, settings, Selection())
            of_trail = [id_ for source, id_ in ids.items() if is_of(trail, source)]
            verdicts[trail.name] = LedgerVerdict(
                selected.open(found_before=0),
                selected.archived(),
                read_health(ledger, of_trail, since),
            )
    return verdicts
