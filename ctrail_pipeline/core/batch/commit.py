"""The commit protocol of a sync: register a batch, stage it, commit it, publish it.

A process may die between any two of these steps. Nothing of a batch counts before its transaction
is committed, and from then on all of it counts (docs/architecture.md, The commit protocol). What
becomes of a batch whose commit fails is in `commit_outcome`; what the next run does in `recovery`.
"""

import logging
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, NamedTuple

from ctrail_pipeline.core.exceptions import LedgerError
from ctrail_pipeline.core.ledger.batch_commit import commit_batch
from ctrail_pipeline.core.ledger.batches import add_batch, mark_published, register_batch
from ctrail_pipeline.core.ledger.known_identities import KnownIdentities
from ctrail_pipeline.core.ledger.ledger import Ledger
from ctrail_pipeline.core.ledger.output_numbers import published_files, rename_output_file
from ctrail_pipeline.core.ledger.rows import Outcome, StaleBatch
from ctrail_pipeline.core.ledger.segments import LedgerSegments
from ctrail_pipeline.core.ledger.source_prefixes import note_deep_listings
from ctrail_pipeline.core.listing.finished_stretches import note_finished
from ctrail_pipeline.core.listing.sources import LogFileRef, Stretch
from ctrail_pipeline.core.output.interface import Output, Staging
from ctrail_pipeline.core.output.marker import check_owner
from ctrail_pipeline.core.output_files import Kind, PublishedFile
from ctrail_pipeline.core.settings import Settings

from .commit_outcome import (
    abandon,
    commit_took_effect,
    is_given_up,
    is_published,
    note_generation,
    stale_if_given_up,
)
from .content import BatchContent, LogFileInBatch
from .stage import Staged, stage

log = logging.getLogger(__name__)

TRIES_WHOLE: Final = 3
"""Tries after which a stale batch is halved, so that less time goes by until it is committed.

Nobody is kept out meanwhile: a transaction waits for no fetch, no bucket and no disk. The tries
come to an end all the same. A batch is stale as other runs committed events that it holds, and the
next try drops these.
"""

Observer = Callable[[str], None]
"""Is told each step of the protocol: registered, staged, committed, marked, linked (a file),
published."""


@dataclass(frozen=True, slots=True)
class BatchResult:
    """What a batch added to the output."""

    settled: Sequence[tuple[LogFileRef, Outcome | None]]
    """Each log file with its outcome; None if another run settled the log file meanwhile."""
    bytes_in: int
    """Uncompressed bytes of the log files."""
    files: int
    """Number of new files with events."""
    bytes_out: int
    events_by_hour: Counter[str]
    events_by_name: Counter[str]
    misfits: int
    """Rows of the Parquet files that have something in `_other`."""
    newlines_replaced: int
    """Line breaks between the tokens of its log files that became spaces."""


class Batch(NamedTuple):
    """A registered batch."""

    id: int
    token: str
    staging: Staging


