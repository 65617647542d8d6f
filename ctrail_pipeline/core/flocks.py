"""Locks on a folder or a file that end with the process, among the processes of one machine.

Who locks what, and why, is said elsewhere: `claims`, `core.ledger.run_files`, and the staging of a
local output.
"""

import fcntl
import logging
import os
from pathlib import Path

from .durable import disk_errors

log = logging.getLogger(__name__)


class Flock:
    """A lock on a folder, or on a file that is made where it is missing.

    On a file system without locks, the lock does nothing.
    """

    def __init__(self, path: Path, *, shared: bool = False) -> None:
        """Take the lock at once. Raises BlockingIOError if another process has it, or OutputError.

        A shared lock keeps only those out that want it for themselves.
        """
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW
        if path.is_dir():  # may be a link: the roots of an output are their owner's
            flags = os.O_RDONLY | os.O_DIRECTORY
        with disk_errors(path):
            self._descriptor = os.open(path, flags, 0o600)
        try:
            operation = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
            fcntl.flock(self._descriptor, operation | fcntl.LOCK_NB)
        except BlockingIOError:
            self.close()
            raise
        except OSError as error:  # a file system without locks
            log.debug("%s cannot be locked: %s", path, error.strerror)

    def is_of(self, path: Path) -> bool:
        """Whether the locked file still has its name: whoever found it unlocked may remove it."""
        try:
            return os.path.samestat(os.fstat(self._descriptor), path.lstat())
        except FileNotFoundError:
            return False

    def close(self) -> None:
        """Let go of the lock."""
        os.close(self._descriptor)
