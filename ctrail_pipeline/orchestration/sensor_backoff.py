"""When the sensor asks for no run although log files wait, and until when it holds back.

A run that is at work keeps another one away. So does a run that ended without getting its work
done, for a while. Not here: whether the sensor itself is at work (`sensor_health`).
"""

from typing import NamedTuple

from dagster import (
    DagsterInstance,
    DagsterRunStatus,
    RunsFilter,
)

from .living_runs import BACKLOG, RECENT, WORK_TAG

_PAUSE_SECONDS = {RECENT: 1_800, BACKLOG: 3_600}
"""Seconds without a request after a run that did not get its work done, by kind of work."""
_AT_WORK = [
    DagsterRunStatus.QUEUED,
    DagsterRunStatus.NOT_STARTED,
    DagsterRunStatus.STARTING,
    DagsterRunStatus.STARTED,
    DagsterRunStatus.CANCELING,
]


class LastRun(NamedTuple):
    """The last run that the sensor asked for, for one kind of work."""

    run_id: str
    is_at_work: bool
    succeeded: bool
    started: float
    ended: float


def reason_to_wait(
    work: str, last: LastRun | None, oldest_found: int | None, now: float
) -> str | None:
    """Return why no run is asked for now; None if nothing speaks against a run.

    The reason is that a run is at work, or that the last run did not get its work done. A run that
    failed for single log files did get its work done: the ledger has visits for them. The work is
    not done if the log file that waits longest (`oldest_found`) was found before the run began.
    """
    if last is None:
        return None
    waiting = {RECENT: "new log files wait", BACKLOG: "older log files wait"}[work]
    if last.is_at_work:
        return f"{waiting} for run {last.run_id[:8]}, which is at work"
    has_work_left = work == BACKLOG or (oldest_found is not None and oldest_found < last.started)
    next_try = last.ended + _PAUSE_SECONDS[work]
    if last.succeeded or not has_work_left or not last.ended <= now < next_try:
        return None
    minutes = max(1, round((next_try - now) / 60))
    return (
        f"{waiting}: run {last.run_id[:8]} ended before it had brought them in; its log says why."
        f" The next try is in {minutes} minutes, or start the job `sync` yourself"
    )


def last_run(instance: DagsterInstance, work: str) -> LastRun | None:
    """Return the last run that the sensor asked for: a run at work, or else the newest run."""
    tags = {WORK_TAG: work}
    records = instance.get_run_records(
        RunsFilter(tags=tags, statuses=_AT_WORK), limit=1
    ) or instance.get_run_records(RunsFilter(tags=tags), limit=1)
    if not records:
        return None
    [record] = records
    run = record.dagster_run
    return LastRun(
        run.run_id,
        run.status in _AT_WORK,
        run.status is DagsterRunStatus.SUCCESS,
        record.start_time or record.create_timestamp.timestamp(),
        record.end_time or 0.0,
    )
