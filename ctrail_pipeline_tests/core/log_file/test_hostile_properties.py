"""Generated hostile input against independent judges; `make fuzz` runs these for as long as asked.

Log files that were sound and then harmed, rather than random bytes, of which hardly any get past
the first bracket: the splitter against the oracle, the gunzip loop against zlib and the `gzip`
module, and buckets of such log files through a whole sync. What once failed stays as an example.
"""

import base64
import gzip
import json
import re
import tempfile
import zlib
from pathlib import Path

from hypothesis import example, given, settings
from hypothesis import strategies as st

from ctrail_pipeline.core.log_file.decompress import decompress
from ctrail_pipeline.core.run.sync import sync
from ctrail_pipeline_tests.support.harm import harmed
from ctrail_pipeline_tests.support.hostile_log_files import ACCOUNT, FOLDER, NOON, REGION
from ctrail_pipeline_tests.support.log_file_texts import BOM, as_line, log_files, read, wrap
from ctrail_pipeline_tests.support.oracle import Damaged, read_buckets, records_in
from ctrail_pipeline_tests.support.properties import examples
from ctrail_pipeline_tests.support.sync_process import (
    assert_exact,
    local_trail,
    put_object,
    settings_in,
)
from ctrail_pipeline_tests.support.zstd_frames import frame, skippable_frame

# --- harm -----------------------------------------------------------------------------------------


# --- the splitter ---------------------------------------------------------------------------------

MARK = re.compile(rb"mark[0-9]+k")
_ODD_RECORD = ("not valid JSON", "not an object", "nested too deeply", "line break inside a string")


@st.composite
def marked_log_files(draw: st.DrawFn) -> bytes:
    """Sound log files; each record has a text of its own, in a key and in a value."""
    elements = []
    for number in range(draw(st.integers(0, 5))):
        fields: dict[str, object] = {
            "eventTime": draw(st.sampled_from(["2023-07-10T11:42:58Z", "no time"])),
            f"mark{number}0k": draw(st.sampled_from([1, None, "x", [], {"a": [{}]}, "]},{"])),
            "b": f"mark{number}1k",
        }
        elements.append(json.dumps(fields, indent=draw(st.sampled_from([None, 1]))).encode())
    return draw(st.sampled_from([b"", b" ", b"\n"])) + wrap(*elements)


harmed_log_files = (marked_log_files() | log_files().map(lambda log_file: log_file[0])).flatmap(
    harmed
)


@settings(max_examples=examples(100))
@given(harmed_log_files)
@example(b'{"Records":[{"a":1}]}{"Records":[{"a":2}')
@example(b'{"Records":[{"a":1}],"Records":{"mark1k":1}}')
@example(BOM * 3 + b'{"Records":[]}' + BOM)
def test_the_splitter_is_right_about_harmed_log_files(data: bytes) -> None:
    if data.startswith(b"\x1f\x8b"):
        return
    content = read(data)
    found = {record.index: bytes(record.line) for record in content.records}
    rejected = {
        piece.index: bytes(piece.data) for piece in content.rejected if piece.index is not None
    }
    assert found.keys().isdisjoint(rejected)
    in_order = found | {
        index: as_line(rejected_bytes) for index, rejected_bytes in rejected.items()
    }
    # The text holds all elements, in this order, and none overlap.
    text, position = as_line(data), 0
    for _, element in sorted(in_order.items()):
        start = text.find(element, position)
        assert start >= 0
        position = start + len(element)
    try:
        elements = [raw for raw, _ in records_in(data)]
    except Damaged:
        elements = None
    if elements is not None:
        assert content.damage is None
        assert [in_order[index] for index in range(len(elements))] == [*map(as_line, elements)]
        assert len(in_order) == len(elements)
    elif content.damage is None:
        # Python's decoder refuses such a file, though it is not damaged.
        is_odd = any(piece.reason.startswith(_ODD_RECORD) for piece in content.rejected)
        assert is_odd or BOM in data or len(re.findall(rb"\{\s*\"Records\"", data)) > 1
    kept_bytes = b"".join(found.values()) + b"".join(piece.data for piece in content.rejected)
    stepped_over = set(MARK.findall(data)) - set(MARK.findall(kept_bytes))
    assert not stepped_over or _has_other_keys(data), stepped_over


def _has_other_keys(data: bytes) -> bool:
    """Whether there may be a whole value under another top-level key, which is no record's text."""
    return len(re.findall(rb"[{,]\s*(?:\xef\xbb\xbf)*\s*\"[^\"]*\"\s*:\s*[\[{\"]", data)) > 1


# --- the gunzip loop ------------------------------------------------------------------------------


