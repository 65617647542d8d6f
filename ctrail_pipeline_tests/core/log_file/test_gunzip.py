"""Bodies become uncompressed bytes: every gzip member, every damage, and never too much.

What is not sound must never look sound: this is where a log file loses events silently.
"""

import gzip
import hashlib
import random
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctrail_pipeline.core.log_file.decompress import Decompressed, decompress
from ctrail_pipeline.core.log_file.gunzip import gunzip
from ctrail_pipeline_tests.support.log_file_texts import EVENT, LIMIT, OTHER, members, wrap
from ctrail_pipeline_tests.support.properties import examples

DATA = wrap(EVENT, OTHER)


def sound(data: bytes) -> Decompressed:
    return Decompressed(data, None, hashlib.sha256(data).digest())


def test_gzip_or_not_is_told_by_the_first_two_bytes() -> None:
    for body in (DATA, gzip.compress(DATA, mtime=0)):
        assert decompress(body, LIMIT) == sound(DATA)


@pytest.mark.parametrize(
    "body", [b"", gzip.compress(b"", mtime=0), gzip.compress(b"", mtime=0) * 2]
)
def test_an_object_without_a_byte_of_text_is_damaged(body: bytes) -> None:
    assert decompress(body, LIMIT) == Decompressed(b"", "empty", hashlib.sha256(b"").digest())


def test_all_gzip_members_are_read() -> None:
    assert decompress(members(DATA, [0, 5, 5, 40]), LIMIT) == sound(DATA)


def test_members_that_are_the_same_bytes_are_all_read() -> None:
    # The checksum and length at the end of such a body are those of its first member too.
    assert gunzip(gzip.compress(DATA, mtime=0) * 3, LIMIT) == (DATA * 3, None)


def test_a_large_member_behind_a_small_one_is_read() -> None:
    data = b"a" + random.Random(1).randbytes(300_000)
    assert gunzip(members(data, [1, 200_000]), LIMIT) == (data, None)


def test_a_hundred_thousand_members_take_linear_time() -> None:
    # With quadratic work, this would copy 250 GB.
    data, damage = gunzip(
        gzip.compress(b"x", mtime=0) * 100_000 + gzip.compress(b"", mtime=0) * 100_000, LIMIT
    )
    assert (data, damage) == (b"x" * 100_000, None)


@pytest.mark.parametrize("flags", range(32))
def test_a_header_with_any_fields_is_read_in_pieces_too(flags: int) -> None:
    """Fields that come in pieces are misread by isal: a sound member was taken for damaged."""
    header = b"\x1f\x8b\x08" + bytes([flags, 0, 0, 0, 0, 0, 3])
    if flags & 4:
        header += (20_000).to_bytes(2, "little") + bytes(20_000)
    for flag in (8, 16):
        if flags & flag:
            header += b"n" * 10_000 + b"\0"
    if flags & 2:
        header += (zlib.crc32(header) & 0xFFFF).to_bytes(2, "little")
    member = header + gzip.compress(DATA, mtime=0)[10:]
    assert gunzip(member, LIMIT) == (DATA, None)
    assert gunzip(gzip.compress(b"a", mtime=0) + member, LIMIT) == (b"a" + DATA, None)
    damaged = member[:-1] + b"\xff"
    data, damage = gunzip(damaged, LIMIT)
    assert data == DATA
    assert damage is not None


TAILS = [b"\x00", b"\x00" * 512, b"x", b"\x1f", b"\x1f\x8b", DATA]


@pytest.mark.parametrize("tail", TAILS)
def test_bytes_behind_the_gzip_data_are_damage(tail: bytes) -> None:
    for body in (gzip.compress(DATA, mtime=0), members(DATA, [7])):
        data, damage = gunzip(body + tail, LIMIT)
        assert data == DATA
        assert damage is not None


def test_a_bad_checksum_or_length_is_damage_and_the_bytes_are_kept() -> None:
    body = gzip.compress(DATA, mtime=0)
    for position in range(len(body) - 8, len(body)):
        damaged = bytearray(body)
        damaged[position] ^= 1
        data, damage = gunzip(bytes(damaged), LIMIT)
        assert data == DATA
        assert damage is not None
        assert "gzip data is damaged" in damage


def test_every_cut_is_damage_and_what_comes_before_it_is_kept() -> None:
    body = gzip.compress(DATA, mtime=0)
    for length in range(2, len(body)):
        data, damage = gunzip(body[:length], LIMIT)
        assert DATA.startswith(data)
        assert damage == "gzip data is cut short"


def test_the_size_limit_is_exact_and_nothing_beyond_it_is_kept() -> None:
    for body in (DATA, gzip.compress(DATA, mtime=0), members(DATA, [3, 60])):
        assert decompress(body, len(DATA)) == sound(DATA)
        content = decompress(body, len(DATA) - 1)
        assert content.data == b""
        assert content.damage == f"over the size limit of {len(DATA) - 1} bytes decompressed"


@pytest.mark.thorough
def test_a_gzip_bomb_costs_no_more_than_the_limit() -> None:
    compressor = zlib.compressobj(1, wbits=31)
    zeros = bytes(10_000_000)
    bomb = b"".join(compressor.compress(zeros) for _ in range(100)) + compressor.flush()
    assert gunzip(bomb, LIMIT) == (b"", f"over the size limit of {LIMIT} bytes decompressed")


texts = st.binary(min_size=1, max_size=300)


@given(texts, st.lists(st.integers(0, 10_000), max_size=4))
def test_however_a_text_is_cut_into_members_it_is_read(data: bytes, cuts: list[int]) -> None:
    assert decompress(members(data, cuts), LIMIT) == sound(data)


@given(texts, st.lists(st.integers(0, 10_000), max_size=2), st.data())
def test_a_flipped_bit_is_damage_or_changes_nothing(
    data: bytes, cuts: list[int], draw: st.DataObject
) -> None:
    body = bytearray(members(data, cuts))
    # Without its magic number a body is no gzip; `records` notices that.
    body[draw.draw(st.integers(2, len(body) - 1))] ^= 1 << draw.draw(st.integers(0, 7))
    content = decompress(bytes(body), LIMIT)
    # A header field that says nothing about the data, such as the time, can be flipped.
    assert content.damage is not None or content == sound(data)


@settings(max_examples=examples(300))
@given(st.binary(max_size=300), st.sampled_from([b"\x1f\x8b", b"\x1f\x8b\x08\x00"]))
def test_no_bytes_raise(body: bytes, magic: bytes) -> None:
    content = decompress(magic + body, LIMIT)
    assert content.sha256 == hashlib.sha256(content.data).digest()
