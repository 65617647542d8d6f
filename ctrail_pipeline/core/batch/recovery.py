"""Finishes what an earlier run left unfinished when it died.

Batches that were committed are published; others are dropped. Files whose removal was decided
(pruned, or merged into other files) are removed.

Every run begins with this, while other runs may be at work: a batch whose owner lives is left
alone. Whether an owner lives only saves work. The commit checks that nothing counts twice.
"""

import logging
import time
from collections.abc import Callable
from functools import partial
from typing import Final

from ctrail_pipeline.core.ledger.batch_uncommit import uncommit_batch
from ctrail_pipeline.core.ledger.batches import (
    abort_batch,
    batch_state,
    mark_published,
    open_batches,
)
from ctrail_pipeline.core.ledger.leases import claim, has_lapsed
from ctrail_pipeline.core.ledger.ledger import Ledger
from ctrail_pipeline.core.ledger.output_numbers import published_files, rename_output_file
from ctrail_pipeline.core.ledger.queries_compaction import (
    is_compaction,
    publish_compaction,
    uncommit_compaction,
)
from ctrail_pipeline.core.ledger.queries_prune import files_to_remove, note_removed
from ctrail_pipeline.core.ledger.rows import BatchRow, BatchState
from ctrail_pipeline.core.output.interface import Output, Staging
from ctrail_pipeline.core.output_files import PublishedFile

from .commit_outcome import note_generation

log = logging.getLogger(__name__)

_REMOVED_AT_ONCE: Final = 1_000
_FOLDERLESS_SECONDS: Final = 60
"""Age after which a staging batch without a folder is dead. The folder is made right after its row
in the ledger."""


def recover(ledger: Ledger, output: Output, observe: Callable[[str], None]) -> None:
    """Finish or drop every batch whose owner is gone, and remove staged files without a batch.

    Raises OutputError if what lies in place of the staged files is not ours to remove.
    """
    # Tokens are read before rows. A batch's row is always older than its staged files, so a token
    # that was read without a row has no batch.
    tokens = output.staging_tokens()
    unfinished = open_batches(ledger)
    for batch in unfinished:
        staging = output.staging_of(batch.token)
        try:
            if not _becomes_ours(ledger, staging, batch):
                continue
            if batch.state is BatchState.COMMITTED:
                _publish(ledger, output, staging, batch, observe)
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


def _becomes_ours(ledger: Ledger, staging: Staging, batch: BatchRow) -> bool:
    """Whether the owner of a batch is gone, or paused for long, and no other run was faster."""
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
    observe: Callable[[str], None],
) -> None:
    note_generation(ledger, output)
    files = published_files(ledger, batch.id)
    vanished = set(
        staging.publish(
            files,
            partial(rename_output_file, ledger, batch.id),
            lambda _: observe("linked"),
        )
    )
    if vanished:
        _take_back(ledger, output, batch, vanished)
    else:
        with ledger.transaction():
            if is_compaction(ledger, batch.id):
                publish_compaction(ledger, batch.id)
            else:
                mark_published(ledger, [batch.id])
        log.info("finished publishing an interrupted batch of %d files", len(files))
    staging.remove()


def _take_back(
    ledger: Ledger, output: Output, batch: BatchRow, vanished: set[PublishedFile]
) -> None:
    """Take back a committed batch of which files have vanished: its log files are done again.

    The batch's files are removed before its segments, so that no event can be in the output twice.
    All is done in one transaction, and only if the batch is still committed in it. If another run
    has published the batch since, a file that is gone was removed on purpose, and the other files
    are the output.
    """
    with ledger.transaction():
        if batch_state(ledger, batch.id) is not BatchState.COMMITTED:
            return
        log.warning(
            "%d files of an interrupted batch vanished before they were published: all of it is"
            " taken back and done again",
            len(vanished),
        )
        files = published_files(ledger, batch.id)  # read again: publishing may rename files
        # The removal is durable before the ledger forgets the files. Otherwise a power cut could
        # bring them back.
        output.remove([file for file in files if file not in vanished])
        if is_compaction(ledger, batch.id):
            uncommit_compaction(ledger, batch.id)
        else:
            uncommit_batch(ledger, batch.id)
