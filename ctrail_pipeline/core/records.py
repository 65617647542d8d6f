"""The bytes of one log file -> its records: raw bytes plus the fields that route them.

Two steps, because they run in different places: `decompress` in the fetching threads (gunzip and
SHA-256 release the GIL), `split` in the main thread (JSON holds it). Neither ever raises for what
is in the bytes: every byte of every record ends up in `records` or, with a reason, in `rejected`,
and a damaged file says so in `damage`. A reason holds offsets, lengths and kinds, never text of
an event. Memory and time are bounded by `limit`, whatever the bytes are.

Not here: where a record goes on disk, whether it is a duplicate, what becomes of what is rejected.

Measured, records of 1.5 KB, MB of JSON per CPU-second for `split` alone: 400 in log files of 8
records, 440 of 600 (two passes of msgspec and nothing else: 640), 250 indented; the slow exact
path 40. `decompress` 450, of which SHA-256 is a third.
"""

import hashlib
import json
import re
from collections.abc import Sequence
from datetime import date
from functools import lru_cache
from typing import Final, Literal, cast

import msgspec
from isal import isal_zlib


class Record(msgspec.Struct, frozen=True, gc=False):
    """One event, as it will be written.

    A Struct without GC tracking: made in 0.14 µs and an attribute read in 6 ns, against 0.6 µs
    and 20 ns for a NamedTuple; a plain tuple costs 0.18 µs.
    """

    line: bytes
    """The record's own bytes; CR and LF between tokens are spaces."""
    account: str | None
    """recipientAccountId, else userIdentity.accountId; None where neither is twelve digits."""
    region: str | None
    """awsRegion; None where it is absent or could not be part of a path."""
    hour: str
    """The hour of eventTime, as `YYYY/MM/DD/HH`."""
    index: int
    """Position in the log file's `Records`."""


class Rejected(msgspec.Struct, frozen=True, gc=False):
    """What cannot become a line: it goes to quarantine as it is."""

    index: int | None
    """Position in `Records`; None for text that is not one record."""
    kind: Literal["record", "remainder", "unverified", "unreadable"]
    """`record`: one record of a sound file, for its own fault. `remainder`: text around or after
    the records that is not part of a complete one. `unverified`: read from a damaged gzip, so
    its bytes may be wrong. `unreadable`: the whole text, nothing in it could be told apart
    (empty where nothing could be read at all)."""
    reason: str
    data: bytes


class Decompressed(msgspec.Struct, frozen=True, gc=False):
    """The uncompressed bytes of a log file; see `decompress`."""

    data: bytes
    """All bytes; where `damage` is set, those that could be read before it."""
    damage: str | None
    sha256: bytes
    """Of `data`."""


class LogFileContent(msgspec.Struct, frozen=True):
    """Everything that one log file holds."""

    records: list[Record]
    rejected: list[Rejected]
    damage: str | None
    """Why the file counts as damaged; None: it is sound (single records may be rejected)."""
    sha256: bytes
    """Of the uncompressed bytes."""
    size: int
    """Uncompressed bytes."""
    newlines_replaced: int
    """CR and LF bytes between tokens that became spaces, in all of `records`."""


def read_log_file(body: bytes, limit: int) -> LogFileContent:
    """Both steps at once: what the object `body` of a bucket holds.

    >>> read_log_file(b'{"Records":[{"eventTime":"2023-07-10T11:42:58Z"}]}', 1000).records
    [Record(line=b'{"eventTime":"2023-07-10T11:42:58Z"}', account=None, region=None,
    hour='2023/07/10/11', index=0)]
    """
    return split(decompress(body, limit))


# --- decompress ------------------------------------------------------------------------------

# The stubs of isal 1.9 call the class an instance.
_IsalError: Final = cast("type[Exception]", isal_zlib.error)
_GZIP_MAGIC: Final = b"\x1f\x8b"
_GZIP_WINDOW_BITS: Final = 31
_FIRST_PIECE: Final = 4096


