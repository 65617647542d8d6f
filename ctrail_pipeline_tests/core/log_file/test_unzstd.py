"""Zstandard bodies become uncompressed bytes: every frame, every damage, and never too much."""

import gzip
import hashlib
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctrail_pipeline.core.log_file import members, streaming
from ctrail_pipeline.core.log_file.decompress import (
    Decompressed,
    decompress,
    decompress_to_file,
)
from ctrail_pipeline.core.log_file.streaming import is_to_be_streamed, stream
from ctrail_pipeline_tests.support.harm import harmed
from ctrail_pipeline_tests.support.log_file_texts import EVENT, LIMIT, OTHER, read, wrap
from ctrail_pipeline_tests.support.properties import examples
from ctrail_pipeline_tests.support.zstd_frames import (
    frame,
    frame_with_dictionary,
    frame_with_window,
    skippable_frame,
    streamed_frame,
)

DATA = wrap(EVENT, OTHER)
OVER = f"over the size limit of {LIMIT} bytes decompressed"


def sound(data: bytes) -> Decompressed:
    return Decompressed(data, None, hashlib.sha256(data).digest())


def found(body: bytes, limit: int = LIMIT) -> tuple[bytes, str | None]:
    """The text and the damage, the same in memory and in a file."""
    held = decompress(body, limit)
    filed = decompress_to_file(body, limit, Path(tempfile.gettempdir()))
    assert (filed.data[:], filed.damage, filed.sha256) == (held.data, held.damage, held.sha256)
    return held.data[:], held.damage


@pytest.mark.parametrize(
    "body",
    [
        frame(DATA),
        frame(DATA, checksum=False),
        frame(DATA, -5),
        frame(DATA, 22),
        streamed_frame([DATA[:7], DATA[7:]]),
        streamed_frame([DATA], window_log=27),
        frame(DATA[:9]) + frame(b"") + frame(DATA[9:]),
        skippable_frame(b"") + frame(DATA) + skippable_frame(b"an index" * 5_000, 15),
        frame(DATA[:9]) + skippable_frame(b"between", 7) + frame(DATA[9:]),
        frame_with_window(0) + frame(DATA),
    ],
)
def test_every_sound_body_is_read_whole(body: bytes) -> None:
    assert found(body) == (DATA, None)
    assert decompress(body, LIMIT) == sound(DATA)
    assert read(body).records == read(DATA).records


@pytest.mark.parametrize(
    "body", [frame(b""), frame(b"") * 3, skippable_frame(b"x"), streamed_frame([])]
)
def test_a_body_without_a_byte_of_text_is_damaged(body: bytes) -> None:
    assert found(body) == (b"", "empty")


def test_every_cut_is_damage_and_what_comes_before_it_is_kept() -> None:
    for body in (frame(DATA), streamed_frame([DATA], window_log=27)):
        for before, text in ((b"", b""), (frame(OTHER), OTHER), (skippable_frame(b"abc"), b"")):
            for length in range(4, len(body)):
                data, damage = found(before + body[:length])
                assert (text + DATA).startswith(data)
                assert data.startswith(text)
                assert damage == "zstd data is cut short"


def test_a_wrong_checksum_is_damage_and_the_bytes_are_kept() -> None:
    body = frame(DATA)
    for position in range(len(body) - 4, len(body)):
        flipped = bytearray(body)
        flipped[position] ^= 1
        for before in (b"", frame(OTHER)):
            data, damage = found(before + bytes(flipped))
            assert data == (OTHER if before else b"") + DATA
            assert damage is not None
            assert damage.startswith("zstd data is damaged (")
            content = read(before + bytes(flipped))
            assert content.records == []
            assert {piece.kind for piece in content.rejected} == {"unverified"}


@pytest.mark.parametrize("tail", [b"\x00", b"\x00" * 512, b"x", b"\x28\xb5", b"\x1f\x8b", DATA])
def test_bytes_behind_the_last_frame_are_damage(tail: bytes) -> None:
    assert found(frame(DATA) + tail) == (
        DATA,
        f"{len(tail)} trailing bytes after the zstd data",
    )


def test_gzip_behind_zstd_is_not_read() -> None:
    tail = gzip.compress(OTHER, mtime=0)
    assert found(frame(DATA) + tail)[1] == f"{len(tail)} trailing bytes after the zstd data"
    body = gzip.compress(OTHER, mtime=0) + frame(DATA)
    assert found(body)[1] == f"{len(frame(DATA))} trailing bytes after the gzip data"


