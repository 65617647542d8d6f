"""Batches that are committed in one transaction: a stale one is left out, the others count."""

from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Final

import pytest

from ctrail_pipeline.core.batch.commit import Batch, Committer
from ctrail_pipeline.core.batch.stage import Staged
from ctrail_pipeline.core.ledger.batches import batch_state
from ctrail_pipeline.core.ledger.ledger import Ledger
from ctrail_pipeline.core.ledger.rows import (
    BatchState,
    LogFileState,
    NewSegment,
    Outcome,
    StaleBatch,
)
from ctrail_pipeline.core.ledger.segment_building import build_segment
from ctrail_pipeline.core.output.open_output import open_output
from ctrail_pipeline_tests.support.engines import ENGINES, with_ledger_in
from ctrail_pipeline_tests.support.sync_process import settings_in

HOUR: Final = "111122223333/eu-west-1/2026/01/10/12"
OTHER_HOUR: Final = "111122223333/eu-west-1/2026/01/10/13"


@pytest.fixture(params=ENGINES)
def committer(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Committer]:
    settings = with_ledger_in(request.param, settings_in(tmp_path, []))
    settings.events_dir.mkdir()
    output = open_output(settings)
    with closing(Ledger(settings.ledger)) as ledger:
        yield Committer(ledger, output, settings, "run", lambda _: None)


def segment_of(hour: str, *records: bytes) -> NewSegment:
    return build_segment(hour, {record * 16 for record in records}, [b"123456"], 0.01)


def staged(name: str, segment: NewSegment) -> Staged:
    """Return a batch of one log file, staged when the ledger was empty."""
    outcome = Outcome(
        source_id=1,
        day=20_463,
        name=name,
        expected=None,
        etag=b"etag",
        size=100,
        sha256=None,
        records=1,
        duplicates=0,
        quarantined=0,
        conflicts=0,
        state=LogFileState.COMMITTED,
        attempts=0,
        next_visit=None,
        reason=None,
        position=0,
    )
    return Staged(
        outcomes=[outcome],
        files=[],
        segments=[segment],
        seen={segment.partition: 0},
        bytes_in=0,
        events_by_hour=Counter(),
        events_by_name=Counter(),
        misfits=0,
        newlines_replaced=0,
    )


def committed(committer: Committer, *batches: Staged) -> tuple[list[bool], list[BatchState]]:
    """Commit batches together: whether each is stale, and the states of them and of a new one."""
    registered = committer.register_many(len(batches))
    pairs: list[tuple[Batch, Staged]] = list(zip(registered, batches, strict=True))
    results, [new] = committer.commit_many(pairs, [], 1)
    stale = [isinstance(result, StaleBatch) for result in results]
    states = [batch_state(committer._ledger, batch.id) for batch in (*registered, new)]
    return stale, states


def test_a_batch_that_has_the_events_of_the_one_before_it_is_stale(committer: Committer) -> None:
    stale, states = committed(
        committer,
        staged("a", segment_of(HOUR, b"1", b"2")),
        staged("b", segment_of(HOUR, b"2", b"3")),
        staged("c", segment_of(OTHER_HOUR, b"2")),
    )
    assert stale == [False, True, False]
    done, staging = BatchState.COMMITTED, BatchState.STAGING
    assert states == [done, staging, done, staging]
    assert rows_of(committer) == ({"a", "c"}, {(HOUR, 2), (OTHER_HOUR, 1)}, 2)


def test_a_batch_that_has_the_log_file_of_the_one_before_it_is_stale(committer: Committer) -> None:
    stale, _ = committed(
        committer,
        staged("a", segment_of(HOUR, b"1")),
        staged("a", segment_of(OTHER_HOUR, b"2")),
    )
    assert stale == [False, True]
    assert rows_of(committer) == ({"a"}, {(HOUR, 1)}, 1)


def rows_of(committer: Committer) -> tuple[set[str], set[tuple[str, int]], int]:
    """Return the names of log files, the segments, and the generation."""
    ledger = committer._ledger
    return (
        {name for (name,) in ledger.rows("SELECT name FROM log_file")},
        set(
            ledger.rows(
                "SELECT p.name, s.count FROM segment s"
                " JOIN dedup_partition p ON p.id = s.dedup_partition"
            )
        ),
        ledger.generation,
    )
