"""The bytes of an object in the bucket -> the log file's uncompressed bytes, or what is damaged.

A log file is JSON, or one layer of gzip or zstd around it: its first bytes say which, not its name.
Large log files are decompressed in the fetching threads, as decompression and SHA-256 release the
GIL; small log files where they are split. No content of the bytes raises an error, and `limit`
bounds memory and time.

Not here: what the bytes mean (`split`), and whether a damaged object is fetched again
(`core.batch.fetch`).
"""

import hashlib
from pathlib import Path
from typing import Final

import msgspec

from .gunzip import GZIP, GZIP_MAGIC, gunzip
from .mapped_text import MappedText, Text, TextFile
from .members import Format, held_text, over, read_members
from .unzstd import LARGEST_WINDOW, claimed_size, is_zstd, zstd_format

_HELD_FOR_MAPPED: Final = 24 * 1024 * 1024
"""Bytes that a mapped text counts for in the limit of fetched bytes: it allows two or three."""
_NOT_READ: Final = {
    b"BZh": "bzip2",
    b"\xfd7zXZ\x00": "xz",
    b"PK\x03\x04": "zip",
    b"\x04\x22\x4d\x18": "lz4",
}
"""First bytes of other formats. No JSON begins so."""
_LONGEST_MAGIC: Final = 6


class Decompressed(msgspec.Struct, frozen=True, gc=False):
    """The uncompressed bytes of a log file; see `decompress`."""

    data: Text
    """All bytes; where `damage` is set, the bytes that could be read before the damage."""
    damage: str | None
    sha256: bytes | None
    """The SHA-256 of `data`; None where it was not asked for."""

    @property
    def size(self) -> int:
        """Uncompressed bytes."""
        return len(self.data)

    @property
    def held(self) -> int:
        """Bytes of memory. A mapped text takes none, but this bounds its space on the disk too."""
        return len(self.data) if isinstance(self.data, bytes) else _HELD_FOR_MAPPED


def decompress(body: bytes, limit: int, *, hashed: bool = True) -> Decompressed:
    """Return the bytes of a log file and the SHA-256.

    Without `hashed` no SHA-256 is taken. More than `limit` bytes count as damage, and nothing of
    them is kept.
    """
    damage: str | None
    if body.startswith(GZIP_MAGIC):
        data, damage = gunzip(body, limit)
    elif is_zstd(body):
        data, damage = held_text(zstd_format(), body, limit)
    elif len(body) > limit:
        data, damage = b"", over(limit)
    else:
        data, damage = body, None
    if not data and damage is None:
        damage = "empty"
    return Decompressed(data, damage, hashlib.sha256(data).digest() if hashed else None)


def decompress_to_file(
    body: bytes, limit: int, folder: Path, *, hashed: bool = True
) -> Decompressed:
    """Decompress into a file without a name in `folder`, so that the text is not held.

    The result is that of `decompress`. Raises OutputError if the disk has no room.
    """
    format_ = format_of(body)
    if format_ is None:
        return decompress(body, limit, hashed=hashed)
    with TextFile(folder) as file:
        damage = read_members(format_, body, file, limit)
        if file.tell() > limit:
            file.cut(0)
            damage = over(limit)
        data = file.text()
    if not data and damage is None:
        damage = "empty"
    sha256 = None
    if hashed:
        sha256 = data.digest() if isinstance(data, MappedText) else hashlib.sha256(data).digest()
    return Decompressed(data, damage, sha256)


def format_of(body: bytes, window: int = LARGEST_WINDOW) -> Format | None:
    """Return the format of a compressed body; None for any other. `window`: that of zstd."""
    if body.startswith(GZIP_MAGIC):
        return GZIP
    return zstd_format(window) if is_zstd(body) else None


def size_claimed_by(body: bytes) -> int:
    """Return the bytes of text that a compressed body claims to have, which may be wrong; or 0.

    A gzip has the length of its last member in its trailer.
    """
    if body.startswith(GZIP_MAGIC):
        return int.from_bytes(body[-4:], "little")
    return claimed_size(body) if is_zstd(body) else 0


def compression_left_in(text: Text) -> str | None:
    """Say that the uncompressed bytes of a log file are compressed data again, or still."""
    head = text[:_LONGEST_MAGIC]
    layer = format_of(head)
    if layer is not None:
        return f"compressed twice: {layer.name} data inside, and only one layer is read"
    for magic, name in _NOT_READ.items():
        if head.startswith(magic):
            return f"{name} data, and only gzip and zstd are read"
    return None


def too_large_stored(size: int, limit: int) -> Decompressed:
    """Return the damage of an object that is not read, as its `size` exceeds `limit` bytes."""
    return Decompressed(b"", f"over the size limit of {limit} bytes stored: {size}", None)


def is_over(content: Decompressed, limit: int) -> bool:
    """Whether `decompress` found more than `limit` bytes."""
    return content.damage == over(limit)
