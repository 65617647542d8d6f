"""Whether a record is new is answered exactly, whatever the Bloom filters say."""

from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rbloom import Bloom
from xxhash import xxh3_64_intdigest

from ctrail_pipeline.core.ledger import bloom_filter, known_identities, packed_identities
from ctrail_pipeline.core.ledger.dedup_partition import dedup_partition
from ctrail_pipeline.core.ledger.known_identities import (
    IDENTITIES_AHEAD,
    SEGMENTS_A_READ,
    DedupPartition,
    KnownIdentities,
)
from ctrail_pipeline.core.ledger.packed_identities import held_among, merge_sorted, split_identities
from ctrail_pipeline.core.ledger.rows import NewSegment, Segment, SegmentGone
from ctrail_pipeline.core.ledger.segment_building import build_segment, merge_identities
from ctrail_pipeline.core.log_file.identity import IDENTITY_BYTES, event_key_of, identity_of
from ctrail_pipeline_tests.support.properties import examples

HOUR = "111122223333/us-east-1/2024/01/02/03"
OTHER_HOUR = "111122223333/us-east-1/2024/01/02/04"
FILTERED_FROM = 4096


@pytest.fixture(autouse=True, scope="module")
def smaller_filters() -> Iterator[None]:
    """Give segments filters from fewer identities on, since small segments are made faster."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(bloom_filter, "FILTERED_FROM", FILTERED_FROM)
        yield


def identities(first: int, end: int) -> list[bytes]:
    return [identity_of(b"%d" % number) for number in range(first, end)]


class MemorySegments:
    """The ledger's segments in memory; they count what is read."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, int, NewSegment]] = []
        self.next_id = 1
        self.reads = 0
        self.blobs_read = 0
        self.filters_read = 0
        self.merged: set[int] = set()

    def add(self, segment: NewSegment) -> int:
        self.rows.append((segment.partition, self.next_id, segment))
        self.next_id += 1
        return self.next_id - 1

    def segments(self, partition: str, after: int, limit: int = 64) -> list[Segment]:
        self.reads += 1
        return self._newer(partition, after)[:limit]

    def _newer(self, partition: str, after: int) -> list[Segment]:
        return [
            Segment(id_, new.size, b"", len(new.filter), b"", id_ in self.merged)
            if new.filter
            else Segment(id_, new.size, new.identities, 0, new.event_keys, id_ in self.merged)
            for name, id_, new in self.rows
            if name == partition and id_ > after
        ]

    def few_newer(self, seen: Mapping[str, int], limit: int) -> dict[str, list[Segment]]:
        newer = {name: self._newer(name, after) for name, after in seen.items()}
        return {
            name: segments
            for name, segments in newer.items()
            if sum(segment.size for segment in segments) <= limit
        }

    def segment_identities(self, segment_id: int) -> bytes:
        self.blobs_read += 1
        return self.one(segment_id).identities

    def segment_filter(self, segment_id: int) -> bytes:
        self.filters_read += 1
        return self.one(segment_id).filter or b""

    def segment_event_keys(self, segment_id: int) -> bytes:
        return self.one(segment_id).event_keys

    def one(self, segment_id: int) -> NewSegment:
        for _, id_, new in self.rows:
            if id_ == segment_id:
                return new
        raise SegmentGone


def hour_of(reader: MemorySegments) -> DedupPartition:
    known = KnownIdentities(reader)
    known.begin()
    return known.partition(HOUR)


@pytest.mark.parametrize("size", [0, 1, FILTERED_FROM - 1, FILTERED_FROM, FILTERED_FROM + 1])
def test_a_segment_holds_each_identity_sorted_and_a_filter_if_there_are_many(size: int) -> None:
    items = identities(0, size)
    segment = build_segment(HOUR, items, (), 0.001)
    assert split_identities(segment.identities) == sorted(items)
    assert (segment.partition, segment.size) == (HOUR, size)
    assert (segment.filter is not None) == (size >= FILTERED_FROM)


