"""Reading a compressed body member by member, whatever the format: gzip members, zstd frames.

A body is sound if each member is read to its end, its checksum is right, and nothing follows the
last member. No content of the bytes raises an error, and `limit` bounds memory and time.

Not here: what a member looks like (`gunzip`, `unzstd`), and which format a body has (`decompress`).
"""

from collections.abc import Callable, Iterator
from io import BytesIO
from itertools import chain
from typing import Final, NamedTuple, Protocol

READ_AT_ONCE: Final = 1024 * 1024
"""Bytes that are read, and bytes of text that are made, at a time."""
_FIRST_PIECE: Final = 4096


class Member(Protocol):
    """One member of a body, which is fed its bytes in pieces."""

    @property
    def eof(self) -> bool:
        """Whether the member was read to its end, its checksum included."""
        ...

    @property
    def length(self) -> int:
        """The member's compressed bytes, once its end was read."""
        ...

    def feed(self, piece: memoryview, size: int) -> Iterator[bytes]:
        """Read the next bytes, and yield the text in pieces of at most `size` bytes.

        Raises the format's errors.
        """
        ...


class Refused(Exception):
    """A member asks for what it cannot get. The text is the damage."""


class Format(NamedTuple):
    """A format of compression."""

    name: str
    is_at: Callable[[bytes, int], bool]
    """Whether a member seems to begin at this place of a body."""
    member: Callable[[memoryview], Member]
    """Makes the reader of the member that begins a view. Raises Refused."""
    errors: tuple[type[Exception], ...]
    """What a damaged member raises."""
    window: int
    """Bytes of text that reading a member may hold beside what it yields; 0 for a few."""


class Unsound(Exception):
    """The body is not sound."""


class Output(Protocol):
    """Memory or a file that takes the text."""

    def write(self, piece: bytes, /) -> object:
        """Append a piece."""

    def tell(self) -> int:
        """Return how many bytes there are."""
        ...

    def cut(self, size: int) -> None:
        """Drop all but the first `size` bytes."""


class Held(BytesIO):
    """Text in memory."""

    def cut(self, size: int) -> None:
        """Drop all but the first `size` bytes."""
        self.truncate(size)
        self.seek(size)


def text_in_pieces(format_: Format, body: bytes) -> Iterator[bytes]:
    """Yield the text of a sound body; raises Unsound as soon as the body shows not to be."""
    errors: tuple[type[Exception], ...] = (Refused, *format_.errors)
    rest = memoryview(body)
    try:
        while rest:
            if not format_.is_at(body, len(body) - len(rest)):
                raise Unsound
            member = format_.member(rest)
            yield from _text_of(member, rest)
            if not member.eof:
                raise Unsound
            rest = rest[member.length :]
    except errors:
        raise Unsound from None


def held_text(
    format_: Format, body: bytes, limit: int, offset: int = 0, before: bytes = b""
) -> tuple[bytes, str | None]:
    """Return the text up to the first damage, and the damage. Too much text is damage, not kept.

    The members from `offset` on are read; `before` is the text of the members before.
    """
    output = Held()
    output.write(before)
    del before
    damage = read_members(format_, body, output, limit, offset)
    return (b"", over(limit)) if output.tell() > limit else (output.getvalue(), damage)


def read_members(
    format_: Format, body: bytes, output: Output, limit: int, offset: int = 0
) -> str | None:
    """Write the text of the members from `offset` on; return the damage.

    Stops beyond `limit` bytes: whoever calls looks at the output's length.
    """
    view = memoryview(body)
    while offset < len(body):
        if not format_.is_at(body, offset):
            return f"{len(body) - offset} trailing bytes after the {format_.name} data"
        length, damage = _read_member(format_, view[offset:], output, limit)
        offset += length
        if damage is not None or output.tell() > limit:
            return damage
    return None


def _read_member(
    format_: Format, view: memoryview, output: Output, limit: int
) -> tuple[int, str | None]:
    """Read the member that begins the view; return its length and damage.

    Stops once `output` exceeds `limit`.
    """
    start = output.tell()
    try:
        member = format_.member(view)
        for text in _text_of(member, view):
            output.write(text)
            if output.tell() > limit:
                return len(view), None
    except Refused as refused:
        return len(view), str(refused)
    except format_.errors as error:
        output.cut(start)
        _salvage(format_, view, output, limit)
        return len(view), f"{format_.name} data is damaged ({error})"
    return (member.length, None) if member.eof else (len(view), cut_short(format_.name))


def over(limit: int) -> str:
    """Return the damage of a body with more text than `limit` bytes."""
    return f"over the size limit of {limit} bytes decompressed"


def cut_short(name: str) -> str:
    """Return the damage of a body that ends before its last member does."""
    return f"{name} data is cut short"


def _text_of(member: Member, view: memoryview) -> Iterator[bytes]:
    """Yield the text of the member that begins the view.

    The readers copy the bytes that follow their member. Of 100,000 tiny members, each would copy
    the whole rest of the body. So the bytes are fed in growing pieces: these members take 0.3 s.
    """
    read, size = 0, _FIRST_PIECE
    while not member.eof and read < len(view):
        piece = view[read : read + size]
        read += len(piece)
        size = min(2 * size, READ_AT_ONCE)
        yield from member.feed(piece, READ_AT_ONCE)


def _salvage(format_: Format, view: memoryview, output: Output, limit: int) -> None:
    """Read as much of a member as can be read before its damage.

    A call that raises loses its text. So the member is read in coarse pieces up to the piece that
    raises. Then it is read again up to that piece, and from there byte by byte.
    """
    start = output.tell()
    good = 0
    for step in (_FIRST_PIECE, 1):
        output.cut(start)
        member = format_.member(view)
        coarse = range(0, good, _FIRST_PIECE)
        fine = range(good, len(view), step)
        try:
            for at in chain(coarse, fine):
                end = at + (_FIRST_PIECE if at < good else step)
                for text in member.feed(view[at:end], READ_AT_ONCE):
                    output.write(text)
                if output.tell() > limit or member.eof:
                    break
                good = max(good, end)
        except format_.errors:
            continue
        return
