"""The fast path: the elements of a plain log file, where msgspec's answer is provably all of it.

A plain log file is `{"Records":[...]}` and nothing else, with whitespace or without. msgspec cuts
the text, and the pieces must account for every byte. For any other text the answer is None, and
`json_scan` reads it.
"""

import os
import re
from array import array
from collections.abc import Sequence
from typing import Final

import msgspec

from .json_scan import Slices, max_elements
from .lines import HeldBytes
from .mapped_text import MappedText, Text, release_pages


class _Envelope(msgspec.Struct, gc=False):
    Records: list[msgspec.Raw]


_decode_envelope = msgspec.json.Decoder(_Envelope).decode
_decode_list = msgspec.json.Decoder(list[msgspec.Raw]).decode
CANONICAL_HEAD: Final = b'{"Records":['
CANONICAL_TAIL: Final = b"]}"
_HEAD: Final = re.compile(rb'[ \t\n\r]*\{[ \t\n\r]*"Records"[ \t\n\r]*:[ \t\n\r]*\[[ \t\n\r]*')
_COMMA: Final = re.compile(rb"[ \t\n\r]*,[ \t\n\r]*")
_TAIL: Final = re.compile(rb"[ \t\n\r]*\][ \t\n\r]*\}[ \t\n\r]*")
# A Raw takes 56 bytes. Four megabytes hold two million elements at most, which is harmless. In
# larger texts the commas are counted. Real log files have a comma in 37 bytes; a file made of
# `{},{},{}` (256 MB of it are a 250 KB gzip) has a comma in three. To count all commas takes a
# twentieth of a log file's whole time. So they are counted at random places first, which nobody can
# foresee and keep free of commas.
_LARGE: Final = 4 * 1024 * 1024
_BYTES_PER_COMMA: Final = 20
LARGEST_AT_ONCE: Final = 32 * 1024 * 1024
CHUNK: Final = 4 * 1024 * 1024
BETWEEN_RECORDS: Final = b'},{"event'
"""AWS's records begin with eventVersion, and most records of other writers with a similar key. A
file without such a beginning goes the slow way."""
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
    """Return each element of `Records`; None unless the file provably holds nothing else.

    msgspec is silent about other keys, and about all but the last of several `Records` keys. It
    checks that a Raw is JSON (control characters in strings included, but not UTF-8), and returns
    it without the whitespace around it.
    """
    if isinstance(data, MappedText) or len(data) > LARGEST_AT_ONCE:
        return elements_by_chunks(data)
    if len(data) > _LARGE and may_have_many_elements(data):
        return None
    try:
        raws = _decode_envelope(data).Records
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return None
    if not raws or len(raws) > max_elements(len(data)):
        return None
    length = sum(map(len, raws)) + len(raws) - 1
    if len(data) == len(CANONICAL_HEAD) + length + len(CANONICAL_TAIL) and data.startswith(
        CANONICAL_HEAD
    ):
        # The elements, the commas between them, head and tail account for every byte.
        if len(data) > _LARGE and not has_breaks:
            # They stay views of `data`, so that 32 MB are not held twice.
            return list(raws)
        return list(map(bytes, raws))
    return _walk(data, raws)


def elements_by_chunks(data: Text) -> Slices | None:
    """Return each element of a very large plain log file; None if the file is not plain.

    A file of 256 MB may have seven million tiny elements, so it is read in chunks, cut where a
    record seems to begin. If two neighbouring chunks are plain lists of elements, then so are both
    together: a cut in the wrong place leaves a chunk that is not a plain list.
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
        if raws is None or len(elements) + len(raws) > max_elements(len(data)):
            return None
        for raw in raws:
            elements.append(start, start + len(raw))
            start += len(raw) + 1
        release_pages(data)
    return elements


def plain_elements(text: bytes) -> list[msgspec.Raw] | None:
    """Return the elements of a text that is a plain list: elements and the commas between them.

    Return None for any other text, for very many elements, and for elements that are nested more
    deeply than the calling thread's stack allows.
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
    """The elements, if the file is made of them and whitespace only; else None."""
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
