"""Moving house (`ctrail ledger copy`): a ledger moves to another place, on the same engine or not.

The order makes every instant safe. The new ledger is closed from its first moment. The old ledger
is closed, then open batches are finished, rows are copied, and both ledgers are compared. Then the
output folder's marker names the new ledger, which is opened last. So at most one of the two can be
used, and no backup of the old ledger ever fits the output again. A copy that was stopped goes on
when the command runs again.
"""

import logging
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path
from typing import NamedTuple

from ctrail_pipeline.core.batch.commit_outcome import note_generation
from ctrail_pipeline.core.batch.recovery import recover
from ctrail_pipeline.core.claims import lock_alone
from ctrail_pipeline.core.exceptions import ConfigurationError, LedgerError
from ctrail_pipeline.core.ledger.admission import BEING_COPIED
from ctrail_pipeline.core.ledger.batches import abort_batch, open_batches
from ctrail_pipeline.core.ledger.cold_rows import bring_all_back
from ctrail_pipeline.core.ledger.copying import (
    copy_facts,
    copy_rows,
    first_difference,
    remove_rows,
)
from ctrail_pipeline.core.ledger.ledger import Ledger
from ctrail_pipeline.core.ledger.presence import ledger_exists
from ctrail_pipeline.core.ledger.queries_restage import lost_files
from ctrail_pipeline.core.ledger_address import LedgerAddress
from ctrail_pipeline.core.matching_ledger import check_belongs, claim_machine
from ctrail_pipeline.core.output.interface import Output
from ctrail_pipeline.core.output.marker import replace_marker
from ctrail_pipeline.core.output.open_output import open_output
from ctrail_pipeline.core.output_files import Kind
from ctrail_pipeline.core.settings import Settings

from .restage import restaging

log = logging.getLogger(__name__)


class Copied(NamedTuple):
    """What a copy did."""

    rows: int
    """Rows of the new ledger; 0 if nothing was left to copy."""
    size: int
    """Bytes that the new ledger takes."""


def copy_ledger(
    settings: Settings,
    old: LedgerAddress,
    new: LedgerAddress,
    *,
    observe: Callable[[str], None] = lambda _step: None,
) -> Copied:
    """Move the ledger of an output folder to another place, and return when it is whole there.

    Paths are absolute. `observe` is told each step: made, closed, those of the recovery, warmed,
    copied, verified, marked, opened. Raises ConfigurationError if there is no ledger to copy, or
    another ledger is in the new place; LedgerError if a run is at work, or a ledger fails.
    """
    if old == new:
        raise ConfigurationError(f"{old}: the two ledgers must be two")
    if not ledger_exists(old):
        raise ConfigurationError(f"{old}: there is no ledger")
    output = open_output(settings)
    if output.read_marker(Kind.EVENTS) is None:
        where = output.location(Kind.EVENTS)
        raise ConfigurationError(f"{where} is not the output folder of {old}")
    with ExitStack() as stack:
        stack.enter_context(closing(lock_alone(old, output, "copy")))
        stack.enter_context(closing(output))
        source = stack.enter_context(closing(Ledger(old, closed="")))
        is_marked = _refuse_others(source, old, new, output)
        target = stack.enter_context(closing(Ledger(new, closed=f"{BEING_COPIED}{old}")))
        observe("made")
        rows = 0
        if not is_marked:
            _close(source, target, new)
            note_generation(source, output)
            observe("closed")
            _finish_batches(settings, source, output, observe)
            bring_all_back(source, observe)
            rows = copy_rows(source, target, observe)
            _verify(source, target)
            observe("verified")
        _mark(source, target, output, observe)
        with target.transaction():
            target.set_closed("")
        observe("opened")
        return Copied(rows, target.size())


def _refuse_others(source: Ledger, old: LedgerAddress, new: LedgerAddress, output: Output) -> bool:
    """Refuse ledgers of other outputs; return whether the output names the new ledger already."""
    if ledger_exists(new) and not (isinstance(new, Path) and not new.stat().st_size):
        with closing(Ledger(new, closed="")) as target:
            marker = output.read_marker(Kind.EVENTS)
            is_marked = marker is not None and marker.ledger == target.uuid
            is_ours = target.closed == f"{BEING_COPIED}{old}"
            if is_marked and (is_ours or source.closed == str(new)):
                return True
            if not is_ours:
                raise ConfigurationError(
                    f"{new} holds a ledger already: name an empty database, or a new file"
                )
    check_belongs(source, output)
    claim_machine(source, output)  # another one could not finish batches
    return False


def _close(source: Ledger, target: Ledger, new: LedgerAddress) -> None:
    """Close the old ledger; if it was in use since an earlier copy, that copy counts no more.

    A higher generation has every backup of the old ledger count as older, from now on.
    """
    if source.closed == str(new):
        return
    with target.transaction():
        remove_rows(target)
    with source.transaction():
        source.set_closed(str(new))
        source.advance_generation()
    log.info("%s is closed: it moves to %s", source.path, new)


def _finish_batches(
    settings: Settings, source: Ledger, output: Output, observe: Callable[[str], None]
) -> None:
    """Finish or drop all batches. Raises LedgerError if the owner of one lives.

    A batch of which files are lost is copied as it is: later runs try to make these files again.
    """
    recover(source, output, restaging(source, output, settings), observe)
    lost = {file.batch for file in lost_files(source)}
    # What is left was begun a moment ago, by a run that died before it staged anything; or its
    # owner lives, on a file system without locks.
    for batch in open_batches(source):
        if batch.id not in lost and not abort_batch(source, batch.id):
            raise LedgerError(
                f"a run is at work in {output.location(Kind.EVENTS)}: stop it, then copy again"
            )


def _verify(source: Ledger, target: Ledger) -> None:
    """Compare the two ledgers, row by row. Raises LedgerError if they differ."""
    with target.transaction():
        copy_facts(source, target)
    difference = first_difference(source, target)
    if difference is not None:
        with target.transaction():
            remove_rows(target)
        raise LedgerError(
            f"{target.path} differs from {source.path} ({difference}): copy again, and check disk"
            " and memory if this comes back"
        )


def _mark(source: Ledger, target: Ledger, output: Output, observe: Callable[[str], None]) -> None:
    """Have the output belong to the new ledger: the marker of the events decides.

    Parquet comes second. If this run is killed between the two, the new ledger is still closed.
    """
    name, generation, former = target.uuid, target.generation, source.uuid
    for kind in (Kind.EVENTS, Kind.PARQUET):
        marker = output.read_marker(kind)
        if marker is not None and marker.ledger == former:
            replace_marker(output, kind, name, generation)
        observe("marked")
