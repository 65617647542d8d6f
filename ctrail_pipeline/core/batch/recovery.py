"""What an earlier run left unfinished when it died: publish what it committed, drop the rest.

What it had decided to remove (pruned, or merged into other files) is removed.

Done at the start of every run, while others may be at work: a batch whose owner lives is left
alone. Whether an owner lives only saves work; that nothing counts twice is what the commit checks.
"""

import logging
import time
from collections.abc import Callable
from functools import partial
from typing import Final

from ctrail_pipeline.core.durable import fsync_folder
from ctrail_pipeline.core.ledger.batch_uncommit import uncommit_batch
from ctrail_pipeline.core.ledger.batches import (
    abort_batch,
    batch_state,
    mark_published,
    open_batches,
)
from ctrail_pipeline.core.ledger.ledger import Ledger
from ctrail_pipeline.core.ledger.output_numbers import published_files, rename_output_file
from ctrail_pipeline.core.ledger.queries_compaction import (
    is_compaction,
    publish_compaction,
    uncommit_compaction,
)
from ctrail_pipeline.core.ledger.queries_prune import files_to_remove, note_removed
from ctrail_pipeline.core.ledger.rows import BatchRow, BatchState
from ctrail_pipeline.core.output.folders import STAGING, OutputFolders
from ctrail_pipeline.core.output.publishing import publish_files
from ctrail_pipeline.core.output.staging import Staging, remove_unlocked
from ctrail_pipeline.core.output_files import Kind, PublishedFile

log = logging.getLogger(__name__)

_REMOVED_AT_ONCE: Final = 1_000
_FOLDERLESS_SECONDS: Final = 60
"""After which a staging batch without a folder is dead: the folder is made right after the row."""


def recover(ledger: Ledger, folders: OutputFolders, observe: Callable[[str], None]) -> None:
    """Finish or drop every batch whose owner is gone, and remove staging folders nobody needs.

    Raises OutputError if a link stands where these are: what it leads to would be removed.
    """
    folders.refuse_linked_staging()
    tokens = folders.staging_tokens()  # before the rows: a folder is always younger than its row
    unfinished = open_batches(ledger)
    for batch in unfinished:
        staging = Staging(folders, batch.token)
        try:
            alive = staging.owner_lives()
            if alive:
                continue
            if batch.state is BatchState.COMMITTED:
                _publish(ledger, folders, staging, batch, observe)
            elif alive is None and abs(time.time() - batch.created_at) < _FOLDERLESS_SECONDS:
                continue
            elif abort_batch(ledger, batch.id):
                staging.remove()
            observe("recovered")
        finally:
            staging.close()
    for token in tokens - {batch.token for batch in unfinished}:
        staging = Staging(folders, token)
        if not staging.owner_lives():
            staging.remove()
    for kind in Kind:
        remove_unlocked(folders.roots[kind] / STAGING)
    finish_pruning(ledger, folders, observe)


def finish_pruning(ledger: Ledger, folders: OutputFolders, observe: Callable[[str], None]) -> None:
    """Remove the output files whose removal was decided; by this run or by another one."""
    while files := files_to_remove(ledger, _REMOVED_AT_ONCE):
        folders.remove(files)
        observe("removed")
        with ledger.transaction():
            note_removed(ledger, files)


def _publish(
    ledger: Ledger,
    folders: OutputFolders,
    staging: Staging,
    batch: BatchRow,
    observe: Callable[[str], None],
) -> None:
    files = published_files(ledger, batch.id)
    vanished = set(
        publish_files(
            staging,
            files,
            partial(rename_output_file, ledger, batch.id),
            lambda _: observe("linked"),
        )
    )
    if vanished:
        _take_back(ledger, folders, batch, vanished)
    else:
        with ledger.transaction():
            if is_compaction(ledger, batch.id):
                publish_compaction(ledger, batch.id)
            else:
                mark_published(ledger, [batch.id])
        log.info("finished publishing an interrupted batch of %d files", len(files))
    staging.remove()


def _take_back(
    ledger: Ledger, folders: OutputFolders, batch: BatchRow, vanished: set[PublishedFile]
) -> None:
    """Remove the batch's files before its segments go, so that no event can be there twice.

    Inside one transaction, in which it must still be committed: if another run has published it
    since, what is not there was removed on purpose, and what is there is the output.
    """
    with ledger.transaction():
        if batch_state(ledger, batch.id) is not BatchState.COMMITTED:
            return
        log.warning(
            "%d files of an interrupted batch vanished before they were published: all of it is"
            " taken back and done again",
            len(vanished),
        )
        touched = set()
        for file in published_files(ledger, batch.id):  # anew: publishing may have renamed some
            path = folders.path_of(file)
            if file not in vanished and path.exists():
                path.unlink()
                touched.add(path.parent)
        # Durable before the ledger forgets them, or a power cut brings them back.
        for folder in touched:
            fsync_folder(folder)
        if is_compaction(ledger, batch.id):
            uncommit_compaction(ledger, batch.id)
        else:
            uncommit_batch(ledger, batch.id)
