"""Compressed files hold the text as it is, are the same each time, and tell of damage."""

import subprocess
import tracemalloc
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ctrail_pipeline.cli.longest_line import LINE_BYTES, longest_line
from ctrail_pipeline.core.log_file.lines import HeldBytes
from ctrail_pipeline.core.log_file.unzstd import zstd_module
from ctrail_pipeline.core.output.compression import (
    DamagedText,
    compressing,
    open_text,
    text_bytes_at_most,
)
from ctrail_pipeline.core.output.contents import Contents, contents_of
from ctrail_pipeline.core.output.local.local_output import LocalOutput
from ctrail_pipeline.core.output.new_files import NewFile
from ctrail_pipeline.core.output_files import (
    Compression,
    FileName,
    Kind,
    PublishedFile,
    compression_of,
)
from ctrail_pipeline_tests.support.oracle import text_of

HOUR = "111122223333/us-east-1/2024/01/02/03"
COMPRESSED = [Compression.GZIP, Compression.ZSTD]
LINES = [b'{"number":%d,"text":"%s"}' % (number, b"x" * (number % 97)) for number in range(5_000)]
TEXT = b"".join(line + b"\n" for line in LINES)


@pytest.fixture
def output(tmp_path: Path) -> Iterator[LocalOutput]:
    output = LocalOutput(tmp_path / "events", tmp_path / "quarantine")
    yield output
    output.close()


def put(output: LocalOutput, lines: list[bytes], compression: Compression) -> PublishedFile:
    """Publish a file, whose staged size and hash are those of its stored bytes."""
    staging = output.staging_of("token")
    staging.open()
    [staged] = staging.write([NewFile(Kind.EVENTS, HOUR, lines, [(0, len(lines))], compression)])
    file = PublishedFile(0, Kind.EVENTS, HOUR, 1, staged.size, staged.compression)
    assert staging.publish([file], lambda file: file, lambda _: None) == []
    staging.remove()
    stored = path_of(output, file).read_bytes()
    assert (staged.size, staged.sha256) == (len(stored), sha256(stored).digest())
    return file


def path_of(output: LocalOutput, file: PublishedFile) -> Path:
    return Path(output.address_of(file))


@pytest.mark.parametrize(
    ("compression", "name"),
    [
        (Compression.NONE, "events_00001.jsonl"),
        (Compression.GZIP, "events_00001.jsonl.gz"),
        (Compression.ZSTD, "events_00001.jsonl.zst"),
    ],
)
def test_the_name_says_how_a_file_is_compressed(
    output: LocalOutput, compression: Compression, name: str
) -> None:
    file = put(output, LINES, compression)
    assert (file.name, compression_of(file.name)) == (name, compression)
    assert text_of(path_of(output, file)) == TEXT
    stored = path_of(output, file).read_bytes()
    assert contents_of(output, file) == Contents(sha256(stored).digest(), len(LINES), len(stored))


@pytest.mark.parametrize(
    ("compression", "command"),
    [(Compression.GZIP, ["gzip", "-dc"]), (Compression.ZSTD, ["zstd", "-dcq"])],
)
def test_the_usual_commands_read_it(
    output: LocalOutput, compression: Compression, command: list[str]
) -> None:
    path = path_of(output, put(output, LINES, compression))
    try:
        done = subprocess.run([*command, path], capture_output=True, check=True)
    except FileNotFoundError:
        pytest.skip(f"{command[0]} is not installed")
    assert done.stdout == TEXT


def compressed(file: NewFile) -> bytes:
    blocks: list[HeldBytes] = []
    with compressing(file, blocks.append) as put_text:
        file.write_to(put_text)
    return b"".join(blocks)


@pytest.mark.parametrize("compression", COMPRESSED)
@given(pieces=st.lists(st.binary(max_size=300), max_size=8))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_same_text_becomes_the_same_bytes(
    output: LocalOutput, compression: Compression, pieces: list[bytes]
) -> None:
    lines = [piece.replace(b"\n", b"") for piece in pieces]
    file = NewFile(Kind.EVENTS, HOUR, lines, [(0, len(lines))], compression)
    content = compressed(file)
    assert content == compressed(file)
    if compression is Compression.GZIP:
        assert content[:9] == b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00"  # no name, and no time
    path = output.roots[Kind.EVENTS] / f"events_00001.jsonl{compression.ending}"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    with open_text(output, FileName(Kind.EVENTS, "", path.name)) as text:
        assert text.read() == b"".join(line + b"\n" for line in lines)


HARMS: dict[str, Callable[[bytes], bytes]] = {
    "cut off": lambda stored: stored[:-100],
    "a byte changed": lambda stored: stored[:3000] + bytes([stored[3000] ^ 255]) + stored[3001:],
    "something behind it": lambda stored: stored + b"something",
    "another format": lambda stored: TEXT[: len(stored)],
}


@pytest.mark.parametrize("compression", COMPRESSED)
@pytest.mark.parametrize("harm", HARMS)
def test_damage_is_said_and_the_whole_file_is_hashed(
    output: LocalOutput, compression: Compression, harm: str
) -> None:
    file = put(output, LINES, compression)
    harmed = HARMS[harm](path_of(output, file).read_bytes())
    path_of(output, file).write_bytes(harmed)
    contents = contents_of(output, file)
    assert (contents.sha256, contents.bytes) == (sha256(harmed).digest(), len(harmed))
    assert contents.lines <= len(LINES)
    assert contents.damage.startswith(f"{compression.name.lower()} data is damaged (")
    with pytest.raises(DamagedText), open_text(output, file) as text:
        text.read()


def test_a_frame_that_asks_for_much_memory_is_damage(output: LocalOutput) -> None:
    """Its header asks for a window of 64 MB; nobody reads a line of it."""
    zstd = zstd_module()
    file = put(output, LINES, Compression.ZSTD)
    parameter = zstd.CompressionParameter
    options = {parameter.window_log: 26, parameter.content_size_flag: 0}
    compressor = zstd.ZstdCompressor(options=options)
    stored = compressor.compress(b"a" * 1_000) + compressor.flush()
    path_of(output, file).write_bytes(stored)
    contents = contents_of(output, file)
    assert (contents.lines, contents.sha256) == (0, sha256(stored).digest())
    assert "zstd data is damaged" in contents.damage


@pytest.mark.parametrize("compression", COMPRESSED)
def test_memory_does_not_depend_on_the_size_of_the_text(
    output: LocalOutput, compression: Compression
) -> None:
    line = b"z" * 999
    file = put(output, [line] * 60_000, compression)
    tracemalloc.start()
    contents = contents_of(output, file)
    with open_text(output, file) as text:
        lines = sum(1 for _ in text)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert contents.lines == lines == 60_000
    assert peak < 8_000_000


# -- how long a text is -----------------------------------------------------------------------


@pytest.mark.parametrize("compression", COMPRESSED)
def test_a_file_says_how_long_its_text_is(output: LocalOutput, compression: Compression) -> None:
    file = put(output, LINES, compression)
    assert text_bytes_at_most(output, file, file.size) == len(TEXT)


@pytest.mark.parametrize("compression", Compression)
@pytest.mark.parametrize("extra", [-5, 5])
def test_the_longest_line_of_a_compressed_file_is_found(
    output: LocalOutput, compression: Compression, extra: int
) -> None:
    long = b"y" * (LINE_BYTES + extra)
    file = put(output, [*LINES, long, *LINES], compression)
    assert longest_line(output, [file]) == max(LINE_BYTES, len(long))
