"""Zstandard frames for tests: of the library, and laid out by hand (RFC 8878)."""

import sys
from collections.abc import Sequence

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

Parameter = zstd.CompressionParameter
MAGIC = b"\x28\xb5\x2f\xfd"
_EMPTY_LAST_BLOCK = b"\x01\x00\x00"


def frame(text: bytes, level: int = 3, *, checksum: bool = True, window_log: int = 0) -> bytes:
    """Return one frame; `window_log` 0 leaves the window to the level."""
    options: dict[int, int] = {
        Parameter.compression_level: level,
        Parameter.checksum_flag: int(checksum),
    }
    if window_log:
        options[Parameter.window_log] = window_log
    return zstd.compress(text, options=options)


def streamed_frame(pieces: Sequence[bytes], level: int = 3, *, window_log: int = 0) -> bytes:
    """Return a frame as a writer makes it that does not know the length of the text."""
    options: dict[int, int] = {Parameter.compression_level: level}
    if window_log:
        options[Parameter.window_log] = window_log
    compressor = zstd.ZstdCompressor(options=options)
    return b"".join(map(compressor.compress, pieces)) + compressor.flush()


def skippable_frame(content: bytes, kind: int = 0) -> bytes:
    """Return a frame that holds something else than text."""
    return bytes([0x50 + kind]) + b"\x2a\x4d\x18" + len(content).to_bytes(4, "little") + content


def frame_with_window(descriptor: int) -> bytes:
    """Return an empty frame with this window descriptor."""
    return MAGIC + bytes([0, descriptor]) + _EMPTY_LAST_BLOCK


def frame_with_dictionary(text: bytes) -> bytes:
    """Return a frame that can be read with its dictionary only."""
    samples = [b'{"eventName":"Sample%d","n":%d}' % (n % 7, n) * 8 for n in range(600)]
    return zstd.compress(text, zstd_dict=zstd.train_dict(samples, 2_000))
