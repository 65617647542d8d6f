"""Whether the output can be published at all: a published file is a hard link to its staged file.

A link never overwrites, and is there or not, whatever crashes. exFAT, FAT, SMB and some FUSE file
systems have no hard links. A run asks before it fetches anything. Not here: how files are published
(`publishing`).
"""

import os
import shutil
import uuid
from contextlib import suppress
from errno import EMLINK, ENOSYS, ENOTSUP, EOPNOTSUPP, EPERM
from pathlib import Path
from typing import Final

from ctrail_pipeline.core.durable import disk_errors
from ctrail_pipeline.core.exceptions import OutputError
from ctrail_pipeline.core.output_files import Kind

from .folders import STAGING, UNLOCKED, OutputFolders

_NO_LINKS: Final = frozenset({EPERM, ENOTSUP, EOPNOTSUPP, ENOSYS, EMLINK})
"""What link(2) answers on a file system without hard links: EPERM by its manual, others occur."""


def refuse_without_hard_links(folders: OutputFolders) -> None:
    """Make a link in each root, and remove it; raise OutputError if one fails.

    The root of quarantine is made late, when it is needed. It is made here if it lies on another
    file system than the roots that are there. The root of Parquet is there if Parquet is written.

    The folder of the link has the name of a staging folder that nobody locked. So the next run
    removes it if this one is killed here.
    """
    devices = {root.stat().st_dev for root in folders.roots.values() if root.is_dir()}
    for kind, root in folders.roots.items():
        is_tried = root.is_dir() or (kind is Kind.QUARANTINE and _device_of(root) not in devices)
        if not is_tried:
            continue
        folders.make(root / STAGING)
        folder = folders.staging_of(kind, f"{UNLOCKED}link-{uuid.uuid4().hex}")
        with disk_errors(folder):
            folder.mkdir(mode=0o700)
            try:
                (folder / "file").touch(mode=0o600)
                try:
                    os.link(folder / "file", folder / "link")
                except OSError as error:
                    if error.errno not in _NO_LINKS:
                        raise
                    raise OutputError(
                        f"{root}: no hard link can be made here ({error.strerror}), and files are"
                        f" published by hard links: set `{kind.name.lower()}_dir` to a folder on"
                        " another file system (exFAT, FAT, SMB and some FUSE file systems have no"
                        " hard links)"
                    ) from error
            finally:
                shutil.rmtree(folder, ignore_errors=True)


def _device_of(root: Path) -> int | None:
    """The file system that a folder will be on that is not there yet."""
    for folder in root.absolute().parents:
        with suppress(OSError):
            return folder.stat().st_dev
    return None