def test_a_dictionary_that_is_needed_is_named() -> None:
    data, damage = found(frame_with_dictionary(DATA))
    assert data == b""
    assert damage is not None
    assert damage.startswith("zstd data needs the dictionary ")
    assert damage.endswith(", which nobody has")


@pytest.mark.parametrize(
    ("descriptor", "damage"),
    [
        (17 << 3, "empty"),  # 128 MB
        (17 << 3 | 1, "zstd data needs a window of 144 MB, over the limit of 128 MB"),
        (21 << 3, "zstd data needs a window of 2048 MB, over the limit of 128 MB"),
        (31 << 3 | 7, "zstd data needs a window of 3932160 MB, over the limit of 128 MB"),
    ],
)
def test_a_window_beyond_128_megabytes_is_refused(descriptor: int, damage: str) -> None:
    assert found(frame_with_window(descriptor)) == (b"", damage)


def test_a_single_segment_that_claims_too_much_is_refused() -> None:
    size = 200 * 1024 * 1024
    body = b"\x28\xb5\x2f\xfd\xe0" + size.to_bytes(8, "little") + b"\x01\x00\x00"
    assert found(body)[1] == "zstd data needs a window of 200 MB, over the limit of 128 MB"


def test_a_refused_frame_behind_a_sound_one_keeps_what_came_before() -> None:
    data, damage = found(frame(DATA) + frame_with_window(31 << 3))
    assert data == DATA
    assert damage is not None
    assert "needs a window" in damage


def test_a_bomb_costs_no_more_than_the_limit() -> None:
    bomb = streamed_frame([bytes(1_000_000)] * 1_000)
    assert len(bomb) < 100_000
    assert found(bomb) == (b"", OVER)
    assert found(frame(bytes(400_000)) * 3) == (b"", OVER)


def test_the_size_limit_is_exact() -> None:
    for body in (frame(DATA), frame(DATA[:5]) + frame(DATA[5:])):
        assert decompress(body, len(DATA)) == sound(DATA)
        damage = f"over the size limit of {len(DATA) - 1} bytes decompressed"
        assert found(body, len(DATA) - 1) == (b"", damage)


def test_fifty_thousand_frames_take_linear_time() -> None:
    """With quadratic work, this would copy 17 GB."""
    assert decompress(frame(b"x") * 50_000, LIMIT) == sound(b"x" * 50_000)


def test_the_library_is_loaded_with_the_first_such_log_file_only() -> None:
    script = (
        "import sys; from ctrail_pipeline.core.log_file.split import read_log_file;"
        " read_log_file(b'{}', 10); read_log_file(b'\\x1f\\x8b', 10);"
        " print([name for name in sys.modules if 'zstd' in name.rpartition('.')[2]])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True
    )
    assert done.stdout.strip() == "['ctrail_pipeline.core.log_file.unzstd']"


# --- more than one layer, and other formats -------------------------------------------------------


def gz(data: bytes) -> bytes:
    return gzip.compress(data, mtime=0)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (gz(gz(DATA)), "compressed twice: gzip data inside, and only one layer is read"),
        (frame(gz(DATA)), "compressed twice: gzip data inside, and only one layer is read"),
        (gz(frame(DATA)), "compressed twice: zstd data inside, and only one layer is read"),
        (frame(frame(DATA)), "compressed twice: zstd data inside, and only one layer is read"),
        (
            gz(skippable_frame(DATA)),
            "compressed twice: zstd data inside, and only one layer is read",
        ),
        # Stored without compression: the records can be seen in the inner layer.
        (
            gz(gzip.compress(DATA, 0, mtime=0)),
            "compressed twice: gzip data inside, and only one layer is read",
        ),
        (b"BZh91AY&SY" + DATA, "bzip2 data, and only gzip and zstd are read"),
        (b"\xfd7zXZ\x00" + DATA, "xz data, and only gzip and zstd are read"),
        (b"PK\x03\x04" + DATA, "zip data, and only gzip and zstd are read"),
        (b"\x04\x22\x4d\x18" + DATA, "lz4 data, and only gzip and zstd are read"),
        (gz(b"BZh91AY&SY"), "bzip2 data, and only gzip and zstd are read"),
    ],
)
def test_another_layer_or_format_is_damaged_and_named(body: bytes, reason: str) -> None:
    content = read(body)
    assert (content.records, content.damage) == ([], reason)
    [piece] = content.rejected
    assert (piece.index, piece.kind, piece.reason) == (None, "unreadable", reason)


