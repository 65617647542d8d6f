"""The file `.ctrail` in an output folder: which ledger the folder belongs to, and how new it is.

A ledger that is missing, older than the folder, or another's would write every event a second time;
it is refused here, before any work, with what to do.
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


class FolderLock:
    """A lock on an output folder; it goes with the process. Where none can be had, it is nothing.

    Runs share it, and a rebuild has it alone: else a run that has nothing staged just then would
    go on with the ledger that was set aside, and write what the new one does not know of.
    """

    def __init__(self, events_dir: Path, operation: int) -> None:
        """Take it at once. Raises BlockingIOError if another has it."""
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
        """Let go of it."""
        os.close(self._descriptor)


def lock_for_rebuild(events_dir: Path) -> FolderLock:
    """Keep all runs out of an output folder. Raises LedgerError if one is at work."""
    try:
        return FolderLock(events_dir, fcntl.LOCK_EX)
    except BlockingIOError as error:
        raise LedgerError(f"a run is at work in {events_dir}: stop it, then rebuild") from error


def share_folder(events_dir: Path) -> FolderLock:
    """Lock an output folder together with other runs. Raises LedgerError if it is rebuilt."""
    try:
        return FolderLock(events_dir, fcntl.LOCK_SH)
    except BlockingIOError as error:
        raise LedgerError(
            f"the ledger of {events_dir} is being rebuilt: run again when that is done"
        ) from error


def write_marker(name: str, generation: int, events_dir: Path) -> None:
    """Note a ledger's uuid and generation in the output folder, atomically.

    A newer generation that another run noted meanwhile stays. Raises LedgerError if the folder
    has come to belong to another ledger.
    """
    present = read_marker(events_dir)
    if present is not None and present[0] != name:
        raise LedgerError(f"{events_dir} belongs to another ledger since: run again")
    if present is None or present[1] <= generation:
        replace_marker(name, generation, events_dir)


def replace_marker(name: str, generation: int, events_dir: Path) -> None:
    """Have an output folder belong to a ledger, whatever it said before."""
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
    """Remove what is left of markers whose writer died in the instant before they were named."""
    for path in events_dir.glob(f"{MARKER}.*"):
        with disk_errors(path), suppress(FileNotFoundError):  # it may have been named since
            if time.time() - path.lstat().st_mtime > _UNFINISHED_SECONDS:
                path.unlink()


def read_marker(events_dir: Path) -> tuple[str, int] | None:
    """Uuid and generation of the ledger that an output folder belongs to; None: of none yet.

    Raises LedgerError if it cannot be read.
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
            f"{path} is damaged: it says which ledger the folder belongs to; if {events_dir} is"
            " this ledger's folder, delete that one file and run again"
        ) from error


def holds_files(events_dir: Path) -> bool:
    """Whether anything lies in the folder, staging and marker files apart."""
    try:
        return any(not path.name.startswith(".") for path in events_dir.iterdir())
    except FileNotFoundError:
        return False
