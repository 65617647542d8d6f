"""What an output file holds by now: its hash, lines and bytes."""

import os
from hashlib import sha256
from pathlib import Path
from typing import Final, NamedTuple

_BLOCK_BYTES: Final = 1 << 20


class Contents(NamedTuple):
    """What a file holds by now."""

    sha256: bytes
    lines: int
    bytes: int


def contents_of(path: Path) -> Contents:
    """Hash a file and count its lines, a megabyte at a time. Raises OSError."""
    digest, lines, size = sha256(), 0, 0
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    with os.fdopen(descriptor, "rb", buffering=0) as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
            lines += block.count(b"\n")
            size += len(block)
    return Contents(digest.digest(), lines, size)
