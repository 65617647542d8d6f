"""Zstandard: one or more frames (RFC 8878), each with a checksum or without, and skippable frames.

AWS delivers gzip; pipelines that copy log files elsewhere often compress them anew. The library is
loaded when the first such log file comes: the import takes 12 ms.
"""

import sys
from collections.abc import Iterator
from functools import cache
from types import ModuleType
from typing import Any, Final

from .members import Format, Refused

_MAGIC: Final = b"\x28\xb5\x2f\xfd"
_SKIPPABLE: Final = b"\x2a\x4d\x18"
"""The last three bytes of a skippable frame's magic number; the first one is 0x50 to 0x5F."""
_LONGEST_HEADER: Final = 18
_SINGLE_SEGMENT: Final = 0x20
_DICTIONARY_ID_BYTES: Final = (0, 1, 2, 4)
_TEXT_SIZE_BYTES: Final = (0, 2, 4, 8)
_SHORT: Final = 2
_SHORT_FROM: Final = 256
"""What is to be added to a text size of two bytes."""
_MB: Final = 1024 * 1024
LARGEST_WINDOW: Final = 128 * _MB
"""Bytes of text that a frame may have its reader hold. What `zstd` makes with any level needs no
more, and `zstd` itself reads no more unless it is told to."""
STREAMED_WINDOW: Final = 8 * _MB
"""The window up to which a log file is read in parts, as its text is held between two parts. RFC
8878 recommends that writers need no more; levels up to 19 do not."""


class _ZstdFrame:
    """Reads one frame, in pieces."""

    def __init__(self, view: memoryview, window: int) -> None:
        """Raises Refused for a frame that needs a dictionary or a larger window."""
        _check_header(bytes(view[:_LONGEST_HEADER]), window)
        self._decoder: Any = zstd_module().ZstdDecompressor()
        self._fed = 0

    @property
    def eof(self) -> bool:
        """Whether the frame was read to its end, and its checksum is right."""
        return bool(self._decoder.eof)

    @property
    def length(self) -> int:
        """The frame's compressed bytes, once its end was read."""
        return self._fed - len(self._decoder.unused_data)

    def feed(self, piece: memoryview, size: int) -> Iterator[bytes]:
        """Read the next bytes, and yield the text in pieces of at most `size` bytes."""
        self._fed += len(piece)
        rest: bytes | memoryview = piece
        while not self._decoder.eof:
            text = self._decoder.decompress(rest, size)
            rest = b""
            if text:
                yield text
            if self._decoder.needs_input:
                return


@cache
def zstd_format(window: int = LARGEST_WINDOW) -> Format:
    """Return the format whose frames need a window of no more than these bytes."""
    return Format(
        "zstd",
        is_zstd,
        lambda view: _ZstdFrame(view, window),
        (zstd_module().ZstdError,),
        window,
    )


def is_zstd(body: bytes, at: int = 0) -> bool:
    """Whether a frame seems to begin at this place."""
    return body.startswith(_MAGIC, at) or (
        body.startswith(_SKIPPABLE, at + 1) and body[at] & 0xF0 == 0x50
    )


def claimed_size(body: bytes) -> int:
    """Return the bytes of text that the first frame claims to have; 0 if it does not say so."""
    return _Header(body).text_size if body.startswith(_MAGIC) else 0


class _Header:
    """What the header of a frame says. Of a header that is cut short, the decoder says so."""

    def __init__(self, header: bytes) -> None:
        """`header` begins with the magic number of a frame that is not skippable."""
        descriptor = header[4] if len(header) > 4 else 0
        is_single_segment = bool(descriptor & _SINGLE_SEGMENT)
        at = 5 if is_single_segment else 6
        end = at + _DICTIONARY_ID_BYTES[descriptor & 3]
        self.dictionary = int.from_bytes(header[at:end], "little")
        """The ID of the dictionary that the frame needs; 0 if it needs none."""
        size_bytes = _TEXT_SIZE_BYTES[descriptor >> 6] or int(is_single_segment)
        self.text_size = int.from_bytes(header[end : end + size_bytes], "little")
        """Bytes of text; 0 if the header does not say so."""
        if size_bytes == _SHORT:
            self.text_size += _SHORT_FROM
        self.window = self.text_size
        """Bytes of text that the reader must hold."""
        if not is_single_segment:
            exponent, mantissa = divmod(header[5] if len(header) > 5 else 0, 8)
            self.window = (1 << exponent + 10) // 8 * (8 + mantissa)


def _check_header(header: bytes, largest: int) -> None:
    """Raise Refused for the header of a frame that needs what it cannot get."""
    if not header.startswith(_MAGIC):
        return
    found = _Header(header)
    if found.dictionary:
        raise Refused(f"zstd data needs the dictionary {found.dictionary}, which nobody has")
    if found.window > largest:
        raise Refused(
            f"zstd data needs a window of {-(-found.window // _MB)} MB, over the limit of"
            f" {largest // _MB} MB"
        )


@cache
def zstd_module() -> ModuleType:
    """Return the library: Python has one from 3.14 on."""
    if sys.version_info >= (3, 14):
        from compression import zstd
    else:
        from backports import zstd
    return zstd
