"""The text of a log file -> the elements of its `Records`, by structure alone: slow and exact.

It is for texts that `fast_path` cannot prove to be one plain `{"Records": [...]}`: cut short,
garbled, several documents in a row, keys beside `Records`. It finds every complete element, and
puts all other text that may be of a record into `leftovers`. Time is linear and memory is bounded,
whatever the text.

Decision: other top-level keys beside `Records` are neither records nor damage. CloudTrail writes no
such keys, but some tools add them. Their values are stepped over and not kept, except where they
may hide records: a `Records` that is not an array, a value that is not JSON, a document without any
`Records` array. These count as damage, and are kept.

Not here: whether an element is a good record (`record_fields`); reading odd JSON (`lenient_json`).

Measured: 40 MB of JSON per CPU-second together with `record_fields`, a tenth of the fast path.
"""

import re
from array import array
from bisect import bisect_right
from collections.abc import Sequence
from typing import Final, NamedTuple, overload

import msgspec

from .lenient_json import LONGEST_LENIENT, STRING, decode_object
from .lines import HeldBytes
from .mapped_text import Text, release_pages

_SPACE: Final = re.compile(rb"[ \t\n\r]*")
_NO_SPACE: Final = re.compile(rb"[^ \t\n\r\v\f]")
_SPACE_OR_BOM: Final = re.compile(rb"(?:[ \t\n\r]++|\xef\xbb\xbf)*+")
_SCALAR: Final = re.compile(rb'[^ \t\n\r,:{}\[\]"]+')
# Matches up to the next run of brackets that is not inside a string. It is possessive: backtracking
# would keep a state for every escape and every string (1.1 GB for a string of 10 million escapes).
_TO_BRACKETS: Final = re.compile(
    rb'[^{}\[\]"]*+(?:"[^"\\]*+(?:\\.[^"\\]*+)*+"[^{}\[\]"]*+)*+([{\[]{1,9999}+|[}\]]{1,9999}+|)',
    re.DOTALL,
)
_OPENING: Final = b"{["
_CLOSING: Final = bytes.maketrans(b"{[", b"}]")
_RECORDS_KEY: Final = b'"Records"'
_LONGEST_RECORDS_KEY: Final = len('"' + 7 * "\\u0052" + '"')

_LONGEST_COPY: Final = 1024 * 1024
"""Bytes. Of a longer part a view is kept, since it may be nearly all of the text."""
_LONGEST_COPY_OF_MAPPED: Final = 1024
"""Bytes, for parts of a mapped text: copies stay in memory, views need not."""
_KEPT: Final = 16 * 1024 * 1024
"""Bytes of a mapped text that are read before their pages are released."""
_MAX_LEFTOVERS: Final = 100_000
"""Leftovers of a text at most; the rest of the text is the last."""
_MAX_DEPTH: Final = 1_000_000
"""Brackets inside each other. Each takes a byte here; JSON decoders refuse some thousand."""

_decode_text = msgspec.json.Decoder(str).decode
_decode_raw = msgspec.json.Decoder(msgspec.Raw).decode


class Leftover(NamedTuple):
    """Text that is no complete element and may be of a record."""

    reason: str
    data: HeldBytes


class Slices(Sequence[HeldBytes]):
    """Parts of a text that are made when they are asked for.

    A part takes 16 bytes, while a bytes object takes 41 more than its content. A log file of 256 MB
    may have a million parts, or a single part. So a part over a megabyte is no copy but a view, and
    in a mapped text a part over a kilobyte. All that is done to elements can be done to views.
    """

    def __init__(self, text: Text) -> None:
        self._text = text
        self._longest = _LONGEST_COPY if isinstance(text, bytes) else _LONGEST_COPY_OF_MAPPED
        self._starts = array("Q")
        self._ends = array("Q")

    def append(self, start: int, end: int) -> None:
        """Append a part."""
        self._starts.append(start)
        self._ends.append(end)

    def __len__(self) -> int:
        return len(self._starts)

    @overload
    def __getitem__(self, index: int) -> HeldBytes: ...
    @overload
    def __getitem__(self, index: slice) -> list[HeldBytes]: ...
    def __getitem__(self, index: int | slice) -> HeldBytes | list[HeldBytes]:
        if isinstance(index, slice):
            release_pages(self._text)  # of the parts that were asked for before
            return list(map(self.part, self._starts[index], self._ends[index]))
        return self.part(self._starts[index], self._ends[index])

    def reach(self, first: int, number: int, size: int) -> int:
        """Return the end of a run of parts that begins at `first`.

        The run has at most `number` parts and `size` bytes of the text, but at least one part.
        """
        end = bisect_right(self._ends, self._starts[first] + size, first + 1)
        return min(first + number, end)

    def part(self, start: int, end: int) -> HeldBytes:
        """Return any part of the text, as a copy or a view."""
        if end - start > self._longest:
            return memoryview(self._text)[start:end]
        return self._text[start:end]


