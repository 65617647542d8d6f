"""What becomes of a batch whose commit failed: whether it counts, and how it is given up.

Whatever commits a batch (a sync, its worker processes, a compaction) asks here, and nowhere else.
"""

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from ctrail_pipeline.core.exceptions import LedgerError, OutputError
from ctrail_pipeline.core.ledger.batches import abort_batch, batch_state
from ctrail_pipeline.core.ledger.ledger import Ledger
from ctrail_pipeline.core.ledger.rows import BatchState, StaleBatch
from ctrail_pipeline.core.matching_ledger import check_belongs
from ctrail_pipeline.core.output.interface import Output, Staging
from ctrail_pipeline.core.output.marker import write_marker
from ctrail_pipeline.core.output_files import Kind

log = logging.getLogger(__name__)


def commit_took_effect(ledger: Ledger, output: Output, batches: Iterable[int]) -> bool:
    """Decide whether a transaction that ended with an error committed batches nevertheless.

    The error of a COMMIT does not say whether the COMMIT took effect, and reading the ledger does
    not say so either: the server may still be at work on that COMMIT. So the ledger is opened anew,
    and the batches are aborted unless they are decided. That waits until the old transaction is
    over. If one batch can be aborted, the transaction left nothing, and nothing of it can appear
    later. A batch that is decided already was committed, or given up by another run's recovery.

    `batches`: those that the transaction was to commit. They count together or not at all. Raises
    LedgerError if the ledger cannot be opened, is another or an older one now, or cannot be
    written: the next run's recovery decides then.
    """
    ledger.reopen()
    check_belongs(ledger, output)
    batches = list(batches)
    aborted = [batch for batch in batches if abort_batch(ledger, batch)]
    if aborted:
        return False
    return any(
        batch_state(ledger, batch) in (BatchState.COMMITTED, BatchState.PUBLISHED)
        for batch in batches
    )


@contextmanager
def stale_if_given_up(ledger: Ledger, batch: int) -> Iterator[None]:
    """Stage a batch inside; raise StaleBatch if that fails as another run has given the batch up.

    A run that was paused for long is taken for dead: another run's recovery removes what it staged.
    All other errors stay what they are.
    """
    try:
        yield
    except OutputError as error:
        if is_given_up(ledger, batch):
            raise StaleBatch("another run took this one for dead") from error
        raise


def is_given_up(ledger: Ledger, batch: int) -> bool:
    """Whether a batch is given up, by this run or by another one that took this one for dead."""
    return batch_state(ledger, batch) is BatchState.ABORTED


def is_published(ledger: Ledger, batch: int) -> bool:
    """Whether a batch is published, by this run or by another one that took this one for dead.

    Its files may be gone since: merged into others, or pruned.
    """
    return batch_state(ledger, batch) is BatchState.PUBLISHED


def note_generation(ledger: Ledger, output: Output) -> None:
    """Note the generation that a commit raised in the output's marker.

    Whoever committed, or recovers what another run committed, does so before anything of the commit
    is published. So a copy of the ledger that does not know what is published is older than the
    output says, and is refused. Raises OutputError or LedgerError.
    """
    write_marker(output, Kind.EVENTS, *ledger.uuid_and_generation())


def abandon(ledger: Ledger, batch: int, staging: Staging) -> None:
    """Give up a batch, unless it is committed: recovery by the next run publishes it then.

    If not even the ledger can be written, recovery gives the batch up.
    """
    try:
        # A batch may be aborted already: by `commit_took_effect`, or by another run's recovery.
        aborted = abort_batch(ledger, batch) or batch_state(ledger, batch) is BatchState.ABORTED
    except LedgerError as error:
        log.warning("batch %d is left to the next run to clean up: %s", batch, error)
        aborted = False
    if aborted:
        staging.remove()
    else:
        staging.close()
