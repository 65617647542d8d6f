"""What dead workers had in hand is done again in smaller groups, down to the deadly log file."""

from collections.abc import Set
from pathlib import Path

import pytest

from ctrail_pipeline.core.bucket.local import LocalBucket
from ctrail_pipeline.core.keys.coverage import EVERYTHING
from ctrail_pipeline.core.keys.source_prefix import SourcePrefix
from ctrail_pipeline.core.listing.sources import LogFileRef, Source
from ctrail_pipeline.core.run.worker_deaths import Suspects

PREFIX = SourcePrefix("bucket", "", "", "111122223333", "eu-west-1")


def log_files(count: int) -> dict[int, LogFileRef]:
    source = Source(1, PREFIX, "trail", LocalBucket(Path("/nowhere")), (), EVERYTHING, deep=False)
    return {
        number: LogFileRef(source, 20_000, f"1200Z_{number}", 100, b"e", False, None, 0)
        for number in range(count)
    }


def work(suspects: Suspects, deadly: Set[int]) -> set[int]:
    """Do all groups as a worker that dies at the first deadly log file; return what was done."""
    numbers_done: set[int] = set()
    while group := suspects.take_group():
        numbers = {number for number, _ in group}
        if numbers & deadly:
            suspects.note_death(dict(group), was_ready=True)
        else:
            suspects.clear(numbers)
            numbers_done |= numbers
    return numbers_done


@pytest.mark.parametrize("deadly", [set(), {0}, {63, 64}, {0, 100, 199}])
def test_only_deadly_log_files_are_given_up(deadly: set[int]) -> None:
    suspects = Suspects()
    of_worker = log_files(200)
    suspects.note_death(of_worker, was_ready=True)
    assert work(suspects, deadly) == of_worker.keys() - deadly
    assert suspects.hopeless == [of_worker[number] for number in sorted(deadly)]
    assert not suspects.are_waiting


def test_a_worker_that_was_never_ready_did_not_die_of_its_log_files() -> None:
    suspects = Suspects()
    for _ in range(10):
        suspects.note_death(log_files(1), was_ready=False)
        assert len(suspects.take_group()) == 1
    assert suspects.hopeless == []


def test_what_is_settled_begins_anew() -> None:
    suspects = Suspects()
    for _ in range(10):
        suspects.note_death(log_files(3), was_ready=True)
        assert len(suspects.take_group()) == 3
        suspects.clear(range(3))
    assert suspects.hopeless == []
