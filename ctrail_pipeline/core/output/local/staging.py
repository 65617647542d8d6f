"""The staging folders of one batch: made and locked, written into, removed.

A batch's files are written whole and fsynced before its transaction; `publishing` links them to
their final names after it. So a reader never sees half a file under a final name. The lock of the
folder tells other runs that the batch's owner lives. Whether a batch counts is the ledger's to say.
"""

import fcntl
import os
import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Final
from uuid import uuid4

from ctrail_pipeline.core.durable import disk_errors, durable_file, fsync_folder
from ctrail_pipeline.core.line_runs import pack_lineage
from ctrail_pipeline.core.log_file.lines import HeldBytes
from ctrail_pipeline.core.output.compression import compressing
from ctrail_pipeline.core.output.new_files import FileToWrite
from ctrail_pipeline.core.output_files import Kind, PublishedFile, StagedFile

from .folders import STAGING, UNLOCKED, OutputFolders
from .publishing import publish_files

_UNLOCKED_SECONDS: Final = 60
"""Age after which a staging folder that was never locked has no owner any more."""


class LocalStaging:
    """The staging folders of one batch. Its lock tells others that the batch's owner lives."""

    def __init__(self, folders: OutputFolders, token: str) -> None:
        self.folders = folders
        self.scatter_limit = folders.scatter_limit
        self._token = token
        self._lock: int | None = None

    def open(self) -> None:
        """Make the staging folder and lock it.

        The folder gets its name after it is locked. Otherwise another run's recovery could find
        it unlocked, and take its owner for dead.
        """
        self.folders.refuse_linked_staging()
        folder = self.folders.staging_of(Kind.EVENTS, self._token)
        unlocked = self._unlocked
        with disk_errors(folder):
            self.folders.make(folder.parent)
            unlocked.mkdir(mode=0o700)
            self._lock = os.open(unlocked, os.O_RDONLY | os.O_DIRECTORY)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            unlocked.rename(folder)

    def write(
        self, files: Sequence[FileToWrite], *, first_part: int = 0, make_folders: bool = True
    ) -> list[StagedFile]:
        """Write files into the staging folders; they are durable when this returns.

        The staged files are numbered as parts, from `first_part` on. Their destination folders are
        made too, so that publishing only needs to link. Raises OutputError. The batch must then be
        given up: nothing may be written again over the same files.
        """
        with disk_errors(self.folders.roots[Kind.EVENTS]):
            kinds = {file.kind for file in files}
            parents = {self.folders.staging_of(kind, self._token) for kind in kinds}
            destinations = map(self.folders.folder_of, files) if make_folders else ()
            self.folders.make(*destinations, *parents)
            staged = self.folders.threads.map(self._write_file, enumerate(files, first_part))
            for parent in parents:
                fsync_folder(parent)
                fsync_folder(parent.parent)
        return staged

    def restage(self, part: int, file: FileToWrite) -> StagedFile:
        """Write a staged file again; the file gets its name when it is whole and durable."""
        parent = self.folders.staging_of(file.kind, self._token)
        with disk_errors(parent):
            if self._lock is None:
                self.open()
            self.folders.make(parent)
            unfinished = f"{self.part_path(file.kind, part)}.{uuid4().hex}"
            staged = _write_file(unfinished, part, file)
            os.replace(unfinished, self.part_path(file.kind, part))
            fsync_folder(parent)
            fsync_folder(parent.parent)
        return staged

    def publish(
        self,
        files: Sequence[PublishedFile],
        rename: Callable[[PublishedFile], PublishedFile],
        linked: Callable[[PublishedFile], None],
    ) -> list[PublishedFile]:
        """Give files their final names by hard links: see `publishing`."""
        return publish_files(self.folders, self.part_path, files, rename, linked)

    def remove(self) -> None:
        """Remove the staging folders with all that is in them, and let go of the lock.

        The locked folder goes last: as long as a part exists, only one process can publish it.
        """
        for kind in reversed(Kind):
            folder = self.folders.staging_of(kind, self._token)
            shutil.rmtree(folder, ignore_errors=True)
            self.folders.forget(folder)
        shutil.rmtree(self._unlocked, ignore_errors=True)
        self.close()

    def close(self) -> None:
        """Let go of the lock."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def owner_lives(self) -> bool | None:
        """Whether another process holds the batch; None if the batch has no folder.

        If no process holds the batch, we hold it from now on. So no two processes recover one
        batch at once.
        """
        folder = self.folders.staging_of(Kind.EVENTS, self._token)
        try:
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            return True
        self._lock = descriptor
        return False

    def part_path(self, kind: Kind, part: int) -> str:
        """Return the path of a staged file, as text: see `OutputFolders.folder_of`."""
        return f"{self.folders.roots[kind]}/{STAGING}/{self._token}/{part:05d}.part"

    @property
    def _unlocked(self) -> Path:
        """Path that the folder has before it is locked."""
        return self.folders.staging_of(Kind.EVENTS, f"{UNLOCKED}{self._token}")

    def _write_file(self, item: tuple[int, FileToWrite]) -> StagedFile:
        part, file = item
        return _write_file(self.part_path(file.kind, part), part, file)


def _write_file(path: str, part: int, file: FileToWrite) -> StagedFile:
    digest = sha256()
    size = 0
    with durable_file(path) as put:

        def put_hashed(block: HeldBytes) -> None:
            nonlocal size
            digest.update(block)
            size += len(block)
            put(block)

        with compressing(file, put_hashed) as put_text:
            file.write_to(put_text)
    return StagedFile(
        part,
        file.kind,
        file.folder,
        file.line_count,
        size,
        digest.digest(),
        pack_lineage(file.lineage),
        file.compression,
    )


def remove_unlocked(staging_root: Path) -> None:
    """Remove staging folders whose owner died in the instant before they were locked."""
    for folder in staging_root.glob(f"{UNLOCKED}*"):
        with suppress(FileNotFoundError):  # its owner lives, and has locked it just now
            if time.time() - folder.lstat().st_mtime > _UNLOCKED_SECONDS:
                shutil.rmtree(folder, ignore_errors=True)
