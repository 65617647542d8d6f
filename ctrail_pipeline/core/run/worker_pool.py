"""The worker processes of a run: hands out log files, commits and publishes what they stage.

The run is the only writer of the ledger: workers read it, and stage into folders of batches that
are registered here. A worker that dies costs what it had in hand, which another one does again, in
smaller parts; a log file that a worker dies of with nothing else in hand is recorded as failed.
Nobody is left behind: workers end with the connection to their run.

Not here: what a worker does (`worker`), which one does what (`sharing`).
"""

import logging
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from multiprocessing.connection import wait
from typing import Final

from ctrail_pipeline.core.batch.commit import (
    TRIES_SIDE_BY_SIDE,
    Batch,
    BatchResult,
    Committer,
    result_of,
)
from ctrail_pipeline.core.batch.content import BatchContent, LogFileInBatch
from ctrail_pipeline.core.batch.cost import cost_of
from ctrail_pipeline.core.batch.listed_ahead import ListedAhead
from ctrail_pipeline.core.batch.stage import Staged
from ctrail_pipeline.core.exceptions import WorkersFailed
from ctrail_pipeline.core.ledger.rows import LogFileState, StaleBatch
from ctrail_pipeline.core.listing.sources import LogFileRef, Stretch
from ctrail_pipeline.core.output_files import PublishedFile
from ctrail_pipeline.core.settings import Settings