def decompress(body: bytes, limit: int) -> Decompressed:
    """The bytes of a log file, gunzipped if its first two bytes say gzip, and their SHA-256.

    More than `limit` bytes are damage, of which nothing is kept.
    """
    if body.startswith(_GZIP_MAGIC):
        data, damage = gunzip(body, limit)
    elif len(body) > limit:
        data, damage = b"", _over(limit)
    else:
        data, damage = body, None
    if not data and damage is None:
        damage = "empty"
    return Decompressed(data, damage, hashlib.sha256(data).digest())


def gunzip(body: bytes, limit: int) -> tuple[bytes, str | None]:
    """Every gzip member of `body`; and what is damaged, with what could be read until there.

    Not a one-shot call: those of zlib and isal return the first member and are silent about the
    rest.
    """
    view = memoryview(body)
    parts: list[bytes] = []
    room = limit
    offset = 0
    damage = None
    while damage is None and offset < len(body):
        if not body.startswith(_GZIP_MAGIC, offset):
            damage = f"{len(body) - offset} trailing bytes after the gzip data"
            break
        # The first member is nearly always the only one: all bytes at once.
        piece = len(body) if offset == 0 else _FIRST_PIECE
        output, length, damage = _gunzip_member(view[offset:], room, piece)
        offset += length
        parts.extend(output)
        room -= sum(map(len, output))
        if room < 0:
            return b"", _over(limit)
    return parts[0] if len(parts) == 1 else b"".join(parts), damage


def _gunzip_member(view: memoryview, room: int, piece: int) -> tuple[list[bytes], int, str | None]:
    """One gzip member: its output (stops once it exceeds `room`), its length, what is damaged.

    Fed in growing pieces, since the inflater copies whatever follows its member: 100,000 tiny
    members fed whole would copy 100,000 times the rest of the file. So they take 0.3 s.
    """
    inflater = isal_zlib.decompressobj(_GZIP_WINDOW_BITS)
    output: list[bytes] = []
    read = 0
    try:
        while not inflater.eof:
            if read == len(view):
                return output, read, "gzip data is cut short"
            chunk = view[read : read + piece]
            read += len(chunk)
            piece *= 2
            inflated = inflater.decompress(chunk, room + 1)
            if inflated:
                output.append(inflated)
                room -= len(inflated)
                if room < 0:
                    return output, read, None
    except _IsalError as error:
        readable = _salvage(view, room + sum(map(len, output)))
        return [readable], read, f"gzip data is damaged ({error})"
    return output, read - len(inflater.unused_data), None


def _salvage(view: memoryview, room: int) -> bytes:
    """What can be read of a member before its damage: an exception loses its call's output.

    First in coarse pieces up to the one that raises, then again up to there and on byte by byte.
    """
    output = bytearray()
    good = 0
    for step in (_FIRST_PIECE, 1):
        inflater = isal_zlib.decompressobj(_GZIP_WINDOW_BITS)
        try:
            if good:
                inflater.decompress(view[:good])
            while good < len(view) and len(output) <= room and not inflater.eof:
                output += inflater.decompress(view[good : good + step], room + 1 - len(output))
                good += step
        except _IsalError:
            continue
    return bytes(output)


def _over(limit: int) -> str:
    return f"over the size limit of {limit} bytes decompressed"


# --- split -----------------------------------------------------------------------------------


def split(log_file: Decompressed) -> LogFileContent:
    """The records of a log file.

    Of a damaged gzip nothing is a record, however whole it looks: a flipped bit yields whole
    records with other bytes long before the CRC is there to tell.
    """
    data = log_file.data
    records: list[Record] = []
    rejected: list[Rejected] = []
    newlines_replaced = 0
    damage = log_file.damage
    if damage is not None:
        rejected = _unverified(data, damage)
    else:
        raws = _elements(data)
        leftovers: list[Rejected] = []
        if raws is None:
            scan = _Scan(data)
            raws, damage, leftovers = scan.elements, scan.damage, scan.leftovers
        newlines_replaced = _sort(raws, b"\n" in data or b"\r" in data, records, rejected)
        rejected += leftovers
    return LogFileContent(records, rejected, damage, log_file.sha256, len(data), newlines_replaced)