# --- in parts -------------------------------------------------------------------------------------


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Treat any log file as those of more than 32 MB are treated."""
    monkeypatch.setattr(streaming, "STREAMED_FROM", 0)
    monkeypatch.setattr(streaming, "CHUNK", 100)
    monkeypatch.setattr(members, "_FIRST_PIECE", 7)
    monkeypatch.setattr(members, "READ_AT_ONCE", 13)


@pytest.mark.parametrize("limit", [1, 5, 1_000])
def test_the_parts_are_the_whole(small: None, limit: int) -> None:
    data = wrap(*[EVENT, b'{"no":"time"}', OTHER] * 50)
    bodies = (frame(data), streamed_frame([data]), frame(data[:999]) + frame(data[999:]))
    for body in bodies:
        streamed = stream(body, LIMIT)
        assert streamed is not None
        parts = [streamed.part(number, limit) for number in range(streamed.part_count(limit))]
        records = [record for part in parts for record in part.records]
        assert [bytes(record.line) for record in records] == [EVENT, OTHER] * 50
        assert (streamed.size, streamed.sha256) == (len(data), hashlib.sha256(data).digest())


def test_what_is_not_sound_or_needs_a_large_window_is_not_read_in_parts(small: None) -> None:
    body = frame(DATA)
    assert stream(body, LIMIT) is not None
    for unsound in (body[:-1], body + b"\0", body[:-1] + bytes([body[-1] ^ 1]), frame(gz(DATA))):
        assert stream(unsound, LIMIT) is None
    assert stream(streamed_frame([DATA], window_log=23), LIMIT) is not None
    assert stream(streamed_frame([DATA], window_log=24), LIMIT) is None


def test_the_length_that_a_frame_says_decides() -> None:
    assert not is_to_be_streamed(frame(DATA))
    large = frame(bytes(40 * 1024 * 1024))
    assert is_to_be_streamed(large)
    assert not is_to_be_streamed(streamed_frame([bytes(1024)] * 1024))
    assert not is_to_be_streamed(large[:5])


# --- generated ------------------------------------------------------------------------------------


@st.composite
def bodies(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """Sound zstd bodies of every kind, each with the text in it."""
    body, text = b"", b""
    for _ in range(draw(st.integers(1, 4))):
        part = draw(st.binary(max_size=60)) * draw(st.sampled_from([1, 1, 1, 200]))
        if draw(st.integers(0, 4)) == 0:
            body += skippable_frame(part, draw(st.integers(0, 15)))
            continue
        level = draw(st.sampled_from([-7, 1, 3]))
        window_log = draw(st.sampled_from([0, 10, 17]))
        if draw(st.booleans()):
            body += frame(part, level, checksum=draw(st.booleans()), window_log=window_log)
        else:
            at = draw(st.integers(0, len(part)))
            body += streamed_frame([part[:at], part[at:]], level, window_log=window_log)
        text += part
    return body, text


@settings(max_examples=examples(100))
@given(bodies(), st.integers(-3, 3))
def test_every_kind_of_zstd_is_read_whole_and_the_limit_is_exact(
    packed: tuple[bytes, bytes], room: int
) -> None:
    body, text = packed
    limit = max(0, len(text) + room)
    data, damage = found(body, limit)
    if len(text) > limit:
        assert (data, damage is None) == (b"", False)
    else:
        assert (data, damage) == (text, None if text else "empty")


@settings(max_examples=examples(100))
@given(st.binary(max_size=400), st.lists(st.binary(max_size=40), max_size=2), st.data())
def test_a_flipped_bit_in_frames_with_checksums_is_damage_or_changes_nothing(
    text: bytes, more: list[bytes], draw: st.DataObject
) -> None:
    texts = [text, *more]
    body = bytearray(b"".join(map(frame, texts)))
    # Without its magic number a body is no zstd; `records` notices that.
    body[draw.draw(st.integers(4, len(body) - 1))] ^= 1 << draw.draw(st.integers(0, 7))
    data, damage = found(bytes(body))
    assert damage not in (None, "empty") or data == b"".join(texts)


@settings(max_examples=examples(100))
@given(st.binary(max_size=400), st.data())
def test_no_harm_raises(text: bytes, draw: st.DataObject) -> None:
    found(draw.draw(harmed(frame(text) + skippable_frame(b"x") + streamed_frame([text]))))


@settings(max_examples=examples(100))
@given(st.binary(max_size=300), st.sampled_from([b"\x28\xb5\x2f\xfd", b"\x5a\x2a\x4d\x18"]))
def test_no_bytes_raise(body: bytes, magic: bytes) -> None:
    content = decompress(magic + body, LIMIT)
    assert content.sha256 == hashlib.sha256(content.data).digest()
    read(magic + body)
