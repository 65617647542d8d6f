"""Texts that are too large to be held: in a file without a name, which is mapped into memory.

What is read of one counts as the process's memory until it is let go of, and the system may take it
back at any time, since the file has it. Here is what the rest needs of such a text to use it as it
uses bytes.
"""

import errno
import mmap
import tempfile
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO, Final, cast

from ctrail_pipeline.core.exceptions import OutputError

_PIECE: Final = 3 * 1024 * 1024
"""Bytes that are read before they are let go of: a multiple of three, so that base64 pads no piece
but the last."""


class MappedText(mmap.mmap):
    """The bytes of a file that nobody else changes."""

    def startswith(self, text: bytes, start: int = 0) -> bool:
        """As bytes have it."""
        return self[start : start + len(text)] == text

    def endswith(self, text: bytes) -> bool:
        """As bytes have it."""
        return len(text) <= len(self) and self[len(self) - len(text) :] == text

    def find(self, text: bytes, start: int = 0, end: int | None = None) -> int:  # type: ignore[override] # as bytes have it
        """As bytes have it; what was searched is let go of."""
        end = len(self) if end is None else end
        for at in range(start, end, _PIECE):
            found = self[at : min(end, at + _PIECE + len(text) - 1)].find(text)
            let_go(self)
            if found >= 0:
                return at + found
        return -1

    def digest(self) -> bytes:
        """The SHA-256."""
        found = sha256()
        for piece in pieces_of(memoryview(self)):
            found.update(piece)
        return found.digest()


Text = bytes | MappedText


def let_go(text: object) -> None:
    """What was read of a mapped text need not stay in memory; it is read again when it is used."""
    if isinstance(text, MappedText) and hasattr(mmap, "MADV_DONTNEED"):  # not on Windows
        text.madvise(mmap.MADV_DONTNEED)


def pieces_of(data: bytes | memoryview) -> Iterator[memoryview]:
    """All of it in pieces of 3 MB, each let go of before the next if it is of a mapped text."""
    view = memoryview(data)
    for at in range(0, len(view), _PIECE):
        yield view[at : at + _PIECE]
        let_go(view.obj)


class TextFile:
    """A file without a name, only for this process; it is gone with the last use of its text."""

    def __init__(self, folder: Path) -> None:
        """Raises OutputError if there can be none in `folder`."""
        self._folder = folder
        try:
            opened = tempfile.TemporaryFile(dir=folder, prefix=".ctrail-", buffering=0)  # noqa: SIM115
        except OSError as error:
            raise self._failed(error) from error
        self._file = cast("BinaryIO", opened)

    def __enter__(self) -> "TextFile":
        """Nothing to prepare."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it; a text of it stays."""
        self._file.close()

    def write(self, piece: bytes) -> None:
        """Append; raises OutputError if the disk is full."""
        view = memoryview(piece)
        try:
            while view:
                view = view[self._file.write(view) :]
        except OSError as error:
            raise self._failed(error) from error

    def tell(self) -> int:
        """Bytes that were written."""
        return self._file.tell()

    def cut(self, size: int) -> None:
        """Drop what is behind the first `size` bytes."""
        try:
            self._file.truncate(size)
            self._file.seek(size)
        except OSError as error:
            raise self._failed(error) from error

    def text(self) -> Text:
        """What was written; nothing is to be written any more."""
        size = self._file.tell()
        if not size:
            return b""  # that cannot be mapped
        try:
            return MappedText(self._file.fileno(), size, access=mmap.ACCESS_READ)
        except OSError as error:  # too many open files, or no address left
            raise self._failed(error) from error

    def _failed(self, error: OSError) -> OutputError:
        why = error.strerror
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            why = "the disk is full: free some space, then run again; nothing is lost"
        return OutputError(f"{self._folder}, where a large log file is unpacked: {why}")
