"""Fixtures that many test files share: a sample bucket, and the output that it must give."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from ctrail_pipeline.sample.bucket import write_sample
from ctrail_pipeline_tests.support.oracle import Expectation
from ctrail_pipeline_tests.support.sync_process import sample_expectation
from ctrail_pipeline_tests.support.synced_copies import SyncedCopies

# The same examples in each run: random search is for `make fuzz`, which asks for its own profile.
# How long an example takes says nothing on a busy machine.
settings.register_profile(
    "repeatable",
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("repeatable")


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Name bytes by their parameter: what gzip compresses holds the time of day.

    Test processes that name one test differently refuse to start.
    """
    return argname if isinstance(val, bytes) else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let long tests begin first: one that begins last keeps all other CPUs waiting."""

    def is_short(item: pytest.Item) -> bool:
        mark = item.get_closest_marker("thorough")
        return mark is None or not mark.kwargs.get("is_long")

    items.sort(key=is_short)


@pytest.fixture(scope="module")
def sample(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample's buckets, of the log files and days that the test file sets in `SAMPLE`."""
    folder = tmp_path_factory.mktemp("sample") / "buckets"
    write_sample(folder, **request.module.SAMPLE)
    return folder


@pytest.fixture(scope="module")
def expectation(sample: Path) -> Expectation:
    """The output that the whole sample must give."""
    return sample_expectation(sample)


@pytest.fixture(scope="session")
def synced_copies(tmp_path_factory: pytest.TempPathFactory) -> SyncedCopies:
    """Samples that were synced once; see `support/synced_copies`."""
    return SyncedCopies(tmp_path_factory.mktemp("synced"))