def _unverified(data: bytes, damage: str) -> list[Rejected]:
    if not data:
        return [Rejected(None, "unreadable", damage, b"")]
    scan = _Scan(data)
    if not scan.elements:
        return [Rejected(None, "unverified", damage, data)]
    pieces = [Rejected(i, "unverified", damage, raw) for i, raw in enumerate(scan.elements)]
    texts = [Rejected(None, "unverified", damage, left.data) for left in scan.leftovers]
    return pieces + texts


# --- the fast path: where msgspec's answer is provably the whole of the file ------------------


class _Envelope(msgspec.Struct, gc=False):
    Records: list[msgspec.Raw]


_decode_envelope = msgspec.json.Decoder(_Envelope).decode
_CANONICAL_HEAD: Final = b'{"Records":['
_CANONICAL_TAIL: Final = b"]}"
_HEAD: Final = re.compile(rb'[ \t\n\r]*\{[ \t\n\r]*"Records"[ \t\n\r]*:[ \t\n\r]*\[[ \t\n\r]*')
_COMMA: Final = re.compile(rb"[ \t\n\r]*,[ \t\n\r]*")
_TAIL: Final = re.compile(rb"[ \t\n\r]*\][ \t\n\r]*\}[ \t\n\r]*")

# A Raw takes 56 bytes. Four megabytes hold two million elements at most: harmless. Beyond that
# the commas are counted, which costs a fifth of the speed: real log files have one in 37 bytes,
# a file made of `{},{},{}` (256 MB of it: a 250 KB gzip) one in three.
_LARGE: Final = 4 * 1024 * 1024
_BYTES_PER_COMMA: Final = 20


def _most_elements(data: bytes) -> int:
    """More elements than any log file has: what is beyond is not told apart (G6).

    A real record has 1,500 bytes; one that holds no more than eventTime has 36.
    """
    return 100_000 + len(data) // 256


def _elements(data: bytes) -> list[bytes] | None:
    """Each element of `Records`; None unless there is proof that the file holds nothing else.

    msgspec is silent about other keys and about all but the last of several `Records` keys. What
    it skips into a Raw it checks as JSON (control characters in strings included, but not UTF-8)
    and gives without the whitespace around it.
    """
    if len(data) > _LARGE and data.count(b",") > len(data) // _BYTES_PER_COMMA:
        return None
    try:
        raws = _decode_envelope(data).Records
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return None
    if not raws or len(raws) > _most_elements(data):
        return None
    length = sum(map(len, raws)) + len(raws) - 1
    if len(data) == len(_CANONICAL_HEAD) + length + len(_CANONICAL_TAIL) and data.startswith(
        _CANONICAL_HEAD
    ):
        # The elements, the commas between them, head and tail account for every byte.
        return list(map(bytes, raws))
    return _walk(data, raws)


def _walk(data: bytes, raws: Sequence[msgspec.Raw]) -> list[bytes] | None:
    """The elements, if they and whitespace are all that the file is made of."""
    gap = _HEAD.match(data)
    elements = []
    end = 0
    for raw in raws:
        element = bytes(raw)
        if gap is None or not data.startswith(element, gap.end()):
            return None
        elements.append(element)
        end = gap.end() + len(element)
        gap = _COMMA.match(data, end)
    return elements if _TAIL.fullmatch(data, end) else None


# --- one record ------------------------------------------------------------------------------


class _Identity(msgspec.Struct, gc=False, rename="camel"):
    account_id: str | None = None


class _Routing(msgspec.Struct, gc=False, rename="camel"):
    event_time: str | None = None
    aws_region: str | None = None
    recipient_account_id: str | None = None
    user_identity: _Identity | None = None


class _LooseIdentity(msgspec.Struct, gc=False, rename="camel"):
    account_id: msgspec.Raw = msgspec.Raw(b"null")


