"""Settings of the configuration file that only the Dagster side reads."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class DagsterSettings:
    """Settings that only the Dagster side reads."""

    materialization_interval: float = 3_600
    """Seconds within which the job reports a partition at most once. Runs always show totals."""
    keep_runs_days: int = 30
    """Days after which Dagster's record of a finished run is deleted."""
    no_events_hours: int = 24
    """Hours without a new event after which a trail counts as silent."""
    owners: tuple[str, ...] = ()
    """Owners of the assets: e-mail addresses or `team:name`."""
    sensor: str = "running"
    """`running`: the sensor `new_log_files` runs from the start. `stopped`: people start it."""
    sensor_interval: int = 300
    """Least number of seconds between two looks of the sensor."""
    listing_budget: float = 2
    """Dollars a day, at list price. Idle accounts and regions rest in most looks where looking at
    all of them would cost more. 300 of them with all four kinds cost $1.73 at a `sensor_interval`
    of 300, so they never rest."""
    failure_webhook: str | None = field(default=None, repr=False)
    """URL that is told of failed runs and of a sensor that is not at work. It may hold a secret."""
