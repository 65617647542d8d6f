"""Opens the ledger and the output folders that belong together, or refuses.

A ledger that is missing, older than its output, or another's would write every event a second
time. It is refused here, before any work, with what to do. `output.marker` reads the marker file.
"""

import logging
from pathlib import Path
from typing import Final

from ctrail_pipeline.core.durable import disk_errors
from ctrail_pipeline.core.exceptions import LedgerError
from ctrail_pipeline.core.ledger.ledger import Ledger
from ctrail_pipeline.core.ledger.output_numbers import holds_output
from ctrail_pipeline.core.output.folders import OutputFolders
from ctrail_pipeline.core.output.marker import (
    holds_files,
    read_marker,
    remove_unfinished_markers,
    replace_marker,
    share_folder,
    write_marker,
)
from ctrail_pipeline.core.output_files import Kind

log = logging.getLogger(__name__)

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
    if marker is None and holds_files(events_dir) and not state_db.exists():
        raise _foreign(events_dir)
    lock = share_folder(events_dir) if events_dir.is_dir() else None
    ledger = Ledger(state_db)
    try:
        # In this order, as another run may begin this folder meanwhile: what it writes first, the
        # marker, is looked for last.
        has_files, unused = holds_files(events_dir), ledger.is_unused()
        marker = read_marker(events_dir)
        if marker is not None:
            _compare(ledger, *marker, events_dir)
        else:
            _check_beginning(ledger, events_dir, has_files=has_files, unused=unused)
            with disk_errors(events_dir):
                folders.make(events_dir)
            lock = lock or share_folder(events_dir)  # before there is a marker, nothing is rebuilt
            write_marker(ledger.uuid, ledger.generation, events_dir)
        if lock is None:  # another run made the folder just now
            lock = share_folder(events_dir)
            check_belongs(ledger, events_dir)
        remove_unfinished_markers(events_dir)
        _warn_if_open(folders)
    except BaseException:
        ledger.close()
        if lock is not None:
            lock.close()
        raise
    ledger.hold(lock)
    return ledger


def claim_parquet(ledger: Ledger, folders: OutputFolders) -> None:
    """Have the Parquet folder belong to the ledger, before anything is written into it.

    It is made where it is new. Raises LedgerError if it holds what another ledger wrote, since a
    reader would find these events twice, or if what ours wrote lies in another folder.
    """
    root = folders.roots[Kind.PARQUET]
    # In this order, as another run may begin this folder meanwhile: see `open_ledger`.
    in_folder, in_ledger = holds_files(root), holds_output(ledger, Kind.PARQUET)
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
    remove_unfinished_markers(root)


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
    is_new = marker is None and writes and not holds_files(root)
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


def _warn_if_open(folders: OutputFolders) -> None:
    """Folders that we make are private; one that was there keeps the mode that somebody gave it."""
    for root in folders.roots.values():
        mode = root.stat().st_mode & 0o777 if root.is_dir() else 0
        if mode & 0o077:
            log.warning("%s is open to other users (mode %o): chmod 700 it", root, mode)


def _check_beginning(ledger: Ledger, events_dir: Path, *, has_files: bool, unused: bool) -> None:
    """Where there is no marker, ledger and folder are both new; or both are not."""
    if not unused and not has_files:
        raise LedgerError(
            f"{ledger.path} knows of events in an output folder, and {events_dir} is empty:"
            " name that folder in `events_dir`, or another file in `state_db` to start over"
        )
    if unused and has_files:
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
