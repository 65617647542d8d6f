"""The file `.ctrail` in an output folder: which ledger the folder belongs to, and how new it is.

The marker notes the ledger's uuid and generation. A ledger that is missing, older than the folder,
or another folder's would write every event a second time: `core.opening` compares and refuses it.
The locks that keep runs and rebuilds of one folder apart are here, too.
"""

import fcntl
import json
import logging
import os
import time
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Final

from ctrail_pipeline.core.durable import disk_errors, fsync_folder
from ctrail_pipeline.core.exceptions import LedgerError

log = logging.getLogger(__name__)

MARKER: Final = ".ctrail"
_UNFINISHED_SECONDS: Final = 60
"""Age after which a marker that never got its name has no writer any more."""


class FolderLock:
    """A lock on an output folder, which ends with the process.

    Runs share the lock, and a rebuild has it alone. Without it, a run that has nothing staged just
    then would go on with the ledger that was set aside, and write what the new ledger does not know
    of. On a file system without locks, the lock does nothing.
    """

    def __init__(self, events_dir: Path, operation: int) -> None:
        """Take the lock at once. Raises BlockingIOError if another process has it."""
        with disk_errors(events_dir):
            self._descriptor = os.open(events_dir, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(self._descriptor, operation | fcntl.LOCK_NB)
        except BlockingIOError:
            self.close()
            raise
        except OSError as error:  # a file system without locks
            log.debug("%s cannot be locked: %s", events_dir, error.strerror)

    def close(self) -> None:
        """Let go of the lock."""
        os.close(self._descriptor)


def lock_for_rebuild(events_dir: Path) -> FolderLock:
    """Keep all runs out of an output folder. Raises LedgerError if one is at work."""
    try:
        return FolderLock(events_dir, fcntl.LOCK_EX)
    except BlockingIOError as error:
        raise LedgerError(f"a run is at work in {events_dir}: stop it, then rebuild") from error


def share_folder(events_dir: Path) -> FolderLock:
    """Lock an output folder together with other runs. Raises LedgerError during a rebuild."""
    try:
        return FolderLock(events_dir, fcntl.LOCK_SH)
    except BlockingIOError as error:
        raise LedgerError(
            f"the ledger of {events_dir} is being rebuilt: run again when that is done"
        ) from error


def write_marker(name: str, generation: int, events_dir: Path) -> None:
    """Note a ledger's uuid and generation in the output folder, atomically.

    A newer generation that another run noted meanwhile stays. Raises LedgerError if the folder
    belongs to another ledger by now.
    """
    present = read_marker(events_dir)
    if present is not None and present[0] != name:
        raise LedgerError(f"{events_dir} now belongs to another ledger: run again")
    if present is None or present[1] <= generation:
        replace_marker(name, generation, events_dir)


def replace_marker(name: str, generation: int, events_dir: Path) -> None:
    """Note in the output folder that it belongs to a ledger, whatever its marker said before."""
    content = json.dumps({"ledger": name, "generation": generation}) + "\n"
    temporary = events_dir / f"{MARKER}.{uuid.uuid4().hex}"
    with disk_errors(events_dir):
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(events_dir / MARKER)
        fsync_folder(events_dir)


def remove_unfinished_markers(events_dir: Path) -> None:
    """Remove markers whose writer died in the instant before they got their name."""
    for path in events_dir.glob(f"{MARKER}.*"):
        with disk_errors(path), suppress(FileNotFoundError):  # the marker may have got its name
            if time.time() - path.lstat().st_mtime > _UNFINISHED_SECONDS:
                path.unlink()


def read_marker(events_dir: Path) -> tuple[str, int] | None:
    """Return uuid and generation of the ledger that an output folder belongs to.

    Returns None for a folder that belongs to no ledger yet. Raises LedgerError if the marker cannot
    be read.
    """
    path = events_dir / MARKER
    try:
        content = json.loads(path.read_text())
        return str(content["ledger"]), int(content["generation"])
    except FileNotFoundError:
        return None
    except NotADirectoryError as error:
        raise LedgerError(f"{events_dir} is no folder: name one in `events_dir`") from error
    except OSError as error:
        raise LedgerError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise LedgerError(
            f"{path} is damaged. This file says which ledger the folder belongs to. If {events_dir}"
            " is this ledger's folder, delete the file and run again"
        ) from error


def holds_files(events_dir: Path) -> bool:
    """Whether the folder holds anything but staging folders and marker files."""
    try:
        return any(not path.name.startswith(".") for path in events_dir.iterdir())
    except FileNotFoundError:
        return False
