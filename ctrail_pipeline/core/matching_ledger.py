"""Opening the ledger and the output that belong together, or refusing to.

A ledger that is missing, older than its output, or of another output would write every event a
second time. Such a ledger is refused here, before any work, and the user reads what to do. Each
root of an output has a marker that says which ledger it belongs to (`core.output.marker`).
"""

from pathlib import Path
from typing import Final

from ctrail_pipeline.core.ledger.ledger import Ledger
from ctrail_pipeline.core.ledger.machine import belong_to_no_machine, claim_for_this_machine
from ctrail_pipeline.core.ledger.output_numbers import holds_output
from ctrail_pipeline.core.ledger.presence import ledger_exists
from ctrail_pipeline.core.output.interface import Marker, Output
from ctrail_pipeline.core.output.marker import replace_marker, write_marker

from .claims import can_lock, share
from .exceptions import LedgerError
from .ledger_address import LedgerAddress
from .output_files import Kind

_FOREIGN: Final = (
    "{} holds files that were not written by this program, which never overwrites any: name another"
    ' folder in `events_dir`, such as "{}"'
)


def open_ledger(state_db: LedgerAddress, output: Output) -> Ledger:
    """Open the ledger that belongs to an output; make both where they are new.

    Raises LedgerError if the two do not belong together.
    """
    where = output.location(Kind.EVENTS)
    marker = output.read_marker(Kind.EVENTS)
    exists = ledger_exists(state_db)
    is_empty = exists and isinstance(state_db, Path) and not state_db.stat().st_size
    if marker is not None and (is_empty or not exists):
        raise LedgerError(
            f"{state_db} is {'empty' if exists else 'missing'}, and {where} holds"
            " events that it knew of: restore the ledger from a backup, make a new one of the"
            " output with `ctrail rebuild`, or name an empty folder in `events_dir` to start over"
        )
    if marker is None and not exists and output.holds_files(Kind.EVENTS):
        raise _foreign(output)
    lock = share(state_db, output) if can_lock(state_db, output) else None
    ledger = None
    try:
        ledger = Ledger(state_db)
        # In this order, as another run may begin this output meanwhile: that run writes the marker
        # first, so we look for the marker last.
        has_files, unused = output.holds_files(Kind.EVENTS), ledger.is_unused()
        marker = output.read_marker(Kind.EVENTS)
        if marker is not None:
            _compare(ledger, marker, where)
            claim_machine(ledger, output)
        else:
            _check_beginning(ledger, output, has_files=has_files, unused=unused)
            claim_machine(ledger, output)
            output.make(Kind.EVENTS)
            lock = lock or share(state_db, output)  # no rebuild begins before there is a marker
            write_marker(output, Kind.EVENTS, ledger.uuid, ledger.generation)
        if lock is None:  # another run made the root just now
            lock = share(state_db, output)
            check_belongs(ledger, output)
        output.remove_unfinished_markers(Kind.EVENTS)
        output.warn_if_open()
        output.stage_for(ledger.uuid)
    except BaseException:
        if ledger is not None:
            ledger.close()
        if lock is not None:
            lock.close()
        raise
    ledger.hold(lock)
    return ledger


def claim_machine(ledger: Ledger, output: Output) -> None:
    """Note that a local output is on this machine; an output in a bucket is on none.

    Raises LedgerError if another machine is noted.
    """
    if output.lock_folder is not None:
        claim_for_this_machine(ledger)
    else:
        belong_to_no_machine(ledger)


def claim_parquet(ledger: Ledger, output: Output) -> None:
    """Have the Parquet root belong to the ledger, before anything is written into it.

    The root is made where it is new. Raises LedgerError if it holds what another ledger wrote, as
    a reader would find these events twice. Raises LedgerError, too, if what this ledger wrote lies
    elsewhere.
    """
    root = output.location(Kind.PARQUET)
    # In this order, as another run may begin this root meanwhile: see `open_ledger`.
    in_root, in_ledger = output.holds_files(Kind.PARQUET), holds_output(ledger, Kind.PARQUET)
    marker = output.read_marker(Kind.PARQUET)
    if marker is None:
        if in_root:
            raise LedgerError(
                f"{root} holds files that are not of {ledger.path}: name another folder in"
                " `parquet_dir`, or empty this one"
            )
        if in_ledger:
            raise LedgerError(
                f"{ledger.path} knows of Parquet files, and {root} has none: name the folder that"
                ' they are in, in `parquet_dir`, or leave "parquet" out of `output_formats`'
            )
        output.make(Kind.PARQUET)
        write_marker(output, Kind.PARQUET, ledger.uuid, ledger.generation)
    elif marker.ledger != ledger.uuid:
        raise LedgerError(
            f"{root} belongs to another ledger than {ledger.path}: name another folder in"
            " `parquet_dir`"
        )
    output.remove_unfinished_markers(Kind.PARQUET)


def claim_parquet_for_rebuild(output: Output, rebuilt: str | None, *, writes: bool) -> bool:
    """Return whether the Parquet root belongs to the ledger of an output; claim a new one.

    By default it lies beside the events, where the Parquet of another output may lie. `rebuilt` is
    the ledger whose name a killed rebuild may have left in the marker. If Parquet is written, an
    empty root is claimed, and LedgerError is raised for a root of another ledger.
    """
    events_marker = output.read_marker(Kind.EVENTS)
    marker = output.read_marker(Kind.PARQUET)
    where = output.location(Kind.EVENTS)
    if events_marker is None:
        raise AssertionError(f"{where} has no marker")
    is_new = marker is None and writes and not output.holds_files(Kind.PARQUET)
    if is_new:
        output.make(Kind.PARQUET)
    if is_new or (marker is not None and marker.ledger == rebuilt):
        replace_marker(output, Kind.PARQUET, *events_marker)
        return True
    if marker is not None and marker.ledger == events_marker.ledger:
        return True
    if writes:
        raise LedgerError(
            f"{output.location(Kind.PARQUET)} holds files of another ledger than that of {where}:"
            " name another folder in `parquet_dir`"
        )
    return False


def check_belongs(ledger: Ledger, output: Output) -> None:
    """Check that a ledger belongs to an output, without changing either.

    Raises LedgerError if the output belongs to another ledger, or is newer than this one.
    """
    marker = output.read_marker(Kind.EVENTS)
    if marker is not None:
        _compare(ledger, marker, output.location(Kind.EVENTS))


def _check_beginning(ledger: Ledger, output: Output, *, has_files: bool, unused: bool) -> None:
    """Refuse a ledger and an output without marker, if only one of the two is new."""
    if not unused and not has_files:
        raise LedgerError(
            f"{ledger.path} knows of events in an output folder, and"
            f" {output.location(Kind.EVENTS)} is empty: name that folder in"
            " `events_dir`, or another file in `state_db` to start over"
        )
    if unused and has_files:
        raise _foreign(output)


def _foreign(output: Output) -> LedgerError:
    """Refuse an output with files of others, and propose a place beside it where nothing is."""
    return LedgerError(_FOREIGN.format(output.location(Kind.EVENTS), output.free_name()))


def _compare(ledger: Ledger, marker: Marker, where: str) -> None:
    if marker.ledger != ledger.uuid:
        raise LedgerError(
            f"{where} belongs to another ledger than {ledger.path}: set `state_db` and"
            " `events_dir` to two that belong together"
        )
    if marker.generation > ledger.generation:
        raise LedgerError(
            f"{ledger.path} is older than {where} (generation {ledger.generation}, the folder"
            f" says {marker.generation}): an older copy was restored; restore the newest one, or"
            " make a new one of the output with `ctrail rebuild`"
        )
