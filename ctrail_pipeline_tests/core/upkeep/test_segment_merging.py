"""Merged segments are few, and what is known stays known, whoever looks meanwhile."""

import uuid
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctrail_pipeline.core.ledger import bloom_filter
from ctrail_pipeline.core.ledger.batch_commit import commit_batch
from ctrail_pipeline.core.ledger.batches import mark_published, register_batch
from ctrail_pipeline.core.ledger.engine import Row
from ctrail_pipeline.core.ledger.known_identities import KnownIdentities
from ctrail_pipeline.core.ledger.ledger import Ledger
from ctrail_pipeline.core.ledger.packed_identities import split_identities
from ctrail_pipeline.core.ledger.queries_restage import identities_added
from ctrail_pipeline.core.ledger.rows import StaleBatch
from ctrail_pipeline.core.ledger.segment_building import build_segment
from ctrail_pipeline.core.ledger.segments import (
    LedgerSegments,
    newest_segment,
    partitions_with_segments,
    replace_segments,
)
from ctrail_pipeline.core.log_file.identity import identity_of
from ctrail_pipeline.core.run.sync import sync
from ctrail_pipeline.core.upkeep.segment_merging import (
    LARGEST,
    MERGED_TOGETHER,
    SegmentMerger,
    segments_to_merge,
)
from ctrail_pipeline_tests.support.new_log_files import NOW, put
from ctrail_pipeline_tests.support.oracle import read_buckets
from ctrail_pipeline_tests.support.sync_process import assert_exact, local_trail, settings_in

HOUR = "111122223333/eu-west-1/2024/01/02/03"


