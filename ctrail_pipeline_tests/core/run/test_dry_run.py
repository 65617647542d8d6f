"""The dry run's numbers are those of LIST; nothing is fetched, and nothing is written."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from random import Random

import pytest

from ctrail_pipeline.core.bucket import list_answer, local
from ctrail_pipeline.core.bucket.prices import DOLLARS_A_GET, DOLLARS_A_LIST
from ctrail_pipeline.core.listing.problem import Problem
from ctrail_pipeline.core.listing.selection import Selection
from ctrail_pipeline.core.run import dry_run as estimate_module
from ctrail_pipeline.core.run.dry_run import estimate
from ctrail_pipeline.core.run.estimate import TrailEstimate
from ctrail_pipeline.core.run.sync import sync
from ctrail_pipeline.core.settings import Settings, Trail
from ctrail_pipeline.reports.sentences import estimate_line
from ctrail_pipeline.sample.bucket import (
    ORGANIZATION_BUCKET,
    PAYMENTS_BUCKET,
    PAYMENTS_PREFIX,
    write_sample,
)
from ctrail_pipeline_tests.support.fault_server import FaultServer
from ctrail_pipeline_tests.support.sync_process import served_sample_settings
from ctrail_pipeline_tests.support.thorough import thorough

SOURCE_PREFIX_FOLDER = "AWSLogs/111122223333/CloudTrail/us-east-1/"


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("estimate") / "sample"
    write_sample(root, log_files=150)
    return root


@pytest.fixture
def server(sample: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultServer]:
    for name in list(os.environ):
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    with FaultServer(sample) as server:
        for name, value in server.env().items():
            monkeypatch.setenv(name, value)
        yield server


def dry_run(
    settings: Settings, selection: Selection | None = None
) -> tuple[list[TrailEstimate], list[Problem]]:
    problems: list[Problem] = []
    return estimate(settings, selection or Selection(), problems.append), problems


def log_files(bucket: Path) -> list[Path]:
    return sorted(bucket.glob("**/CloudTrail/**/*.json.gz"))


def numbers(estimates: Sequence[TrailEstimate]) -> list[tuple[str, int, int]]:
    return [
        (trail_estimate.trail, trail_estimate.log_files, trail_estimate.bytes)
        for trail_estimate in estimates
    ]


def size(paths: Sequence[Path]) -> int:
    return sum(path.stat().st_size for path in paths)


# --- what is listed -------------------------------------------------------------------------------


def test_without_a_ledger_the_numbers_are_all_there_is_and_nothing_is_read_or_written(
    server: FaultServer, sample: Path, tmp_path: Path
) -> None:
    estimates, problems = dry_run(served_sample_settings(server.endpoint_url, tmp_path))
    assert problems == []
    organization, payments = (
        log_files(sample / bucket) for bucket in (ORGANIZATION_BUCKET, PAYMENTS_BUCKET)
    )
    assert numbers(estimates) == [
        ("organization", len(organization), size(organization)),
        ("payments", len(payments), size(payments)),
    ]
    assert [trail.partitions for trail in estimates] == [
        len({path.parents[3] for path in paths}) for paths in (organization, payments)
    ]
    assert not any(trail.is_sampled for trail in estimates)
    requests = server.counts.requests
    assert requests.keys() == {"list"}, "no GET, of no kind"
    # Discovery lists both roots, the organization, and of each account two folders: the account's
    # own, for the kinds in it, and the kind's, for the regions in it.
    accounts = len({path.parents[5] for path in organization})
    discovery = 2 + 1 + 2 * (accounts + 1)
    assert sum(trail.list_requests for trail in estimates) == requests["list"] - discovery
    assert list(tmp_path.iterdir()) == []


def test_with_a_ledger_only_what_is_new_counts(
    server: FaultServer, sample: Path, tmp_path: Path
) -> None:
    settings = served_sample_settings(server.endpoint_url, tmp_path)
    newest = log_files(sample / ORGANIZATION_BUCKET)[::3]
    bucket = sample / ORGANIZATION_BUCKET
    server.faults.hidden = {path.relative_to(bucket).as_posix() for path in newest}
    assert sync(settings).ok
    server.reveal()
    before = contents(tmp_path)
    gets = server.counts.requests["get"]
    estimates, problems = dry_run(settings)
    assert problems == []
    # None of the organization's log files in `newest` is outside of the daily deep listing.
    assert numbers(estimates)[1] == ("payments", 0, 0)
    assert estimates[0].log_files <= len(newest)
    assert server.counts.requests["get"] == gets
    assert contents(tmp_path) == before
    assert sync(settings).progress.log_files == estimates[0].log_files
    assert [trail.log_files for trail in dry_run(settings)[0]] == [0, 0]


def contents(folder: Path) -> dict[Path, bytes]:
    """Return every file but those that SQLite keeps beside a database while it is open."""
    return {
        path: path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not path.name.endswith(("-wal", "-shm"))
    }


def test_the_selection_bounds_what_is_counted(
    server: FaultServer, sample: Path, tmp_path: Path
) -> None:
    selection = Selection(
        trails=["organization"],
        partitions=["*/eu-*"],
        start=datetime(2026, 1, 14, tzinfo=UTC),
        end=datetime(2026, 1, 14, 23, tzinfo=UTC),
    )
    wanted = [
        path
        for path in log_files(sample / ORGANIZATION_BUCKET)
        if "/eu-" in str(path) and "/2026/01/14/" in str(path)
    ]
    estimates, problems = dry_run(served_sample_settings(server.endpoint_url, tmp_path), selection)
    assert problems == []
    assert numbers(estimates) == [("organization", len(wanted), size(wanted))]


def test_a_trail_that_cannot_be_listed_is_noted_and_the_other_is_estimated(
    server: FaultServer, sample: Path, tmp_path: Path
) -> None:
    server.faults.denied = {"AWSLogs/"}
    estimates, problems = dry_run(served_sample_settings(server.endpoint_url, tmp_path))
    payments = log_files(sample / PAYMENTS_BUCKET)
    assert numbers(estimates) == [("payments", len(payments), size(payments))]
    assert problems == [
        Problem(
            "organization",
            ORGANIZATION_BUCKET,
            "not listed",
            f"s3://{ORGANIZATION_BUCKET}/AWSLogs/: access denied: s3:ListBucket on"
            f" arn:aws:s3:::{ORGANIZATION_BUCKET} is missing",
        )
    ]


def test_a_source_prefix_that_cannot_be_listed_is_noted_and_the_others_are_estimated(
    server: FaultServer, sample: Path, tmp_path: Path
) -> None:
    denied = f"{PAYMENTS_PREFIX}/AWSLogs/444455556666/CloudTrail/eu-west-1/"
    server.faults.denied = {denied}
    estimates, problems = dry_run(served_sample_settings(server.endpoint_url, tmp_path))
    listable = [
        path for path in log_files(sample / PAYMENTS_BUCKET) if "/eu-west-1/" not in str(path)
    ]
    assert numbers(estimates)[1] == ("payments", len(listable), size(listable))
    assert [(problem.where, problem.state) for problem in problems] == [
        ("444455556666/eu-west-1", "not listed")
    ]


# --- what is reckoned -----------------------------------------------------------------------------


def write_source_prefix(root: Path, first: date, days: int, log_files_a_day: Sequence[int]) -> int:
    """Write log files of one account and region: so many a day, in turn, at random minutes."""
    rng = Random(1)
    total = 0
    for number in range(days):
        day = first + timedelta(days=number)
        folder = root / "logs" / SOURCE_PREFIX_FOLDER / f"{day:%Y/%m/%d}"
        folder.mkdir(parents=True)
        for log_file in range(log_files_a_day[number % len(log_files_a_day)]):
            minute = rng.randrange(24 * 60)
            at = f"{day:%Y%m%d}T{minute // 60:02}{minute % 60:02}Z"
            name = f"111122223333_CloudTrail_us-east-1_{at}_{log_file:016}.json.gz"
            (folder / name).write_bytes(bytes(100))
            total += 1
    return total


@pytest.mark.parametrize(
    ("first", "days", "log_files_a_day", "enough"),
    [
        (date(2025, 11, 20), 40, [5], 50),
        *thorough((date(2025, 9, 1), 120, [1, 3, 2], 60)),
        # Each day has more than a page, so that days are listed in part when that is enough.
        (date(2025, 12, 1), 12, [45], 120),
        *thorough((date(2025, 12, 1), 40, [30, 36], 100)),
        (date(2025, 12, 1), 3, [200], 50),
        # Of two years, one has only December: the days that exist are asked for, not guessed.
        (date(2024, 12, 20), 60, [6], 70),
    ],
)
@pytest.mark.parametrize("by_s3", [False, True])
def test_beyond_what_is_listed_an_estimate_by_days_is_within_a_quarter(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    server: FaultServer,
    first: date,
    days: int,
    log_files_a_day: list[int],
    enough: int,
    by_s3: bool,
) -> None:
    monkeypatch.setattr(estimate_module, "LISTED_A_SOURCE_PREFIX", enough)
    monkeypatch.setattr(local, "PAGE_SIZE", 20)
    monkeypatch.setattr(list_answer, "PAGE_SIZE", 20)
    truth = write_source_prefix(tmp_path, first, days, log_files_a_day)
    server.root = tmp_path
    trail = Trail("trail", (tmp_path / "logs").as_uri())
    if by_s3:
        trail = Trail("trail", "logs", "", "us-east-1", server.endpoint_url)
    settings = replace(
        served_sample_settings(server.endpoint_url, tmp_path), trails=(trail,), list_batch_size=20
    )
    [found], problems = dry_run(settings)
    assert problems == []
    assert found.is_sampled
    assert estimate_line(found).startswith(
        f"trail trail: about {found.log_files:,} new log files, "
    )
    assert abs(found.log_files - truth) <= truth / 4, (found.log_files, truth)
    assert abs(found.bytes - 100 * truth) <= 100 * truth / 4
    if by_s3:
        assert "get" not in server.counts.requests
    monkeypatch.setattr(estimate_module, "LISTED_A_SOURCE_PREFIX", truth + 1)
    [exact], _ = dry_run(settings)
    assert (exact.log_files, exact.bytes, exact.is_sampled) == (truth, 100 * truth, False)
    assert found.list_requests < exact.list_requests or days < 5


# --- what it costs --------------------------------------------------------------------------------


def test_a_sync_asks_once_for_each_log_file_and_once_for_each_page() -> None:
    many = TrailEstimate("trail", log_files=2_500_000, bytes=5_000_000_000, list_requests=100)
    assert many.requests == 2_500_000 + 2_500
    assert many.dollars == pytest.approx(2_500 * 0.005 / 1000 + 2_500_000 * 0.0004 / 1000)
    assert many.dollars == pytest.approx(1.0125)
    assert many.disk_bytes == 5_000_000_000 * 7 + 2_500_000 * 500
    few = TrailEstimate("trail", log_files=10, list_requests=300)
    assert few.requests == 310
    assert few.dollars == pytest.approx(300 * DOLLARS_A_LIST + 10 * DOLLARS_A_GET)
    nothing = TrailEstimate("trail")
    assert (nothing.requests, nothing.dollars, nothing.disk_bytes, nothing.seconds) == (0, 0, 0, 0)


def test_an_estimate_is_one_line_with_units() -> None:
    trail = TrailEstimate("main", 3, 2_500_000, 5_000_000_000, 100)
    assert estimate_line(trail) == (
        "trail main: 2,500,000 new log files, 5 GB stored, in 3 accounts and regions;"
        " 2,502,500 requests (about $1.01), 36 GB of disk or less, 27 min or more"
    )
    assert estimate_line(TrailEstimate("main", 1)) == (
        "trail main: 0 new log files, 0 B stored, in 1 accounts and regions;"
        " 0 requests (about $0.00), 0 B of disk or less, 1 s or more"
    )
