"""How long the longest line of the output is: DuckDB has to be told before it reads longer lines.

Few files are read for that: a file may be too small for a long line, or say how long its text is.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Final

from ctrail_pipeline.core.output.compression import (
    MOST_DEFLATED,
    DamagedText,
    open_text,
    text_bytes_at_most,
)
from ctrail_pipeline.core.output.interface import Output
from ctrail_pipeline.core.output_files import Compression, NamedFile, compression_of

LINE_BYTES: Final = 16 * 1024 * 1024
"""The longest line that DuckDB reads if it is not told of longer ones. It sets aside twice as much
for each thread."""
_FILES_AT_ONCE: Final = 16
_READ_AT_ONCE: Final = 1024 * 1024
_SEARCHED_AT_ONCE: Final = 64 * 1024
"""Bytes that are read to find where a line ends."""


def longest_line(output: Output, files: Sequence[NamedFile]) -> int:
    """Return the bytes of the longest line of these files, at least LINE_BYTES.

    A compressed file is read where its text may hold a longer line. Several files are looked at at
    once, since a bucket takes its time.
    """
    with ThreadPoolExecutor(_FILES_AT_ONCE) as threads:
        return max(threads.map(partial(_longest_line_in, output), files), default=LINE_BYTES)


def _longest_line_in(output: Output, file: NamedFile) -> int:
    size = getattr(file, "size", None)
    if size is None:
        entry = output.entry(file)
        size = 0 if entry is None else entry.size
    compression = compression_of(file.name)
    with suppress(FileNotFoundError):  # merged or pruned; DuckDB notices, too
        if compression is Compression.NONE and size > LINE_BYTES:
            return max(LINE_BYTES, _longest_line_of_file(output, file, size))
        may_be_long = compression is Compression.ZSTD or size > LINE_BYTES // MOST_DEFLATED
        is_read = compression is not Compression.NONE and may_be_long
        if is_read and text_bytes_at_most(output, file, size) > LINE_BYTES:
            return max(LINE_BYTES, _longest_line_of_text(output, file))
    return LINE_BYTES


def _longest_line_of_text(output: Output, file: NamedFile) -> int:
    """Return the longest line of a text that has to be read; 0 if the text is damaged."""
    longest = length = 0
    with suppress(DamagedText), open_text(output, file) as text:
        while block := text.read(_READ_AT_ONCE):
            first, *others = block.split(b"\n")
            longest = max(longest, length + len(first), *map(len, others))
            length = len(others[-1]) if others else length + len(first)
    return longest


def _longest_line_of_file(output: Output, file: NamedFile, size: int) -> int:
    """Return the longest line of a large file, or 0 if it is not longer than LINE_BYTES.

    A longer line covers the whole way from one multiple of half of LINE_BYTES to the next. So a few
    bytes behind each multiple are read.
    """
    longest, step, end = 0, LINE_BYTES // 2, 0
    for at in range(step, size, step):
        if at < end:
            continue
        first = _break_behind(output, file, at, size)
        if first >= at + step:
            end = first
            longest = max(longest, end - _line_start(output, file, at))
    return longest


def _break_behind(output: Output, file: NamedFile, at: int, size: int) -> int:
    """Return where the first line feed from `at` on is; the file's end if there is none."""
    while at < size:
        piece = output.read_range(file, at, _SEARCHED_AT_ONCE)
        found = piece.find(b"\n")
        if found >= 0 or not piece:
            return at + max(found, 0)
        at += len(piece)
    return size


def _line_start(output: Output, file: NamedFile, at: int) -> int:
    """Return where the line begins that holds the byte before `at`."""
    while at > 0:
        begin = max(0, at - _SEARCHED_AT_ONCE)
        found = output.read_range(file, begin, at - begin).rfind(b"\n")
        if found >= 0:
            return begin + found + 1
        at = begin
    return 0
