"""Durable files: names that survive a power cut, and what to do if the disk refuses a write.

A file is fsynced before anything refers to it. The folder that names the file is fsynced after it
has the name.
"""

import errno
import os
from pathlib import Path

from ctrail_pipeline.core.exceptions import OutputError


def fsync_folder(folder: Path | str) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class disk_errors:  # noqa: N801 - reads as the statement that it is
    """Turn errors of the disk into an OutputError that says what to do."""

    def __init__(self, path: Path) -> None:
        """`path`: what messages name if the error itself names no file."""
        self._path = path

    def __enter__(self) -> None:
        """Nothing to prepare."""

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        """Raise OutputError for an OSError."""
        if not isinstance(error, OSError):
            return
        path = error.filename or self._path
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            advice = "the disk is full: free some space, then run again; nothing is lost"
        elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            advice = (
                "it cannot be written: check `events_dir`, `quarantine_dir`, `parquet_dir` and"
                " permissions"
            )
        elif error.errno == errno.EXDEV:
            advice = "a folder of the output is on another device than its root: keep them on one"
        else:
            advice = f"{error.strerror}"
        raise OutputError(f"{path}: {advice}") from error
