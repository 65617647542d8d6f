"""Files beside a ledger in SQLite by which runs tell each other that they live.

Each run holds a lock on a file of its own, which ends with its process. So whoever finds a batch
knows whether its owner lives. That is for an output in a bucket: in a local output the batch's
staging folder is locked.
"""

from contextlib import suppress
from pathlib import Path
from uuid import uuid4

from ctrail_pipeline.core.flocks import Flock


class RunFile:
    """The file of one run."""

    def __init__(self, state_db: Path) -> None:
        """Make the file and lock it. Files that killed runs left are removed."""
        for path in state_db.parent.glob(f"{state_db.name}.run-*"):
            _is_held(path)
        self.name = uuid4().hex
        self._path = _path(state_db, self.name)
        self._lock = Flock(self._path)
        while not self._lock.is_of(self._path):  # another run took the file for left over
            self._lock.close()
            self._lock = Flock(self._path)

    def close(self) -> None:
        """Remove the file."""
        self._path.unlink(missing_ok=True)
        self._lock.close()


def is_held(state_db: Path, name: str) -> bool:
    """Whether the run of this name lives."""
    return _is_held(_path(state_db, name))


def _is_held(path: Path) -> bool:
    """Whether a run holds its file; a file that nobody holds is removed."""
    if not path.exists():
        return False
    try:
        lock = Flock(path)
    except BlockingIOError:
        return True
    with suppress(FileNotFoundError):
        path.unlink()
    lock.close()
    return False


def _path(state_db: Path, name: str) -> Path:
    return state_db.with_name(f"{state_db.name}.run-{name}")
