"""The object `.ctrail` in a root: it holds the root's marker (`core.output.marker`)."""

import json
from typing import Final, NamedTuple

from ctrail_pipeline.core.exceptions import LedgerError, ObjectGone, StoreError
from ctrail_pipeline.core.output.interface import Marker
from ctrail_pipeline.core.output.marker import MARKER
from ctrail_pipeline.core.output_files import Kind

from .conditions import Conditions
from .names import Names
from .object_store import Found, ObjectStore

_MOST_BYTES: Final = 64 * 1024


class _Read(NamedTuple):
    marker: Marker
    found: Found


class MarkerObject:
    """The markers of the roots. One is written only if it is still the one that was read."""

    def __init__(self, store: ObjectStore, names: Names, conditions: Conditions) -> None:
        self._store = store
        self._names = names
        self._conditions = conditions
        self._read: dict[Kind, _Read | None] = {}
        """What was read last, with the etag that it had."""

    def is_there(self, kind: Kind) -> bool:
        """Whether there is a marker, even a damaged one. Raises LedgerError."""
        try:
            return self._store.head(self._key(kind)) is not None
        except StoreError as error:
            raise LedgerError(str(error)) from error

    def read(self, kind: Kind) -> Marker | None:
        """Return the marker; None where there is none. Raises LedgerError."""
        self._read[kind] = read = self._read_object(kind)
        return None if read is None else read.marker

    def replace(self, kind: Kind, marker: Marker, seen: Marker | None) -> bool:
        """Replace the marker that was read as `seen`; whether it was still there."""
        read = self._read.pop(kind, None)
        if read is None or read.marker != seen:
            read = self._read_object(kind)
        if (None if read is None else read.marker) != seen:
            return False
        content = json.dumps({"ledger": marker.ledger, "generation": marker.generation}) + "\n"
        present = None if read is None else read.found
        if self._conditions.put(self._key(kind), content.encode(), {}, present):
            return True
        # The answer to an earlier try may have been lost: then our own marker is in our way.
        return self.read(kind) == marker

    def _read_object(self, kind: Kind) -> _Read | None:
        address = f"{self._names.roots[kind]}/{MARKER}"
        try:
            piece = self._store.get(self._key(kind), 0, _MOST_BYTES)
        except ObjectGone:
            return None
        except StoreError as error:
            raise LedgerError(str(error)) from error
        try:
            content = json.loads(piece.data)
            marker = Marker(str(content["ledger"]), int(content["generation"]))
        except (ValueError, KeyError, TypeError) as error:
            raise LedgerError(
                f"{address} is damaged. This object says which ledger the output belongs to. If"
                f" {self._names.roots[kind]} is this ledger's output, delete the object and run"
                " again"
            ) from error
        return _Read(marker, Found(piece.size, piece.etag, {}))

    def _key(self, kind: Kind) -> str:
        return f"{self._names.root(kind)}{MARKER}"
