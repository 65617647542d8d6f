"""Log files made to cost memory or time: the size of the text bounds both.

Each test measures the peak memory of a whole sync in its own process. `CTRAIL_LONG=1` adds log
files of the largest size that is read, 256 MB. `docs/hostile-input.md` has the figures.
"""

import time
import zlib
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from ctrail_pipeline.core.log_file.split import read_log_file
from ctrail_pipeline.core.settings import Settings
from ctrail_pipeline_tests.support.large_log_files import MB, NOON, event, put_log_file
from ctrail_pipeline_tests.support.long import LONG, only_long
from ctrail_pipeline_tests.support.measured_sync import synced
from ctrail_pipeline_tests.support.sync_process import put_object
from ctrail_pipeline_tests.support.zstd_frames import streamed_frame

pytestmark = pytest.mark.thorough

LARGEST = Settings.max_log_file_bytes
MEGABYTES = (LARGEST // MB - 1) if LONG else 8
MOST_BESIDE = 55
"""Megabytes that a sync takes beside the text. A text over 32 MB is mapped, not held. Memory beside
the text, which the allocator keeps, is no more for a text of 256 MB than for one of 8."""

HEAD = b'{"Records":['
EVENT = b'{"eventTime":"2026-01-10T12:00:00Z","a":'

BOMBS: dict[str, Callable[[int], bytes]] = {
    "brackets without end": lambda size: HEAD + b"[" * size,
    "objects without end": lambda size: HEAD + b'{"a":' * (size // 5),
    "deep brackets": lambda size: HEAD + EVENT + b"[" * (size // 2) + b"]" * (size // 2) + b"}]}",
    "deep objects": lambda size: (
        HEAD + EVENT + b'{"a":' * (size // 6) + b"1" + b"}" * (size // 6) + b"}]}"
    ),
    "empty brackets": lambda size: HEAD + EVENT + b"[" + b"[]," * (size // 3) + b"1]}]}",
    "quotes": lambda size: HEAD + b'"' * size,
    "backslashes": lambda size: HEAD + b'"' + b"\\" * size,
    "escaped quotes": lambda size: HEAD + EVENT + b'"' + b'\\"' * (size // 2) + b'"}]}',
    "byte order marks": lambda size: b"\xef\xbb\xbf" * (size // 3) + HEAD + b"]}",
    "empty documents": lambda size: b'{"Records":[]}' * (size // 14),
    "Records keys": lambda size: b"{" + b'"Records":[],' * (size // 13) + b'"a":1}',
    "other keys": lambda size: b"{" + b'"a":{b},' * (size // 8) + b'"Records":[]}',
    "numbers": lambda size: HEAD + b"1," * (size // 2) + b"1]}",
    "tiny records": lambda size: HEAD + (EVENT + b"1},") * (size // 43) + EVENT + b"1}]}",
    "odd records": lambda size: HEAD + (EVENT + b"NaN},") * (size // 45) + EVENT + b"1}]}",
    "records too deep": lambda size: (
        HEAD + (EVENT + b"[" * 1100 + b"]" * 1100 + b"},") * (size // 2242) + EVENT + b"1}]}"
    ),
    "line feeds": lambda size: HEAD + EVENT + b"\n" * size + b"1}]}",
    "NUL": bytes,
}


@pytest.mark.parametrize("name", BOMBS)
def test_no_text_takes_more_than_a_second_a_megabyte(name: str) -> None:
    """The dearest text takes 0.2 s a megabyte. Work that is not linear would take minutes."""
    text = BOMBS[name](MB * 9 // 2)
    started = time.process_time()
    content = read_log_file(text, LARGEST)
    assert time.process_time() - started < len(text) / MB
    assert content.size == len(text)


@pytest.mark.parametrize("name", BOMBS if LONG else [*BOMBS][::3])
def test_memory_is_linear_in_the_text(tmp_path: Path, name: str) -> None:
    text = BOMBS[name](MEGABYTES * MB)
    assert len(text) <= LARGEST
    size = len(text) / MB
    put_log_file(tmp_path / "bucket", 0, text)
    del text
    started = time.monotonic()
    log_files, events, peak = synced(tmp_path)
    held = sum(path.stat().st_size for path in (tmp_path / "quarantine").rglob("*.jsonl")) / MB
    print(
        f"{name}: {size:.0f} MB, {time.monotonic() - started:.1f} s, peak {peak} MB,"
        f" {events} events, {held:.0f} MB of quarantine"
    )
    assert log_files == 1
    assert peak < 1.1 * size + MOST_BESIDE
    assert held < 3 * size


@pytest.mark.parametrize("log_files", [1, 12])
def test_a_gigabyte_of_zeros_behind_the_largest_window(tmp_path: Path, log_files: int) -> None:
    """A reader of zstd holds a window of text. Of several bombs one after the other is read."""
    body = streamed_frame([bytes(MB)] * 1024, window_log=27)
    assert len(body) < MB
    for number in range(log_files):
        at = NOON + timedelta(minutes=number)
        key = (
            f"AWSLogs/111122223333/CloudTrail/eu-west-1/{at:%Y/%m/%d}/"
            f"111122223333_CloudTrail_eu-west-1_{at:%Y%m%dT%H%MZ}_{number:016}.json.gz"
        )
        put_object(tmp_path / "bucket", key, body, at)
    found, events, peak = synced(tmp_path)
    print(f"{log_files} zstd bombs: peak {peak} MB")
    assert (found, events) == (log_files, 0)
    assert peak < 128 + MOST_BESIDE


def test_ten_gigabytes_of_zeros_in_ten_megabytes(tmp_path: Path) -> None:
    """A sync inflates no more of a sound gzip than the largest log file that is read, once.

    The gzip is made of one packed megabyte: after a full flush each packs to the same bytes.
    """
    gigabytes, block = 10, bytes(MB)
    packer = zlib.compressobj(9, wbits=-15)
    packer.compress(block)
    packer.flush(zlib.Z_FULL_FLUSH)
    packed = packer.compress(block) + packer.flush(zlib.Z_FULL_FLUSH)
    crc = 0
    for _ in range(gigabytes * 1024 if LONG else 0):  # the sync never reads so far
        crc = zlib.crc32(block, crc)
    length = gigabytes * 1024 * MB & 0xFFFFFFFF
    body = (
        b"\x1f\x8b\x08\0\0\0\0\0\0\xff"
        + packed * (gigabytes * 1024)
        + packer.flush()
        + crc.to_bytes(4, "little")
        + length.to_bytes(4, "little")
    )
    assert len(body) < 11 * MB
    key = (
        f"AWSLogs/111122223333/CloudTrail/eu-west-1/{NOON:%Y/%m/%d}/"
        f"111122223333_CloudTrail_eu-west-1_{NOON:%Y%m%dT%H%MZ}_{0:016}.json.gz"
    )
    put_object(tmp_path / "bucket", key, body, NOON)
    started = time.monotonic()
    log_files, events, peak = synced(tmp_path)
    print(f"10 GB: {len(body) / MB:.1f} MB, {time.monotonic() - started:.1f} s, peak {peak} MB")
    assert (log_files, events) == (1, 0)
    assert peak < 2 * LARGEST / MB
    [line] = [path.read_text() for path in (tmp_path / "quarantine").rglob("*.jsonl")]
    assert "over the size limit" in line


@only_long
def test_one_record_of_256_megabytes(tmp_path: Path) -> None:
    text = HEAD + event(NOON, 0, "a" * (MEGABYTES * MB)).encode() + b"]}"
    check_largest(tmp_path, "one record", text, 1, 1.3)


@only_long
def test_a_million_records(tmp_path: Path) -> None:
    shortest = event(NOON, 0, "").encode()
    padding = (LARGEST - MB) // 1_000_000 - len(shortest) - len(",000000")
    records = (event(NOON, number, "a" * padding) for number in range(1_000_000))
    text = HEAD + ",".join(records).encode() + b"]}"
    check_largest(tmp_path, "a million records", text, 1_000_000, 0.8)


def check_largest(folder: Path, name: str, text: bytes, expected: int, factor: float) -> None:
    size = len(text) / MB
    put_log_file(folder / "bucket", 0, text)
    del text
    started = time.monotonic()
    log_files, events, peak = synced(folder)
    print(f"{name}: {size:.0f} MB, {time.monotonic() - started:.1f} s, peak {peak} MB")
    assert (log_files, events) == (1, expected)
    assert peak < factor * size
