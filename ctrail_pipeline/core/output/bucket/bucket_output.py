"""The output in a bucket, behind the interface of `core.output.interface`.

Here are names, listing and reading. Requests are in `object_store`, staged objects in `staging`,
final names in `publishing`, the marker in `marker_object`, what the server can do in `conditions`.
"""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Semaphore
from typing import BinaryIO, Final

from ctrail_pipeline.core.exceptions import OutputError
from ctrail_pipeline.core.open_files import connections_of_a_client
from ctrail_pipeline.core.output.interface import Entry, Marker
from ctrail_pipeline.core.output.scatter_limit import ScatterLimit
from ctrail_pipeline.core.output.writer_threads import WriterThreads
from ctrail_pipeline.core.output_files import FileName, Kind, NamedFile
from ctrail_pipeline.core.settings import OutputBucket, Settings

from .conditions import Conditions
from .marker_object import MarkerObject
from .names import Names
from .object_reader import open_object
from .object_store import ObjectStore
from .staging import BucketStaging
from .store_errors import reading, writing

_REQUESTS_IN_FLIGHT: Final = 128
"""PUTs and COPYs of a process, as far as it may have connections. Measured, 3,000 log files at 30
ms a request: 5.6 s with 32, 5.1 s with 64, 4.3 s with 128; 1.8 s without latency."""

MADE_AT_ONCE: Final = 8
"""Files that are made at once, as for a folder: what a merge holds is then bounded as there."""