class _LooseRouting(msgspec.Struct, gc=False, rename="camel"):
    """The same fields of any type: nothing is built, whatever they hold."""

    event_time: msgspec.Raw = msgspec.Raw(b"null")
    aws_region: msgspec.Raw = msgspec.Raw(b"null")
    recipient_account_id: msgspec.Raw = msgspec.Raw(b"null")
    user_identity: msgspec.Raw = msgspec.Raw(b"null")


_decode_routing = msgspec.json.Decoder(_Routing).decode
_decode_loose_routing = msgspec.json.Decoder(_LooseRouting).decode
_decode_loose_identity = msgspec.json.Decoder(_LooseIdentity).decode
_decode_text = msgspec.json.Decoder(str).decode
# Integers as floats: Python refuses those of more than 4,300 digits.
_lenient = json.JSONDecoder(strict=False, parse_int=float)

# AWS documents 256 KB for an event, 1 MB with enrichment; Python's JSON builds every value.
_MOST_LENIENT_BYTES: Final = 4 * 1024 * 1024

_STRING: Final = re.compile(rb'"(?:[^"\\]++|\\.)*+"', re.DOTALL)
_ACCOUNT: Final = re.compile(r"[0-9]{12}")
_ACCOUNT_LENGTH: Final = 12
_REGION: Final = re.compile(r"[a-z0-9-]{1,40}")
_REGION_LENGTH: Final = 40
_HOUR: Final = re.compile(r"([0-9]{4})-([0-9]{2})-([0-9]{2})T([01][0-9]|2[0-3])")
_HOUR_LENGTH: Final = 13
_MINUTE: Final = re.compile(r":[0-5][0-9]:(?:[0-5][0-9]|60)(?:\.[0-9]+)?Z")
# Looked up, 0.15 µs a record cheaper than the pattern, which is left to fractions.
_WHOLE_SECONDS: Final = frozenset(f":{m:02}:{s:02}Z" for m in range(60) for s in range(61))


def _sort(raws: list[bytes], breaks: bool, records: list[Record], rejected: list[Rejected]) -> int:
    """Put each element of a sound text into `records` or `rejected`; the number of CR/LF replaced.

    `breaks`: there is a CR or LF somewhere in the file.

    One decoder call a record: decoding the whole file's routing fields in a second call is 3 %
    faster, but then one record of an odd type costs the whole file its fast path.
    """
    replaced = 0
    for index, raw in enumerate(raws):
        try:
            fields = _decode_routing(raw)
        except (msgspec.MsgspecError, UnicodeError, RecursionError):
            odd = _odd_fields(raw)
            if isinstance(odd, str):
                rejected.append(Rejected(index, "record", odd, raw))
                continue
            fields = odd
        time = fields.event_time or ""
        account, region, hour = _route(
            (fields.recipient_account_id or "")[: _ACCOUNT_LENGTH + 1],
            (fields.aws_region or "")[: _REGION_LENGTH + 1],
            time[:_HOUR_LENGTH],
        )
        rest = time[_HOUR_LENGTH:]
        if hour is None or (rest not in _WHOLE_SECONDS and not _MINUTE.fullmatch(rest)):
            reason = "eventTime is not a UTC time" if time else "no eventTime"
            rejected.append(Rejected(index, "record", reason, raw))
            continue
        line = raw
        if breaks and (b"\n" in raw or b"\r" in raw):
            # 2.4 times as fast as translate.
            replaced += raw.count(b"\n") + raw.count(b"\r")
            line = raw.replace(b"\n", b" ").replace(b"\r", b" ")
        if account is None and fields.user_identity is not None:
            account = _account(fields.user_identity.account_id)
        records.append(Record(line, account, region, hour, index))
    return replaced


