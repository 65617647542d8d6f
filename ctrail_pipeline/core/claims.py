"""Who works on an output: any number of runs, or whoever rebuilds or moves its ledger, alone.

Without that, a run that has nothing staged just then would go on with a ledger that was set aside,
and write what the new ledger does not know of.

A local output is locked by its folder. An output in a bucket has none. With a ledger in SQLite,
which lies on one machine itself, a file beside the ledger is locked instead. With a ledger in
PostgreSQL, which any machine may have open, leases say who lives (`core.ledger.leases`): of each
run, and of a rebuild or a move. A lease lapses by itself, so a killed rebuild locks nobody out for
long.
"""

from contextlib import AbstractContextManager, ExitStack, closing
from pathlib import Path

from .exceptions import LedgerError
from .flocks import Flock
from .ledger.admission import BEING_REBUILT
from .ledger.leases import alone, leased
from .ledger.ledger import Closable, Ledger
from .ledger_address import LedgerAddress
from .output.interface import Output
from .output_files import Kind


def share(address: LedgerAddress, output: Output) -> Closable:
    """Take part in the work on an output. Raises LedgerError during a rebuild or a move.

    Where leases say who lives, nothing is locked: `at_work` takes the lease.
    """
    path = _lock_path(address, output)
    if path is None:
        return ExitStack()
    try:
        return Flock(path, shared=True)
    except BlockingIOError as error:
        raise LedgerError(
            f"the ledger of {output.location(Kind.EVENTS)} is being rebuilt or moved: run again"
            " when that is done"
        ) from error


def can_lock(address: LedgerAddress, output: Output) -> bool:
    """Whether there is something to lock; if not, nobody can be at work yet."""
    path = _lock_path(address, output)
    return path is None or path.is_dir() or (output.lock_folder is None and path.parent.is_dir())


def lock_alone(address: LedgerAddress, output: Output, command: str) -> Closable:
    """Keep all runs out of an output. Raises LedgerError if one is at work.

    `command`: what the lock is for, such as "rebuild".
    """
    where, path = output.location(Kind.EVENTS), _lock_path(address, output)
    if path is None:
        with ExitStack() as stack:
            ledger = stack.enter_context(closing(Ledger(address, closed=BEING_REBUILT)))
            stack.enter_context(alone(ledger, where, command))
            return stack.pop_all()
    try:
        return Flock(path)
    except BlockingIOError as error:
        raise LedgerError(f"a run is at work in {where}: stop it, then {command}") from error


def at_work(ledger: Ledger, output: Output) -> AbstractContextManager[None]:
    """Have other runs know that this one lives, and works on the batches that it registers.

    Raises LedgerError during a rebuild or a move.
    """
    return leased(ledger, locks_folders=output.lock_folder is not None)


def _lock_path(address: LedgerAddress, output: Output) -> Path | None:
    """Return what is locked; None where leases say who lives."""
    if output.lock_folder is not None:
        return output.lock_folder
    if isinstance(address, Path):
        return address.with_name(f"{address.name}.lock")
    return None
