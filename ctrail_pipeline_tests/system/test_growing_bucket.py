"""Many syncs of a growing bucket, or of ever wider windows, give the output of a single sync.

A (simulated) day with a run every hour; `CTRAIL_LONG=1` adds one every quarter of an hour.
"""

import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from random import Random

import pytest

from ctrail_pipeline.core.listing.selection import Selection
from ctrail_pipeline.core.run.sync import sync
from ctrail_pipeline.sample.bucket import (
    ORGANIZATION_BUCKET,
    PAYMENTS_BUCKET,
    PAYMENTS_PREFIX,
    SampleObject,
    generate_log_files,
)
from ctrail_pipeline_tests.support.growing_bucket import (
    DAYS,
    MIDNIGHT,
    day_of_deliveries,
    deliver,
    settings_of,
)
from ctrail_pipeline_tests.support.oracle import read_buckets, snapshot
from ctrail_pipeline_tests.support.sync_process import (
    assert_exact,
)
from ctrail_pipeline_tests.support.thorough import thorough

only_when_long = pytest.mark.skipif(
    not os.environ.get("CTRAIL_LONG"),
    reason="one run an hour is enough every day: set CTRAIL_LONG=1",
)


def undisturbed_lines(folder: Path, objects: Sequence[SampleObject]) -> set[bytes]:
    deliver(folder, objects)
    settings = settings_of(folder)
    assert sync(settings).ok
    return snapshot(settings.events_dir)


def sorted_before_processed_ones(runs: Sequence[Sequence[SampleObject]]) -> int:
    """Count the log files that arrive after a run saw a later key of their account and region."""
    newest: dict[str, str] = {}
    count = 0
    for arrived in runs:
        folders = [
            sample_object.bucket + sample_object.key.partition("/CloudTrail/")[0]
            for sample_object in arrived
        ]
        count += sum(
            sample_object.key < newest.get(folder, "")
            for sample_object, folder in zip(arrived, folders, strict=True)
        )
        for sample_object, folder in zip(arrived, folders, strict=True):
            newest[folder] = max(newest.get(folder, ""), sample_object.key)
    return count


@pytest.mark.parametrize(
    ("minutes", "seed"),
    [
        (60, 1),
        *thorough((60, 2)),
        pytest.param(15, 1, marks=only_when_long),
        pytest.param(15, 2, marks=only_when_long),
    ],
)
@pytest.mark.thorough
def test_a_run_every_so_often_over_a_day(tmp_path: Path, minutes: int, seed: int) -> None:
    objects = day_of_deliveries(seed)
    folder = tmp_path / "growing"
    settings = settings_of(folder)
    ends = [MIDNIGHT + timedelta(minutes=minutes * n) for n in range(1, 24 * 60 // minutes + 1)]
    last = max(sample_object.last_modified for sample_object in objects)
    while ends[-1] < last:  # log files of the day go on arriving after it
        ends.append(ends[-1] + timedelta(minutes=minutes))
    runs = []
    for start, end in pairwise([datetime.min.replace(tzinfo=UTC), *ends]):
        arrived = [
            sample_object for sample_object in objects if start < sample_object.last_modified <= end
        ]
        deliver(folder, arrived)
        runs.append(arrived)
        summary = sync(settings)
        assert summary.ok, summary.problems
        # Each run brings in all that arrived before it, and fetches nothing twice.
        assert summary.progress.log_files == sum(
            "/CloudTrail/" in sample_object.key for sample_object in arrived
        )
    buckets = [(folder / ORGANIZATION_BUCKET, ""), (folder / PAYMENTS_BUCKET, PAYMENTS_PREFIX)]
    assert_exact(settings, read_buckets(buckets))
    lines = snapshot(settings.events_dir)
    assert lines == undisturbed_lines(tmp_path / "at once", objects)
    backward = sorted_before_processed_ones(runs)
    assert backward > 5
    print(f"{len(runs)} runs, {len(lines)} events, {backward} log files sorted before earlier ones")


@pytest.fixture(scope="module")
def four_days(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, set[bytes]]:
    """Buckets of four days, and the lines of an undisturbed sync of them."""
    folder = tmp_path_factory.mktemp("four_days")
    return folder, undisturbed_lines(folder, list(generate_log_files(log_files=240, days=DAYS)))


def assert_as_if_once(
    four_days: tuple[Path, set[bytes]], tmp_path: Path, selections: Iterable[Selection]
) -> None:
    folder, lines = four_days
    settings = replace(
        settings_of(folder),
        events_dir=tmp_path / "events",
        quarantine_dir=tmp_path / "quarantine",
        state_db=tmp_path / "ledger.db",
    )
    log_files = 0
    for selection in selections:
        summary = sync(settings, selection)
        assert summary.ok, summary.problems
        log_files += summary.progress.log_files
    expectation = read_buckets(
        [(folder / ORGANIZATION_BUCKET, ""), (folder / PAYMENTS_BUCKET, PAYMENTS_PREFIX)]
    )
    assert_exact(settings, expectation)
    assert snapshot(settings.events_dir) == lines
    assert log_files == expectation.log_files  # each log file was fetched once


def test_the_last_day_first_then_everything(
    four_days: tuple[Path, set[bytes]], tmp_path: Path
) -> None:
    assert_as_if_once(four_days, tmp_path, [Selection(start=MIDNIGHT), Selection()])


def test_the_middle_first_then_its_past_then_everything(
    four_days: tuple[Path, set[bytes]], tmp_path: Path
) -> None:
    middle = MIDNIGHT - timedelta(days=2, hours=5)
    selections = [
        Selection(start=middle, end=middle + timedelta(hours=9)),
        Selection(end=middle),
        Selection(),
    ]
    assert_as_if_once(four_days, tmp_path, selections)


@pytest.mark.parametrize("seed", [0, *thorough(1, 2, 3)])
@pytest.mark.parametrize("whole_days", [True, False])
@pytest.mark.thorough
def test_backwards_in_random_order(
    four_days: tuple[Path, set[bytes]], tmp_path: Path, seed: int, whole_days: bool
) -> None:
    """Windows that cover the four days (and the late log files behind them) in any order."""
    rng = Random(seed)
    first = MIDNIGHT - timedelta(days=DAYS)
    minutes = (DAYS + 2) * 24 * 60
    if whole_days:
        cuts = list(range(0, minutes + 1, 24 * 60))
    else:
        cuts = sorted({0, minutes, *(rng.randrange(minutes) for _ in range(9))})
    bounds = [first + timedelta(minutes=cut) for cut in cuts]
    windows = [Selection(start=start, end=end) for start, end in pairwise(bounds)]
    rng.shuffle(windows)
    assert_as_if_once(four_days, tmp_path, windows)


@pytest.mark.parametrize("seed", [0, *thorough(1)])
@pytest.mark.thorough
def test_windows_of_single_accounts_and_regions(
    four_days: tuple[Path, set[bytes]], tmp_path: Path, seed: int
) -> None:
    rng = Random(seed)
    patterns = ["2*/*", "444455556666/*", "*/us-east-1", "*/eu-*", "6*/*"]
    selections = [
        Selection(partitions=[pattern], start=start)
        for pattern in patterns
        for start in (MIDNIGHT - timedelta(days=1), None)
    ]
    rng.shuffle(selections)
    assert_as_if_once(four_days, tmp_path, [*selections, Selection()])