@pytest.mark.parametrize(
    ("size", "segments", "reads"),
    [
        (1, SEGMENTS_A_READ, 0),
        (FILTERED_FROM, 2, 0),
        (IDENTITIES_AHEAD // 15, SEGMENTS_A_READ - 1, 0),
        (IDENTITIES_AHEAD // 15 + 1, SEGMENTS_A_READ - 1, 1),
        (IDENTITIES_AHEAD // 15 + 1, SEGMENTS_A_READ, 2),
    ],
)
def test_dedup_partitions_are_read_together_unless_they_hold_much(
    size: int, segments: int, reads: int
) -> None:
    """Each read may be a round trip to a server."""
    reader = MemorySegments()
    items = identities(0, size)
    for _ in range(segments):
        reader.add(build_segment(HOUR, items, (), 0.001))
    known = KnownIdentities(reader)
    known.begin()
    known.look_ahead([HOUR, OTHER_HOUR])
    assert len(known.partition(HOUR).known_among(identities(0, 2))) == min(size, 2)
    assert known.partition(OTHER_HOUR).version == 0
    assert reader.reads == reads


SIZES = st.sampled_from([0, 1, 7, FILTERED_FROM - 1, FILTERED_FROM, FILTERED_FROM + 200])


@given(
    st.lists(
        st.tuples(st.sampled_from([HOUR, OTHER_HOUR]), SIZES, st.integers(0, 9000)), max_size=4
    ),
    st.lists(st.integers(0, 20_000), max_size=200),
    st.sampled_from([0.5, 0.01]),
)
@settings(max_examples=examples(25))
def test_answers_are_those_of_a_plain_set(
    added: Sequence[tuple[str, int, int]], queries: Sequence[int], false_positive: float
) -> None:
    reader = MemorySegments()
    known = KnownIdentities(reader)
    plain: dict[str, set[bytes]] = {HOUR: set(), OTHER_HOUR: set()}
    question = {identity_of(b"%d" % number) for number in queries}
    question.update(identities(9_000, 9_010))
    for partition, size, first in added:
        items = identities(first, first + size)
        reader.add(build_segment(partition, items, (), false_positive))
        plain[partition].update(items)
        known.begin()
        known.look_ahead(plain)
        for name, held in plain.items():
            assert known.partition(name).known_among(question) == held & question


@pytest.mark.parametrize("byte", [b"\xff", b"\x00"])
def test_a_forged_filter_never_drops_an_event(byte: bytes) -> None:
    """A filter of ones says «maybe» to everything: the sorted identities decide."""
    held, new = identities(0, FILTERED_FROM), identities(FILTERED_FROM, FILTERED_FROM + 500)
    segment = build_segment(HOUR, held, (), 0.001)
    assert segment.filter is not None
    bloom = Bloom.load_bytes(segment.filter, xxh3_64_intdigest)
    head = len(segment.filter) - bloom.size_in_bits // 8
    forged = segment.filter[:head] + byte * (bloom.size_in_bits // 8)
    reader = MemorySegments()
    reader.add(segment._replace(filter=forged))
    for few in range(0, 300, 100):
        answer = hour_of(reader).known_among([*held[few : few + 100], *new[few : few + 100]])
        assert not answer & set(new)
        if byte == b"\xff":
            assert answer == set(held[few : few + 100])
    assert reader.filters_read


def test_a_certain_no_reads_no_identities() -> None:
    reader = MemorySegments()
    reader.add(build_segment(HOUR, identities(0, FILTERED_FROM), (), 1e-9))
    hour = hour_of(reader)
    assert hour.known_among(identities(10_000, 10_400)) == set()
    assert reader.blobs_read == 0
    assert hour.known_among(identities(5, 6)) == set(identities(5, 6))
    assert reader.blobs_read == 1


def test_each_question_is_of_the_ledger_as_it_is_then() -> None:
    reader = MemorySegments()
    known = KnownIdentities(reader)
    known.begin()
    assert known.partition(HOUR).version == 0
    first = reader.add(build_segment(HOUR, identities(0, 10), (), 0.01))
    hour = known.partition(HOUR)
    assert hour.version == first
    second = reader.add(build_segment(HOUR, identities(10, 20), (), 0.01))
    assert hour.known_among(identities(0, 30)) == set(identities(0, 10))
    assert hour.version == first
    hour = known.partition(HOUR)
    assert hour.version == second
    assert hour.known_among(identities(0, 30)) == set(identities(0, 20))


@pytest.mark.parametrize("bound", [0, 3_000, 30_000])
@pytest.mark.parametrize("size", [100, FILTERED_FROM])
def test_what_is_forgotten_or_never_kept_is_read_again(
    monkeypatch: pytest.MonkeyPatch, bound: int, size: int
) -> None:
    monkeypatch.setattr(known_identities, "CACHED_BYTES", bound)
    monkeypatch.setattr(known_identities, "SEGMENTS_A_READ", 2)  # the hour has 5 segments
    reader = MemorySegments()
    hours = [f"111122223333/us-east-1/2024/01/02/{hour:02}" for hour in range(6)]
    for part in range(5):
        for hour in hours:
            first = (hours.index(hour) * 5 + part) * size
            keys = [event_key_of(str(number)) for number in range(first, first + size)]
            reader.add(build_segment(hour, identities(first, first + size), keys, 0.01))
    known = KnownIdentities(reader)
    question = identities(0, 6 * 5 * size)[::7]
    keys = [event_key_of(str(number)) for number in range(6 * 5 * size)][::7]
    for _ in range(2):
        known.begin()
        for number, hour in enumerate(hours):
            partition = known.partition(hour)
            own_numbers = range(number * 5 * size, (number + 1) * 5 * size)
            assert partition.known_among(question) == {
                identity for at, identity in enumerate(question) if at * 7 in own_numbers
            }
            assert partition.event_keys_among(keys) == {
                key for at, key in enumerate(keys) if at * 7 in own_numbers
            }
            assert partition.version == reader.rows[number + 4 * len(hours)][1]


def test_many_questions_read_the_identities_and_spare_the_filter() -> None:
    reader = MemorySegments()
    reader.add(build_segment(HOUR, identities(0, FILTERED_FROM), (), 1e-9))
    hour = hour_of(reader)
    assert hour.known_among(identities(4_000, 9_000)) == set(identities(4_000, FILTERED_FROM))
    assert reader.blobs_read == 1


def test_segments_that_were_merged_are_asked_no_more() -> None:
    reader = MemorySegments()
    parts = [
        build_segment(HOUR, identities(at, at + FILTERED_FROM), (), 0.5)
        for at in (0, 10_000, 20_000)
    ]
    ids = [reader.add(part) for part in parts[:2]]
    known = KnownIdentities(reader)
    known.begin()
    assert known.partition(HOUR).known_among(identities(5, 20)) == set(identities(5, 20))
    reader.rows = []
    merged = merge_identities(HOUR, [part.identities for part in parts[:2]], b"", 1e-9)
    reader.merged.add(reader.add(merged))
    newest = reader.add(parts[2])
    hour = known.partition(HOUR)
    assert (hour.version, len(hour)) == (newest, 2)
    for at in (5, 10_005, 20_005):
        assert hour.known_among(identities(at, at + 9)) == set(identities(at, at + 9))
    reader.blobs_read = 0
    assert not hour.known_among(identities(40_000, 40_001))
    assert reader.blobs_read <= 1, ids  # of the newest; those that went would say maybe, too


@pytest.mark.parametrize("bound", [0, known_identities.CACHED_BYTES])
def test_what_is_merged_while_it_is_asked_is_found_all_the_same(
    monkeypatch: pytest.MonkeyPatch, bound: int
) -> None:
    monkeypatch.setattr(known_identities, "CACHED_BYTES", bound)
    reader = MemorySegments()
    keys = [event_key_of(str(number)) for number in range(2 * FILTERED_FROM)]
    items = identities(0, 2 * FILTERED_FROM)
    parts = [
        build_segment(HOUR, items[at : at + FILTERED_FROM], keys[at : at + FILTERED_FROM], 0.001)
        for at in (0, FILTERED_FROM)
    ]
    for part in parts:
        reader.add(part)
    known = KnownIdentities(reader)
    known.begin()
    by_identity, by_key = known.partition(HOUR), hour_of(reader)
    reader.rows = []
    merged_keys = merge_sorted([part.event_keys for part in parts], 6)
    merged = merge_identities(HOUR, [part.identities for part in parts], merged_keys, 0.001)
    reader.merged.add(reader.add(merged))
    assert by_identity.known_among({items[7], b"new"}) == {items[7]}
    assert by_key.event_keys_among({keys[-7], b"newkey"}) == {keys[-7]}
    for _ in range(3):  # bytes held are counted as before, whatever happened in between
        assert known.partition(HOUR).known_among({items[-7]}) == {items[-7]}
    assert known._held == known.partition(HOUR).held_bytes


@pytest.mark.parametrize("items_a_range", [1, 7, 1_000, 50_000])
def test_a_merged_segment_is_what_one_of_all_would_have_been(
    monkeypatch: pytest.MonkeyPatch, items_a_range: int
) -> None:
    monkeypatch.setattr(packed_identities, "_ITEMS_A_RANGE", items_a_range)
    keys = [event_key_of(str(number % 900)) for number in range(6_000)]
    parts = [
        build_segment(HOUR, identities(first, end), keys[first:end], 0.001)
        for first, end in ((0, 1), (1, 1_500), (1_500, 1_600), (1_600, 6_000))
    ]
    merged_keys = merge_sorted([part.event_keys for part in parts], 6)
    merged = merge_identities(HOUR, [part.identities for part in parts], merged_keys, 0.001)
    assert merged.filter
    assert merged._replace(filter=None) == build_segment(
        HOUR, identities(0, 6_000), keys, 0.001
    )._replace(filter=None)
    bloom = Bloom.load_bytes(merged.filter, xxh3_64_intdigest)
    assert all(identity in bloom for identity in identities(0, 6_000))
    assert sum(identity in bloom for identity in identities(10_000, 20_000)) < 50


@given(
    st.sets(st.binary(min_size=6, max_size=6), max_size=60),
    st.sets(st.binary(min_size=6, max_size=6), max_size=60),
    st.integers(0, 3_000),
    st.booleans(),
)
@settings(max_examples=examples(100))
def test_what_a_blob_holds_however_it_is_looked_for(
    held: set[bytes],
    unknown: set[bytes],
    count: int,
    alike: bool,
) -> None:
    """This holds for numbers whose first bytes are alike, too."""
    order: Literal["big", "little"] = "big" if alike else "little"
    blob = sorted(held | {number.to_bytes(6, order) for number in range(count)})
    question = held | unknown | {number.to_bytes(6, order) for number in range(0, 4_000, 900)}
    for query in (question, [*question][:1], sorted(question)):
        assert held_among(query, b"".join(blob), 6) == set(query) & set(blob)


def test_an_identity_is_of_the_lines_bytes() -> None:
    assert identity_of(b"{}") == sha256(b"{}").digest()[:IDENTITY_BYTES]
    assert identity_of(b'{"a":1}') != identity_of(b'{"a": 1}')


def test_a_dedup_partition_comes_from_the_records_own_fields() -> None:
    assert dedup_partition("111122223333", "us-east-1", "2024/01/02/03") == HOUR
    assert dedup_partition(None, "us-east-1", "2024/01/02/03") == "-/us-east-1/2024/01/02/03"
    assert dedup_partition(None, None, "2024/01/02/03") == "-/-/2024/01/02/03"


@pytest.mark.parametrize("size", [1, FILTERED_FROM])
def test_event_ids_of_other_records_are_known_whatever_the_size_of_a_segment(size: int) -> None:
    reader = MemorySegments()
    held = [event_key_of(f"event-{number}") for number in range(size)]
    reader.add(build_segment(HOUR, identities(0, size), held, 0.001))
    unknown = event_key_of("event-other")
    assert hour_of(reader).event_keys_among([held[-1], unknown]) == {held[-1]}
