"""Opening the ledger and the output folders that belong together, or refusing to.

A ledger that is missing, older than its output, or of another output would write every event a
second time. Such a ledger is refused here, before any work, and the user reads what to do. Every
output folder says in its marker file which ledger it belongs to; `core.output.marker` reads and
writes markers.
"""

import logging
from pathlib import Path
from typing import Final

from ctrail_pipeline.core.ledger.ledger import Ledger
from ctrail_pipeline.core.ledger.machine import claim_for_this_machine
from ctrail_pipeline.core.ledger.output_numbers import holds_output
from ctrail_pipeline.core.ledger.presence import ledger_exists
from ctrail_pipeline.core.output.folder_lock import share_folder
from ctrail_pipeline.core.output.folders import OutputFolders, holds_files
from ctrail_pipeline.core.output.marker import (
    read_marker,
    remove_unfinished_markers,
    replace_marker,
    write_marker,
)

from .durable import disk_errors
from .exceptions import LedgerError
from .ledger_address import LedgerAddress
from .output_files import Kind

log = logging.getLogger(__name__)

_FOREIGN: Final = (
    "{} holds files that were not written by this program, which never overwrites any: name another"
    ' folder in `events_dir`, such as "{}"'
)


def open_ledger(state_db: LedgerAddress, events_dir: Path, folders: OutputFolders) -> Ledger:
    """Open the ledger that belongs to an output folder; make both where they are new.

    Raises LedgerError if the two do not belong together.
    """
    marker = read_marker(events_dir)
    exists = ledger_exists(state_db)
    is_empty = exists and isinstance(state_db, Path) and not state_db.stat().st_size
    if marker is not None and (is_empty or not exists):
        raise LedgerError(
            f"{state_db} is {'empty' if exists else 'missing'}, and {events_dir} holds"
            " events that it knew of: restore the ledger from a backup, make a new one of the"
            " output with `ctrail rebuild`, or name an empty folder in `events_dir` to start over"
        )
    if marker is None and not exists and holds_files(events_dir):
        raise _foreign(events_dir)
    lock = share_folder(events_dir) if events_dir.is_dir() else None
    ledger = None
    try:
        ledger = Ledger(state_db)
        # In this order, as another run may begin this folder meanwhile: that run writes the marker
        # first, so we look for the marker last.
        has_files, unused = holds_files(events_dir), ledger.is_unused()
        marker = read_marker(events_dir)
        if marker is not None:
            _compare(ledger, *marker, events_dir)
            claim_for_this_machine(ledger)
        else:
            _check_beginning(ledger, events_dir, has_files=has_files, unused=unused)
            claim_for_this_machine(ledger)
            with disk_errors(events_dir):
                folders.make(events_dir)
            lock = lock or share_folder(events_dir)  # no rebuild begins before there is a marker
            write_marker(ledger.uuid, ledger.generation, events_dir)
        if lock is None:  # another run made the folder just now
            lock = share_folder(events_dir)
            check_belongs(ledger, events_dir)
        remove_unfinished_markers(events_dir)
        _warn_if_open(folders)
    except BaseException:
        if ledger is not None:
            ledger.close()
        if lock is not None:
            lock.close()
        raise
    ledger.hold(lock)
    return ledger


def claim_parquet(ledger: Ledger, folders: OutputFolders) -> None:
    """Have the Parquet folder belong to the ledger, before anything is written into it.

    The folder is made where it is new. Raises LedgerError if it holds what another ledger wrote, as
    a reader would find these events twice. Raises LedgerError, too, if what this ledger wrote lies
    in another folder.
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


def claim_parquet_for_rebuild(
    folders: OutputFolders, events_dir: Path, rebuilt: str | None, *, writes: bool
) -> bool:
    """Return whether the Parquet folder belongs to the ledger of an output folder; claim a new one.

    By default it lies beside the output folder, where the Parquet folder of another output may lie.
    `rebuilt` is the ledger whose name a killed rebuild may have left in the marker. If Parquet is
    written, an empty folder is claimed, and LedgerError is raised for a folder of another ledger.
    """
    root = folders.roots[Kind.PARQUET]
    events_marker, marker = read_marker(events_dir), read_marker(root)
    if events_marker is None:
        raise AssertionError(f"{events_dir} has no marker")
    is_new = marker is None and writes and not holds_files(root)
    if is_new:
        with disk_errors(root):
            folders.make(root)
    if is_new or (marker is not None and marker[0] == rebuilt):
        replace_marker(*events_marker, root)
        return True
    if marker is not None and marker[0] == events_marker[0]:
        return True
    if writes:
        raise LedgerError(
            f"{root} holds files of another ledger than that of {events_dir}: name another folder"
            " in `parquet_dir`"
        )
    return False


def check_belongs(ledger: Ledger, events_dir: Path) -> None:
    """Check that a ledger belongs to an output folder, without changing either.

    Raises LedgerError if the folder belongs to another ledger, or is newer than this one.
    """
    marker = read_marker(events_dir)
    if marker is not None:
        _compare(ledger, *marker, events_dir)


def _warn_if_open(folders: OutputFolders) -> None:
    """Warn of folders that others may read: a folder that was there keeps the mode that it has."""
    for root in folders.roots.values():
        mode = root.stat().st_mode & 0o777 if root.is_dir() else 0
        if mode & 0o077:
            log.warning("%s is open to other users (mode %o): chmod 700 it", root, mode)


def _check_beginning(ledger: Ledger, events_dir: Path, *, has_files: bool, unused: bool) -> None:
    """Refuse a ledger and a folder without marker, if only one of the two is new."""
    if not unused and not has_files:
        raise LedgerError(
            f"{ledger.path} knows of events in an output folder, and {events_dir} is empty:"
            " name that folder in `events_dir`, or another file in `state_db` to start over"
        )
    if unused and has_files:
        raise _foreign(events_dir)


def _foreign(events_dir: Path) -> LedgerError:
    """Refuse a folder with files of others, and propose a folder beside it that is not there."""
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
