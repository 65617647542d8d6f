"""What an output file holds by now: its hash, lines and bytes."""

from typing import Final, NamedTuple

from ctrail_pipeline.core.output_files import NamedFile, compression_of

from .compression import DamagedText, HashedBytes, text_of
from .interface import Output

_BLOCK_BYTES: Final = 1 << 20


class Contents(NamedTuple):
    """What a file holds by now."""

    sha256: bytes
    """Of the stored bytes, as is `bytes`."""
    lines: int
    """Of the text; up to the damage if there is some."""
    bytes: int
    damage: str = ""
    """What is wrong with compressed bytes; empty if they are sound."""


def contents_of(output: Output, file: NamedFile) -> Contents:
    """Hash a file and count its lines, a megabyte at a time. Raises OSError."""
    lines, damage = 0, ""
    with output.open(file) as opened:
        stored = HashedBytes(opened)
        text = text_of(stored.buffered, compression_of(file.name))
        try:
            while block := text.read(_BLOCK_BYTES):
                lines += block.count(b"\n")
        except DamagedText as error:
            damage = error.strerror or ""
        size, digest = stored.rest()
        return Contents(digest, lines, size, damage)
