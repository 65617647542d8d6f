"""The worker processes of a run: handing out log files, committing and publishing what they stage.

The run is the only writer of the ledger. Workers read the ledger, and stage into folders of batches
that are registered here. When a worker dies, another one does again what it had in hand
(`worker_deaths`). Not here: what a worker does (`worker_process`), or which worker gets which log
files (`work_sharing`).
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from multiprocessing.connection import wait
from typing import Final

from ctrail_pipeline.core.batch.commit import (
    TRIES_WHOLE,
    Batch,
    BatchResult,
    Committer,
    result_of,
)
from ctrail_pipeline.core.batch.content import BatchContent, LogFileInBatch
from ctrail_pipeline.core.batch.cost import cost_of
from ctrail_pipeline.core.batch.listed_ahead import ListedAhead
from ctrail_pipeline.core.batch.stage import Staged
from ctrail_pipeline.core.exceptions import OutputError, WorkersFailed
from ctrail_pipeline.core.ledger.rows import LogFileState, StaleBatch
from ctrail_pipeline.core.listing.sources import LogFileRef, Stretch
from ctrail_pipeline.core.output_files import PublishedFile
from ctrail_pipeline.core.settings import Settings

from .processes import bytes_ahead_of, share_of
from .work_sharing import PIECE_COST, Affinity, pieces
from .worker_deaths import Suspects
from .worker_handle import WorkerDied, WorkerHandle, start_worker
from .worker_messages import (
    BatchPublished,
    Committed,
    Failed,
    Fetch,
    Flush,
    Ready,
    Redo,
    Setup,
    StagedBatch,
    Ticket,
    Unread,
    pack_log_file,
    pack_source,
)

log = logging.getLogger(__name__)

WORTHWHILE: Final = 1_500
"""What must wait before workers are started, in small log files. Workers need 0.3 s to start."""
_LEAST_LOAD: Final = 2 * PIECE_COST
"""Lower limit of what each worker has to do, in small log files, as long as there is enough."""
_TICK_SECONDS: Final = 0.2
_LISTING_SECONDS: Final = 0.01
"""How long to wait for workers while there may be something new to hand out."""
_VAIN_DEATHS: Final = 5
"""Workers that may die, beside those that the run began with, before anything is committed."""


class Workers:
    """The worker processes of one run."""

    def __init__(
        self,
        settings: Settings,
        committer: Committer,
        number: int,
        take_finished: Callable[[], Sequence[Stretch]],
        note_unread: Callable[[LogFileRef, str], None],
    ) -> None:
        """Start so many workers.

        `take_finished` gives the stretches that may be called covered with the next commit.
        `note_unread` is told of log files that stay as they are, since the credentials failed.
        """
        self._committer = committer
        self._note_unread = note_unread
        self._take_finished = take_finished
        self._setup = Setup(share_of(settings, number), bytes_ahead_of(number))
        self._number = number
        self._affinity = Affinity()
        self._numbers = count()
        self._suspects = Suspects()
        self._vain_deaths = 0
        self._uncovered: list[Stretch] = []
        self._workers: list[WorkerHandle] = []
        try:
            for _ in range(number):
                self._start()
        except BaseException:
            self.close()
            raise

    def results(self, listed: ListedAhead) -> Iterator[BatchResult | None]:
        """Process the listed log files: the result of each batch, and None now and then.

        Raises LedgerError or OutputError, as a commit in this process would, or WorkersFailed.
        """
        while True:
            self._hand_out_listed(listed)
            while self._suspects.hopeless:
                yield self._give_up(self._suspects.hopeless.pop())
            is_busy = self._suspects.are_waiting or any(
                worker.outstanding for worker in self._workers
            )
            if listed.done and not is_busy:
                return
            # Everything is published before a result is yielded: the caller may stop at any result.
            yield from self._listen(_TICK_SECONDS if listed.done else _LISTING_SECONDS)
            yield None

    def are_up(self) -> bool:
        """Whether all workers can begin at once."""
        if not all(worker.is_ready for worker in self._workers):
            self._listen(0)
        return all(worker.is_ready for worker in self._workers)

    def close(self) -> None:
        """End all workers, and drop the batches that they had in hand."""
        for worker in self._workers:
            worker.connection.close()  # all connections, before any worker is waited for
        for worker in self._workers:
            worker.end()
            for batch in worker.batches.values():
                self._committer.abandon(batch)
        self._workers.clear()

    def hand_out(self, refs: Sequence[LogFileRef]) -> None:
        """Give these log files to the workers, whatever they have to do already."""
        by_number = {worker.number: worker for worker in self._workers}
        loads = {
            worker.number: worker.load for worker in self._workers if not worker.is_for_suspects
        }
        for piece in pieces(refs):
            number = self._affinity.choose(piece, loads)
            self._send(by_number[number], [(next(self._numbers), ref) for ref in piece.refs])
            loads[number] += piece.cost

    def _hand_out_listed(self, listed: ListedAhead) -> None:
        for worker in self._workers:
            if worker.is_for_suspects and worker.is_ready and not worker.outstanding:
                self._hand_out_suspects(worker)
        while True:
            loads = {
                worker.number: worker.load for worker in self._workers if not worker.is_for_suspects
            }
            if not loads or min(loads.values()) >= _LEAST_LOAD:
                return
            refs = listed.take(0)
            if refs is None:
                break
            self.hand_out(refs)
        if listed.done:
            for worker in self._workers:
                self._tell_last(worker)

    def _hand_out_suspects(self, worker: WorkerHandle) -> None:
        """Give a worker the next log files that others died of, or have it do as all others do."""
        group = self._suspects.take_group()
        if not group:
            worker.is_for_suspects = False
            return
        self._send(worker, group)
        self._tell_last(worker)

    def _send(self, worker: WorkerHandle, log_files: Sequence[tuple[int, LogFileRef]]) -> None:
        sources = {
            ref.source.id: ref.source for _, ref in log_files if ref.source.id not in worker.sources
        }
        worker.sources.update(sources)
        worker.outstanding.update(log_files)
        worker.load += sum(cost_of(ref) for _, ref in log_files)
        worker.send(
            Fetch(
                [pack_source(source) for source in sources.values()],
                [pack_log_file(number, ref) for number, ref in log_files],
            )
        )

    def _tell_last(self, worker: WorkerHandle) -> None:
        if not worker.is_told_last:
            worker.is_told_last = True
            worker.send(Flush())

    def _listen(self, timeout: float) -> list[BatchResult]:
        """Wait for workers, and commit what they have staged."""
        by_connection = {worker.connection: worker for worker in self._workers}
        staged: list[tuple[WorkerHandle, StagedBatch]] = []
        for connection in wait(list(by_connection), timeout):
            worker = by_connection[connection]  # type: ignore[index]
            try:
                message = worker.hear()
            except WorkerDied:
                self._bury(worker)
                continue
            if isinstance(message, StagedBatch):
                staged.append((worker, message))
            elif isinstance(message, Unread):
                self._leave_unread(worker, message)
            elif isinstance(message, Ready):
                worker.is_ready = True
            elif self._is_taken_for_dead(worker, message):
                worker.is_ready = False  # it does not end because of its log files
                self._bury(worker)
            else:
                raise _error_of(message)
        return self._commit(staged) if staged else []

    def _is_taken_for_dead(self, worker: WorkerHandle, failed: Failed) -> bool:
        """Whether a worker failed as another run, which took this one for dead, removed its files.

        The run was paused for long. What the worker had is done again.
        """
        return isinstance(failed.error, OutputError) and any(
            map(self._committer.is_given_up, worker.batches.values())
        )

    def _leave_unread(self, worker: WorkerHandle, message: Unread) -> None:
        for ref in worker.settle([message.number]):
            self._note_unread(ref, message.reason)

    def _commit(self, staged: Sequence[tuple[WorkerHandle, StagedBatch]]) -> list[BatchResult]:
        batches = [(worker.batches[message.token], message.unpack()) for worker, message in staged]
        results, next_batches = self._committer.commit_many(batches, self._finished(), len(batches))
        self._uncovered.clear()
        for (worker, message), result, batch in zip(staged, results, next_batches, strict=True):
            worker.batches[batch.token] = batch
            if not isinstance(result, StaleBatch):
                worker.batches.pop(message.token)
                worker.send(Committed(Ticket(batch.token)))
        finished: list[BatchResult] = []
        for (worker, message), (batch, unpacked), result in zip(
            staged, batches, results, strict=True
        ):
            if isinstance(result, StaleBatch):
                self._redo(worker, message, result)
            else:
                finished.append(self._finish(worker, message.numbers, batch, unpacked, result))
        return finished

    def _finish(
        self,
        worker: WorkerHandle,
        numbers: Sequence[int],
        batch: Batch,
        staged: Staged,
        published: Sequence[PublishedFile],
    ) -> BatchResult:
        self._vain_deaths = 0
        self._committer.publish(batch, published)
        worker.send(BatchPublished(batch.token))
        taken, worker.taken, worker.tries = worker.taken, [], 0
        self._suspects.clear(numbers)
        return result_of(worker.settle(numbers), staged, taken)

    def _redo(self, worker: WorkerHandle, message: StagedBatch, stale: StaleBatch) -> None:
        """Have a worker do a stale batch again; after some tries, one half of it first."""
        log.debug("a batch of worker %d is done again: %s", worker.process.pid, stale)
        self._committer.abandon(worker.batches.pop(message.token))
        worker.taken += worker.settle([message.numbers[at] for at in sorted(stale.taken)])
        worker.tries += not stale.taken
        (batch,) = worker.batches.values()
        worker.send(Redo(stale.taken, Ticket(batch.token), worker.tries >= TRIES_WHOLE))

    def _finished(self) -> Sequence[Stretch]:
        """The stretches that may be called covered. They stay until a commit has noted them."""
        self._uncovered += self._take_finished()
        return self._uncovered

    def _register_for(self, worker: WorkerHandle) -> Ticket:
        (batch,) = self._committer.register_many(1)
        worker.batches[batch.token] = batch
        return Ticket(batch.token)

    def _start(self) -> WorkerHandle:
        worker = start_worker(next(self._numbers))
        self._workers.append(worker)
        worker.send(self._setup)
        worker.send(self._register_for(worker))
        return worker

    def _bury(self, worker: WorkerHandle) -> None:
        """Drop the batches of a dead worker, and start a worker that does its log files again."""
        self._workers.remove(worker)
        worker.process.kill()  # perhaps only its connection is lost
        worker.end()
        for batch in worker.batches.values():
            self._committer.abandon(batch)
        is_explained = worker.is_for_suspects and worker.is_ready and worker.outstanding
        self._vain_deaths += not is_explained
        if self._vain_deaths >= self._number + _VAIN_DEATHS:
            raise WorkersFailed(
                f"{self._vain_deaths} worker processes ended one after the other before anything"
                f" was done (the last one with {worker.process.returncode}): there may be too"
                " little memory; set `process_workers` to 1 to do without them"
            )
        log.warning(
            "a worker process ended with %d; %d log files that it had are done again",
            worker.process.returncode,
            len(worker.outstanding),
        )
        self._suspects.note_death(worker.outstanding, was_ready=worker.is_ready)
        self._start().is_for_suspects = self._suspects.are_waiting

    def _give_up(self, ref: LogFileRef) -> BatchResult:
        """Record a log file as failed that a worker dies of with nothing else in hand."""
        reason = "worker processes end when they process it: they may lack the memory that it takes"
        etag = ref.etag or (ref.expected.etag if ref.expected else b"")
        content = BatchContent()
        content.log_files.append(
            LogFileInBatch(ref, etag, ref.size, None, LogFileState.FAILED, reason, may_pass=True)
        )
        (result,) = self._committer.commit(content, self._finished())
        return result


def _error_of(failed: Failed) -> Exception:
    return failed.error or RuntimeError(f"a worker process failed:\n{failed.text}")