def _odd_fields(raw: bytes) -> _Routing | str:
    """The routing fields of an element that is not as it should be; or why it is no record."""
    if not raw.startswith(b"{"):
        return "not an object"
    try:
        loose = _decode_loose_routing(raw)
    except RecursionError:
        return "nested too deeply"
    except (msgspec.MsgspecError, UnicodeError):
        return _lenient_fields(raw)
    try:
        identity = _Identity(_text(_decode_loose_identity(loose.user_identity).account_id))
    except msgspec.MsgspecError:
        identity = None
    return _Routing(
        _text(loose.event_time),
        _text(loose.aws_region),
        _text(loose.recipient_account_id),
        identity,
    )


def _text(value: msgspec.Raw) -> str | None:
    try:
        return _decode_text(value)
    except (msgspec.MsgspecError, UnicodeError):
        return None


def _lenient_fields(raw: bytes) -> _Routing | str:
    """The same by Python's decoder, which takes NaN, lone surrogates and control characters.

    Over a latin-1 view, which every byte string has and which leaves ASCII, and so every value
    that can route a record, as it is.
    """
    if len(raw) > _MOST_LENIENT_BYTES:
        return "not valid JSON, and too long to be read leniently"
    try:
        fields = _lenient.decode(raw.decode("latin-1"))
    except RecursionError:
        return "nested too deeply"
    except ValueError as error:
        position = error.pos if isinstance(error, json.JSONDecodeError) else 0
        return f"not valid JSON at byte {position} of the record"
    if (b"\n" in raw or b"\r" in raw) and any(
        b"\n" in string[0] or b"\r" in string[0] for string in _STRING.finditer(raw)
    ):
        return "line break inside a string"
    identity = fields.get("userIdentity")
    return _Routing(
        _string(fields.get("eventTime")),
        _string(fields.get("awsRegion")),
        _string(fields.get("recipientAccountId")),
        _Identity(_string(identity.get("accountId"))) if isinstance(identity, dict) else None,
    )


def _string(value: object) -> str | None:
    return value if isinstance(value, str) else None


@lru_cache(4096)
def _route(account: str, region: str, hour: str) -> tuple[str | None, str | None, str | None]:
    """The three validated, the hour as a path.

    Cached as one: 0.2 µs a record cheaper than three caches, and records of one account, region
    and hour share one string each, whose hash is known, which makes routing them cheaper. Callers
    cut the text to one character more than is valid, so that the cache holds little, however
    hostile a file.
    """
    return _account(account), region if _REGION.fullmatch(region) else None, _hour(hour)


def _account(text: str | None) -> str | None:
    return text if text is not None and _ACCOUNT.fullmatch(text) else None


def _hour(text: str) -> str | None:
    match = _HOUR.fullmatch(text)
    if match is None:
        return None
    year, month, day, hour = match.groups()
    try:
        date(int(year), int(month), int(day))
    except ValueError:
        return None
    return f"{year}/{month}/{day}/{hour}"


# --- the slow exact path ---------------------------------------------------------------------

_BOM: Final = b"\xef\xbb\xbf"
_SPACE: Final = re.compile(rb"[ \t\n\r]*")
_SPACE_OR_BOM: Final = re.compile(rb"(?:[ \t\n\r]++|\xef\xbb\xbf)*+")
_SCALAR: Final = re.compile(rb'[^ \t\n\r,:{}\[\]"]+')
# Up to the next run of brackets that is not inside a string. Possessive: backtracking would keep
# a state for every escape and every string (1.1 GB for a string of 10 million escapes).
_TO_BRACKETS: Final = re.compile(
    rb'[^{}\[\]"]*+(?:"[^"\\]*+(?:\\.[^"\\]*+)*+"[^{}\[\]"]*+)*+([{\[]++|[}\]]++|)', re.DOTALL
)
_OPENING: Final = b"{["
_CLOSING: Final = bytes.maketrans(b"{[", b"}]")
_RECORDS_KEY: Final = b'"Records"'
_LONGEST_RECORDS_KEY: Final = len('"' + 7 * "\\u0052" + '"')


class _Broken(Exception):
    """The text stops being JSON here."""

    def __init__(self, position: int, why: str) -> None:
        super().__init__(f"JSON is damaged at byte {position}: {why}")