def max_elements(size: int) -> int:
    """Return more elements than any real log file of `size` bytes has.

    Elements beyond this number are not told apart, so that memory is bounded (docs/architecture.md,
    Promises, G6). A real record has 1,500 bytes; a record of no more than eventTime has 36.
    """
    return 100_000 + size // 256


class _Broken(Exception):
    """The text stops being JSON here."""

    def __init__(self, position: int, reason: str) -> None:
        super().__init__(f"JSON is damaged at byte {position}: {reason}")


class Scan:
    """The content of a text: `elements`, `leftovers`, and the first `damage` to its structure.

    A scan looks at brackets and strings only, without recursion. So it takes any depth and any
    content of an element, which is judged later. Several documents in a row, as `cat` makes them,
    are read as a single document. Each may begin with a byte order mark.

    >>> scan = Scan(b'{"Records":[{"a":1},{"a"')
    >>> list(scan.elements), scan.leftovers
    ([b'{"a":1}'], [Leftover(reason='JSON is damaged at byte 20: expected a complete value',
    data=b',{"a"')])
    """

    def __init__(self, data: Text, limit: int | None = None) -> None:
        """`limit`: pieces to tell apart at most; None: `max_elements` for this size."""
        self.elements = Slices(data)
        self.leftovers: list[Leftover] = []
        self.damage: str | None = None
        self._data = data
        self._position = 0
        self._told_apart = 0
        """All text before this position is in `elements` or `leftovers`, or is no record's text."""
        self._pieces_left = max_elements(len(data)) if limit is None else limit
        self._arrays = 0
        self._released_to = 0
        self._read()

    def _read(self) -> None:
        try:
            self._skip(_SPACE_OR_BOM)
            while self._position < len(self._data):
                self._document()
                self._skip(_SPACE_OR_BOM)
        except _Broken as broken:
            self._damaged(str(broken))
            self._leave(self._told_apart, len(self._data), str(broken))
        if not self._arrays:
            self._damaged("no Records array")

    def _document(self) -> None:
        """Read a top-level object. Text outside its `Records` arrays is no record's text."""
        start = self._position
        records_keys = 0
        arrays_before = self._arrays
        leftovers_before = len(self.leftovers)
        self._expect(b"{", "an object")
        closed = self._found(b"}")
        while not closed:
            self._release_read_pages()
            is_records = self._key()
            records_keys += is_records
            if is_records and self._data.startswith(b"[", self._position):
                if records_keys > 1:
                    self._damaged(f"second Records key before byte {self._position}")
                self._array()
            else:
                self._other_value(is_records, records_keys)
            closed = self._found(b"}")
            if not closed:
                self._expect(b",", "',' or '}'")
        self._count_piece()
        if self._arrays == arrays_before:
            del self.leftovers[leftovers_before:]
            self._damaged(f"no Records array in the document at byte {start}")
            self._leave(start, self._position, "no Records array")
        self._told_apart = self._position

    def _key(self) -> bool:
        """Read a key and its colon; whether the key is `Records`, however it is escaped."""
        match = STRING.match(self._data, self._position)
        if match is None:
            raise self._broken("a key")
        self._position = match.end()
        self._skip(_SPACE)
        self._expect(b":", "':'")
        if match.end() - match.start() > _LONGEST_RECORDS_KEY:
            return False  # without a copy, as the key may be most of the text
        key = match[0]
        if b"\\" not in key:
            return key == _RECORDS_KEY
        try:
            return _decode_text(key) == "Records"
        except (msgspec.MsgspecError, UnicodeError):
            return False

    def _array(self) -> None:
        """Read a `Records` array."""
        self._arrays += 1
        self._expect(b"[", "'['")
        closed = self._found(b"]")
        while not closed:
            start = self._position
            self._value()
            self._count_piece()
            self.elements.append(start, self._position)
            self._told_apart = self._position
            self._skip(_SPACE)
            closed = self._found(b"]")
            if not closed:
                self._expect(b",", "',' or ']'")

    def _other_value(self, is_records: bool, records_keys: int) -> None:
        """Read a value that is not a `Records` array, and keep it if it may hide records."""
        start = self._position
        self._value()
        self._count_piece()
        if records_keys > 1 and is_records:
            self._damaged(f"second Records key before byte {start}")
        if is_records:
            self._leave(start, self._position, "Records is not an array")
        elif not _is_json(memoryview(self._data)[start : self._position]):
            self._damaged(f"JSON is damaged in the value at byte {start}")
            self._leave(start, self._position, "not valid JSON")
        self._skip(_SPACE)

    def _value(self) -> None:
        """Step over a complete value. Only its brackets and strings are looked at."""
        first = self._data[self._position : self._position + 1]
        if first in (b"{", b"["):
            self._position = self._end_of_brackets()
            return
        match = (STRING if first == b'"' else _SCALAR).match(self._data, self._position)
        # A number at the very end of the text may have lost its last digits.
        if match is None or (first != b'"' and match.end() == len(self._data)):
            raise self._broken("a complete value")
        self._position = match.end()

    def _end_of_brackets(self) -> int:
        """Return where the object or array that starts here ends."""
        expected = bytearray()
        for match in _TO_BRACKETS.finditer(self._data, self._position):
            brackets = match[1]
            if not brackets:
                break
            if brackets[0] in _OPENING:
                expected += brackets.translate(_CLOSING)
                if len(expected) > _MAX_DEPTH:
                    raise _Broken(match.start(), f"nested deeper than {_MAX_DEPTH:,}")
                continue
            closing = brackets[: len(expected)]
            if not expected.endswith(closing[::-1]):
                raise self._broken("brackets that match")
            del expected[-len(closing) :]
            if not expected:
                return match.start(1) + len(closing)
        raise self._broken("a complete value")

    def _found(self, byte: bytes) -> bool:
        """Step over whitespace, and over `byte` if it follows."""
        self._skip(_SPACE)
        found = self._data.startswith(byte, self._position)
        if found:
            self._position += 1
        return found

    def _expect(self, byte: bytes, expected: str) -> None:
        if not self._data.startswith(byte, self._position):
            raise self._broken(expected)
        self._position += 1
        self._skip(_SPACE)

    def _skip(self, space: re.Pattern[bytes]) -> None:
        match = space.match(self._data, self._position)
        if match is not None:
            self._position = match.end()

    def _count_piece(self) -> None:
        self._release_read_pages()
        self._pieces_left -= 1
        if self._pieces_left < 0:
            raise _Broken(self._position, "more records than a log file can have")

    def _release_read_pages(self) -> None:
        if self._position > self._released_to + _KEPT:
            release_pages(self._data)
            self._released_to = self._position

    def _broken(self, expected: str) -> _Broken:
        return _Broken(self._position, f"expected {expected}")

    def _damaged(self, damage: str) -> None:
        self.damage = self.damage or damage

    def _leave(self, start: int, end: int, reason: str) -> None:
        if len(self.leftovers) == _MAX_LEFTOVERS and end < len(self._data):
            raise _Broken(start, "more pieces that are no records than a log file can have")
        if _NO_SPACE.search(self._data, start, end):
            self.leftovers.append(Leftover(reason, self.elements.part(start, end)))


def _is_json(value: memoryview) -> bool:
    try:
        _decode_raw(value)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        if len(value) > LONGEST_LENIENT:
            return False
        return not isinstance(decode_object(b'{"value":%s}' % value), str)
    return True
