"""The fast path: the elements of a plain log file, where msgspec's answer is provably the whole.

Plain is `{"Records":[...]}` and nothing else, with whitespace or without. msgspec cuts the text,
and the pieces must account for every byte. For any other text the answer is None, and `json_scan`
reads it.
"""

import os
import re
from array import array
from collections.abc import Sequence
from typing import Final

import msgspec

from .json_scan import Slices, most_elements
from .lines import HeldBytes
from .mapped_text import MappedText, Text, let_go


class _Envelope(msgspec.Struct, gc=False):
    Records: list[msgspec.Raw]


_decode_envelope = msgspec.json.Decoder(_Envelope).decode
_decode_list = msgspec.json.Decoder(list[msgspec.Raw]).decode
CANONICAL_HEAD: Final = b'{"Records":['
CANONICAL_TAIL: Final = b"]}"
_HEAD: Final = re.compile(rb'[ \t\n\r]*\{[ \t\n\r]*"Records"[ \t\n\r]*:[ \t\n\r]*\[[ \t\n\r]*')
_COMMA: Final = re.compile(rb"[ \t\n\r]*,[ \t\n\r]*")
_TAIL: Final = re.compile(rb"[ \t\n\r]*\][ \t\n\r]*\}[ \t\n\r]*")
# A Raw takes 56 bytes. Four megabytes hold two million elements at most: harmless. Beyond that
# the commas are counted: real log files have one in 37 bytes, a file made of `{},{},{}` (256 MB of
# it: a 250 KB gzip) one in three. To count all takes a twentieth of all the time that a log file
# does, so first those at random places, which nobody can foresee and keep free.
_LARGE: Final = 4 * 1024 * 1024
_BYTES_PER_COMMA: Final = 20
LARGEST_AT_ONCE: Final = 32 * 1024 * 1024
CHUNK: Final = 4 * 1024 * 1024
BETWEEN_RECORDS: Final = b'},{"event'
"""Records begin with eventVersion, as AWS writes them, and most of what others write with a key
like it. Where none does, the file goes the slow way."""
_SAMPLES: Final = 256
_SAMPLE_BYTES: Final = 1024
_SUSPECT_BYTES_PER_COMMA: Final = 30


def may_have_many_elements(data: bytes) -> bool:
    """Whether there are so many commas that a list of the elements could be too large."""
    stride = len(data) // _SAMPLES
    room = stride - _SAMPLE_BYTES
    sampled = 0
    for number, draw in enumerate(array("Q", os.urandom(8 * _SAMPLES))):
        start = number * stride + draw % room
        sampled += data.count(b",", start, start + _SAMPLE_BYTES)
    if sampled <= _SAMPLES * _SAMPLE_BYTES // _SUSPECT_BYTES_PER_COMMA:
        return False
    return data.count(b",") > len(data) // _BYTES_PER_COMMA


def plain_log_file_elements(data: Text, has_breaks: bool) -> Sequence[HeldBytes] | None:
    """Each element of `Records`; None unless there is proof that the file holds nothing else.

    msgspec is silent about other keys and about all but the last of several `Records` keys. What
    it skips into a Raw it checks as JSON (control characters in strings included, but not UTF-8)
    and gives without the whitespace around it.
    """
    if isinstance(data, MappedText) or len(data) > LARGEST_AT_ONCE:
        return elements_by_chunks(data)
    if len(data) > _LARGE and may_have_many_elements(data):
        return None
    try:
        raws = _decode_envelope(data).Records
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return None
    if not raws or len(raws) > most_elements(len(data)):
        return None
    length = sum(map(len, raws)) + len(raws) - 1
    if len(data) == len(CANONICAL_HEAD) + length + len(CANONICAL_TAIL) and data.startswith(
        CANONICAL_HEAD
    ):
        # The elements, the commas between them, head and tail account for every byte.
        if len(data) > _LARGE and not has_breaks:
            # They stay where they are in `data`: 32 MB need not be there twice.
            return list(raws)
        return list(map(bytes, raws))
    return _walk(data, raws)


def elements_by_chunks(data: Text) -> Slices | None:
    """The same of a very large log file: that of 256 MB may have seven million tiny elements.

    It is cut where a record seems to begin. If a chunk is a plain list of elements and the next one
    is, so is what they make together: a cut in the wrong place leaves something that is not.
    """
    if not (data.startswith(CANONICAL_HEAD) and data.endswith(CANONICAL_TAIL)):
        return None
    elements = Slices(data)
    start, last = len(CANONICAL_HEAD), len(data) - len(CANONICAL_TAIL)
    while start <= last:
        cut = data.find(BETWEEN_RECORDS, start + CHUNK, last)
        end = last if cut < 0 else cut + 1
        if end - start > LARGEST_AT_ONCE:
            return None
        raws = plain_elements(data[start:end])
        if raws is None or len(elements) + len(raws) > most_elements(len(data)):
            return None
        for raw in raws:
            elements.append(start, start + len(raw))
            start += len(raw) + 1
        let_go(data)
    return elements


def plain_elements(text: bytes) -> list[msgspec.Raw] | None:
    """The elements of a text that is nothing but them, with a comma between each two; else None.

    None, too, if they are very many, or nested more deeply than the calling thread's stack allows.
    """
    if len(text) > CHUNK // 4 and may_have_many_elements(text):
        return None
    try:
        raws = _decode_list(b"[%s]" % text)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return None
    is_plain = raws and sum(map(len, raws)) + len(raws) - 1 == len(text)
    return raws if is_plain else None


def _walk(data: bytes, raws: Sequence[msgspec.Raw]) -> Sequence[HeldBytes] | None:
    """The elements, if they and whitespace are all that the file is made of."""
    gap = _HEAD.match(data)
    elements = Slices(data)
    end = 0
    for raw in raws:
        element = bytes(raw)
        if gap is None or not data.startswith(element, gap.end()):
            return None
        end = gap.end() + len(element)
        elements.append(gap.end(), end)
        gap = _COMMA.match(data, end)
    return elements if _TAIL.fullmatch(data, end) else None
