"""JSON Lines compressed on their way into a file, and decompressed on their way out.

A name's ending says how a file is compressed. Sizes and hashes of a file are those of its stored
bytes; line numbers are those of the text. The same text becomes the same bytes: a gzip header holds
no time and no name. Reading holds a window of 8 MB at most.

Measured, MB of text per CPU-second, and how much smaller: files of 100 lines, gzip 860 and 6.6
times, zstd 710 and 8.6; files of 5,000 lines, gzip 960 and 7.0, zstd 550 and 10.8. zlib at its
usual level makes 75 a second, and files 8.6 times smaller.
"""

import io
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from errno import EIO
from hashlib import sha256
from typing import TYPE_CHECKING, Any, BinaryIO, Final, cast

from ctrail_pipeline.core.log_file.lines import HeldBytes
from ctrail_pipeline.core.log_file.unzstd import STREAMED_WINDOW, claimed_size, zstd_module
from ctrail_pipeline.core.output_files import Compression, NamedFile, compression_of

from .interface import Output
from .new_files import FileToWrite

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_GZIP_LEVEL: Final = 2
"""isal's level. Level 3 is four times slower for no gain."""
_ZSTD_LEVEL: Final = 1
"""As of Parquet. Level 3 takes up to half as long again, for files that are 6 % smaller at most."""
_WINDOW_BITS: Final = 31
"""Of a gzip, with header and trailer."""
_BUFFER_BYTES: Final = 128 * 1024
MOST_DEFLATED: Final = 1032
"""How much smaller Deflate makes a text at most."""
_CERTAIN_GZIP: Final = 2**32 // MOST_DEFLATED
"""Bytes of a gzip whose text surely has less than 4 GB."""
_ZSTD_HEADER: Final = 18
"""Bytes of the longest header of a frame."""

Put = Callable[[HeldBytes], None]


class DamagedText(OSError):
    """Compressed bytes are not as they were written; `strerror` says what is wrong."""


@contextmanager
def compressing(file: FileToWrite, put: Put) -> Iterator[Put]:
    """Yield what takes the text of a file, and pass its stored form to `put`; the rest at the end.

    A zstd frame says how long its text is, if that is known: it is smaller, and readers know what
    to expect.
    """
    if file.compression is Compression.NONE:
        yield put
        return
    compressor = _compressor(file)

    def put_text(text: HeldBytes) -> None:
        if block := compressor.compress(text):
            put(block)

    yield put_text
    put(compressor.flush())


def _compressor(file: FileToWrite) -> Any:
    if file.compression is Compression.GZIP:
        from isal import isal_zlib

        return isal_zlib.compressobj(_GZIP_LEVEL, isal_zlib.DEFLATED, _WINDOW_BITS)
    zstd = zstd_module()
    parameter = zstd.CompressionParameter
    compressor = zstd.ZstdCompressor(
        options={parameter.compression_level: _ZSTD_LEVEL, parameter.checksum_flag: 1}
    )
    if file.text_bytes is not None:
        compressor.set_pledged_input_size(file.text_bytes)
    return compressor


def open_text(output: Output, file: NamedFile) -> BinaryIO:
    """Open the text of a file, to be read from its beginning.

    Raises FileNotFoundError if there is no file, OSError if it cannot be read. Reading raises
    OSError, too, which is DamagedText where the compressed bytes are damaged.
    """
    return text_of(output.open(file), compression_of(file.name))


def text_of(stored: BinaryIO, compression: Compression) -> BinaryIO:
    """Return the text of stored bytes. Closing the text closes them."""
    if compression is Compression.NONE:
        return stored
    return _buffered(_Text(stored, compression))


def text_bytes_at_most(output: Output, file: NamedFile, size: int) -> int:
    """Return a limit of the text of a compressed file that has `size` stored bytes.

    The file says how long its text is, unless the text is very long or a compaction wrote it with
    zstd: then there is no limit. Of an altered file this may be wrong. Raises as `Output.open`.
    """
    if compression_of(file.name) is Compression.GZIP:
        # The trailer has the length of the text without its multiples of 4 GB.
        trailer = output.read_range(file, max(0, size - 4), 4)
        return int.from_bytes(trailer, "little") if size < _CERTAIN_GZIP else sys.maxsize
    return claimed_size(output.read_range(file, 0, _ZSTD_HEADER)) or sys.maxsize


class HashedBytes(io.RawIOBase):
    """Stored bytes that are hashed while somebody reads them."""

    def __init__(self, stored: BinaryIO) -> None:
        self._stored = cast("io.BufferedReader", stored)
        self.digest = sha256()
        self.size = 0
        self.buffered = _buffered(self)
        """What to read. All that it has read ahead is hashed."""

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: "WriteableBuffer", /) -> int:
        """Read and hash the next bytes."""
        size = self._stored.readinto(buffer)
        self.digest.update(memoryview(buffer)[:size])
        self.size += size
        return size

    def rest(self) -> tuple[int, bytes]:
        """Read what is left; return the size and the SHA-256 of all stored bytes."""
        while self.buffered.read(_BUFFER_BYTES):
            pass
        return self.size, self.digest.digest()


class _Text(io.RawIOBase):
    """The text of compressed bytes, in pieces."""

    def __init__(self, stored: BinaryIO, compression: Compression) -> None:
        self._stored = stored
        self._name = compression.name.lower()
        self._errors: tuple[type[Exception], ...]
        if compression is Compression.GZIP:
            from isal import igzip, isal_zlib

            self._text: Any = igzip.IGzipFile(  # type: ignore[no-untyped-call]
                fileobj=stored, mode="rb"
            )
            isal_error = cast("type[Exception]", isal_zlib.error)
            self._errors = (EOFError, zlib.error, isal_error, igzip.BadGzipFile)
        else:
            zstd = zstd_module()
            limit = {zstd.DecompressionParameter.window_log_max: STREAMED_WINDOW.bit_length() - 1}
            self._text = zstd.ZstdFile(stored, options=limit)
            self._errors = (EOFError, zstd.ZstdError)

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: "WriteableBuffer", /) -> int:
        """Read the next piece. Raises DamagedText."""
        try:
            return int(self._text.readinto(buffer))
        except self._errors as error:
            raise DamagedText(EIO, f"{self._name} data is damaged ({error})") from error

    def close(self) -> None:
        """Close the stored bytes, too."""
        if not self.closed:
            self._stored.close()
        super().close()


def _buffered(raw: io.RawIOBase) -> BinaryIO:
    return io.BufferedReader(raw, _BUFFER_BYTES)
