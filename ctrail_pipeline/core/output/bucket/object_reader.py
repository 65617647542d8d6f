"""An object that is read from its beginning, in pieces: each piece is a request of its own."""

import io
from typing import TYPE_CHECKING, BinaryIO, Final

from ctrail_pipeline.core.exceptions import StoreUnavailable

from .object_store import ObjectStore
from .store_errors import reading

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_PIECE_BYTES: Final = 8 * 1024 * 1024
"""Bytes of a request. Most objects come with the first one."""


def open_object(store: ObjectStore, key: str, address: str) -> BinaryIO:
    """Open an object. Raises FileNotFoundError, and OSError; so does reading."""
    return io.BufferedReader(_ObjectReader(store, key, address), 128 * 1024)


class _ObjectReader(io.RawIOBase):
    """The bytes of one version of an object."""

    def __init__(self, store: ObjectStore, key: str, address: str) -> None:
        """The first piece is read at once."""
        self._store = store
        self._key = key
        self._address = address
        with reading(address):
            first = store.get(key, 0, _PIECE_BYTES)
        self._etag, self._size = first.etag, first.size
        self._at = len(first.data)
        """Where the next piece begins."""
        self._piece = memoryview(first.data)

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: "WriteableBuffer", /) -> int:
        """Read the next bytes."""
        if not self._piece and self._at < self._size:
            self._piece = memoryview(self._next())
            self._at += len(self._piece)
        target = memoryview(buffer).cast("B")
        size = min(len(target), len(self._piece))
        target[:size] = self._piece[:size]
        self._piece = self._piece[size:]
        return size

    def _next(self) -> bytes:
        with reading(self._address):
            piece = self._store.get(self._key, self._at, _PIECE_BYTES)
            if piece.etag != self._etag or not piece.data:
                raise StoreUnavailable(f"{self._address} was written again while it was read")
        return piece.data
