"""What becomes of a batch whose commit failed: whether it counts, and how it is given up.

Whatever commits a batch (a sync, its worker processes, a compaction) asks here, and nowhere else.
"""

import logging
from collections.abc import Iterable

from ctrail_pipeline.core.exceptions import LedgerError
from ctrail_pipeline.core.ledger.batches import abort_batch, batch_state
from ctrail_pipeline.core.ledger.ledger import Ledger
from ctrail_pipeline.core.ledger.rows import BatchState
from ctrail_pipeline.core.output.folders import OutputFolders
from ctrail_pipeline.core.output.marker import write_marker
from ctrail_pipeline.core.output.staging import Staging
from ctrail_pipeline.core.output_files import Kind

log = logging.getLogger(__name__)


def commit_took_effect(ledger: Ledger, batches: Iterable[int]) -> bool:
    """Whether a transaction that ended with an error committed batches nevertheless.

    The rule: the error of a COMMIT does not say whether the COMMIT took effect. Only the ledger
    knows. So the ledger is opened anew, and the state of the batches is read. A transaction counts
    as a whole: if one of its batches is committed, everything that the transaction wrote is there.
    The batches are then published. Otherwise nothing of them counts, and they are given up.

    `batches`: those that the transaction was to commit. Raises LedgerError if the ledger cannot be
    opened or read; recovery decides then.
    """
    ledger.reopen()
    return any(batch_state(ledger, batch) is BatchState.COMMITTED for batch in batches)


def note_generation(ledger: Ledger, folders: OutputFolders) -> None:
    """Note the generation that a commit raised in the output folder's marker.

    Whoever committed, or recovers what another run committed, does so before anything of the commit
    is published. So a copy of the ledger that does not know what is published is older than the
    folder says, and is refused. Raises OutputError or LedgerError.
    """
    write_marker(ledger.uuid, ledger.generation, folders.roots[Kind.EVENTS])


def abandon(ledger: Ledger, batch: int, staging: Staging) -> None:
    """Give up a batch, unless it is committed: recovery by the next run publishes it then.

    If not even the ledger can be written, recovery gives the batch up.
    """
    try:
        aborted = abort_batch(ledger, batch)
    except LedgerError as error:
        log.warning("batch %d is left to the next run to clean up: %s", batch, error)
        aborted = False
    if aborted:
        staging.remove()
    else:
        staging.close()
