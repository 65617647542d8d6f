"""A day's log files, some of them late, and buckets that get them one after the other."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from random import Random

from ctrail_pipeline.core.settings import Settings
from ctrail_pipeline.sample.bucket import (
    LAST_DAY,
    ORGANIZATION_BUCKET,
    PAYMENTS_BUCKET,
    PAYMENTS_PREFIX,
    SampleObject,
    generate_log_files,
)
from ctrail_pipeline_tests.support.sync_process import (
    local_trail,
    put_object,
    settings_in,
)

DAYS = 4
MIDNIGHT = datetime.combine(LAST_DAY, time(), UTC)


def settings_of(folder: Path, **changes: object) -> Settings:
    trails = [
        local_trail(folder / ORGANIZATION_BUCKET, name="org"),
        local_trail(folder / PAYMENTS_BUCKET, PAYMENTS_PREFIX, name="payments"),
    ]
    return settings_in(folder, trails, **changes)


def deliver(folder: Path, objects: Iterable[SampleObject]) -> None:
    for sample_object in objects:
        put_object(
            folder / sample_object.bucket,
            sample_object.key,
            sample_object.body,
            sample_object.last_modified,
        )


def day_of_deliveries(seed: int) -> list[SampleObject]:
    """A day's log files in the order of their arrival. One in ten is late, by up to 6 hours."""
    rng = Random(seed)
    objects: dict[str, SampleObject] = {}
    for sample_object in generate_log_files(log_files=240, days=1, seed=seed):
        late = timedelta(hours=rng.uniform(0.3, 6) if rng.random() < 0.1 else 0)
        arrives = sample_object.last_modified + late
        if not any(earlier.bucket == sample_object.bucket for earlier in objects.values()):
            arrives = MIDNIGHT  # a trail with nothing at all is an error, which is tested elsewhere
        objects[sample_object.bucket + sample_object.key] = replace(
            sample_object, last_modified=arrives
        )
    return sorted(objects.values(), key=lambda sample_object: sample_object.last_modified)
