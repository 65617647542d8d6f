"""Log files that are neither streamed nor held lie in a file, and are read as if held."""

import errno
import gzip
import os
import stat
import tempfile
from collections.abc import Callable
from functools import wraps
from hashlib import sha256
from io import FileIO
from pathlib import Path
from time import sleep
from typing import Any, TypeVar, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctrail_pipeline.core.batch import fetch
from ctrail_pipeline.core.batch.content import BatchContent
from ctrail_pipeline.core.batch.fetch import FetchedLogFile
from ctrail_pipeline.core.exceptions import OutputError
from ctrail_pipeline.core.log_file import fast_path, json_scan, mapped_text, members, split
from ctrail_pipeline.core.log_file.decompress import Decompressed, decompress, decompress_to_file
from ctrail_pipeline.core.log_file.mapped_text import MappedText, Text, TextFile, pieces_of
from ctrail_pipeline.core.log_file.record import LogFileContent
from ctrail_pipeline.core.log_file.split import CutLogFile, cut_up
from ctrail_pipeline.core.run.sync import sync
from ctrail_pipeline.core.settings import Settings
from ctrail_pipeline_tests.support.harm import harmed
from ctrail_pipeline_tests.support.large_log_files import MB, NOON, event, put_log_file
from ctrail_pipeline_tests.support.log_file_texts import EVENT, OTHER, log_files, wrap
from ctrail_pipeline_tests.support.measured_sync import synced
from ctrail_pipeline_tests.support.properties import examples
from ctrail_pipeline_tests.support.sync_process import (
    assert_exact,
    local_trail,
    put_object,
    sample_expectation,
    sample_settings,
    settings_in,
)

Test = TypeVar("Test", bound=Callable[..., None])
SAMPLE = {"log_files": 120, "days": 2}


def in_small_pieces(test: Test) -> Test:
    """Make pieces so small that a text of some hundred bytes has several of them during a test."""

    @wraps(test)
    def run(*arguments: Any, **named: Any) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(mapped_text, "_PIECE", 9)
            patch.setattr(members, "READ_AT_ONCE", 50)
            patch.setattr(members, "_FIRST_PIECE", 30)
            patch.setattr(json_scan, "_KEPT", 20)
            patch.setattr(json_scan, "_LONGEST_COPY_OF_MAPPED", 20)
            test(*arguments, **named)

    return cast(Test, run)


def mapped(data: bytes) -> Text:
    with TextFile(Path(tempfile.gettempdir())) as file:
        file.write(data)
        return file.text()


# --- the text -------------------------------------------------------------------------------------


@given(st.binary(min_size=1, max_size=60), st.binary(min_size=1, max_size=3), st.data())
@in_small_pieces
def test_it_is_searched_as_bytes_are(data: bytes, sought: bytes, draw: st.DataObject) -> None:
    text = mapped(data)
    start, end = (draw.draw(st.integers(0, len(data) + 2)) for _ in range(2))
    assert isinstance(text, MappedText)
    assert text.find(sought) == data.find(sought)
    assert text.find(sought, start, end) == data.find(sought, start, end)
    assert text.startswith(sought, start) == data.startswith(sought, start)
    assert text.endswith(sought) == data.endswith(sought)
    assert text.endswith(data)
    assert text.digest() == sha256(data).digest()
    assert b"".join(pieces_of(memoryview(text)[1:])) == data[1:]


def test_the_file_has_no_name_and_is_for_its_owner_only(tmp_path: Path) -> None:
    with TextFile(tmp_path) as file:
        file.write(b"private")
        assert list(tmp_path.iterdir()) == []
        assert stat.S_IMODE(os.fstat(file._file.fileno()).st_mode) == 0o600
        text = file.text()
    assert text[:] == b"private"


def test_what_is_let_go_of_is_read_again() -> None:
    text = mapped(bytes(range(256)) * 100)
    view = memoryview(text)[5:10]
    mapped_text.release_pages(text)
    assert view == bytes(range(5, 10))


def test_a_full_disk_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = TextFile(tmp_path)

    class Full(FileIO):
        def write(self, _piece: object) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    full = Full(os.dup(file._file.fileno()), "wb")
    file._file.close()
    monkeypatch.setattr(file, "_file", full)
    with (
        pytest.raises(OutputError, match=f"^{tmp_path}, .*the disk is full: free some space"),
        file,
    ):
        file.write(b"x")
    assert full.closed


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=f"^{tmp_path}/gone, .*No such file"):
        TextFile(tmp_path / "gone")


