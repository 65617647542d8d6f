"""Finishes what an earlier run left unfinished when it died.

Batches that were committed are published; others are dropped. A committed batch is never taken
back: what vanished of it is made again. Files whose removal was decided (pruned, or merged into
other files) are removed.

Every run begins with this, while other runs may be at work: a batch whose owner lives is left
alone. Whether an owner lives only saves work. The commit checks that nothing counts twice.
"""

import logging
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from ctrail_pipeline.core.exceptions import OutputError
from ctrail_pipeline.core.ledger.batches import abort_batch, mark_published, open_batches
from ctrail_pipeline.core.ledger.leases import claim, has_lapsed, is_abandoned
from ctrail_pipeline.core.ledger.ledger import Ledger
from ctrail_pipeline.core.ledger.output_numbers import published_files, rename_output_file
from ctrail_pipeline.core.ledger.queries_compaction import (
    is_compaction,
    publish_compaction,
)
from ctrail_pipeline.core.ledger.queries_prune import files_to_remove, note_removed
from ctrail_pipeline.core.ledger.queries_restage import note_restaged
from ctrail_pipeline.core.ledger.rows import BatchRow, BatchState
from ctrail_pipeline.core.output.interface import Output, Staging
from ctrail_pipeline.core.output_files import Kind, PublishedFile

from .commit_outcome import is_published, note_generation
from .lost_files import lost_files
from .restage import Restage, Restaged

log = logging.getLogger(__name__)

_REMOVED_AT_ONCE: Final = 1_000
_FOLDERLESS_SECONDS: Final = 60
"""Age after which a staging batch without a folder is dead. The folder is made right after its row
in the ledger."""


def recover(
    ledger: Ledger, output: Output, restage: Restage, observe: Callable[[str], None]
) -> None:
    """Finish or drop every batch whose owner is gone, and remove staged files without a batch.

    `restage` makes vanished files again. A batch with a file that cannot be made again now stays
    committed, and its lost files are logged. `observe` is told the steps: restaged, noted, linked,
    recovered, removed. Raises OutputError if what lies in place of the staged files is not ours to
    remove.
    """
    # Tokens are read before rows. A batch's row is always older than its staged files, so a token
    # that was read without a row has no batch.
    tokens = output.staging_tokens()
    unfinished = open_batches(ledger)
    for batch in unfinished:
        staging = output.staging_of(batch.token)
        try:
            if not _becomes_ours(ledger, output, staging, batch):
                continue
            if batch.state is BatchState.COMMITTED:
                _publish(ledger, output, staging, batch, restage, observe)
            elif abort_batch(ledger, batch.id):
                staging.remove()
            observe("recovered")
        finally:
            staging.close()
    for token in tokens - {batch.token for batch in unfinished}:
        staging = output.staging_of(token)
        if not staging.owner_lives():
            staging.remove()
    output.remove_unowned_staging()
    finish_pruning(ledger, output, observe)


def _becomes_ours(ledger: Ledger, output: Output, staging: Staging, batch: BatchRow) -> bool:
    """Whether the owner of a batch is gone, or paused for long, and no other run was faster."""
    if output.lock_folder is None:
        return is_abandoned(ledger, batch) and claim(ledger, batch)
    alive = staging.owner_lives()
    if alive and not has_lapsed(ledger, batch):
        return False
    if (
        alive is None
        and batch.state is BatchState.STAGING
        and abs(time.time() - batch.created_at) < _FOLDERLESS_SECONDS
    ):
        return False
    return claim(ledger, batch)


def finish_pruning(ledger: Ledger, output: Output, observe: Callable[[str], None]) -> None:
    """Remove the output files whose removal was decided, by this run or by another one."""
    while files := files_to_remove(ledger, _REMOVED_AT_ONCE):
        note_generation(ledger, output)
        output.remove(files)
        observe("removed")
        with ledger.transaction():
            note_removed(ledger, files)


def _publish(
    ledger: Ledger,
    output: Output,
    staging: Staging,
    batch: BatchRow,
    restage: Restage,
    observe: Callable[[str], None],
) -> None:
    """Publish a committed batch, and make again what vanished of it."""
    note_generation(ledger, output)
    files = published_files(ledger, batch.id)
    restaged = Restaged([], {})
    vanished = _link(ledger, staging, batch, files, observe)
    if vanished and not is_published(ledger, batch.id):
        log.warning(
            "%d files of an interrupted batch vanished before they were published: they are made"
            " again",
            len(vanished),
        )
        restaged = restage(batch, staging, vanished)
        observe("restaged")
        with ledger.transaction():
            is_ours = note_restaged(ledger, batch.id, restaged.files, restaged.lost)
        observe("noted")
        # Unless another run has published the batch, so that what is gone was removed on purpose.
        made = {file.part for file in restaged.files} if is_ours else set()
        again = [file for file in published_files(ledger, batch.id) if file.part in made]
        gone = _link(ledger, staging, batch, again, observe)
        if gone and not is_published(ledger, batch.id):
            raise OutputError(
                f"{output.location(Kind.EVENTS)}: files of batch {batch.id} vanished twice before"
                " they were published: look who removes staged files, then run again"
            )
    # The staged files go before the batch counts as published. So a run that was paused, and goes
    # on after others have merged or pruned these files, finds nothing that it could name again.
    staging.remove()
    if restaged.lost:
        for lost in lost_files(ledger, output):
            if lost.batch == batch.id:
                log.error("%s (%s)", lost, restaged.lost[lost.part])
        return
    with ledger.transaction():
        note_restaged(ledger, batch.id, [], ())  # a file that was lost may be there again
        if is_compaction(ledger, batch.id):
            publish_compaction(ledger, batch.id)
        else:
            mark_published(ledger, [batch.id])
    log.info("finished publishing an interrupted batch of %d files", len(files))


def _link(
    ledger: Ledger,
    staging: Staging,
    batch: BatchRow,
    files: Sequence[PublishedFile],
    observe: Callable[[str], None],
) -> list[PublishedFile]:
    """Give files of a batch their names; return those that vanished."""
    rename = partial(rename_output_file, ledger, batch.id)
    return staging.publish(files, rename, lambda _: observe("linked"))
