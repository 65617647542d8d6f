"""What a record is known by: its identity, and the key of its eventID.

An identity is the first 16 bytes of SHA-256 over the line as written: same bytes, same event.
"""

from hashlib import sha256
from typing import Final

from xxhash import xxh3_64_digest

from .lines import HELD_LINES, Line

IDENTITY_BYTES: Final = 16
EVENT_KEY_BYTES: Final = 6
"""Bytes kept of an eventID's hash: one false alarm in 280 hours of a million events each."""


def identity_of(line: Line) -> bytes:
    """Return the identity of a record by the line as it is written."""
    if isinstance(line, HELD_LINES):
        return sha256(line).digest()[:IDENTITY_BYTES]
    digest = sha256()
    for piece in line.pieces():
        digest.update(piece)
    return digest.digest()[:IDENTITY_BYTES]


def event_key_of(event_id: str) -> bytes:
    """Return what is kept of an eventID. A fast hash will do, since it decides nothing."""
    try:
        return xxh3_64_digest(event_id.encode())[:EVENT_KEY_BYTES]
    except UnicodeEncodeError:  # lone surrogates
        return xxh3_64_digest(event_id.encode(errors="replace"))[:EVENT_KEY_BYTES]