# --- gunzip ---------------------------------------------------------------------------------------


@st.composite
def gzips(draw: st.DrawFn) -> bytes:
    """Gzips of one or more members, sound or harmed."""
    texts = st.binary(max_size=400) | st.just(b"ab" * 300)
    level = st.sampled_from([0, 1, 9])
    members = draw(st.lists(st.tuples(texts, level), min_size=1, max_size=4))
    body = b"".join(gzip.compress(text, level, mtime=0) for text, level in members)
    return draw(st.just(body) | harmed(body))


@settings(max_examples=examples(150))
@given(gzips() | st.binary(max_size=50), st.integers(1, 1_500))
@in_small_pieces
def test_into_a_file_comes_what_would_be_held(body: bytes, limit: int) -> None:
    held = decompress(body, limit)
    found = decompress_to_file(body, limit, Path(tempfile.gettempdir()))
    assert (found.data[:], found.sha256) == (held.data, held.sha256)
    # A body that is damaged and too large is called either one.
    assert (found.damage is None) == (held.damage is None)


# --- the records ----------------------------------------------------------------------------------


def as_bytes(content: LogFileContent) -> Any:
    return (
        [
            (bytes(record.line), record.routing, record.index, record.time, record.name)
            for record in content.records
        ],
        [(piece.index, piece.kind, piece.reason, bytes(piece.data)) for piece in content.rejected],
        content.damage,
        content.sha256,
        content.size,
        content.newlines_replaced,
    )


@st.composite
def texts(draw: st.DrawFn) -> bytes:
    """Texts of log files, sound or harmed."""
    text, _ = draw(log_files())
    return draw(st.just(text) | harmed(text))


@settings(max_examples=examples(150))
@given(texts(), st.sampled_from([None, "gzip data is damaged"]), st.sampled_from([5, 200]))
@in_small_pieces
def test_a_mapped_text_is_cut_as_a_held_one(text: bytes, damage: str | None, chunk: int) -> None:
    held = as_bytes(cut_up(Decompressed(text, damage, b"hash")).whole())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fast_path, "CHUNK", chunk)
        cut = cut_up(Decompressed(mapped(text), damage, b"hash"))
    assert as_bytes(cut.whole()) == held


def parts(cut: CutLogFile, limit: int) -> list[LogFileContent]:
    return [cut.part(number, limit) for number in range(cut.part_count(limit))]


@pytest.mark.parametrize("limit", [1, 7, 1_000])
@pytest.mark.parametrize("is_sound", [True, False])
@pytest.mark.parametrize("damage", [None, "gzip data is damaged"])
@in_small_pieces
def test_its_parts_are_the_whole_and_small(
    monkeypatch: pytest.MonkeyPatch, limit: int, is_sound: bool, damage: str | None
) -> None:
    monkeypatch.setattr(split, "PART_BYTES", 5 * len(EVENT))
    text = wrap(*[EVENT, OTHER + b"\n", b"7"] * 20, b" " + EVENT * 8)
    text = text if is_sound else text[:-40]
    text += b'{"no":"%s"}' % (b"r" * len(EVENT)) * 30
    cut = cut_up(Decompressed(mapped(text), damage, None))
    whole, in_parts = cut.whole(), parts(cut, limit)
    assert [record for part in in_parts for record in as_bytes(part)[0]] == as_bytes(whole)[0]
    rejected = [piece for part in in_parts for piece in as_bytes(part)[1]]
    assert sorted(rejected, key=str) == sorted(as_bytes(whole)[1], key=str)
    assert sum(part.newlines_replaced for part in in_parts) == whole.newlines_replaced
    for part in in_parts:
        lines = [record.line for record in part.records]
        assert len(lines) <= limit
        assert len(lines) <= 1 or sum(map(len, lines)) <= 5 * len(EVENT)
        leftovers = [piece.data for piece in part.rejected if piece.index is None]
        assert len(leftovers) <= limit
        assert len(leftovers) <= 1 or sum(map(len, leftovers)) <= 5 * len(EVENT)


# --- a sync ---------------------------------------------------------------------------------------


