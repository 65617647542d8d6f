"""JSON objects that msgspec refuses and that are events all the same, read by Python's decoder.

Such objects hold NaN, lone surrogates, control characters in strings, or bytes that are not UTF-8.
A record is kept byte for byte, so it only has to be read well enough to be routed. This way is
slow, and only for odd objects. `members_of` takes such an object apart, into the text of each
member.

Not here: which fields matter (`record_fields`), and telling objects apart in a text (`json_scan`).
"""

import json
import re
from typing import Final, cast

from .lines import HeldBytes

STRING: Final = re.compile(rb'"(?:[^"\\]++|\\.)*+"', re.DOTALL)
"""A string with its quotes and any content."""

_COLON: Final = re.compile(r"[ \t\n\r]*:[ \t\n\r]*")

# AWS documents 256 KB for an event, 1 MB with enrichment. Python's decoder builds every value.
LONGEST_LENIENT: Final = 4 * 1024 * 1024

# Integers are read as floats: Python refuses integers of more than 4,300 digits.
_decoder = json.JSONDecoder(strict=False, parse_int=float)


def decode_object(raw: HeldBytes) -> dict[str, object] | str:
    """Return the fields of `raw`, which starts with a `{`; or why they cannot be read.

    The bytes are decoded as latin-1. Every byte string is latin-1, and ASCII stays as it is, so
    every value that can route a record does too.
    """
    if len(raw) > LONGEST_LENIENT:
        return "not valid JSON, and too long to be read leniently"
    raw = bytes(raw)  # a view cannot be decoded
    try:
        fields = _decoder.decode(raw.decode("latin-1"))
    except RecursionError:
        return "nested too deeply"
    except ValueError as error:
        position = error.pos if isinstance(error, json.JSONDecodeError) else 0
        return f"not valid JSON at byte {position} of the record"
    if (b"\n" in raw or b"\r" in raw) and any(
        b"\n" in string[0] or b"\r" in string[0] for string in STRING.finditer(raw)
    ):
        return "line break inside a string"
    return cast("dict[str, object]", fields)


def members_of(raw: bytes) -> dict[str, bytes] | None:
    """Return the members of an object that `decode_object` can read, with the text of each value.

    Of several members with the same name the last counts. None for an object that cannot be read.
    """
    text = raw.decode("latin-1")
    members = {}
    at = 0
    try:
        while (name := STRING.search(raw, at)) is not None:
            start = name.end() + len(_colon(text, name.end()))
            _, at = _decoder.raw_decode(text, start)
            members[_lenient_text(name[0])] = raw[start:at]
    except (ValueError, RecursionError):
        return None
    return members


def _colon(text: str, at: int) -> str:
    """The colon at this place, with the whitespace around it."""
    found = _COLON.match(text, at)
    if found is None:
        raise ValueError("not an object")
    return found[0]


def _lenient_text(string: bytes) -> str:
    """The value of a JSON string; bytes that are not UTF-8 become U+FFFD."""
    return str(json.loads(string.decode(errors="replace"), strict=False))
