"""Whether the output can be published at all: a published file is a hard link to its staged file.

A link never overwrites, and is there or not, whatever crashes. exFAT, FAT, SMB and some FUSE file
systems have no hard links. A run asks before it fetches anything. Not here: how files are published
(`publishing`).
"""

import os
import shutil
import uuid
from errno import EMLINK, ENOSYS, ENOTSUP, EOPNOTSUPP, EPERM
from typing import Final

from ctrail_pipeline.core.durable import disk_errors
from ctrail_pipeline.core.exceptions import OutputError

from .folders import STAGING, UNLOCKED, OutputFolders

_NO_LINKS: Final = frozenset({EPERM, ENOTSUP, EOPNOTSUPP, ENOSYS, EMLINK})
"""What link(2) answers on a file system without hard links: EPERM by its manual, others occur."""


def refuse_without_hard_links(folders: OutputFolders) -> None:
    """Make a link in each root that is there, and remove it; raise OutputError if one fails.

    The folder of the link has the name of a staging folder that nobody locked. So the next run
    removes it if this one is killed here.
    """
    for kind, root in folders.roots.items():
        if not root.is_dir():
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