def test_a_sync_of_mapped_log_files_is_exact(
    sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unpacked: list[Decompressed] = []

    def recorded(*arguments: Any, **options: Any) -> Decompressed:
        unpacked.append(decompress_to_file(*arguments, **options))
        return unpacked[-1]

    monkeypatch.setattr(fetch, "decompress_to_file", recorded)
    monkeypatch.setattr(fetch, "STREAMED_FROM", 2_000)
    monkeypatch.setattr(fetch, "stream", lambda *_arguments, **_options: None)
    sync(sample_settings(sample, tmp_path))
    assert_exact(sample_settings(sample, tmp_path), sample_expectation(sample))
    assert len([text for text in unpacked if isinstance(text.data, MappedText)]) > 50


def indented(size: int) -> bytes:
    """Return a log file as `jq` writes it: not streamed, and with line breaks in each record."""
    records = b",\n".join(
        event(NOON, number, "a" * 1_000).replace(",", ",\n  ").encode() for number in range(1_000)
    )
    return b'{"Records": [\n' + b",\n".join([records] * (size // len(records))) + b"\n]}\n"


@pytest.mark.thorough
def test_what_cannot_be_streamed_is_not_held(tmp_path: Path) -> None:
    text = indented(160 * MB)
    put_log_file(tmp_path / "bucket", 0, text)
    size = len(text) / MB
    del text
    log_files, events, peak = synced(tmp_path)
    print(f"indented: {size:.0f} MB, peak {peak} MB")
    assert (log_files, events) == (1, 1_000)
    assert peak < 120


@pytest.mark.thorough
def test_what_is_no_record_is_not_held_either(tmp_path: Path) -> None:
    """Documents hold no record here; JSON writes what is in them in three times the bytes."""
    documents = (b'{"a%d":"%s"}' % (number, "\xe9".encode() * (MB // 2)) for number in range(128))
    text = wrap(event(NOON, 0).encode()) + b"".join(documents)
    put_log_file(tmp_path / "bucket", 0, text)
    del text
    log_files, events, peak = synced(tmp_path)
    print(f"documents: 128 MB, peak {peak} MB")
    assert (log_files, events) == (1, 1)
    assert peak < 150


def test_an_object_too_large_for_a_log_file_is_not_fetched(tmp_path: Path) -> None:
    put_log_file(tmp_path / "bucket", 0, wrap(event(NOON, 0).encode()))
    put_log_file(tmp_path / "bucket", 1, wrap(event(NOON, 1).encode()))
    [_, large] = sorted((tmp_path / "bucket").rglob("*.json.gz"))
    os.truncate(large, Settings.max_log_file_bytes // 4 + 1)  # the file is sparse
    log_files, events, peak = synced(tmp_path)
    assert (log_files, events) == (2, 1)
    assert peak < 32
    [line] = [path.read_text() for path in (tmp_path / "quarantine").rglob("*.jsonl")]
    assert "over the size limit of 67108864 bytes stored: 67108865" in line


def test_few_lie_on_the_disk_while_they_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(12):
        put_log_file(
            tmp_path / "bucket", number, wrap(event(NOON, number).encode() + b"\n" * 9_000)
        )
    unpacked: list[Decompressed] = []
    waiting: list[int] = []

    def recorded(*arguments: Any, **options: Any) -> Decompressed:
        unpacked.append(decompress_to_file(*arguments, **options))
        return unpacked[-1]

    add = BatchContent.add

    def slow_add(self: BatchContent, fetched: FetchedLogFile) -> None:
        if not waiting:
            sleep(1)  # meanwhile all threads may work
            waiting.append(len(unpacked))
        add(self, fetched)

    monkeypatch.setattr(fetch, "decompress_to_file", recorded)
    monkeypatch.setattr(fetch, "STREAMED_FROM", 2_000)
    monkeypatch.setattr(BatchContent, "add", slow_add)
    sync(settings_in(tmp_path, [local_trail(tmp_path / "bucket")], process_workers=1))
    assert len(unpacked) == 12
    assert 1 <= waiting[0] <= 4


def test_what_is_unpacked_needs_no_name_to_be_gone(tmp_path: Path) -> None:
    put_object(tmp_path / "bucket", "unused", b"", NOON)
    put_log_file(tmp_path / "bucket", 0, indented(34 * MB))
    settings = settings_in(tmp_path, [local_trail(tmp_path / "bucket")])
    sync(settings)
    mapped = Path("/proc/self/maps").read_text()
    assert ".ctrail-" not in mapped
    assert f"{tmp_path}/#" not in mapped  # Linux shows a file without a name so
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".ctrail-")]
