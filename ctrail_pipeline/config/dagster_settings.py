"""What only the Dagster side is told by the configuration file."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class DagsterSettings:
    """What only the Dagster layer is told."""

    materialization_interval: float = 3_600
    """Seconds in which the job reports a partition at most once; runs carry their totals."""
    keep_runs_days: int = 30
    """Days after which Dagster's record of a finished run is deleted."""
    no_events_hours: int = 24
    """Hours without a new event after which a trail counts as silent."""
    owners: tuple[str, ...] = ()
    """Owners of the assets: e-mail addresses or `team:name`."""
    sensor: str = "running"
    """Whether the sensor `new_log_files` runs from the start, or is `stopped` until it is told."""
    sensor_interval: int = 300
    """Seconds between two looks of the sensor at least."""
    failure_webhook: str | None = field(default=None, repr=False)
    """URL that is told of failed runs and of a sensor that is not at work; it may hold a secret."""