class _Scan:
    """The elements of every top-level `Records`, told apart by structure alone.

    For texts that are not one plain `{"Records": [...]}`: it looks at brackets and strings only,
    without recursion, so it takes whatever an element holds (that is judged later, one by one)
    and any depth. Several documents in a row, as `cat` makes them, are read as one; so is a byte
    order mark before any of them.
    """

    def __init__(self, data: bytes) -> None:
        self.elements: list[bytes] = []
        self.leftovers: list[Rejected] = []
        self.damage: str | None = None
        self._data = data
        self._position = 0
        self._told_apart = 0
        """Everything before this is in `elements` or `leftovers`, or is no record's text."""
        self._pieces_left = _most_elements(data)
        self._arrays = 0
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
        if self.damage is not None and not self.elements:
            self.leftovers = [Rejected(None, "unreadable", self.damage, self._data)]

    def _document(self) -> None:
        """One top-level object; what is not in a `Records` array of it is no record's text."""
        start = self._position
        records_keys = 0
        arrays_before = self._arrays
        leftovers_before = len(self.leftovers)
        self._expect(b"{", "an object")
        closed = self._found(b"}")
        while not closed:
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
        match = _STRING.match(self._data, self._position)
        if match is None:
            raise self._broken("a key")
        self._position = match.end()
        self._skip(_SPACE)
        self._expect(b":", "':'")
        key = match[0]
        if b"\\" not in key or len(key) > _LONGEST_RECORDS_KEY:
            return key == _RECORDS_KEY
        try:
            return bool(_lenient.decode(key.decode("latin-1")) == "Records")
        except ValueError:
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
            self.elements.append(self._data[start : self._position])
            self._told_apart = self._position
            self._skip(_SPACE)
            closed = self._found(b"]")
            if not closed:
                self._expect(b",", "',' or ']'")

    def _other_value(self, is_records: bool, records_keys: int) -> None:
        """Read a value that is not a `Records` array; keep it if it may hide records."""
        start = self._position
        self._value()
        self._count_piece()
        if records_keys > 1 and is_records:
            self._damaged(f"second Records key before byte {start}")
        if is_records:
            self._leave(start, self._position, "Records is not an array")
        elif not _is_json(self._data[start : self._position]):
            self._damaged(f"JSON is damaged in the value at byte {start}")
            self._leave(start, self._position, "not valid JSON")
        self._skip(_SPACE)

    def _value(self) -> None:
        """Step over one complete value; of brackets and strings only the structure is looked at."""
        first = self._data[self._position : self._position + 1]
        if first in (b"{", b"["):
            self._position = self._end_of_brackets()
            return
        match = (_STRING if first == b'"' else _SCALAR).match(self._data, self._position)
        # A number at the very end of the text may have lost its last digits.
        if match is None or (first != b'"' and match.end() == len(self._data)):
            raise self._broken("a complete value")
        self._position = match.end()

    def _end_of_brackets(self) -> int:
        """Where the object or array ends that starts here."""
        expected = bytearray()
        for match in _TO_BRACKETS.finditer(self._data, self._position):
            brackets = match[1]
            if not brackets:
                break
            if brackets[0] in _OPENING:
                expected += brackets.translate(_CLOSING)
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
        self._pieces_left -= 1
        if self._pieces_left < 0:
            raise _Broken(self._position, "more records than a log file can have")

    def _broken(self, expected: str) -> _Broken:
        return _Broken(self._position, f"expected {expected}")

    def _damaged(self, damage: str) -> None:
        self.damage = self.damage or damage

    def _leave(self, start: int, end: int, reason: str) -> None:
        text = self._data[start:end]
        if not text.isspace() and text:
            self.leftovers.append(Rejected(None, "remainder", reason, text))


def _is_json(value: bytes) -> bool:
    try:
        msgspec.json.decode(value, type=msgspec.Raw)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return not isinstance(_lenient_fields(b'{"value":' + value + b"}"), str)
    return True
