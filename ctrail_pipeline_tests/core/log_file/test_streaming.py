"""Log files too large to be held are read in parts; the parts together are the whole."""

import gzip
import hashlib
import sys
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from pathlib import Path
from threading import Thread

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctrail_pipeline.core.batch import content, fetch
from ctrail_pipeline.core.log_file import members, streaming
from ctrail_pipeline.core.log_file.record import Record
from ctrail_pipeline.core.log_file.streaming import StreamedLogFile, is_to_be_streamed, stream
from ctrail_pipeline.core.run.sync import sync
from ctrail_pipeline_tests.support.large_log_files import MB, NOON, event, fast_gzip, put_log_file
from ctrail_pipeline_tests.support.log_file_texts import (
    EVENT,
    OTHER,
    TIME,
    as_line,
    log_files,
    read,
    wrap,
)
from ctrail_pipeline_tests.support.long import only_long
from ctrail_pipeline_tests.support.measured_sync import synced
from ctrail_pipeline_tests.support.oracle import read_buckets
from ctrail_pipeline_tests.support.sync_process import assert_exact, local_trail, settings_in
from ctrail_pipeline_tests.support.zstd_frames import frame, streamed_frame

LIMIT = 1_000_000
packed = partial(gzip.compress, mtime=0)
ODD = b'{"no":"time"}'


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    make_small(monkeypatch)


def make_small(patch: pytest.MonkeyPatch) -> None:
    """Treat any log file as those of more than 32 MB are treated."""
    patch.setattr(streaming, "STREAMED_FROM", 0)
    patch.setattr(streaming, "LARGEST_AT_ONCE", 2_000)
    patch.setattr(streaming, "CHUNK", 100)
    patch.setattr(members, "_FIRST_PIECE", 7)
    patch.setattr(members, "READ_AT_ONCE", 13)


def records_of(streamed: StreamedLogFile, limit: int) -> list[Record]:
    parts = [streamed.part(number, limit) for number in range(streamed.part_count(limit))]
    assert all(part.damage is None for part in parts)
    return [record for part in parts for record in part.records]


@pytest.mark.parametrize("limit", [1, 5, 12, 1_000])
def test_the_parts_are_the_whole(small: None, limit: int) -> None:
    data = wrap(*[EVENT, ODD, OTHER] * 50)
    streamed = stream(gzip.compress(data), LIMIT)
    assert streamed is not None
    whole = read(data)
    assert [bytes(record.line) for record in records_of(streamed, limit)] == [
        record.line for record in whole.records
    ]
    assert [record.index for record in records_of(streamed, limit)] == [
        record.index for record in whole.records
    ]
    rejected = [
        (piece.index, piece.reason, bytes(piece.data))
        for number in range(streamed.part_count(limit))
        for piece in streamed.part(number, limit).rejected
    ]
    assert rejected == [(piece.index, piece.reason, piece.data) for piece in whole.rejected]
    assert (streamed.size, streamed.sha256) == (len(data), hashlib.sha256(data).digest())
    assert all(
        len(streamed.part(number, limit).records) <= limit + 2
        for number in range(streamed.part_count(limit))
    )


def test_parts_may_be_asked_for_again(small: None) -> None:
    """A batch that has to be done again asks for the same parts."""
    streamed = stream(gzip.compress(wrap(*[EVENT, OTHER] * 50)), LIMIT)
    assert streamed is not None
    assert streamed.part_count(5) > 3
    first, third = streamed.part(0, 5), streamed.part(2, 5)
    assert streamed.part(1, 5) != third
    assert streamed.part(2, 5) == third
    assert streamed.part(0, 5) == first


def test_a_part_of_which_one_chunk_has_line_feeds(small: None) -> None:
    broken = EVENT.replace(b",", b",\n", 1) + b""
    elements = [EVENT] * 10 + [broken.replace(b"{", b"{\n", 1)] * 3 + [OTHER] * 10
    streamed = stream(packed(wrap(*elements)), LIMIT)
    assert streamed is not None
    assert [bytes(record.line) for record in records_of(streamed, 1_000)] == [
        as_line(element) for element in elements
    ]


