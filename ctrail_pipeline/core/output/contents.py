"""What an output file holds by now: its hash, lines and bytes."""

from hashlib import sha256
from typing import Final, NamedTuple

from ctrail_pipeline.core.output_files import NamedFile

from .interface import Output

_BLOCK_BYTES: Final = 1 << 20


class Contents(NamedTuple):
    """What a file holds by now."""

    sha256: bytes
    lines: int
    bytes: int


def contents_of(output: Output, file: NamedFile) -> Contents:
    """Hash a file and count its lines, a megabyte at a time. Raises OSError."""
    digest, lines, size = sha256(), 0, 0
    with output.open(file) as stored:
        while block := stored.read(_BLOCK_BYTES):
            digest.update(block)
            lines += block.count(b"\n")
            size += len(block)
    return Contents(digest.digest(), lines, size)
