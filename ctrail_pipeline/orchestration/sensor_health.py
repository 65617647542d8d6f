"""Is the sensor `new_log_files` at work? Dagster's instance answers.

Not here: what the sensor does (`sensors`), and who is told of trouble (`checks`, `sensors`).
"""

import time
from typing import Any

from dagster import DagsterInstance

from ctrail_pipeline.config.dagster_settings import DagsterSettings

SENSOR_NAME = "new_log_files"
_INTERVALS_LATE = 3
_LEAST_LATE_SECONDS = 900
_TICKS = 3
"""Looks in a row that must have failed before there is an alarm: one failure may be a hiccup."""
_STOPPED = (
    f"the sensor {SENSOR_NAME} was stopped: start it in the UI under Automation. If it is meant to"
    ' be stopped, write "sensor": "stopped" in config.json'
)
_NEVER = "it never looked: is the Dagster daemon running (`dagster dev`, or `dagster-daemon run`)?"


def sensor_trouble(instance: DagsterInstance, settings: DagsterSettings) -> str | None:
    """Return what keeps the sensor from its work, and what to do; None if it is at work.

    It is no trouble if the configuration stops the sensor and nobody has started it.
    """
    if instance.schedule_storage is None:
        return None  # without DAGSTER_HOME Dagster remembers nothing, and no daemon could look
    state = _state(instance)
    status = "DECLARED_IN_CODE" if state is None else state.status.name
    if settings.sensor == "stopped" and status != "RUNNING":
        return None
    if status == "STOPPED":
        return _STOPPED
    last = _last_look(state)
    if last is None:
        # Without a daemon, people or cron start runs: that is a way to work, too.
        return _NEVER if instance.get_daemon_heartbeats() else None
    late_seconds = max(_INTERVALS_LATE * settings.sensor_interval, _LEAST_LATE_SECONDS)
    if time.time() - last > late_seconds:
        minutes = round((time.time() - last) / 60)
        return f"its last look was {minutes} minutes ago: is the Dagster daemon running?"
    return _failing(instance, state)


def _state(instance: DagsterInstance) -> Any:
    """Return the newest state of a sensor of this name: a moved project leaves old ones behind."""
    states = [
        state for state in instance.all_instigator_state() if state.instigator_name == SENSOR_NAME
    ]
    return max(states, key=lambda state: _last_look(state) or 0, default=None)


def _last_look(state: Any) -> float | None:
    """Return when the sensor looked last, in seconds since 1970; None if it never did."""
    last: float | None = getattr(state and state.instigator_data, "last_tick_timestamp", None)
    return last


def _failing(instance: DagsterInstance, state: Any) -> str | None:
    """Return why the last looks failed; None if one of them went well."""
    if state is None:
        return None
    ticks = [
        tick
        for tick in instance.get_ticks(
            state.instigator_origin_id, state.selector_id, limit=_TICKS + 1
        )
        if tick.status.name != "STARTED"
    ][:_TICKS]
    if len(ticks) < _TICKS or any(tick.status.name != "FAILURE" for tick in ticks):
        return None
    error = ticks[0].error
    lines = error.message.strip().splitlines() if error is not None else []
    reason = lines[-1] if lines else "no reason is given"
    return f"its last {_TICKS} looks failed: {reason}"