def test_what_was_counted_on_a_shallow_stack_is_not_lost_on_a_deep_one(
    small: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """How deep msgspec goes depends on the stack: less deep where a batch is routed."""
    monkeypatch.setattr(streaming, "LARGEST_AT_ONCE", 10_000)
    shallow: list[StreamedLogFile | None] = []
    depth = sys.getrecursionlimit() - 60
    deep = b'{"eventTime":"%s","a":%s}' % (TIME.encode(), b"[" * depth + b"]" * depth)
    body = packed(wrap(*[EVENT] * 20, deep, *[OTHER] * 20))
    thread = Thread(target=lambda: shallow.append(stream(body, LIMIT)))
    thread.start()
    thread.join()
    [streamed] = shallow
    assert streamed is not None

    def parts(frames: int) -> list[tuple[int, int]]:
        if frames:
            return parts(frames - 1)
        in_parts = [streamed.part(number, 7) for number in range(streamed.part_count(7))]
        return [(len(part.records), len(part.rejected)) for part in in_parts]

    sizes = parts(60)
    assert (sum(size for size, _ in sizes), sum(size for _, size in sizes)) == (40, 1)


def test_a_chunk_that_is_told_apart_again_may_have_many_elements() -> None:
    """A file of 32 MB may have more elements than one of its chunks by itself could."""
    deep = b"[" * 5_000 + b"]" * 5_000
    elements = [b'{"a":"xxxxxxxxxxxxxxxx"}'] * 150_000 + [deep]
    assert list(streaming._elements_again(b",".join(elements), len(elements))) == elements


def test_a_part_is_no_larger_than_it_must_be(small: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of several records of 31 MB is a part of its own."""
    monkeypatch.setattr(streaming, "PART_BYTES", 400)
    large = b'{"eventTime":"%s","a":"%s"}' % (TIME.encode(), b"x" * 1_500)
    streamed = stream(packed(wrap(*[large] * 5)), LIMIT)
    assert streamed is not None
    assert streamed.part_count(1_000) == 5


@given(log_files(), st.integers(1, 4))
def test_any_log_file_is_read_in_parts_as_it_is_whole_or_not_at_all(
    log_file: tuple[bytes, list[bytes]], limit: int
) -> None:
    data, elements = log_file
    with pytest.MonkeyPatch.context() as patch:
        make_small(patch)
        streamed = stream(gzip.compress(data), LIMIT)
        if streamed is not None:
            lines = [bytes(record.line) for record in records_of(streamed, limit)]
            assert lines == [as_line(element) for element in elements]


@given(
    st.lists(st.sampled_from([EVENT, OTHER, ODD, b"[1]", b'"},{\\"event"']), min_size=1), st.data()
)
def test_what_is_written_as_aws_does_is_read_in_parts(
    elements: list[bytes], data: st.DataObject
) -> None:
    text = wrap(*elements)
    body = gzip.compress(text, mtime=0)
    with pytest.MonkeyPatch.context() as patch:
        make_small(patch)
        streamed = stream(body, LIMIT)
        assert streamed is not None
        assert [bytes(record.line) for record in records_of(streamed, 3)] == [
            record.line for record in read(text).records
        ]
        cut = data.draw(st.integers(0, len(body) - 1))
        assert stream(body[:cut], LIMIT) is None
        flipped = bytearray(body)
        flipped[data.draw(st.integers(10, len(body) - 1))] ^= 1 << data.draw(st.integers(0, 7))
        if stream(bytes(flipped), LIMIT) is not None:  # the bit is behind the last block's end
            assert gzip.decompress(flipped) == text


@pytest.mark.parametrize(
    "body",
    [
        packed(wrap(EVENT)) + packed(wrap(OTHER)),
        packed(wrap(EVENT)) + b"\0",
        packed(wrap(EVENT) + b"\n"),
        packed(b" " + wrap(EVENT)),
        packed(wrap(EVENT, b" " + OTHER)),
        packed(wrap(EVENT, b"x")),
        packed(wrap()),
        packed(b'{"Rec'),
        packed(b""),
        packed(wrap(b'{"a":"%s"}' % (b"x" * 3_000))),
        packed(wrap(EVENT)[:-2] + b'],"Records":[]}'),
        b"\x1f\x8b",
    ],
)
def test_what_is_not_plain_is_held_whole(small: None, body: bytes) -> None:
    assert stream(body, LIMIT) is None


def test_a_limit_is_kept_and_too_many_elements_are_not_told_apart(small: None) -> None:
    data = wrap(*[EVENT] * 100)
    assert stream(gzip.compress(data), len(data)) is not None
    assert stream(gzip.compress(data), len(data) - 1) is None
    assert stream(gzip.compress(wrap(*[b"1"] * 110_000)), LIMIT) is None


def test_the_length_that_a_gzip_says_decides() -> None:
    assert not is_to_be_streamed(gzip.compress(wrap(EVENT)))
    assert is_to_be_streamed(gzip.compress(wrap(EVENT))[:-4] + b"\xff" * 4)
    assert not is_to_be_streamed(wrap(EVENT) + b"\xff" * 4)


def test_a_sync_of_streamed_log_files_is_exact(
    small: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A damaged log file lies beside them; events have copies in the same and in other files."""
    monkeypatch.setattr(content, "PIECES_AT_ONCE", 20)
    streamed = []

    def seen(body: bytes, limit: int, *, hashed: bool) -> StreamedLogFile | None:
        streamed.append(stream(body, limit, hashed=hashed))
        return streamed[-1]

    monkeypatch.setattr(fetch, "stream", seen)
    bucket = tmp_path / "bucket"
    for number in range(6):
        at = NOON + timedelta(minutes=number)
        events = [event(at, number * 50 + count % 90) for count in range(100)]
        text = ('{"Records":[' + ",".join(events) + ',{"no":"time"}]}').encode()
        put_log_file(bucket, number, text if number != 3 else text[:-20])
    settings = settings_in(
        tmp_path,
        [local_trail(bucket)],
        process_workers=1,
        output_formats=("jsonl", "parquet"),
    )
    summary = sync(settings)
    assert summary.problem_count == 1
    assert_exact(settings, read_buckets([(bucket, "")]))
    assert len([log_file for log_file in streamed if log_file is not None]) == 5


@pytest.mark.thorough
@pytest.mark.parametrize("size", [100 * MB, pytest.param(255 * MB, marks=only_long)])
@pytest.mark.parametrize(
    "compress",
    [
        fast_gzip,
        frame,
        lambda text: streamed_frame([text]),
        lambda text: b"".join(fast_gzip(text[at : at + MB]) for at in range(0, len(text), MB)),
    ],
    ids=["gzip", "zstd", "zstd of no said length", "gzip members"],
)
def test_memory_does_not_depend_on_the_size_of_a_log_file(
    tmp_path: Path, size: int, compress: Callable[[bytes], bytes]
) -> None:
    """If held whole, the larger one takes 442 MB: its text, and 50,000 records at once."""
    shortest = event(NOON, 0, "").encode()
    number = size // 1_500
    padding = "a" * (1_500 - len(shortest) - len(",000000"))
    records = (event(NOON, index, padding) for index in range(number))
    text = ('{"Records":[' + ",".join(records) + "]}").encode()
    put_log_file(tmp_path / "bucket", 0, text, compress)
    del text
    log_files, events, peak = synced(tmp_path)
    print(f"{size // MB} MB: peak {peak} MB")
    assert (log_files, events) == (1, number)
    assert peak < 110
