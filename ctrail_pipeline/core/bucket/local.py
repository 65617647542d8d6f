"""A bucket in a local folder, as `aws s3 sync` leaves it: listed and read as S3 is."""

import logging
import os
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Final
from urllib.parse import quote

from ctrail_pipeline.core.exceptions import (
    AccessDenied,
    ObjectChanged,
    ObjectGone,
    StoreError,
    StoreUnavailable,
)
from ctrail_pipeline.core.keys.minutes import Minute

from .interface import PAGE_SIZE, Fetched, Folder, Listed, Page

log = logging.getLogger(__name__)

_WALKS_KEPT: Final = 1000
_NANOSECONDS_PER_MINUTE: Final = 60 * 10**9


class LocalBucket:
    """A bucket in a local folder.

    The etag is made of size and modification time, so a file that was written again is noticed. A
    folder cannot hold a key with two slashes side by side, or with one at its start. Such a key is
    read where a copy of a bucket leaves it: several slashes are one.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._walks: dict[tuple[str, str], Iterator[Listed]] = {}
        self.location = f"file://{quote(str(root))}"

    def list_folder(self, folder: str, *, expected: bool = False) -> Folder:  # noqa: ARG002
        """List the sub-folders and files in `folder`; a missing folder is empty, as in S3."""
        found = Folder([], [])
        for name, entry in self._entries(folder):
            if name.endswith("/"):
                found.folders.append(name[:-1])
            else:
                with suppress(FileNotFoundError):  # as in `_walk`
                    found.objects.append(_listed_file(folder + name, entry.stat()))
        return found

    def list_page(self, folder: str, after: str, *, expected: bool = False) -> Page:  # noqa: ARG002
        """List the files below `folder` in key order behind the key `after` ("": all)."""
        walk = self._walks.pop((folder, after), None) or self._walk(folder, after)
        objects = list(islice(walk, PAGE_SIZE))
        last = len(objects) < PAGE_SIZE
        if not last:
            # The next page goes on with this walk: to read a huge folder anew for each page would
            # take quadratic time. Walks whose next page nobody asks for are dropped.
            if len(self._walks) >= _WALKS_KEPT:
                self._walks.clear()
            self._walks[folder, objects[-1].key] = walk
        return Page(objects, last)

    def get(self, key: str, etag: bytes | None) -> Fetched:
        """Read one file whole."""
        location = f"{self.location}/{key}"
        try:
            # A file object takes 46 µs for a small log file, these calls take 17.
            descriptor = os.open(f"{self.root}/{key}", os.O_RDONLY | os.O_CLOEXEC)
            try:
                before = os.fstat(descriptor)
                found = _file_etag(before)
                if etag is not None and etag != found:
                    raise ObjectChanged(f"{location} was written again since it was listed")
                body = _read_all(descriptor, before.st_size)
                if _file_etag(os.fstat(descriptor)) != found:
                    raise ObjectChanged(f"{location} changed while it was read")
            finally:
                os.close(descriptor)
        except FileNotFoundError as error:
            raise ObjectGone(f"{location} is no longer there") from error
        except PermissionError as error:
            raise _not_readable(location) from error
        except OSError as error:
            raise StoreUnavailable(f"{location} cannot be read: {error.strerror}") from error
        return Fetched(body, found, 0)

    def probe(self, key: str) -> None:
        """Open a file, to see whether that is allowed."""
        try:
            Path(f"{self.root}/{key}").open("rb").close()
        except PermissionError as error:
            raise _not_readable(f"{self.location}/{key}") from error
        except OSError as error:
            raise StoreUnavailable(f"{self.location}/{key} cannot be read") from error

    def _walk(self, folder: str, after: str) -> Iterator[Listed]:
        for name, entry in self._entries(folder):
            key = folder + name
            if name.endswith("/"):
                if key >= after or after.startswith(key):
                    yield from self._walk(key, after)
            elif key > after:
                try:
                    yield _listed_file(key, entry.stat())
                except FileNotFoundError:
                    continue  # deleted, or a dangling link: a later listing would not show it

    def _entries(self, folder: str) -> list[tuple[str, "os.DirEntry[str]"]]:
        """The entries in the order of their keys: a folder sorts with its slash, as in S3."""
        if not self.root.is_dir():
            raise StoreError(f"{self.location} is not a folder: check the trail's `bucket`")
        found = []
        try:
            with os.scandir(f"{self.root}/{folder}") as entries:
                for entry in entries:
                    try:
                        entry.name.encode()
                    except UnicodeEncodeError:
                        log.warning(
                            "a file name below %s is not UTF-8, so no key: the file is ignored",
                            folder,
                        )
                        continue
                    try:
                        found.append((entry.name + "/" if entry.is_dir() else entry.name, entry))
                    except OSError as error:  # a link that leads to itself
                        log.warning("a file below %s is ignored: %s", folder, error.strerror)
        except (FileNotFoundError, NotADirectoryError):
            return []
        except PermissionError as error:
            raise AccessDenied(
                f"{self.location}/{folder} cannot be listed: give this user read permission"
            ) from error
        return sorted(found, key=lambda item: item[0].encode())


def _read_all(descriptor: int, size: int) -> bytes:
    """Read a file of about `size` bytes; one system call may bring less (2 GB at most)."""
    body = os.read(descriptor, size + 1)
    if len(body) == size:
        return body
    pieces = [body]
    while piece := os.read(descriptor, size + 1):
        pieces.append(piece)
    return b"".join(pieces)


def _not_readable(location: str) -> AccessDenied:
    return AccessDenied(f"{location} cannot be read: give this user read permission")


def _file_etag(stat: os.stat_result) -> bytes:
    return b'"%x-%x' % (stat.st_mtime_ns, stat.st_size)


def _listed_file(key: str, stat: os.stat_result) -> Listed:
    return Listed(
        key,
        stat.st_size,
        _file_etag(stat),
        Minute(stat.st_mtime_ns // _NANOSECONDS_PER_MINUTE),
        False,
    )
