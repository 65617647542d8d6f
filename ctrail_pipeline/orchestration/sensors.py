"""Sensors: `new_log_files` follows the buckets; two more tell people when something is wrong.

A tick of `new_log_files` is a look at the buckets inside a time budget, and at most two requests
for a run of `sync`: a run for the log files that looks found, which then lists nothing, and a run
for backlog, which may take days. There is one run of each kind at a time. Not here: how a bucket is
looked at (`core.listing.look`), and what is checked (`checks`).
"""

import json
import time
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, Self

from dagster import (
    AddDynamicPartitionsRequest,
    AssetCheckEvaluation,
    DagsterInstance,
    DefaultSensorStatus,
    JobDefinition,
    RunFailureSensorContext,
    RunRequest,
    SensorDefinition,
    SensorEvaluationContext,
    SensorResult,
    run_failure_sensor,
    sensor,
)

from ctrail_pipeline.config.file import Config
from ctrail_pipeline.core.ledger.queues import Notified
from ctrail_pipeline.core.listing.discovery import NOT_YET
from ctrail_pipeline.core.listing.look import Look, look
from ctrail_pipeline.core.listing.look_cursor import LookCursor
from ctrail_pipeline.core.listing.look_frequency import affordable_lists
from ctrail_pipeline.orchestration.jobs.console import QUIET
from ctrail_pipeline.reports.sentences import problem_line
from ctrail_pipeline.reports.units import duration

from .check_evaluations import worth_noting
from .checks import listing_evaluation, sensor_evaluation
from .living_runs import BACKLOG, RECENT, WORK_TAG, end_dead_runs
from .notification_check import notification_evaluations
from .partitions import asset_keys, new_partitions, partitions_of
from .resources import LedgerResource
from .sensor_backoff import last_run, reason_to_wait
from .sensor_health import SENSOR_NAME, sensor_trouble
from .sync_run import check_sample, settings_of
from .webhook import post

LOOK_SECONDS = 25.0
"""Time budget of a look. Dagster cuts a tick off after 60 s, which include starting and noting."""
_ALARM_SECONDS = 300


class AlarmCursor(NamedTuple):
    """When the alarm sensor looked last, and whether it had told of trouble."""

    at: float = 0.0
    """Seconds since 1970. If that is long ago, the daemon has just started: then the last look of
    every sensor is long ago."""
    told: bool = False

    @classmethod
    def parse(cls, text: str | None) -> Self:
        """Return the cursor that `dump` wrote; anything else is a fresh start."""
        try:
            at, told = json.loads(text or "")
            return cls(float(at), bool(told))
        except (ValueError, TypeError):
            return cls()

    def dump(self) -> str:
        """Return the cursor as text."""
        return json.dumps(self)


def build_sensors(configuration: Config, sync_job: JobDefinition) -> list[SensorDefinition]:
    """Return the sensor that follows the buckets, its alarm, and the webhook if there is a URL."""
    sensors = [build_new_log_files(configuration, sync_job), build_sensor_alarm(configuration)]
    if configuration.dagster.failure_webhook is not None:
        sensors.append(build_failure_webhook(configuration.dagster.failure_webhook))
    return sensors


def build_new_log_files(configuration: Config, sync_job: JobDefinition) -> SensorDefinition:
    """Return the sensor that looks for new log files and starts runs that bring them in."""

    @sensor(
        name=SENSOR_NAME,
        # By name: with the job itself Dagster copies the sensor, and warns of that.
        job_name=sync_job.name,
        minimum_interval_seconds=configuration.dagster.sensor_interval,
        default_status=DefaultSensorStatus[configuration.dagster.sensor.upper()],
        description="Finds new log files, accounts and regions, and starts the job sync for them."
        " Recent log files come first; older ones (a new trail's past) get a run of their own.",
    )
    def new_log_files(context: SensorEvaluationContext, cursor: LedgerResource) -> SensorResult:
        check_sample(configuration)
        for run_id in end_dead_runs(context.instance):
            context.log.warning(
                "run %s: its process is gone, so the run is marked as ended", run_id
            )
        look_cursor = LookCursor.parse(context.cursor)
        interval = configuration.dagster.sensor_interval
        lists_a_look = affordable_lists(configuration.dagster.listing_budget, interval)
        settings = settings_of(configuration, cursor)
        look_result = look(settings, look_cursor, LOOK_SECONDS, lists_a_look)
        for problem in look_result.problems:
            context.log.warning("%s", problem_line(problem))
        requests: list[RunRequest] = []
        outcome = [seen_line(look_result, interval)]
        for work in (RECENT, BACKLOG):
            request = request_for(work, look_result)
            if request is not None:
                last = last_run(context.instance, work)
                reason = reason_to_wait(work, last, look_result.oldest_found, time.time())
                if reason is None:
                    requests.append(request)
                else:
                    outcome.append(reason)
        context.log.info("%s", "; ".join(outcome))
        return SensorResult(
            run_requests=requests,
            skip_reason=None if requests else "; ".join(outcome),
            cursor=look_result.cursor.dump(),
            dynamic_partitions_requests=_new_partitions(
                configuration, context.instance, look_result
            ),
            asset_events=list(_look_checks(configuration, cursor, context.instance, look_result)),
        )

    return new_log_files