from .processes import bytes_ahead_of, share_of
from .work_sharing import PIECE_COST, Affinity, pieces
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
"""What must wait before workers are started, in small log files: they take 0.3 s to be of use."""
_LEAST_LOAD: Final = 2 * PIECE_COST
"""What a worker has to do at least, if there is anything, in small log files."""
_TICK_SECONDS: Final = 0.2
_LISTING_SECONDS: Final = 0.01
"""How long to wait for workers while there may be something new to hand out."""
_VAIN_DEATHS: Final = 5
"""Workers that may die, beside those that the run began with, before anything was committed."""
_SUSPECTS_AT_ONCE: Final = {1: 64, 2: 1}
"""Log files that a worker gets at once, by how often a worker died that had them in hand."""
_MOST_DEATHS: Final = max(_SUSPECTS_AT_ONCE)


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
        """`take_finished` gives the stretches that may be called covered with the next commit.

        `note_unread` is told of log files that are left as they are, as the credentials failed.
        """
        self._committer = committer
        self._note_unread = note_unread
        self._take_finished = take_finished
        self._setup = Setup(share_of(settings, number), bytes_ahead_of(number))
        self._number = number
        self._affinity = Affinity()
        self._numbers = count()
        self._deaths: dict[int, int] = {}
        self._suspects: deque[tuple[int, LogFileRef]] = deque()
        self._hopeless: list[LogFileRef] = []
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
        """What batch by batch becomes of the log files listed; None now and then.

        Raises LedgerError or OutputError, as a commit in this process would, or WorkersFailed.
        """
        while True:
            self._hand_out_listed(listed)
            while self._hopeless:
                yield self._give_up(self._hopeless.pop())
            is_busy = self._suspects or any(worker.outstanding for worker in self._workers)
            if listed.done and not is_busy:
                return
            # Published before anything is yielded: whoever takes the results may stop.
            yield from self._listen(_TICK_SECONDS if listed.done else _LISTING_SECONDS)
            yield None

    def are_up(self) -> bool:
        """Whether all that were started can begin at once."""
        if not all(worker.is_ready for worker in self._workers):
            self._listen(0)
        return all(worker.is_ready for worker in self._workers)

    def close(self) -> None:
        """End all workers, and what they were at."""
        for worker in self._workers:
            worker.connection.close()  # all of them, before any is waited for
        for worker in self._workers:
            worker.end()
            for batch in worker.batches.values():
                self._committer.abandon(batch)
        self._workers.clear()

    # -- handing out ------------------------------------------------------------------------------

    def hand_out(self, refs: Sequence[LogFileRef]) -> None:
        """Give these log files to the workers, whatever they have to do already."""
        by_number = {worker.number: worker for worker in self._workers}
        loads = {w.number: w.load for w in self._workers if not w.is_for_suspects}
        for piece in pieces(refs):
            number = self._affinity.choose(piece, loads)
            self._send(by_number[number], [(next(self._numbers), ref) for ref in piece.refs])
            loads[number] += piece.cost

    def _hand_out_listed(self, listed: ListedAhead) -> None:
        for worker in self._workers:
            if worker.is_for_suspects and worker.is_ready and not worker.outstanding:
                self._hand_out_suspects(worker)
        while True:
            loads = {w.number: w.load for w in self._workers if not w.is_for_suspects}
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
        """The next log files that workers died of, few enough to find the one that it was."""
        if not self._suspects:
            worker.is_for_suspects = False
            return
        deaths = self._deaths_of(self._suspects[0])
        some: list[tuple[int, LogFileRef]] = []
        while (
            self._suspects
            and len(some) < _SUSPECTS_AT_ONCE[deaths]
            and self._deaths_of(self._suspects[0]) == deaths
        ):
            some.append(self._suspects.popleft())
        self._send(worker, some)
        self._tell_last(worker)

    def _deaths_of(self, suspect: tuple[int, LogFileRef]) -> int:
        return max(1, self._deaths.get(suspect[0], 0))

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

    # -- committing -------------------------------------------------------------------------------

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
            else:
                raise _error_of(message)
        return self._commit(staged) if staged else []

    def _leave_unread(self, worker: WorkerHandle, message: Unread) -> None:
        for ref in worker.settle([message.number]):
            self._note_unread(ref, message.reason)

    def _commit(self, staged: Sequence[tuple[WorkerHandle, StagedBatch]]) -> list[BatchResult]:
        batches = [(worker.batches[message.token], message.unpack()) for worker, message in staged]
        results, more = self._committer.commit_many(batches, self._finished(), len(batches))
        self._uncovered.clear()
        for (worker, message), result, batch in zip(staged, results, more, strict=True):
            worker.batches[batch.token] = batch
            if not isinstance(result, StaleBatch):
                worker.batches.pop(message.token)
                worker.send(Committed(Ticket(batch.token)))
        finished: list[BatchResult] = []
        for (worker, message), (batch, one), result in zip(staged, batches, results, strict=True):
            if isinstance(result, StaleBatch):
                finished += self._redo(worker, message, result)
            else:
                finished.append(self._finish(worker, message.numbers, batch, one, result))
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
        for number in numbers:
            self._deaths.pop(number, None)
        return result_of(worker.settle(numbers), staged, taken)

    def _redo(
        self, worker: WorkerHandle, message: StagedBatch, stale: StaleBatch
    ) -> list[BatchResult]:
        """Have a worker do a stale batch again, in the end while all others are kept out."""
        log.debug("a batch of worker %d is done again: %s", worker.process.pid, stale)
        self._committer.abandon(worker.batches.pop(message.token))
        worker.taken += worker.settle([message.numbers[at] for at in sorted(stale.taken)])
        worker.tries += not stale.taken
        (batch,) = worker.batches.values()
        redo = Redo(stale.taken, Ticket(batch.token))
        if worker.tries < TRIES_SIDE_BY_SIDE:
            worker.send(redo)
            return []
        again: list[StagedBatch] = []

        def stage() -> Staged:
            worker.send(redo)
            while isinstance(answer := worker.hear(), Unread):
                self._leave_unread(worker, answer)
            if isinstance(answer, Failed):
                raise _error_of(answer)
            again.append(answer)
            staged: Staged = answer.unpack()
            return staged

        try:
            staged, published = self._committer.commit_alone(batch, stage, self._finished())
            self._uncovered.clear()
        except WorkerDied:
            self._bury(worker)
            return []
        except StaleBatch as other:
            self._register_for(worker)
            return self._redo(worker, again[0], other)
        worker.batches.pop(batch.token)
        worker.send(Committed(self._register_for(worker)))
        return [self._finish(worker, again[0].numbers, batch, staged, published)]

    def _finished(self) -> Sequence[Stretch]:
        """What may be called covered: it stays until a commit has noted it."""
        self._uncovered += self._take_finished()
        return self._uncovered

    def _register_for(self, worker: WorkerHandle) -> Ticket:
        (batch,) = self._committer.register_many(1)
        worker.batches[batch.token] = batch
        return Ticket(batch.token)

    # -- processes --------------------------------------------------------------------------------

    def _start(self) -> WorkerHandle:
        worker = start_worker(next(self._numbers))
        self._workers.append(worker)
        worker.send(self._setup)
        worker.send(self._register_for(worker))
        return worker

    def _bury(self, worker: WorkerHandle) -> None:
        """A worker is dead: its batches are dropped, its log files go to another one."""
        self._workers.remove(worker)
        worker.process.kill()  # it may have lost no more than the connection
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
        for number, ref in worker.outstanding.items():
            self._deaths[number] = self._deaths.get(number, 0) + worker.is_ready
            if self._deaths[number] <= _MOST_DEATHS:
                self._suspects.append((number, ref))
            else:
                self._hopeless.append(ref)
        self._start().is_for_suspects = bool(self._suspects)

    def _give_up(self, ref: LogFileRef) -> BatchResult:
        """Record a log file that a worker dies of, with nothing else in hand."""
        reason = "worker processes end when they process it: they may lack the memory that it takes"
        etag = ref.etag or (ref.expected.etag if ref.expected else b"")
        content = BatchContent()
        content.log_files.append(
            LogFileInBatch(ref, etag, ref.size, None, LogFileState.FAILED, reason, may_pass=True)
        )
        return self._committer.commit(content, self._finished())


def _error_of(failed: Failed) -> Exception:
    return failed.error or RuntimeError(f"a worker process failed:\n{failed.text}")
