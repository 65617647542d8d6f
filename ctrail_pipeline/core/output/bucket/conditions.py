"""Writes that must not overwrite: what the server can do, and what is done where it cannot.

S3 writes and copies an object on the condition that there is none of its name, or that it has a
certain etag. Some servers do not know such conditions, and a few ignore them. So a probe finds out.
Without a condition the name is looked at first, and another writer may come in between.
"""

import logging
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from threading import Lock
from typing import Final, NamedTuple

from ctrail_pipeline.core.exceptions import (
    AccessDenied,
    ObjectGone,
    StoreError,
    StoreUnavailable,
)

from .names import Names
from .object_store import Found, ObjectStore

log = logging.getLogger(__name__)

_WRONG_ETAG: Final = '"00000000000000000000000000000000"'
_LEFT_OVER_MINUTES: Final = 10
"""Age after which what a probe has written has no writer any more."""
_WHOLE: Final = 2**40
"""More bytes than an object has that lines are appended to."""
_TRIES: Final = 20


class Abilities(NamedTuple):
    """Which conditions a server knows."""

    put_if_absent: bool
    put_if_match: bool
    copy_if_absent: bool


class Conditions:
    """Makes conditional writes in one bucket. May be used in several threads."""

    def __init__(self, store: ObjectStore, names: Names) -> None:
        """The server is asked when it is first needed."""
        self._store = store
        self._names = names
        self._asking = Lock()
        self._found: Abilities | None = None

    def find_out(self) -> Abilities:
        """Return what the server can do; ask it once.

        Raises AccessDenied, which names the permission that is missing.
        """
        with self._asking:
            if self._found is None:
                self._found = probe(self._store, f"{self._names.probes}{uuid.uuid4().hex}")
                if not all(self._found):
                    log.warning(
                        "%s: the server knows no %s: each name is looked at before it is given."
                        " Two runs that give one name at the same moment would overwrite each other"
                        " (docs/bucket-output.md)",
                        self._store.location,
                        " and no ".join(
                            name.replace("_", " ")
                            for name, can in self._found._asdict().items()
                            if not can
                        ),
                    )
            return self._found

    def remove_leftovers(self) -> None:
        """Remove what probes left that were killed."""
        now = int(time.time() // 60)
        leftovers = [
            listed.key
            for listed in self._store.list_below(self._names.probes)
            if now - listed.modified > _LEFT_OVER_MINUTES
        ]
        self._store.delete(leftovers)

    def put(
        self, key: str, content: bytes, metadata: Mapping[str, str], present: Found | None
    ) -> bool:
        """Write an object if what has its name is still what was `present`; whether it was."""
        can = self.find_out()
        if present is None:
            if not can.put_if_absent and self._store.head(key) is not None:
                return False
            return self._store.put(key, content, metadata, if_absent=can.put_if_absent)
        if not can.put_if_match:
            now = self._store.head(key)
            if now is None or now.etag != present.etag:
                return False
            return self._store.put(key, content, metadata)
        return self._store.put(key, content, metadata, if_etag=present.etag)

    def copy(self, source: str, target: str) -> Found | None:
        """Copy an object to a name if the name is free; return what has the name then.

        None means that nothing has it: the copy was removed meanwhile, or the server did not tell
        of an error. Raises ObjectGone if there is no source.
        """
        can = self.find_out()
        if not can.copy_if_absent and (found := self._store.head(target)) is not None:
            return found
        self._store.copy(source, target, if_absent=can.copy_if_absent)
        return self._store.head(target)

    def head(self, key: str) -> Found | None:
        """Return what an object is; None if there is none."""
        return self._store.head(key)

    def copy_to_free_name(self, source: str, target: str) -> bool:
        """Copy an object to a name that nothing has; whether it is there now.

        The etag of a copy may be another one: that of an object under KMS is no hash.
        """
        found, original = self.copy(source, target), self._store.head(source)
        return (
            found is not None
            and original is not None
            and (found.size, found.metadata) == (original.size, original.metadata)
        )

    def append(self, key: str, lines: bytes) -> None:
        """Write an object again with more lines at its end, or anew where there is none."""
        for _ in range(_TRIES):
            present = self._store.head(key)
            before = b"" if present is None else self._store.get(key, 0, _WHOLE).data
            if before and not before.endswith(b"\n"):
                before += b"\n"
            if self.put(key, before + lines, {}, present):
                return
        raise StoreUnavailable(f"{self._store.location}/{key}: others write it again and again")


def probe(store: ObjectStore, folder: str) -> Abilities:
    """Write two objects below a folder, find out which conditions hold, and remove both."""
    first, second = f"{folder}/first", f"{folder}/second"
    try:
        found = _asked(store, first, second)
    except BaseException:
        with suppress(StoreError):  # what has failed already says more
            store.delete([first, second])
        raise
    store.delete([first, second])
    return found


def _asked(store: ObjectStore, first: str, second: str) -> Abilities:
    store.put(first, b"1", {})
    store.put(second, b"2", {})
    found = store.head(first)
    if found is None:
        raise StoreError(f"{store.location}/{first}: it was written, and is not there")
    return Abilities(
        put_if_absent=_refuses(lambda: store.put(first, b"3", {}, if_absent=True)),
        put_if_match=_refuses(lambda: store.put(second, b"3", {}, if_etag=_WRONG_ETAG))
        and store.put(first, b"1", {}, if_etag=found.etag),
        copy_if_absent=_refuses(lambda: store.copy(first, second, if_absent=True)),
    )


def _refuses(request: Callable[[], bool]) -> bool:
    """Whether a server refuses a write whose condition does not hold.

    A server may refuse the condition itself, which it does not know.
    """
    try:
        return not request()
    except (AccessDenied, ObjectGone, StoreUnavailable):
        raise
    except StoreError:
        return False
