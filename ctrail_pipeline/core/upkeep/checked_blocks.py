"""Reading an output file while it is compared with what the ledger says was written.

Compaction reads old files in this way, so that it never copies an altered file. So does whoever
compares rows of Parquet with lines.
"""

from collections.abc import Iterator
from typing import Final

from ctrail_pipeline.core.ledger.queries_compaction import OldFile
from ctrail_pipeline.core.output.compression import DamagedText, HashedBytes, text_of
from ctrail_pipeline.core.output.interface import Output
from ctrail_pipeline.core.output_files import NamedFile, compression_of

_BLOCK_BYTES: Final = 1 << 20
_NOT_COMPACTED: Final = "its folder is not compacted"


class Altered(Exception):
    """An old file is not as it was written; the message says which, and what to do."""


def checked_blocks(
    output: Output, file: NamedFile, old: OldFile, consequence: str = _NOT_COMPACTED
) -> Iterator[bytes]:
    """Yield the text of an old file, in pieces.

    Raises Altered at the end if the stored bytes are not those that were written; the message says
    what comes of that.
    """
    try:
        with output.open(file) as opened:
            stored = HashedBytes(opened)
            text = text_of(stored.buffered, compression_of(file.name))
            while block := text.read(_BLOCK_BYTES):
                if stored.size > old.size:
                    break
                yield block
            while stored.size <= old.size and stored.buffered.read(_BLOCK_BYTES):
                pass
    except DamagedText as error:
        raise _altered(output, file, consequence) from error
    except OSError as error:
        raise Altered(
            f"{output.address_of(file)} cannot be read ({error.strerror}): {consequence}; restore"
            " the file from a backup"
        ) from error
    if (stored.size, stored.digest.digest()) != (old.size, old.sha256):
        raise _altered(output, file, consequence)


def _altered(output: Output, file: NamedFile, consequence: str) -> Altered:
    return Altered(
        f"{output.address_of(file)} is not as it was written: {consequence}; restore the file from"
        " a backup"
    )
