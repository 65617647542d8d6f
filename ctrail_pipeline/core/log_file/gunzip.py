"""The bytes of an object in the bucket -> the log file's uncompressed bytes, or what is damaged.

Large log files are decompressed in the fetching threads, as gunzip and SHA-256 release the GIL;
small log files where they are split. No content of the bytes raises an error, and `limit` bounds
memory and time. A gzip is sound if every member is read to its end, its checksum and length are
right, and nothing follows the last member.

Not here: what the bytes mean (`split`), and whether a damaged object is fetched again
(`core.batch.fetch`).

Measured: 24 µs for a log file of 2 KB that holds 11 KB, of which the inflater itself takes 15 and
SHA-256 7; 450 MB of JSON per CPU-second.
"""

import hashlib
import zlib
from collections.abc import Iterator
from io import BytesIO
from itertools import chain
from pathlib import Path
from typing import Any, Final, Protocol, cast

import msgspec
from isal import isal_zlib

from .mapped_text import MappedText, Text, TextFile

# In the stubs of isal 1.9 this class is an instance.
_IsalError: Final = cast("type[Exception]", isal_zlib.error)
GZIP_ERRORS: Final = (_IsalError, zlib.error)
GZIP_MAGIC: Final = b"\x1f\x8b"
GZIP_WINDOW_BITS: Final = 31
_FIRST_PIECE: Final = 4096
_HELD_FOR_MAPPED: Final = 24 * 1024 * 1024
"""Bytes that a mapped text counts for in the limit of fetched bytes: it allows two or three."""
READ_AT_ONCE: Final = 1024 * 1024
"""Bytes that are inflated at a time where the text is not held as a whole."""
_FLAGS_AT: Final = 3
_PLAIN_FLAGS: Final = frozenset({0, 1, 8, 9})
"""Flags of a gzip header (RFC 1952) with no optional field but the file's name."""
_CUT_SHORT: Final = "gzip data is cut short"


class _Output(Protocol):
    """Memory or a file that takes the inflated bytes."""

    def write(self, piece: bytes, /) -> object:
        """Append a piece."""

    def tell(self) -> int:
        """Return how many bytes there are."""
        ...

    def cut(self, size: int) -> None:
        """Drop all but the first `size` bytes."""


class _Held(BytesIO):
    """Bytes in memory."""

    def cut(self, size: int) -> None:
        """Drop all but the first `size` bytes."""
        self.truncate(size)
        self.seek(size)


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
    """Return the bytes of a log file, gunzipped if the first two bytes say gzip, and the SHA-256.

    Without `hashed` no SHA-256 is taken. More than `limit` bytes count as damage, and nothing of
    them is kept.
    """
    if body.startswith(GZIP_MAGIC):
        data, damage = gunzip(body, limit)
    elif len(body) > limit:
        data, damage = b"", _over(limit)
    else:
        data, damage = body, None
    if not data and damage is None:
        damage = "empty"
    return Decompressed(data, damage, hashlib.sha256(data).digest() if hashed else None)


def decompress_to_file(
    body: bytes, limit: int, folder: Path, *, hashed: bool = True
) -> Decompressed:
    """Decompress a gzip into a file without a name in `folder`, so that its text is not held.

    The result is that of `decompress`. Raises OutputError if the disk has no room.
    """
    if not body.startswith(GZIP_MAGIC):
        return decompress(body, limit, hashed=hashed)
    with TextFile(folder) as file:
        damage = _gunzip_into(file, body, limit)
        if file.tell() > limit:
            file.cut(0)
            damage = _over(limit)
        data = file.text()
    if not data and damage is None:
        damage = "empty"
    sha256 = None
    if hashed:
        sha256 = data.digest() if isinstance(data, MappedText) else hashlib.sha256(data).digest()
    return Decompressed(data, damage, sha256)


def gunzip(body: bytes, limit: int) -> tuple[bytes, str | None]:
    """Inflate every gzip member of `body`: the text up to the first damage, and the damage.

    The one-shot calls of zlib and isal will not do: they return the first member and are silent
    about the rest. Nearly always there is only one member. So the first member is fed all bytes at
    once, 2 µs cheaper than the general way of `_members_from`.
    """
    inflater = isal_zlib.decompressobj(GZIP_WINDOW_BITS)
    try:
        data = inflater.decompress(body, limit + 1)
    except _IsalError:
        return _gunzip_from(0, body, b"", limit)
    if len(data) > limit:
        return b"", _over(limit)
    # The inflater reports `eof` only after it has compared the member's checksum and length.
    if not inflater.eof:
        return data, _CUT_SHORT
    rest = len(inflater.unused_data)
    return (data, None) if not rest else _gunzip_from(len(body) - rest, body, data, limit)