class BucketOutput:
    """The output below prefixes of one bucket."""

    lock_folder: Path | None = None
    late_copy_seconds = 3_600
    """A COPY that is on its way may take effect after its source is gone (seen with SeaweedFS)."""

    def __init__(self, bucket: OutputBucket, settings: Settings) -> None:
        """Nothing is opened or asked yet."""
        self._names = Names(bucket)
        self._store = ObjectStore(bucket, settings)
        self._threads = WriterThreads(min(_REQUESTS_IN_FLIGHT, connections_of_a_client()))
        self._making = Semaphore(MADE_AT_ONCE)
        self._scratch = settings.state_db.parent
        self._conditions = Conditions(self._store, self._names)
        self._marker = MarkerObject(self._store, self._names, self._conditions)
        self._scatter_limit = ScatterLimit(self._is_folder_of_events)

    def close(self) -> None:
        """End the threads that make requests."""
        self._threads.close()

    def location(self, kind: Kind) -> str:
        """Return the URL of a root, without a slash at its end."""
        return str(self._names.roots[kind])

    def address_of(self, file: NamedFile) -> str:
        """Return the URL of a file."""
        return self._names.address(file)

    def files_meant_by(self, text: str) -> Iterator[FileName]:
        """Yield the files that a URL, or a path below a root, may mean."""
        return self._names.meant_by(text)

    def probe(self) -> None:
        """Raise OutputError if something cannot be written, copied or removed here."""
        with writing():
            self._store.holds(self._names.root(Kind.EVENTS))
            self._conditions.find_out()

    def make(self, kind: Kind) -> None:
        """Nothing to make: a prefix needs none."""

    def holds_files(self, kind: Kind) -> bool:
        """Whether a root holds anything but hidden names, which are ours.

        Some servers go on listing a folder for a while in which nothing is any more.
        """
        root = self._names.root(kind)
        with writing():
            found = self._store.list_folder(root)
            names = [listed.key.removeprefix(root) for listed in found.objects]
            return any(name and not name.startswith(".") for name in names) or any(
                self._store.holds(f"{root}{name}/")
                for name in found.folders
                if not name.startswith(".")
            )

    def free_name(self) -> str:
        """Return a prefix beside the events below which nothing lies."""
        root = self._names.roots[Kind.EVENTS]
        for number in ("", *range(2, 1000)):
            free = root.beside(f"{root.name}-ctrail{number}")
            with writing():
                if not self._store.holds(f"{free.prefix}/"):
                    return str(free)
        raise AssertionError("a thousand names are taken")

    def warn_if_open(self) -> None:
        """Who may read a bucket is its owner's to say."""

    def read_marker(self, kind: Kind) -> Marker | None:
        """Return the marker of a root."""
        return self._marker.read(kind)

    def is_marked(self, kind: Kind) -> bool:
        """Whether a root has a marker."""
        return self._marker.is_there(kind)

    def replace_marker(self, kind: Kind, marker: Marker, seen: Marker | None) -> bool:
        """Replace the marker of a root, if it is as it was read."""
        with writing():
            return self._marker.replace(kind, marker, seen)

    def remove_unfinished_markers(self, kind: Kind) -> None:
        """Nothing to remove: an object is there whole or not at all."""

    def stage_for(self, ledger: str) -> None:
        """Note which ledger's batches are staged: its uuid is part of their names."""
        self._names.ledger = ledger

    def staging_of(self, token: str) -> BucketStaging:
        """Return the staged objects of a batch."""
        return BucketStaging(
            self._store,
            self._names,
            self._conditions,
            self._threads,
            self._making,
            self._scatter_limit,
            token,
        )

    def staging_tokens(self) -> set[str]:
        """Return the tokens of the batches of which something is staged here."""
        root = self._names.staging_root
        with writing():
            keys = [listed.key for listed in self._store.list_below(root)]
        return {key.removeprefix(root).partition("/")[0] for key in keys}

    def remove_unowned_staging(self) -> None:
        """Remove what probes left that were killed."""
        with writing():
            self._conditions.remove_leftovers()

    def entry(self, file: NamedFile) -> Entry | None:
        """Return what has a file's name."""
        with reading(self.address_of(file)):
            found = self._store.head(self._names.key(file))
        return None if found is None else Entry(found.size, is_file=True)

    def entries(self, kind: Kind, folder: str) -> dict[str, Entry]:
        """Return what lies directly in a folder."""
        prefix = self._names.folder(kind, folder)
        with reading(f"{self._store.location}/{prefix}"):
            found = self._store.list_folder(prefix)
        sizes = {listed.key.removeprefix(prefix): listed.size for listed in found.objects}
        return {name: Entry(size, is_file=True) for name, size in sizes.items() if name}

    def walk(self, kind: Kind, below: str = "") -> Iterator[tuple[str, Sequence[str]]]:
        """Yield each folder that holds files, with their names, in the order of keys.

        A folder whose files have folders between their names comes after those.
        """
        root = self._names.root(kind)
        prefix = self._names.folder(kind, below)
        open_folders: list[tuple[str, list[str]]] = []
        with writing():
            for listed in self._store.list_below(prefix):
                folder, _, name = listed.key.removeprefix(root).rpartition("/")
                if not name:  # some programs make an empty object for a folder
                    continue
                while open_folders and not _is_in(folder, open_folders[-1][0]):
                    yield open_folders.pop()
                if not open_folders or open_folders[-1][0] != folder:
                    open_folders.append((folder, []))
                open_folders[-1][1].append(name)
        yield from reversed(open_folders)

    def open(self, file: NamedFile) -> BinaryIO:
        """Open a file: its first megabytes are read at once."""
        return open_object(self._store, self._names.key(file), self.address_of(file))

    def read_range(self, file: NamedFile, start: int, size: int) -> bytes:
        """Return bytes of a file."""
        with reading(self.address_of(file)):
            return self._store.get(self._names.key(file), start, size).data

    @contextmanager
    def on_disk(self, file: NamedFile) -> Iterator[Path]:
        """Yield the path of a private copy, which lives as long as the block."""
        self._scratch.mkdir(mode=0o700, parents=True, exist_ok=True)
        suffix = f"-{file.name}"
        with tempfile.NamedTemporaryFile(
            dir=self._scratch, prefix=".ctrail-", suffix=suffix
        ) as copy:
            with self.open(file) as stored:
                while block := stored.read(1 << 20):
                    copy.write(block)
            copy.flush()
            yield Path(copy.name)

    def remove(self, files: Sequence[NamedFile]) -> None:
        """Remove files, a thousand with each request."""
        with writing():
            self._store.delete([self._names.key(file) for file in files])

    def set_aside(self, file: NamedFile, name: str) -> str:
        """Copy a file to another name in its folder, and remove it."""
        aside = FileName(file.kind, file.folder, name)
        with writing():
            if not self._conditions.copy_to_free_name(
                self._names.key(file), self._names.key(aside)
            ):
                raise OutputError(f"{self.address_of(aside)} is there already: remove it")
            self._store.delete([self._names.key(file)])
        return self.address_of(aside)

    def append(self, file: NamedFile, lines: bytes) -> None:
        """Write a file again with more lines at its end. Another writer's lines stay."""
        with writing():
            self._conditions.append(self._names.key(file), lines)

    def _is_folder_of_events(self, folder: str) -> bool:
        with writing():
            return self._store.holds(self._names.folder(Kind.EVENTS, folder))


def _is_in(folder: str, other: str) -> bool:
    """Whether a folder is another one, or lies below it."""
    return not other or f"{folder}/".startswith(f"{other}/")
