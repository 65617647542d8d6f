"""The soft limit of open files is raised as far as is of use, and as far as the system allows."""

import resource
from collections.abc import Iterator

import pytest

from ctrail_pipeline.core import open_files
from ctrail_pipeline.core.bucket.curl import Transfers

INFINITE = resource.RLIM_INFINITY


@pytest.fixture(autouse=True)
def _not_asked_yet() -> Iterator[None]:
    open_files.open_file_limit.cache_clear()
    yield
    open_files.open_file_limit.cache_clear()


class System:
    """A system that refuses a soft limit of more than `allowed`."""

    def __init__(self, soft: int, hard: int, allowed: int) -> None:
        self.limits, self.allowed = (soft, hard), allowed

    def get(self, _resource: int) -> tuple[int, int]:
        return self.limits

    def set(self, _resource: int, limits: tuple[int, int]) -> None:
        if limits[0] > self.allowed:
            raise ValueError("current limit exceeds maximum limit")
        self.limits = limits


@pytest.mark.parametrize(
    ("soft", "hard", "allowed", "expected"),
    [
        (256, 256, 256, 256),
        (256, 4_096, 4_096, 4_096),
        (256, 1_000_000, 1_000_000, 65_536),
        (256, INFINITE, 10_240, 10_240),  # macOS
        (256, INFINITE, 256, 256),  # refused
        (256, 4_096, 0, 256),  # refused
        (100_000, 200_000, 200_000, 100_000),  # is enough
        (INFINITE, INFINITE, 10_240, 65_536),
    ],
)
def test_the_limit_is_raised_as_far_as_it_goes(
    monkeypatch: pytest.MonkeyPatch, soft: int, hard: int, allowed: int, expected: int
) -> None:
    system = System(soft, hard, allowed)
    monkeypatch.setattr(resource, "getrlimit", system.get)
    monkeypatch.setattr(resource, "setrlimit", system.set)
    assert open_files.open_file_limit() == expected
    assert system.limits in {(soft, hard), (expected, hard)}


@pytest.mark.parametrize(("files", "requests"), [(256, 64), (4_096, 100), (8, 4)])
def test_requests_in_flight_are_bounded_by_what_may_be_open(
    monkeypatch: pytest.MonkeyPatch, files: int, requests: int
) -> None:
    system = System(files, files, files)
    monkeypatch.setattr(resource, "getrlimit", system.get)
    assert Transfers(100)._limit == requests
