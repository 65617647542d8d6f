"""Texts that are too large to be held: in a file without a name, which is mapped into memory.

What is read of a mapped text counts as the process's memory until its pages are released. The
system may take the pages back at any time, since the file has them. A mapped text offers what other
modules use of bytes.
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
"""Bytes that are read before their pages are released. A multiple of three, so that base64 pads no
piece but the last."""


class MappedText(mmap.mmap):
    """The bytes of a file that no other process changes."""

    def startswith(self, text: bytes, start: int = 0) -> bool:
        """Whether `text` stands at `start`."""
        return self[start : start + len(text)] == text

    def endswith(self, text: bytes) -> bool:
        """Whether the text ends so."""
        return len(text) <= len(self) and self[len(self) - len(text) :] == text

    def find(self, text: bytes, start: int = 0, end: int | None = None) -> int:  # type: ignore[override] # arguments as in bytes
        """Return where `text` stands first, or -1. Pages that were searched are released."""
        end = len(self) if end is None else end
        for at in range(start, end, _PIECE):
            found = self[at : min(end, at + _PIECE + len(text) - 1)].find(text)
            release_pages(self)
            if found >= 0:
                return at + found
        return -1

    def digest(self) -> bytes:
        """Return the SHA-256 of the text."""
        digest = sha256()
        for piece in pieces_of(memoryview(self)):
            digest.update(piece)
        return digest.digest()


Text = bytes | MappedText


def release_pages(text: object) -> None:
    """Release the pages of a mapped text; the system reads them again when they are used."""
    if isinstance(text, MappedText) and hasattr(mmap, "MADV_DONTNEED"):  # not on Windows
        text.madvise(mmap.MADV_DONTNEED)


def pieces_of(data: bytes | memoryview) -> Iterator[memoryview]:
    """Yield the data in pieces of 3 MB. A mapped text releases its pages after each piece."""
    view = memoryview(data)
    for at in range(0, len(view), _PIECE):
        yield view[at : at + _PIECE]
        release_pages(view.obj)


class TextFile:
    """A file without a name, for this process only. It is gone after the last use of its text."""

    def __init__(self, folder: Path) -> None:
        """Raises OutputError if no file can be made in `folder`."""
        self._folder = folder
        try:
            opened = tempfile.TemporaryFile(dir=folder, prefix=".ctrail-", buffering=0)  # noqa: SIM115
        except OSError as error:
            raise self._failed(error) from error
        self._file = cast("BinaryIO", opened)

    def __enter__(self) -> "TextFile":
        """Return the file."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file; its text stays usable."""
        self._file.close()

    def write(self, piece: bytes) -> None:
        """Append a piece; raises OutputError if the disk is full."""
        view = memoryview(piece)
        try:
            while view:
                view = view[self._file.write(view) :]
        except OSError as error:
            raise self._failed(error) from error

    def tell(self) -> int:
        """Return how many bytes were written."""
        return self._file.tell()

    def cut(self, size: int) -> None:
        """Drop all but the first `size` bytes."""
        try:
            self._file.truncate(size)
            self._file.seek(size)
        except OSError as error:
            raise self._failed(error) from error

    def text(self) -> Text:
        """Return the bytes written. No further piece may be written."""
        size = self._file.tell()
        if not size:
            return b""  # an empty file cannot be mapped
        try:
            return MappedText(self._file.fileno(), size, access=mmap.ACCESS_READ)
        except OSError as error:  # too many open files, or no address space left
            raise self._failed(error) from error

    def _failed(self, error: OSError) -> OutputError:
        cause = error.strerror
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            cause = "the disk is full: free some space, then run again; nothing is lost"
        return OutputError(f"{self._folder}, where a large log file is unpacked: {cause}")
