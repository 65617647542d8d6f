"""Asset checks: is a trail all right? Each with what to do if it is not.

A check is what the ledger, a run or a look at the buckets says; runs of `sync` and of the assets
note the evaluations of the trails that they touched, and in the UI they can be run by themselves.
Not here: when the sensor looks (`sensors`), and what fails a run (`runs`).
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace

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
from ctrail_pipeline.core.ledger.queries_reports import Health, read_health
from ctrail_pipeline.core.ledger.rows import LogFileState
from ctrail_pipeline.core.ledger.source_prefixes import source_ids
from ctrail_pipeline.core.listing.found_prefixes import find_prefixes
from ctrail_pipeline.core.listing.problem import Problem
from ctrail_pipeline.core.listing.selection import Selection
from ctrail_pipeline.core.run.summary import Summary
from ctrail_pipeline.core.settings import Trail
from ctrail_pipeline.reports.sentences import problem_line

from .check_evaluations import error_if, evaluation, last_noted, worth_noting
from .partitions import asset_keys
from .resources import LedgerResource
from .sensor_health import sensor_trouble
from .sync_run import failures_said, settings_of

LISTED = "can_be_listed"
FAILED = "no_failed_log_files"
QUARANTINE = "nothing_new_in_quarantine"
CONFLICTS = "no_conflicting_events"
SENSOR = "sensor_is_running"
COMPLETE = "complete"
"""What the job `verify` notes; not among these, since it lists all of a trail (`verify_job`)."""

DESCRIPTIONS = {
    LISTED: "Every account and region of the trail can be listed, and log files can be read.",
    FAILED: "No log file stands open: failed, damaged, archived or gone.",
    QUARANTINE: "Nothing came into quarantine in the last day.",
    CONFLICTS: "No two different events of an hour share an eventID.",
    SENSOR: "The sensor `new_log_files` is at work.",
}

_NEW_SECONDS = 86_400
_PROBLEMS_NAMED = 10
_NOT_LISTED = frozenset({"not listed", "not readable"})


def of_ledger(key: AssetKey, health: Health, quarantine_dir: str) -> list[AssetCheckEvaluation]:
    """The checks that the ledger answers."""
    states = {state.name.lower(): count for state, count in sorted(health.open.items())}
    failed = LogFileState.FAILED in health.open or LogFileState.LOST in health.open
    return [
        evaluation(
            key,
            FAILED,
            passed=not states,
            severity=error_if(failed),
            description=", ".join(f"{count} {state}" for state, count in states.items())
            + ": failed and damaged ones are tried again by themselves; archived ones must be"
            " restored in S3; the failed run names each"
            if states
            else "all log files that were found are in",
            metadata={state: MetadataValue.int(count) for state, count in states.items()},
        ),
        evaluation(
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
        evaluation(
            key,
            CONFLICTS,
            passed=not health.conflicts,
            severity=error_if(health.new_conflicts > 0),
            description=f"{health.conflicts} events have the eventID of a different event"
            f" ({health.new_conflicts} of them new in the last day): AWS's mistake, or somebody's"
            " forgery; all of them are in the output, search it for events with one eventID"
            if health.conflicts
            else "none",
            metadata={
                "new": MetadataValue.int(health.new_conflicts),
                "all": MetadataValue.int(health.conflicts),
            },
        ),
    ]


def of_listing(key: AssetKey, problems: Sequence[Problem]) -> AssetCheckEvaluation:
    """Whether a trail could be listed, by the problems that a run or a look had with it."""
    found = [problem for problem in problems if problem.state in _NOT_LISTED]
    shown = "\n".join(map(problem_line, found[:_PROBLEMS_NAMED]))
    more = len(found) - _PROBLEMS_NAMED
    return evaluation(
        key,
        LISTED,
        passed=not found,
        severity=error_if(not all(problem.may_pass for problem in found)),
        description=(f"{shown}\nand {more} more" if more > 0 else shown) or "all of it",
        metadata={"problems": MetadataValue.int(len(found))},
    )


def of_sensor(key: AssetKey, trouble: str | None) -> AssetCheckEvaluation:
    """Whether the sensor is at work."""
    return evaluation(key, SENSOR, passed=trouble is None, description=trouble or "it is")


def evaluations(
    configuration: Config,
    cursor: LedgerResource,
    instance: DagsterInstance,
    summary: Summary,
    *,
    is_listed: bool,
) -> Iterator[AssetCheckEvaluation]:
    """The checks of the trails that a run touched, those that are worth a note.

    A run that listed nothing (`is_listed`) has nothing new to say of listing: it repeats the last.
    """
    keys = asset_keys(configuration.settings.trails)
    trouble = sensor_trouble(instance, configuration.dagster)
    trails = [trail for trail in configuration.settings.trails if trail.name in summary.trails]
    for name, health in _health(trails, cursor).items():
        key = keys[name]
        found = of_ledger(key, health, str(configuration.settings.quarantine_dir))
        found.append(of_sensor(key, trouble))
        problems = [problem for problem in summary.problems if problem.trail == name]
        if problems or not is_listed:
            found.append(of_listing(key, problems))
        else:
            found += last_noted(instance, key, LISTED)
        found += last_noted(instance, key, COMPLETE)
        yield from worth_noting(instance, found, configuration.dagster.materialization_interval)


def build_checks(configuration: Config) -> list[AssetChecksDefinition]:
    """The checks of every trail, for the UI to run them by themselves."""
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
            for name, description in DESCRIPTIONS.items()
        ],
        can_subset=True,
    )
    def trail_checks(
        context: AssetCheckExecutionContext, cursor: LedgerResource
    ) -> Iterator[AssetCheckResult]:
        selected = {one.name for one in context.selected_asset_check_keys}
        settings = replace(settings_of(configuration, cursor), trails=(trail,))
        with failures_said():
            health = _health([trail], cursor)[trail.name]
            found = of_ledger(key, health, str(settings.quarantine_dir))
            found.append(of_sensor(key, sensor_trouble(context.instance, configuration.dagster)))
            if LISTED in selected:
                problems: list[Problem] = []
                find_prefixes(settings, Selection(), problems.append)
                found.append(of_listing(key, problems))
        for one in found:
            if one.check_name in selected:
                yield AssetCheckResult(
                    passed=one.passed,
                    asset_key=key,
                    check_name=one.check_name,
                    metadata=one.metadata,
                    severity=one.severity,
                    description=one.description,
                )

    return trail_checks


def _health(trails: Sequence[Trail], cursor: LedgerResource) -> dict[str, Health]:
    """What the ledger says of some trails; of a ledger that is not there yet, nothing bad."""
    if not cursor.path.exists():
        return {trail.name: Health({}, 0, 0, 0, 0) for trail in trails}
    since = int(time.time()) - _NEW_SECONDS
    with closing(Ledger(cursor.path)) as ledger:
        ids = source_ids(ledger)
        return {
            trail.name: read_health(
                ledger,
                [
                    id_
                    for source, id_ in ids.items()
                    if (source.bucket, source.prefix) == (trail.bucket, trail.prefix)
                ],
                since,
            )
            for trail in trails
        }
