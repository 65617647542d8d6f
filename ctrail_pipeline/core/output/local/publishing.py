"""Gives the staged files of a committed batch their final names.

Publishing links, so it never overwrites a file and can be repeated. A foreign file that has a final
name keeps it: ours gets another number. Which names the files get is the ledger's to say.
"""

import filecmp
import os
from collections.abc import Callable, Sequence

from ctrail_pipeline.core.durable import disk_errors
from ctrail_pipeline.core.output_files import Kind, PublishedFile

from .folders import OutputFolders, fsync_if_there

PartPath = Callable[[Kind, int], str]
"""Returns the path of a staged file by its kind and part."""


def publish_files(
    folders: OutputFolders,
    part_path: PartPath,
    files: Sequence[PublishedFile],
    rename: Callable[[PublishedFile], PublishedFile],
    linked: Callable[[PublishedFile], None],
) -> list[PublishedFile]:
    """Give files their final names. Safe to repeat, and safe if two processes do it at once.

    `rename` gives a file another number if a foreign file has its name. `linked` is told of each
    file that has its name. Returns the files that are lost: neither their staged file nor their
    final name exists.
    """
    vanished = []
    touched = set()
    with disk_errors(folders.roots[Kind.EVENTS]):
        folders.refuse_links(map(folders.folder_of, files))
        for file in files:
            published = _link(folders, part_path(file.kind, file.part), file, rename)
            if published is None:
                vanished.append(file)
            else:
                touched.add(folders.folder_of(published))
                linked(published)
        folders.threads.map(fsync_if_there, sorted(touched))
    return vanished


def _link(
    folders: OutputFolders,
    part: str,
    file: PublishedFile,
    rename: Callable[[PublishedFile], PublishedFile],
) -> PublishedFile | None:
    """Link a staged file to its final name; return None if both have vanished."""
    while True:
        folder = folders.folder_of(file)
        final = f"{folder}/{file.name}"
        try:
            os.link(part, final, follow_symlinks=False)
            return file
        except FileNotFoundError:
            if not os.path.exists(part):
                return file if _has_size(final, file.size) else None
            folders.forget(folder)
            folders.make(folder)  # another run removed the folder meanwhile
        except FileExistsError:
            if _same_file(part, final):
                return file
            # The root of quarantine may be another ledger's, too, with a file of the same lines.
            if file.kind is not Kind.QUARANTINE and _same_bytes(part, final):
                return file
            # Without a staged file, another recovery has published the file: look again.
            if os.path.exists(part):
                file = rename(file)


def _has_size(path: str, size: int) -> bool:
    """Whether a file exists, and is ours as far as its size tells."""
    try:
        return os.lstat(path).st_size == size
    except FileNotFoundError:
        return False


def _same_bytes(part: str, final: str) -> bool:
    """Whether a staged file was made again (`restage`) while another run published it."""
    try:
        return not os.path.islink(final) and filecmp.cmp(part, final, shallow=False)
    except FileNotFoundError:
        return False


def _same_file(first: str, second: str) -> bool:
    try:
        return os.path.samestat(os.lstat(first), os.lstat(second))
    except FileNotFoundError:
        return False