def request_for(work: str, look_result: Look) -> RunRequest | None:
    """Return a request for a run, or None if there is no work of this kind.

    Recent work is the log files that looks found. Backlog is what a look saw and left alone.
    """
    if work == RECENT:
        if not look_result.waiting:
            return None
        log_files = sum(waiting.log_files for waiting in look_result.waiting.values())
        tags = {WORK_TAG: RECENT, "ctrail/log_files": str(log_files)}
        return RunRequest(run_config=_run_config({"listed": True}), tags=tags)
    if not look_result.backlog:
        return None
    config: dict[str, Any] = {"trails": sorted({trail for trail, _ in look_result.backlog})}
    all_partitions = sum(len(look_result.partitions[trail]) for trail in config["trails"])
    if len(look_result.backlog) < all_partitions:
        config["partitions"] = sorted({partition for _, partition in look_result.backlog})
    tags = {WORK_TAG: BACKLOG, "ctrail/partitions": str(len(look_result.backlog))}
    return RunRequest(run_config=_run_config(config), tags=tags)


def seen_line(look_result: Look, interval: float) -> str:
    """Return what a look saw, in one sentence. `interval`: seconds from look to look."""
    text = (
        f"{len(look_result.looked_at)} accounts and regions looked at,"
        f" {look_result.found} new log files"
    )
    notified = sum(taken.counts[Notified.NEW] for taken in look_result.taken)
    if look_result.taken:
        text += f"; {notified} more by notification"
    for taken in look_result.taken:
        if taken.trouble:
            text += f"; {taken.trouble}"
    if look_result.notified:
        text += f"; {len(look_result.notified)} need no listing, as notifications arrive"
    idle = look_result.idle - look_result.looked_at
    if idle:
        delay = duration(look_result.idle_rounds * interval)
        text += f"; {len(idle)} are idle, and each has its turn once in {delay}"
    if look_result.not_reached:
        text += f"; {len(look_result.not_reached)} are left for the next look"
    for trail in look_result.not_yet:
        text += f"; trail {trail}: {NOT_YET}"
    if look_result.problems:
        text += f"; {len(look_result.problems)} could not be listed, see the tick's log"
    return text


def build_sensor_alarm(configuration: Config) -> SensorDefinition:
    """Return the sensor that tells when `new_log_files` is not at work.

    It has no other work at which it could fail.
    """
    webhook = configuration.dagster.failure_webhook

    @sensor(
        name="sensor_alarm",
        minimum_interval_seconds=_ALARM_SECONDS,
        default_status=DefaultSensorStatus.RUNNING,
        description="Watches whether the sensor `new_log_files` is stopped, fails or is silent."
        " Says so in a check of every trail, and to `failure_webhook`.",
    )
    def sensor_alarm(context: SensorEvaluationContext) -> SensorResult:
        now = time.time()
        before = AlarmCursor.parse(context.cursor)
        if not before.at <= now <= before.at + 2 * _ALARM_SECONDS:
            return SensorResult(
                skip_reason=f"the daemon has just started: {SENSOR_NAME} has its turn first",
                cursor=AlarmCursor(now, before.told).dump(),
            )
        trouble = sensor_trouble(context.instance, configuration.dagster)
        keys = asset_keys(configuration.settings.trails).values()
        evaluations = [sensor_evaluation(key, trouble) for key in keys]
        if webhook is not None and (trouble is not None) != before.told:
            post(webhook, f"ctrail_pipeline: {SENSOR_NAME}: {trouble or 'is at work again'}")
        interval = configuration.dagster.materialization_interval
        return SensorResult(
            skip_reason=trouble or f"{SENSOR_NAME} is at work",
            cursor=AlarmCursor(now, trouble is not None).dump(),
            asset_events=list(worth_noting(context.instance, evaluations, interval)),
        )

    return sensor_alarm


def build_failure_webhook(url: str) -> SensorDefinition:
    """Return the sensor that posts every failed run of this project to a URL."""

    @run_failure_sensor(
        name="failure_webhook",
        default_status=DefaultSensorStatus.RUNNING,
        description="Tells the configured `failure_webhook` of each run that failed.",
    )
    def failure_webhook(context: RunFailureSensorContext) -> None:
        run = context.dagster_run
        lines = [f"ctrail_pipeline: {run.job_name} failed (run {run.run_id})"]
        for event in context.get_step_failure_events():
            error = event.step_failure_data.error
            cause = error.cause if error is not None and error.cause is not None else error
            if cause is not None:
                lines.append(cause.message.strip())
        if len(lines) == 1:
            lines.append(context.failure_event.message or "no reason is given")
        post(url, "\n".join(lines))

    return failure_webhook


def _run_config(config: Mapping[str, Any]) -> dict[str, Any]:
    return {"ops": {"sync": {"config": dict(config)}}, **QUIET}


def _new_partitions(
    configuration: Config, instance: DagsterInstance, look_result: Look
) -> list[AddDynamicPartitionsRequest]:
    """Return requests to register the accounts and regions that Dagster does not know yet."""
    requests = []
    for trail, key in asset_keys(configuration.settings.trails).items():
        unknown = new_partitions(instance, key, look_result.partitions.get(trail, ()))
        if unknown:
            requests.append(partitions_of(key).build_add_request(unknown))
    return requests


def _look_checks(
    configuration: Config, cursor: LedgerResource, instance: DagsterInstance, look_result: Look
) -> Iterator[AssetCheckEvaluation]:
    """Yield whether each trail could be listed, as far as this look came, and notifications."""
    trails = configuration.settings.trails
    evaluations = list(notification_evaluations(trails, trails, cursor).values())
    for trail, key in asset_keys(configuration.settings.trails).items():
        problems = [problem for problem in look_result.problems if problem.trail == trail]
        if problems or not look_result.not_reached:
            evaluations.append(listing_evaluation(key, problems))
    yield from worth_noting(instance, evaluations, configuration.dagster.materialization_interval)
