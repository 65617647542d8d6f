"""The staged objects of one batch: written whole, copied to their final names, removed.

An object is durable when its PUT is answered, and any machine can copy it. So whoever finds a
committed batch can publish it. Nobody holds a batch: whose it is, leases and locks beside the
ledger say.
"""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from hashlib import sha256
from threading import Semaphore
from typing import Final

from ctrail_pipeline.core.line_runs import pack_lineage
from ctrail_pipeline.core.log_file.lines import HeldBytes
from ctrail_pipeline.core.output.compression import compressing
from ctrail_pipeline.core.output.new_files import FileToWrite
from ctrail_pipeline.core.output.scatter_limit import ScatterLimit
from ctrail_pipeline.core.output.writer_threads import WriterThreads
from ctrail_pipeline.core.output_files import PublishedFile, StagedFile

from .conditions import Conditions
from .names import Names
from .object_store import ObjectStore
from .publishing import PART, publish_objects
from .store_errors import writing

MERGED: Final = "ctrail-merged"
"""Metadata of a file that takes the place of others: who is told of new objects leaves it out."""
_SMALL_BYTES: Final = 1024 * 1024
"""Bytes of a file beside which others are made while it is on its way. Most files are smaller."""


class BucketStaging:
    """The staged objects of one batch."""

    def __init__(
        self,
        store: ObjectStore,
        names: Names,
        conditions: Conditions,
        threads: WriterThreads,
        making: Semaphore,
        scatter_limit: ScatterLimit,
        token: str,
    ) -> None:
        self.scatter_limit = scatter_limit
        self._store = store
        self._names = names
        self._conditions = conditions
        self._threads = threads
        self._making = making
        """Limits how many files are made at once, of whatever memory that takes."""
        self._token = token
        self._published: list[str] | None = None
        """Keys of the parts of a batch that was published: all that it has."""

    def open(self) -> None:
        """Nothing to make."""

    def write(
        self,
        files: Sequence[FileToWrite],
        *,
        first_part: int = 0,
        make_folders: bool = True,  # noqa: ARG002
    ) -> list[StagedFile]:
        """Write objects, many at once. Each carries its batch and part as user metadata."""
        with writing():
            return self._threads.map(self._write_object, enumerate(files, first_part))

    def restage(self, part: int, file: FileToWrite) -> StagedFile:
        """Write a staged object again that vanished."""
        with writing():
            return self._write_object((part, file))

    def publish(
        self,
        files: Sequence[PublishedFile],
        rename: Callable[[PublishedFile], PublishedFile],
        linked: Callable[[PublishedFile], None],
    ) -> list[PublishedFile]:
        """Give the objects their final names by copies: see `publishing`."""
        with writing():
            lost = publish_objects(
                self._conditions, self._names, self._threads, self._token, files, rename, linked
            )
        keys = (self._names.part(self._token, file.part) for file in files)
        self._published = list(dict.fromkeys((*(self._published or ()), *keys)))
        return lost

    def remove(self) -> None:
        """Remove all staged objects of the batch."""
        with writing():
            keys = self._published
            if keys is None:
                below = self._store.list_below(self._names.staging(self._token))
                keys = [listed.key for listed in below]
            self._store.delete(keys)

    def close(self) -> None:
        """Nothing is held."""

    def owner_lives(self) -> None:
        """Nothing here says whether the owner lives."""

    def _write_object(self, item: tuple[int, FileToWrite]) -> StagedFile:
        part, file = item
        metadata = {PART: f"{self._token}/{part}"} | ({MERGED: "yes"} if file.is_merged else {})
        with ExitStack() as making:
            making.enter_context(self._making)
            content = _content_of(file)
            if len(content) <= _SMALL_BYTES:
                making.close()
            self._store.put(self._names.part(self._token, part), content, metadata)
        return StagedFile(
            part,
            file.kind,
            file.folder,
            file.line_count,
            len(content),
            sha256(content).digest(),
            pack_lineage(file.lineage),
            file.compression,
        )


def _content_of(file: FileToWrite) -> bytearray:
    """Return the stored bytes of a file, which a single PUT takes, without a copy of them."""
    content = bytearray()

    def put(block: HeldBytes) -> None:
        content.extend(block)

    with compressing(file, put) as put_text:
        file.write_to(put_text)
    return content