@st.composite
def gzip_bodies(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """Sound gzip bodies of every kind, each with the text in it."""
    body, text = b"", b""
    for _ in range(draw(st.integers(1, 4))):
        part = draw(st.binary(max_size=60)) * draw(st.sampled_from([1, 1, 1, 200]))
        compressor = zlib.compressobj(
            draw(st.integers(0, 9)), wbits=-15, strategy=draw(st.sampled_from([0, 2, 4]))
        )
        packed = compressor.compress(part)
        if draw(st.booleans()):
            packed += compressor.flush(zlib.Z_FULL_FLUSH)
        packed += compressor.flush()
        body += draw(gzip_headers()) + packed
        body += zlib.crc32(part).to_bytes(4, "little") + len(part).to_bytes(4, "little")
        text += part
    return body, text


@st.composite
def gzip_headers(draw: st.DrawFn) -> bytes:
    """Gzip headers with any of the optional fields (RFC 1952)."""
    flags = draw(st.integers(0, 31))
    header = b"\x1f\x8b\x08" + bytes([flags]) + draw(st.binary(min_size=6, max_size=6))
    if flags & 4:
        extra = draw(st.binary(max_size=20))
        header += len(extra).to_bytes(2, "little") + extra
    for flag in (8, 16):
        if flags & flag:
            header += draw(st.binary(max_size=20)).replace(b"\0", b"") + b"\0"
    if flags & 2:
        header += (zlib.crc32(header) & 0xFFFF).to_bytes(2, "little")
    return header


def judged(body: bytes) -> tuple[bytes, bool, bool]:
    """Return all that can be read of a body, whether it is sound, and whether no header is odd.

    Headers are read here, by RFC 1952. Their checksums are not compared, as they say nothing about
    the text. zlib reads what is compressed, byte by byte, as an exception would lose what its call
    has read.
    """
    text, usual = b"", True
    while body:
        start, is_usual = header_of(body)
        usual = usual and is_usual
        if start is None:
            return text, False, usual
        member, part, at = zlib.decompressobj(wbits=-15), b"", start
        try:
            while not member.eof and at < len(body):
                part += member.decompress(body[at : at + 1])
                at += 1
        except zlib.error:
            return text + part, False, usual
        text += part
        trailer = zlib.crc32(part).to_bytes(4, "little") + len(part).to_bytes(4, "little")
        if not member.eof or body[at : at + 8] != trailer:
            return text, False, usual
        body = body[at + 8 :]
    return text, True, usual


def header_of(body: bytes) -> tuple[int | None, bool]:
    """Return where the compressed data begins, and whether nothing in the header is odd."""
    flags = body[3] if len(body) >= 10 and body[:3] == b"\x1f\x8b\x08" else None
    if flags is None:
        return None, True
    at: int = 10
    if flags & 4:
        at += 2 + int.from_bytes(body[at : at + 2], "little")
    for flag in (8, 16):
        if flags & flag:
            at = body.find(b"\0", at) + 1 or len(body) + 1
    crc = zlib.crc32(body[:at]) & 0xFFFF
    is_usual = flags < 32
    if flags & 2:
        is_usual = is_usual and body[at : at + 2] == crc.to_bytes(2, "little")
        at += 2
    return (at, is_usual) if at <= len(body) else (None, True)


@settings(max_examples=examples(100))
@given(gzip_bodies(), st.integers(-3, 3))
def test_every_kind_of_gzip_is_read_whole_and_the_limit_is_exact(
    packed: tuple[bytes, bytes], room: int
) -> None:
    body, text = packed
    assert judged(body) == (text, True, True)
    assert gzip.decompress(body) == text
    limit = max(0, len(text) + room)
    content = decompress(body, limit)
    if len(text) > limit:
        assert (content.data, content.damage is None) == (b"", False)
    else:
        assert (content.data, content.damage) == (text, None if text else "empty")


@st.composite
def harmed_gzip_bodies(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """Harmed gzip bodies, each with the text that was in it."""
    body, text = draw(gzip_bodies())
    return draw(harmed(body)), text


UNUSED_CODE = gzip.compress(b"", mtime=0)[:10] + base64.b64decode(
    "BcExAQAAAIOgwwDrH8AANhwyY8aMGTNmzJgxY8aMGTNmzJgxY8aMGTNmzJgxY8aMGTNmzJgxY8aMGTNmzJgxY8aM"
    "GTNmzJgxY8aMGTNmzJgxY8aMGTNmzJgxY8aMGTNmzJgxY8aMGTNmzJgxY8aMGTNmzJgxY8aMGTNmzJgxY8aMGTNm"
    "zJgxY8aMGTNmzJgxY8aMGTNmzJgxY8aMGTNmzJgxY8aMGTNmzJgxY8aMGTNmzJgxY8aMGTNmzJgxY8aMGTNmzJgx"
    "Y8aMGTNmzJgxY8aMGTNmzJgxY8aMGTNmzJgxY8aMGTNmzJgxY8aMGTNmzJgdIUHEvyADAAA="
)
"""A bit is flipped in a code of distances that is not used: zlib refuses it, isal is right."""


@settings(max_examples=examples(150))
@given(harmed_gzip_bodies())
@example((UNUSED_CODE, b"\x03\x0f\xa5\xb1" * 200))
def test_a_harmed_gzip_is_sound_only_if_every_byte_is_right(
    packed: tuple[bytes, bytes],
) -> None:
    """What is read before the damage is what zlib reads, byte for byte."""
    body, original = packed
    if not body.startswith(b"\x1f\x8b"):
        return
    content = decompress(body, 1_000_000)
    text, sound, usual = judged(body)
    if content.damage in (None, "empty"):
        # isal reads blocks with a code that is incomplete and not used, which zlib refuses: then it
        # is for length and checksum to say that nothing was changed.
        assert content.data == (text if sound else original)
    else:
        assert not (sound and usual)
        assert text.startswith(content.data) or original.startswith(content.data)


# --- whole syncs ----------------------------------------------------------------------------------

TIMES = [
    "2026-01-10T12:00:00Z",
    "2026-01-10T11:59:60Z",
    "2026-01-09T23:59:59.9Z",
    "2026-01-10T11:00:00+00:00",
    "2026-01-10T11:00:00+01:00",
    "",
    "12:00",
    None,
]
ACCOUNTS = [ACCOUNT, "999999999999", "../../..", "", None, 7]
REGIONS = [REGION, "us-east-1", "..", "a/b", "", None, [REGION]]
ODD = ["1", '"\\ud800"', "NaN", "1" * 30, '"\\u0000"', '"]}"', '"a\nb"', "[[]]", "1.10"]


@st.composite
def hostile_records(draw: st.DrawFn) -> bytes:
    fields: dict[str, object] = {
        "eventTime": draw(st.sampled_from(TIMES)),
        "awsRegion": draw(st.sampled_from(REGIONS)),
        "recipientAccountId": draw(st.sampled_from(ACCOUNTS)),
        "userIdentity": draw(st.sampled_from([None, {}, {"accountId": "222233334444"}, "root"])),
        "eventID": draw(st.sampled_from(["a", "b", "c", "", None])),
        "number": draw(st.integers(0, 9)),
    }
    if draw(st.booleans()):  # as aggregated events have them
        fields |= {
            "accountId": draw(st.sampled_from(ACCOUNTS)),
            "eventId": draw(st.sampled_from(["a", "b", "", None])),
            "timeWindow": draw(
                st.sampled_from(TIMES).map(lambda time: {"windowStart": time}) | st.just("none")
            ),
        }
        if draw(st.booleans()):
            del fields["eventTime"]
    text = json.dumps(fields, indent=draw(st.sampled_from([None, None, 1])))
    if draw(st.integers(0, 3)) == 0:
        text = f'{text[:-1]},"odd":{draw(st.sampled_from(ODD))}}}'
    return text.encode()


@st.composite
def hostile_bodies(draw: st.DrawFn) -> bytes:
    text = wrap(*draw(st.lists(hostile_records(), max_size=5)))
    kinds = ["sound", "sound", "plain", "members", "frames", "twice", "cut JSON", "harmed gzip"]
    kind = draw(st.sampled_from(kinds))
    if kind == "plain":
        return text
    if kind == "frames":
        at = draw(st.integers(0, len(text)))
        return frame(text[:at]) + skippable_frame(text) + frame(text[at:])
    if kind == "twice":
        return frame(gzip.compress(text, 0, mtime=0))
    if kind == "members":
        at = draw(st.integers(0, len(text)))
        return gzip.compress(text[:at], mtime=0) + gzip.compress(text[at:], mtime=0)
    if kind == "cut JSON":
        text = text[: draw(st.integers(1, len(text)))]
    body = gzip.compress(text, mtime=0)
    return draw(harmed(body)) if kind == "harmed gzip" else body


@settings(max_examples=examples(12))
@given(st.lists(hostile_bodies(), min_size=1, max_size=6), st.integers(0, 6))
def test_a_bucket_of_hostile_log_files_by_the_oracle(bodies: list[bytes], first: int) -> None:
    """Log files come in two waves; then others replace some of them, as an attacker may."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bucket = folder / "bucket"
        bucket.mkdir()
        settings = settings_in(folder, [local_trail(bucket)], process_workers=1)
        for number, body in enumerate(bodies):
            if number == first:
                sync(settings)
            suffix = "" if number % 2 else ".gz"
            key = f"{FOLDER}{ACCOUNT}_CloudTrail_{REGION}_20260110T1205Z_{number:016}.json{suffix}"
            put_object(bucket, key, body, NOON)
        for _ in range(2):
            sync(settings)
            assert_exact(settings, read_buckets([(bucket, "")]))
