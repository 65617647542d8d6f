"""Reading an output file while it is compared with what the ledger says was written.

Compaction reads old files in this way, so that it never copies an altered file.
"""

from collections.abc import Iterator
from hashlib import sha256
from typing import Final

from ctrail_pipeline.core.ledger.queries_compaction import OldFile
from ctrail_pipeline.core.output.interface import Output
from ctrail_pipeline.core.output_files import NamedFile

_BLOCK_BYTES: Final = 1 << 20


class Altered(Exception):
    """An old file is not as it was written; the message says which, and what to do."""


def checked_blocks(output: Output, file: NamedFile, old: OldFile) -> Iterator[bytes]:
    """Yield the bytes of an old file, in pieces.

    Raises Altered at the end if the bytes are not those that were written.
    """
    digest, size = sha256(), 0
    for block in _blocks(output, file):
        digest.update(block)
        size += len(block)
        if size > old.size:
            break
        yield block
    if (size, digest.digest()) != (old.size, old.sha256):
        raise Altered(
            f"{output.address_of(file)} is not as it was written: its folder is not compacted;"
            " restore the file from a backup"
        )


def _blocks(output: Output, file: NamedFile) -> Iterator[bytes]:
    try:
        with output.open(file) as stored:
            while block := stored.read(_BLOCK_BYTES):
                yield block
    except OSError as error:
        raise Altered(
            f"{output.address_of(file)} cannot be read ({error.strerror}): its folder is not"
            " compacted; restore the file from a backup"
        ) from error