@pytest.fixture(autouse=True)
def smaller_filters(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give segments filters from fewer identities on, since small segments are made faster."""
    monkeypatch.setattr(bloom_filter, "FILTERED_FROM", 4096)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    ledger = Ledger(tmp_path / "ledger.db")
    yield ledger
    ledger.close()


def add(ledger: Ledger, numbers: range, *, is_published: bool = True) -> int:
    """Add a batch with one segment, whose events are numbers."""
    lines = [b"%d" % number for number in numbers]
    segment = build_segment(HOUR, [identity_of(line) for line in lines], lines, 0.001)
    batch = register_batch(ledger, uuid.uuid4().hex, "", [])
    with ledger.transaction():
        commit_batch(
            ledger,
            batch,
            [],
            [],
            [segment],
            {HOUR: 1 << 60},
        )
        if is_published:
            mark_published(ledger, [batch])
    return batch


def identities(ledger: Ledger) -> list[bytes]:
    found = []
    for segment in LedgerSegments(ledger).segments(HOUR, 0, 10_000):
        found += split_identities(LedgerSegments(ledger).segment_identities(segment.id))
    return sorted(found)


@given(st.lists(st.integers(1, LARGEST), max_size=60))
def test_no_merge_is_too_large_and_few_of_a_size_are_left(sizes: list[int]) -> None:
    merges = segments_to_merge(enumerate(sizes))
    merged = [id_ for ids in merges for id_ in ids]
    assert len(merged) == len(set(merged))
    assert all(len(ids) > 1 and sum(sizes[id_] for id_ in ids) <= LARGEST for ids in merges)
    remaining = [
        size for id_, size in enumerate(sizes) if id_ not in merged and size <= LARGEST // 2
    ]
    kinds = [(size.bit_length() + 2) // 3 for size in remaining]
    fits = [size for size in remaining if size <= LARGEST // MERGED_TOGETHER]
    assert all(kinds.count((size.bit_length() + 2) // 3) < MERGED_TOGETHER * 2 for size in fits)


def test_many_small_segments_become_few_with_the_same_identities(ledger: Ledger) -> None:
    merger = SegmentMerger(ledger, 0.001)
    for number in range(200):
        add(ledger, range(number * 100, number * 100 + 100))
    before = identities(ledger)
    assert len(LedgerSegments(ledger).segments(HOUR, 0, 1000)) == 200
    assert merger.merge() > 150
    segments = LedgerSegments(ledger).segments(HOUR, 0, 1000)
    assert len(segments) < 24
    assert identities(ledger) == before == sorted({identity_of(b"%d" % n) for n in range(20_000)})
    assert any(segment.filter_bytes and segment.is_merged for segment in segments)
    assert merger.merge() == 0


def test_what_is_large_is_merged_while_a_run_lasts(ledger: Ledger) -> None:
    merger = SegmentMerger(ledger, 0.001)
    for number in range(MERGED_TOGETHER):
        add(ledger, range(number * 4096, (number + 1) * 4096))
        assert len(LedgerSegments(ledger).segments(HOUR, 0)) == number + 1
        merger.after_batch()
    assert [segment.size for segment in LedgerSegments(ledger).segments(HOUR, 0)] == [8 * 4096]


def test_a_batch_that_is_not_published_keeps_its_segment(ledger: Ledger) -> None:
    merger = SegmentMerger(ledger, 0.001)
    for number in range(MERGED_TOGETHER):
        add(ledger, range(number * 10, number * 10 + 10))
    last = add(ledger, range(1000, 1010), is_published=False)
    merger.merge()
    [packed] = identities_added(ledger, last, HOUR)
    assert split_identities(packed) == sorted(identity_of(b"%d" % n) for n in range(1000, 1010))


def test_a_view_from_before_a_merge_cannot_write_an_event_twice(ledger: Ledger) -> None:
    merger = SegmentMerger(ledger, 0.001)
    for number in range(MERGED_TOGETHER):
        add(ledger, range(number * 5000, number * 5000 + 5000))
    known = KnownIdentities(LedgerSegments(ledger))
    known.begin()
    seen = known.partition(HOUR).version
    merger.merge()
    doubled = identity_of(b"7")
    batch = register_batch(ledger, uuid.uuid4().hex, "", [])
    segment = build_segment(HOUR, [doubled], [], 0.001)
    with pytest.raises(StaleBatch), ledger.transaction():
        commit_batch(
            ledger,
            batch,
            [],
            [],
            [segment],
            {HOUR: seen},
        )
    known.begin()
    assert known.partition(HOUR).known_among({doubled}) == {doubled}


@pytest.mark.parametrize("at", range(3))
def test_segments_that_are_merged_while_they_are_read_ahead_are_not_missed(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    """They are merged, and another one is added, before each statement of the look ahead."""
    for number in range(MERGED_TOGETHER):
        add(ledger, range(number * 10, number * 10 + 10))
    other = Ledger(ledger.path)
    asked: list[str] = []
    rows = ledger._engine.rows

    def merge_before(sql: str, *values: object) -> list[Row]:
        if len(asked) == at:
            SegmentMerger(other, 0.001).merge()
            add(other, range(1000, 1010))
        asked.append(sql)
        return rows(sql, *values)

    known = KnownIdentities(LedgerSegments(ledger))
    known.begin()
    with monkeypatch.context() as patch:
        patch.setattr(ledger._engine, "rows", merge_before)
        known.look_ahead([HOUR])
        partition = known.partition(HOUR)
    other.close()
    wanted = {identity_of(b"%d" % number) for number in range(10 * MERGED_TOGETHER)}
    assert partition.known_among(wanted) == wanted
    assert len(asked) > at or at == 2


def test_two_that_merge_at_once_do_it_once(ledger: Ledger) -> None:
    ids = []
    for number in range(MERGED_TOGETHER):
        add(ledger, range(number * 10, number * 10 + 10))
        ids.append(newest_segment(ledger))
    merged = build_segment(HOUR, identities(ledger), [], 0.001)
    other_ledger = Ledger(ledger.path)
    with other_ledger.transaction():
        assert replace_segments(other_ledger, ids, merged)
    other_ledger.close()
    with ledger.transaction():
        assert not replace_segments(ledger, ids, merged)
    assert len(LedgerSegments(ledger).segments(HOUR, 0)) == 1


@pytest.mark.thorough
def test_an_hour_that_comes_in_by_many_runs_is_exact_and_has_few_segments(tmp_path: Path) -> None:
    bucket = tmp_path / "logs"
    bucket.mkdir()
    settings = settings_in(tmp_path, [local_trail(bucket)])
    noon = NOW.replace(minute=0) - timedelta(hours=5)
    for number in range(40):
        put(bucket, "111122223333", "eu-west-1", noon + timedelta(minutes=number), f"{number:03}")
        assert sync(settings).ok
    assert_exact(settings, read_buckets([(bucket, "")]))
    ledger = Ledger(settings.state_db)
    [partition] = partitions_with_segments(ledger, 0)
    assert len(LedgerSegments(ledger).segments(partition, 0)) < 2 * MERGED_TOGETHER
    ledger.close()