def _gunzip_into(output: _Output, body: bytes, limit: int) -> str | None:
    """Inflate as `gunzip` does, in pieces. The first piece holds the whole first header."""
    view = memoryview(body)
    inflater = isal_zlib.decompressobj(GZIP_WINDOW_BITS)
    try:
        length, damage = _inflate_member(inflater, view, output, limit, READ_AT_ONCE)
    except GZIP_ERRORS:
        output.cut(0)
        return _members_from(0, body, output, limit)
    if damage is not None or output.tell() > limit:
        return damage
    return _members_from(length, body, output, limit)


def _gunzip_from(offset: int, body: bytes, data: bytes, limit: int) -> tuple[bytes, str | None]:
    """Inflate as `gunzip` does, from `offset` on; `data` is the text of the members before."""
    output = _Held()
    output.write(data)
    del data
    damage = _members_from(offset, body, output, limit)
    return (b"", _over(limit)) if output.tell() > limit else (output.getvalue(), damage)


def _members_from(offset: int, body: bytes, output: _Output, limit: int) -> str | None:
    """Inflate the gzip members from `offset` on; return the damage. Stops beyond `limit` bytes."""
    view = memoryview(body)
    while offset < len(body):
        if not body.startswith(GZIP_MAGIC, offset):
            return f"{len(body) - offset} trailing bytes after the gzip data"
        length, damage = _gunzip_member(view[offset:], output, limit)
        offset += length
        if damage is not None or output.tell() > limit:
            return damage
    return None


def _gunzip_member(view: memoryview, output: _Output, limit: int) -> tuple[int, str | None]:
    """Inflate one gzip member; return its length and damage. Stops once `output` exceeds `limit`.

    The inflater copies the bytes that follow its member. Of 100,000 tiny members, each would copy
    the whole rest of the file. So the bytes are fed in growing pieces: these members take 0.3 s.
    """
    start = output.tell()
    try:
        return _inflate_member(_inflater(view), view, output, limit, _FIRST_PIECE)
    except GZIP_ERRORS as error:
        output.cut(start)
        _salvage(view, output, limit)
        return len(view), f"gzip data is damaged ({error})"


def _inflate_member(
    inflater: Any, view: memoryview, output: _Output, limit: int, piece: int
) -> tuple[int, str | None]:
    """Inflate a member as `_gunzip_member` does; raise GZIP_ERRORS for damage.

    `piece`: bytes of the first piece.
    """
    read = 0
    while not inflater.eof:
        if read == len(view):
            return read, _CUT_SHORT
        chunk = view[read : read + piece]
        read += len(chunk)
        piece = min(2 * piece, READ_AT_ONCE)
        for inflated in _inflated(inflater, chunk):
            output.write(inflated)
            if output.tell() > limit:
                return read, None
    return read - len(inflater.unused_data), None


def _salvage(view: memoryview, output: _Output, limit: int) -> None:
    """Inflate as much of a member as can be read before its damage.

    A call that raises loses its output. So the member is inflated in coarse pieces up to the piece
    that raises. Then it is inflated again up to that piece, and from there byte by byte.
    """
    start = output.tell()
    good = 0
    for step in (_FIRST_PIECE, 1):
        output.cut(start)
        inflater = _inflater(view)
        coarse = range(0, good, _FIRST_PIECE)
        fine = range(good, len(view), step)
        try:
            for at in chain(coarse, fine):
                end = at + (_FIRST_PIECE if at < good else step)
                for inflated in _inflated(inflater, view[at:end]):
                    output.write(inflated)
                if output.tell() > limit or inflater.eof:
                    break
                good = max(good, end)
        except GZIP_ERRORS:
            continue
        return


def _inflated(inflater: Any, chunk: bytes | memoryview) -> Iterator[bytes]:
    """Inflate the next bytes of a member, and yield the text in pieces."""
    while not inflater.eof:
        text = inflater.decompress(chunk, READ_AT_ONCE)
        if text:
            yield text
        chunk = inflater.unconsumed_tail
        if not chunk and len(text) < READ_AT_ONCE:
            return


def _inflater(view: memoryview) -> Any:
    """Return an inflater for a member that comes in pieces.

    For a header with unusual fields zlib is taken: isal (1.9) misreads a checksum of the header, or
    several fields, if their bytes do not all come at once.
    """
    is_plain = len(view) > _FLAGS_AT and view[_FLAGS_AT] in _PLAIN_FLAGS
    return (isal_zlib if is_plain else zlib).decompressobj(GZIP_WINDOW_BITS)


def too_large_stored(size: int, limit: int) -> Decompressed:
    """Return the damage of an object that is not read, as its `size` exceeds `limit` bytes."""
    return Decompressed(b"", f"over the size limit of {limit} bytes stored: {size}", None)


def is_over(content: Decompressed, limit: int) -> bool:
    """Whether `decompress` found more than `limit` bytes."""
    return content.damage == _over(limit)


def _over(limit: int) -> str:
    return f"over the size limit of {limit} bytes decompressed"
