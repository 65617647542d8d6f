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

from ctrail_pipeline.core.exceptions import LedgerError
from ctrail_pipeline.core.ledger.ledger import Ledger

from .staging import Kind, OutputFolders, disk_errors, fsync_folder

log = logging.getLogger(__name__)

MARKER: Final = ".ctrail"
_UNFINISHED_SECONDS: Final = 60
_FOREIGN: Final = (
    "{} holds files that were not written by this program, which never overwrites any: name another"
    ' folder in `events_dir`, such as "{}"'
)


def open_ledger(state_db: Path, events_dir: Path, folders: OutputFolders) -> Ledger:
    """Open the ledger that belongs to an output folder; both are made where they are new.

    Raises LedgerError if the two do not belong together.
    """
    marker = read_marker(events_dir)
    if marker is not None and not (state_db.exists() and state_db.stat().st_size):
        raise LedgerError(
            f"{state_db} is {'empty' if state_db.exists() else 'missing'}, and {events_dir} holds"
            " events that it knew of: restore the ledger from a backup, make a new one of the"
            " output with `ctrail rebuild`, or name an empty folder in `events_dir` to start over"
        )
    if marker is None and _holds_files(events_dir) and not state_db.exists():
        raise _foreign(events_dir)
    lock = _share(events_dir) if events_dir.is_dir() else None
    ledger = Ledger(state_db)
    try:
        # In this order, as another run may begin this folder meanwhile: what it writes first, the
        # marker, is looked for last.
        holds_files, unused = _holds_files(events_dir), ledger.is_unused()
        marker = read_marker(events_dir)
        if marker is not None:
            _compare(ledger, *marker, events_dir)
        else:
            _check_beginning(ledger, events_dir, holds_files=holds_files, unused=unused)
            with disk_errors(events_dir):
                folders.make(events_dir)
            lock = lock or _share(events_dir)  # before there is a marker, nothing is rebuilt
            write_marker(ledger.uuid, ledger.generation, events_dir)
        if lock is None:  # another run made the folder just now
            lock = _share(events_dir)
            check_belongs(ledger, events_dir)
        _remove_unfinished(events_dir)
        _warn_if_open(folders)
    except BaseException:
        ledger.close()
        if lock is not None:
            lock.close()
        raise
    ledger.hold(lock)
    return ledger


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


def _share(events_dir: Path) -> FolderLock:
    try:
        return FolderLock(events_dir, fcntl.LOCK_SH)
    except BlockingIOError as error:
        raise LedgerError(
            f"the ledger of {events_dir} is being rebuilt: run again when that is done"
        ) from error


def claim_parquet(ledger: Ledger, folders: OutputFolders) -> None:
    """Have the Parquet folder belong to the ledger, before anything is written into it.

    It is made where it is new. Raises LedgerError if it holds what another ledger wrote, since a
    reader would find these events twice, or if what ours wrote lies in another folder.
    """
    root = folders.roots[Kind.PARQUET]
    # In this order, as another run may begin this folder meanwhile: see `open_ledger`.
    in_folder, in_ledger = _holds_files(root), ledger.holds_files(Kind.PARQUET)
    marker = read_marker(root)
    if marker is None:
        if in_folder:
            raise LedgerError(
                f"{root} holds files that are not of {ledger.path}: name another folder in"
                " `parquet_dir`, or empty this one"
            )
        if in_ledger:
            raise LedgerError(
                f"{ledger.path} knows of Parquet files, and {root} has none: name the folder that"
                ' they are in, in `parquet_dir`, or leave "parquet" out of `output_formats`'
            )
        with disk_errors(root):
            folders.make(root)
        write_marker(ledger.uuid, ledger.generation, root)
    elif marker[0] != ledger.uuid:
        raise LedgerError(
            f"{root} belongs to another ledger than {ledger.path}: name another folder in"
            " `parquet_dir`"
        )
    _remove_unfinished(root)


def is_parquet_ours(
    folders: OutputFolders, events_dir: Path, rebuilt: str | None, *, writes: bool
) -> bool:
    """For a rebuild: whether the Parquet folder is of the same ledger as an output folder.

    By default it lies beside that, where that of another output folder may lie. `rebuilt`: the
    ledger that a rebuild which was killed may have marked it with. If Parquet is written, an empty
    folder is taken; LedgerError is raised for another's.
    """
    root = folders.roots[Kind.PARQUET]
    ours, marker = read_marker(events_dir), read_marker(root)
    if ours is None:
        raise AssertionError(f"{events_dir} has no marker")
    is_new = marker is None and writes and not _holds_files(root)
    if is_new:
        with disk_errors(root):
            folders.make(root)
    if is_new or (marker is not None and marker[0] == rebuilt):
        replace_marker(*ours, root)
        return True
    if marker is not None and marker[0] == ours[0]:
        return True
    if writes:
        raise LedgerError(
            f"{root} holds files of another ledger than that of {events_dir}: name another folder"
            " in `parquet_dir`"
        )
    return False


def check_belongs(ledger: Ledger, events_dir: Path) -> None:
    """Look whether a ledger is that of an output folder, without changing either.

    Raises LedgerError if the folder is another's, or newer.
    """
    marker = read_marker(events_dir)
    if marker is not None:
        _compare(ledger, *marker, events_dir)


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


def _remove_unfinished(events_dir: Path) -> None:
    """Remove what is left of markers whose writer died in the instant before they were named."""
    for path in events_dir.glob(f"{MARKER}.*"):
        with disk_errors(path), suppress(FileNotFoundError):  # it may have been named since
            if time.time() - path.lstat().st_mtime > _UNFINISHED_SECONDS:
                path.unlink()


def _warn_if_open(folders: OutputFolders) -> None:
    """Folders that we make are private; one that was there keeps the mode that somebody gave it."""
    for root in folders.roots.values():
        mode = root.stat().st_mode & 0o777 if root.is_dir() else 0
        if mode & 0o077:
            log.warning("%s is open to other users (mode %o): chmod 700 it", root, mode)


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


def _check_beginning(ledger: Ledger, events_dir: Path, *, holds_files: bool, unused: bool) -> None:
    """Where there is no marker, ledger and folder are both new; or both are not."""
    if not unused and not holds_files:
        raise LedgerError(
            f"{ledger.path} knows of events in an output folder, and {events_dir} is empty:"
            " name that folder in `events_dir`, or another file in `state_db` to start over"
        )
    if unused and holds_files:
        raise _foreign(events_dir)


def _foreign(events_dir: Path) -> LedgerError:
    """Proposes a folder beside it that is not there."""
    names = (f"{events_dir.name}-ctrail{number}" for number in ("", *range(2, 1000)))
    free = next(name for name in names if not (events_dir.parent / name).exists())
    return LedgerError(_FOREIGN.format(events_dir, free))


def _compare(ledger: Ledger, name: str, generation: int, events_dir: Path) -> None:
    if name != ledger.uuid:
        raise LedgerError(
            f"{events_dir} belongs to another ledger than {ledger.path}: set `state_db` and"
            " `events_dir` to two that belong together"
        )
    if generation > ledger.generation:
        raise LedgerError(
            f"{ledger.path} is older than {events_dir} (generation {ledger.generation}, the folder"
            f" says {generation}): an older copy was restored; restore the newest one, or make a"
            " new one of the output with `ctrail rebuild`"
        )


def _holds_files(events_dir: Path) -> bool:
    """Whether anything lies in the folder, staging and marker files apart."""
    try:
        return any(not path.name.startswith(".") for path in events_dir.iterdir())
    except FileNotFoundError:
        return False
