"""The output in local folders, behind the interface of `core.output.interface`.

Here are names, listing and reading. Folders and removal are in `folders`, staged files in
`staging`, final names in `publishing`, the marker in `marker_file`.
"""

import logging
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import BinaryIO

from ctrail_pipeline.core.durable import append_lines, disk_errors, fsync_folder
from ctrail_pipeline.core.output.interface import Entry, Marker
from ctrail_pipeline.core.output.marker import MARKER
from ctrail_pipeline.core.output_files import FileName, Kind, NamedFile
from ctrail_pipeline.core.settings import Settings

from .folders import STAGING, OutputFolders
from .hard_links import refuse_without_hard_links
from .marker_file import read_marker_file, remove_unfinished_marker_files, write_marker_file
from .staging import LocalStaging, remove_unlocked

log = logging.getLogger(__name__)


class LocalOutput:
    """The output in local folders."""

    late_copy_seconds = 0
    """A hard link is made at once, of the staged file."""

    def __init__(
        self, events_dir: Path, quarantine_dir: Path, parquet_dir: Path | None = None
    ) -> None:
        """`parquet_dir` is `parquet` beside `events_dir` if it is not given."""
        self.folders = OutputFolders(events_dir, quarantine_dir, parquet_dir)
        self.roots = self.folders.roots
        self.lock_folder: Path | None = events_dir

    @classmethod
    def of(cls, settings: Settings) -> "LocalOutput":
        """Return the folders that are configured."""
        return cls(settings.events_dir, settings.quarantine_dir, settings.parquet_dir)

    def close(self) -> None:
        """End the writing threads."""
        self.folders.close()

    def location(self, kind: Kind) -> str:
        """Return the path of a root."""
        return str(self.roots[kind])

    def address_of(self, file: NamedFile) -> str:
        """Return the path of a file."""
        return os.path.join(self.roots[file.kind], file.folder, file.name)

    def files_meant_by(self, text: str) -> Iterator[FileName]:
        """Yield the files that a path may mean, from the working directory or from a root."""
        for kind, root in self.roots.items():
            for full in (Path(text).absolute(), root.absolute() / text):
                if full.is_relative_to(root.absolute()):
                    folder = str(full.parent.relative_to(root.absolute()))
                    yield FileName(kind, folder, full.name)

    def probe(self) -> None:
        """Raise OutputError if hard links cannot be made here."""
        refuse_without_hard_links(self.folders)

    def make(self, kind: Kind) -> None:
        """Make a root where it is missing."""
        root = self.roots[kind]
        with disk_errors(root):
            self.folders.make(root)

    def holds_files(self, kind: Kind) -> bool:
        """Whether a root holds anything but staging folders and marker files."""
        try:
            return any(not path.name.startswith(".") for path in self.roots[kind].iterdir())
        except FileNotFoundError:
            return False

    def free_name(self) -> str:
        """Return the name of a folder beside the events that is not there."""
        root = self.roots[Kind.EVENTS]
        names = (f"{root.name}-ctrail{number}" for number in ("", *range(2, 1000)))
        return next(name for name in names if not (root.parent / name).exists())

    def warn_if_open(self) -> None:
        """Warn of folders that others may read: one that was there keeps the mode that it has."""
        for root in self.roots.values():
            mode = root.stat().st_mode & 0o777 if root.is_dir() else 0
            if mode & 0o077:
                log.warning("%s is open to other users (mode %o): chmod 700 it", root, mode)

    def read_marker(self, kind: Kind) -> Marker | None:
        """Return the marker of a root."""
        return read_marker_file(self.roots[kind])

    def is_marked(self, kind: Kind) -> bool:
        """Whether a root has a marker."""
        return (self.roots[kind] / MARKER).exists()

    def replace_marker(self, kind: Kind, marker: Marker, seen: Marker | None) -> bool:
        """Replace the marker of a root.

        A file system has no way to replace a file only if it is unchanged. Between the comparison
        and the rename another run may write a newer marker, which is then lost. The next commit
        writes a newer one again.
        """
        if self.read_marker(kind) != seen:
            return False
        write_marker_file(self.roots[kind], marker)
        return True

    def remove_unfinished_markers(self, kind: Kind) -> None:
        """Remove markers whose writer died in the instant before they got their name."""
        remove_unfinished_marker_files(self.roots[kind])

    def stage_for(self, ledger: str) -> None:
        """Nothing to note: the staging folders lie inside the roots."""

    def staging_of(self, token: str) -> LocalStaging:
        """Return the staging folders of a batch."""
        return LocalStaging(self.folders, token)

    def staging_tokens(self) -> set[str]:
        """Return the tokens of the batches that have staging folders here.

        Raises OutputError if a link stands in place of the staging folders: what the link leads to
        would be removed.
        """
        self.folders.refuse_linked_staging()
        return self.folders.staging_tokens()

    def remove_unowned_staging(self) -> None:
        """Remove staging folders whose owner died in the instant before they were locked."""
        for root in self.roots.values():
            remove_unlocked(root / STAGING)

    def entry(self, file: NamedFile) -> Entry | None:
        """Return what has a file's name, and follow no link."""
        try:
            status = os.lstat(self.address_of(file))
        except (FileNotFoundError, NotADirectoryError):
            return None
        return _entry(status)

    def entries(self, kind: Kind, folder: str) -> dict[str, Entry]:
        """Return what lies directly in a folder, without the folders; nothing if it is gone."""
        try:
            with os.scandir(self.roots[kind] / folder) as found:
                return {
                    entry.name: _entry(entry.stat(follow_symlinks=False))
                    for entry in found
                    if not entry.is_dir(follow_symlinks=False)
                }
        except (FileNotFoundError, NotADirectoryError):
            return {}

    def walk(self, kind: Kind, below: str = "") -> Iterator[tuple[str, Sequence[str]]]:
        """Yield each folder that holds files, with their names, in order of the names."""
        root = os.fspath(self.roots[kind])
        if self.folders.lies_behind_link(os.path.join(root, below)):
            return
        for parent, folders, names in os.walk(os.path.join(root, below) if below else root):
            if parent == root and STAGING in folders:
                folders.remove(STAGING)
            folders.sort()
            if names:
                yield parent[len(root) + 1 :], sorted(names)

    def open(self, file: NamedFile) -> BinaryIO:
        """Open a file, and follow no link in its place."""
        descriptor = os.open(self.address_of(file), os.O_RDONLY | os.O_NOFOLLOW)
        return os.fdopen(descriptor, "rb")

    def read_range(self, file: NamedFile, start: int, size: int) -> bytes:
        """Return bytes of a file."""
        with self.open(file) as stored:
            return os.pread(stored.fileno(), size, start)

    def on_disk(self, file: NamedFile) -> nullcontext[Path]:
        """Yield the file's own path."""
        return nullcontext(Path(self.address_of(file)))

    def remove(self, files: Sequence[NamedFile]) -> None:
        """Remove files, and the folders that are empty then."""
        self.folders.remove(files)

    def set_aside(self, file: NamedFile, name: str) -> str:
        """Give a file another name in its folder."""
        path = Path(self.address_of(file))
        with disk_errors(path):
            aside = path.rename(path.with_name(name))
            fsync_folder(path.parent)
        return str(aside)

    def append(self, file: NamedFile, lines: bytes) -> None:
        """Append whole lines to a file."""
        path = Path(self.address_of(file))
        with disk_errors(path):
            append_lines(path, lines)


def _entry(status: os.stat_result) -> Entry:
    return Entry(status.st_size, stat.S_ISREG(status.st_mode))
