"""The folders of the output: their roots, new folders, removal of published files.

Folders are private (mode 0700), and durable before anything is put into them. A folder that is
reached through a link is refused. What lies in a folder is not decided here: the ledger knows which
files there are, `staging` writes them, and `publishing` gives them their names.
"""

import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from ctrail_pipeline.core.durable import disk_errors, fsync_folder
from ctrail_pipeline.core.exceptions import OutputError
from ctrail_pipeline.core.output.new_files import FileToWrite
from ctrail_pipeline.core.output.scatter_limit import ScatterLimit
from ctrail_pipeline.core.output.writer_threads import WriterThreads
from ctrail_pipeline.core.output_files import Kind, NamedFile

STAGING: Final = ".staging"
"""Name of the folder in each root that holds the staging folders of all batches."""
UNLOCKED: Final = "."
"""Begins the name of a staging folder for the instant in which it is not locked yet."""
_PARQUET_FOLDER: Final = "parquet"
_TRIES_TO_MAKE: Final = 10
_KNOWN_FOLDERS: Final = 50_000
"""Limit of folders that are remembered as existing."""


class OutputFolders:
    """The roots, and the folders below them that are known to exist."""

    def __init__(
        self, events_dir: Path, quarantine_dir: Path, parquet_dir: Path | None = None
    ) -> None:
        """`parquet_dir` is `parquet` beside `events_dir` if it is not given.

        There is a Parquet root even if no Parquet is written: an earlier run may have left Parquet
        files to publish.
        """
        self.roots = {
            Kind.EVENTS: events_dir,
            Kind.QUARANTINE: quarantine_dir,
            Kind.PARQUET: parquet_dir or events_dir.parent / _PARQUET_FOLDER,
        }
        self.scatter_limit = ScatterLimit(lambda folder: (events_dir / folder).is_dir())
        self.threads = WriterThreads()
        self._known: set[str] = set()

    def path_of(self, file: NamedFile) -> Path:
        """Return the path of a file under its final name."""
        return self.roots[file.kind] / file.folder / file.name

    def folder_of(self, file: NamedFile | FileToWrite) -> str:
        """Return the path of the folder in which a file has its final name.

        Paths that are made for each file of a batch are text, here and in `staging`. `Path` objects
        are taken apart and put together again and again: they took a twentieth of a sync.
        """
        return f"{self.roots[file.kind]}/{file.folder}"

    def staging_of(self, kind: Kind, token: str) -> Path:
        """Return the path of a batch's staging folder under one root."""
        return self.roots[kind] / STAGING / token

    def staging_tokens(self) -> set[str]:
        """Return the tokens of the batches that have staging folders here.

        Only staging folders of events count, which are removed last. The roots of quarantine and
        Parquet may be another ledger's too, whose batches may live, or wait to be published.
        """
        root = self.roots[Kind.EVENTS] / STAGING
        names = (path.name for path in (root.iterdir() if root.is_dir() else ()))
        return {name for name in names if not name.startswith(UNLOCKED)}

    def make(self, *folders: Path | str) -> None:
        """Make folders with their parents, private, and durable before anything is put into them.

        All folders are made first. Then each folder that got a new one is synced once, several at
        once: 1,700 new hours took 8,600 fsyncs one by one, 35 of 43 s.

        Raises OutputError if a folder is a link or lies behind one.
        """
        wanted = dict.fromkeys(os.fspath(folder) for folder in folders)
        new = [folder for folder in wanted if folder not in self._known]
        self.refuse_links(new)
        changed: dict[str, None] = {}
        for attempt in range(_TRIES_TO_MAKE):
            try:
                _make_missing(new, changed)
                break
            except FileNotFoundError:  # another run prunes: it removed a parent that was empty
                if attempt == _TRIES_TO_MAKE - 1:
                    raise
        if len(changed) == 1:
            fsync_if_there(*changed)
        elif changed:
            self.threads.map(fsync_if_there, changed)
        if len(self._known) > _KNOWN_FOLDERS:
            self._known.clear()
        self._known.update(new)

    def refuse_links(self, folders: Iterable[Path | str]) -> None:
        """Raise OutputError if a folder below one of the roots is reached through a link.

        Whoever plants a link would have us write, or remove, wherever the link leads. The roots
        themselves, and the folders above them, may be links: they are their owner's.
        """
        checked = {os.fspath(root) for root in self.roots.values()}
        for folder in folders:
            path = os.fspath(folder)
            while path not in checked and path != (parent := os.path.dirname(path)):
                if os.path.islink(path):
                    raise OutputError(
                        f"{path} is a link, which this program never makes: remove it"
                    )
                checked.add(path)
                path = parent

    def refuse_linked_staging(self) -> None:
        """Raise OutputError if a folder that holds all staging folders is a link."""
        self.refuse_links(root / STAGING for root in self.roots.values())

    def lies_behind_link(self, folder: str) -> bool:
        """Whether a folder below one of the roots is reached through a link."""
        try:
            self.refuse_links([folder])
        except OutputError:
            return True
        return False

    def remove(self, files: Sequence[NamedFile]) -> None:
        """Remove published files, durably, and the folders that are empty then. Safe to repeat."""
        with disk_errors(self.roots[Kind.EVENTS]):
            touched: dict[Path, Path] = {}
            self.refuse_links(map(self.folder_of, files))
            for file in files:
                path = self.path_of(file)
                path.unlink(missing_ok=True)
                touched[path.parent] = self.roots[file.kind]
            for folder, root in touched.items():
                with suppress(FileNotFoundError):
                    fsync_folder(folder)
                self._remove_empty(folder, root)

    def forget(self, folder: Path | str) -> None:
        """Remember no longer that a folder exists: it is gone, or may be."""
        self._known.discard(os.fspath(folder))

    def close(self) -> None:
        """End the writing threads."""
        self.threads.close()

    def _remove_empty(self, folder: Path, root: Path) -> None:
        """Remove a folder, and those above it up to the root, as far as they are empty."""
        while folder != root:
            try:
                folder.rmdir()
            except OSError:  # not empty, or another run was faster
                return
            self.forget(folder)
            folder = folder.parent


def fsync_if_there(folder: str) -> None:
    """Make the names in a folder durable.

    A folder that another run pruned meanwhile is made again when a file is linked into it.
    """
    with suppress(FileNotFoundError):
        fsync_folder(folder)


def _make_missing(folders: Iterable[str], changed: dict[str, None]) -> None:
    """Make the folders that are missing; note in `changed` each folder that gets a new one."""
    for folder in folders:
        missing = []
        path = folder
        while not os.path.isdir(path):
            missing.append(path)
            path = os.path.dirname(path)
        for path in reversed(missing):
            try:
                os.mkdir(path, mode=0o700)
            except FileExistsError:
                if not os.path.isdir(path):
                    raise OutputError(f"{path} is in the way: a folder must be there") from None
            changed[os.path.dirname(path)] = None
