"""Locks that keep runs and rebuilds of one output folder apart.

Runs share the lock of a folder, on one machine; whoever rebuilds or moves the ledger has it alone.
The locks of single batches are in `staging`.
"""

import fcntl
import logging
import os
from pathlib import Path

from ctrail_pipeline.core.durable import disk_errors
from ctrail_pipeline.core.exceptions import LedgerError

log = logging.getLogger(__name__)


class FolderLock:
    """A lock on an output folder, which ends with the process.

    Without it, a run that has nothing staged just then would go on with the ledger that was set
    aside, and write what the new ledger does not know of. On a file system without locks, the
    lock does nothing.
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


def lock_alone(events_dir: Path, command: str) -> FolderLock:
    """Keep all runs out of an output folder. Raises LedgerError if one is at work.

    `command`: what the lock is for, such as "rebuild".
    """
    try:
        return FolderLock(events_dir, fcntl.LOCK_EX)
    except BlockingIOError as error:
        raise LedgerError(f"a run is at work in {events_dir}: stop it, then {command}") from error


def share_folder(events_dir: Path) -> FolderLock:
    """Lock an output folder together with other runs. Raises LedgerError during a rebuild."""
    try:
        return FolderLock(events_dir, fcntl.LOCK_SH)
    except BlockingIOError as error:
        raise LedgerError(
            f"the ledger of {events_dir} is being rebuilt or moved: run again when that is done"
        ) from error