class Committer:
    """Commits batches for one run."""

    def __init__(
        self,
        ledger: Ledger,
        output: Output,
        settings: Settings,
        run_id: str,
        observe: Observer,
    ) -> None:
        self._ledger = ledger
        self._output = output
        self._settings = settings
        self._run_id = run_id
        self._observe = observe
        self._known = KnownIdentities(LedgerSegments(ledger))
        self._published: list[int] = []
        """Published batches that the ledger does not call published yet."""

    def commit(self, content: BatchContent, finished: Sequence[Stretch]) -> Iterator[BatchResult]:
        """Bring a batch to disk and into the ledger, or nothing of it; yield what came of it.

        A batch that other runs make stale again and again is halved: then there are more results.
        The first transaction notes the `finished` stretches as covered. Raises OutputError or
        LedgerError; log files of which no result was yielded are then new to the next run.
        """
        yield from self._commit(content.log_files, finished, [])

    def _commit(
        self,
        log_files: Sequence[LogFileInBatch],
        finished: Sequence[Stretch],
        taken: list[LogFileInBatch],
    ) -> Iterator[BatchResult]:
        """Commit log files; `taken`: log files of their batch that another run settled."""
        tries = 0
        while tries < TRIES_WHOLE or len(log_files) <= 1:
            batch = self._register()
            try:
                staged, published = self._stage_and_commit(batch, log_files, finished)
                self.publish(batch, published)
            except StaleBatch as stale:
                log.debug("batch %d is done again: %s", batch.id, stale)
                self.abandon(batch)
                taken += [log_files[position] for position in sorted(stale.taken)]
                log_files = [
                    log_file
                    for position, log_file in enumerate(log_files)
                    if position not in stale.taken
                ]
                # Another run can take each log file once, so only other reasons count as tries.
                tries += not stale.taken
            except BaseException:
                self.abandon(batch)
                raise
            else:
                refs = [log_file.ref for log_file in log_files]
                yield result_of(refs, staged, [log_file.ref for log_file in taken])
                return
        middle = len(log_files) // 2
        yield from self._commit(log_files[:middle], finished, taken)
        yield from self._commit(log_files[middle:], [], [])

    # -- batches that worker processes stage ------------------------------------------------------

    def register_many(self, count: int) -> list[Batch]:
        """Register new batches. The workers make their staging folders."""
        _, batches = self.commit_many([], [], count)
        return batches

    def commit_many(
        self, staged: Sequence[tuple[Batch, Staged]], finished: Sequence[Stretch], more: int
    ) -> tuple[list[list[PublishedFile] | StaleBatch], list[Batch]]:
        """Commit batches that workers have staged, in one transaction; register `more` new ones.

        Returns the files to publish of each batch, or why it is stale; and the new batches. A stale
        batch is left out of the transaction. The others must be published, whatever happens.
        """
        for _ in staged:
            self._observe("staged")
        results: list[list[PublishedFile] | StaleBatch] = []
        batches: list[Batch] = []
        try:
            with self._ledger.transaction(), self._ledger.pipelined():
                mark_published(self._ledger, self._published)
                for batch, staged_batch in staged:
                    try:
                        results.append(self._commit_staged(batch, staged_batch))
                    except StaleBatch as stale:  # raised before anything of the batch is written
                        results.append(stale)
                note_finished(self._ledger, finished)
                batches += [self._add_batch() for _ in range(more)]
        except LedgerError:
            written = [
                batch.id
                for (batch, _), result in zip(staged, results, strict=False)
                if not isinstance(result, StaleBatch)
            ]
            if not self._took_effect(written) or len(batches) < more:
                raise
        self._published = []
        committed = sum(not isinstance(result, StaleBatch) for result in results)
        for _ in batches:
            self._observe("registered")
        for _ in range(committed):
            self._observe("committed")
        if committed:
            note_generation(self._ledger, self._output)
            self._observe("marked")
        return results, batches

    def publish(self, batch: Batch, published: Sequence[PublishedFile]) -> None:
        """Give the files of a committed batch their final names."""
        vanished = batch.staging.publish(
            published,
            partial(rename_output_file, self._ledger, batch.id),
            lambda _: self._observe("linked"),
        )
        if vanished and not is_published(self._ledger, batch.id):
            raise LedgerError(
                f"batch {batch.id}: {len(vanished)} staged files vanished before they were"
                " published; the next run makes them again of their log files"
            )
        batch.staging.remove()
        self._published.append(batch.id)
        self._observe("published")

    def abandon(self, batch: Batch) -> None:
        """Give up a batch, unless it is committed."""
        abandon(self._ledger, batch.id, batch.staging)

    def is_given_up(self, batch: Batch) -> bool:
        """Whether another run has given a batch of ours up, as it took this run for dead."""
        return is_given_up(self._ledger, batch.id)

    def finish(self, finished: Sequence[Stretch], deep: Iterable[int]) -> None:
        """Note what no batch noted: published batches, coverage, deep listings."""
        deep = list(deep)
        if not (self._published or finished or deep):
            return
        with self._ledger.transaction(), self._ledger.pipelined():
            mark_published(self._ledger, self._published)
            note_finished(self._ledger, finished)
            note_deep_listings(self._ledger, deep, int(time.time()))
        self._published = []

    def _register(self) -> Batch:
        token = uuid.uuid4().hex
        id_ = register_batch(self._ledger, token, self._run_id, self._published)
        batch = Batch(id_, token, self._output.staging_of(token))
        self._published = []
        self._observe("registered")
        try:
            # Before anything is staged and committed that could not be published.
            check_owner(self._output, Kind.EVENTS, self._ledger.uuid)
            batch.staging.open()
        except BaseException:
            self.abandon(batch)
            raise
        return batch

    def _add_batch(self) -> Batch:
        token = uuid.uuid4().hex
        id_ = add_batch(self._ledger, token, self._run_id)
        return Batch(id_, token, self._output.staging_of(token))

    def _stage_and_commit(
        self, batch: Batch, log_files: Sequence[LogFileInBatch], finished: Sequence[Stretch]
    ) -> tuple[Staged, list[PublishedFile]]:
        with stale_if_given_up(self._ledger, batch.id):
            staged = stage(log_files, batch.staging, self._known, self._settings)
        self._observe("staged")
        try:
            with self._ledger.transaction(), self._ledger.pipelined():
                published = self._commit_staged(batch, staged)
                note_finished(self._ledger, finished)
        except LedgerError:
            if not self._took_effect([batch.id]):
                raise
            published = published_files(self._ledger, batch.id)
        self._observe("committed")
        note_generation(self._ledger, self._output)
        self._observe("marked")
        return staged, published

    def _took_effect(self, batches: Sequence[int]) -> bool:
        """Whether a transaction that failed committed batches. The ledger is opened anew."""
        self._known = KnownIdentities(LedgerSegments(self._ledger))
        return commit_took_effect(self._ledger, self._output, batches)

    def _commit_staged(self, batch: Batch, staged: Staged) -> list[PublishedFile]:
        return commit_batch(
            self._ledger,
            batch.id,
            staged.outcomes,
            staged.files,
            staged.segments,
            staged.seen,
        )


def result_of(
    refs: Iterable[LogFileRef], staged: Staged, taken: Iterable[LogFileRef]
) -> BatchResult:
    """Return the result of a batch; `taken`: log files that another run settled meanwhile."""
    return BatchResult(
        [
            *zip(refs, staged.outcomes, strict=True),
            *((ref, None) for ref in taken),
        ],
        staged.bytes_in,
        sum(file.kind is Kind.EVENTS for file in staged.files),
        sum(file.size for file in staged.files),
        staged.events_by_hour,
        staged.events_by_name,
        staged.misfits,
        staged.newlines_replaced,
    )
