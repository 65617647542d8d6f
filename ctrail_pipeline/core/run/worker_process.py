"""A worker process: fetches, splits, compares and stages the log files that its run hands it.

It reads the ledger, and writes into the staging folders of batches that its run has registered.
The run decides what counts of that, so a worker may be killed at any instant. When the run ends,
however it ends, the connection breaks and the worker is gone at once. This module imports what the
work needs, never Dagster or the run's main module, so that a worker is there in 0.15 s. Not here:
handing out, committing and publishing (`worker_pool`).
"""

import os
import signal
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from multiprocessing.connection import Connection
from queue import SimpleQueue
from threading import Event, Lock
from typing import Any, Final, NamedTuple, NoReturn

from ctrail_pipeline.core.batch.content import BatchContent, LogFileInBatch
from ctrail_pipeline.core.batch.feed import Feed
from ctrail_pipeline.core.batch.listed_ahead import ListedAhead
from ctrail_pipeline.core.batch.stage import Staged, prepare
from ctrail_pipeline.core.bucket.interface import Bucket
from ctrail_pipeline.core.bucket.open_bucket import open_bucket
from ctrail_pipeline.core.exceptions import CtrailError, StoreError
from ctrail_pipeline.core.ledger.known_identities import KnownIdentities
from ctrail_pipeline.core.ledger.ledger import Ledger
from ctrail_pipeline.core.ledger.segments import LedgerSegments
from ctrail_pipeline.core.listing.sources import LogFileRef, Source
from ctrail_pipeline.core.output.interface import Staging
from ctrail_pipeline.core.output.open_output import open_output
from ctrail_pipeline.core.process_memory import give_back_large_buffers, rare_collections
from ctrail_pipeline.core.threads import DaemonThreads

from .unopened_bucket import UnopenedBucket
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
    unpack_log_file,
)


def main(descriptor: int) -> NoReturn:
    """Serve the run at the other end of a socket until it is gone."""
    # Ctrl-C reaches all processes of a terminal, but the run alone says when to stop.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    connection = Connection(descriptor)
    try:
        setup: Setup = connection.recv()
        with rare_collections():
            _Worker(connection, setup).serve()
    except CtrailError as error:
        _send(connection, Failed(error, str(error)))
    except (EOFError, ConnectionError):
        os._exit(0)
    except Exception as error:  # noqa: BLE001 - the run raises it
        import traceback

        _send(connection, Failed(None, "".join(traceback.format_exception(error))))
    while True:  # the thread that reads ends the process when the run is gone
        Event().wait()


_sending: Final = Lock()


def _send(connection: Connection, message: object) -> None:
    """Send a message to the run, from any thread."""
    with _sending:
        connection.send(message)


class _InHand(NamedTuple):
    """A staged batch that is not committed yet."""

    token: str
    log_files: Sequence[LogFileInBatch]
    numbers: Sequence[int]


class _Worker:
    """The worker's side of a run: its orders, its batches, and the log files that it was sent."""

    def __init__(self, connection: Connection, setup: Setup) -> None:
        give_back_large_buffers()
        self._connection = connection
        self._settings = setup.settings
        self._bytes_ahead = setup.bytes_ahead
        self._ledger = Ledger(setup.settings.ledger)
        self._output = open_output(setup.settings)
        self._output.stage_for(self._ledger.uuid)
        self._known = KnownIdentities(LedgerSegments(self._ledger))
        self._buckets: dict[str, Bucket] = {}
        self._orders: SimpleQueue[Any] = SimpleQueue()
        self._numbers: defaultdict[tuple[int, int, str], deque[int]] = defaultdict(deque)
        """The numbers of the log files that are in hand. A log file may be handed out twice."""
        self._tickets: deque[str] = deque()
        self._stagings: dict[str, Staging] = {}
        self._in_hand: _InHand | None = None
        self._other_half: list[tuple[LogFileInBatch, int]] = []
        """What is left of a batch that was halved, with its numbers. It is staged next."""
        self._is_last = False
        self._writer = DaemonThreads(1, "ctrail-stage")

    def serve(self) -> None:
        listed = ListedAhead(self._received(), lists=0)
        feed = Feed(listed, self._settings, self._bytes_ahead)
        flush_seconds = min(self._settings.jsonl_flush_interval, self._settings.state_save_interval)
        self._send(Ready(os.getpid()))
        content = BatchContent()
        for fetched in feed.results():
            self._obey_all()
            if fetched is not None and fetched.is_unread:
                self._send(Unread(self._take_number(fetched.ref), fetched.reason or ""))
            elif fetched is not None:
                if not content.has_room(fetched, self._settings):
                    content = self._stage(content)
                content.add(fetched)
                del fetched
            is_idle = self._is_last and not feed.ahead and listed.is_empty
            if content.is_full(self._settings) or (
                content.log_files and (is_idle or content.age > flush_seconds)
            ):
                content = self._stage(content)

    def _received(self) -> Iterator[list[LogFileRef]]:
        """The log files that the run sends. When the run is gone, the process ends at once."""
        sources: dict[int, Source] = {}
        while True:
            try:
                message = self._connection.recv()
            except (EOFError, OSError):
                os._exit(0)
            if not isinstance(message, Fetch):
                self._orders.put(message)
                yield []  # so that the main thread, which waits for log files, looks at the orders
                continue
            for source in message.sources:
                sources[source.id] = replace(source, bucket=self._bucket(source))
            refs = []
            for number, source_id, values in message.log_files:
                ref = unpack_log_file(values, sources[source_id])
                self._numbers[_log_file_id(ref)].append(number)
                refs.append(ref)
            yield refs

    def _take_number(self, ref: LogFileRef) -> int:
        log_file_id = _log_file_id(ref)
        numbers = self._numbers[log_file_id]
        number = numbers.popleft()
        if not numbers:
            del self._numbers[log_file_id]
        return number

    def _bucket(self, source: Source) -> Bucket:
        """The bucket of a source, asked where the run asks it."""
        name, found = source.trail, source.bucket
        if name not in self._buckets:
            trail = next(trail for trail in self._settings.trails if trail.name == name)
            endpoint = found.endpoint if isinstance(found, UnopenedBucket) else None
            try:
                self._buckets[name] = open_bucket(trail, self._settings, endpoint)
            except StoreError as error:
                self._buckets[name] = UnopenedBucket(error)
        return self._buckets[name]

    def _stage(self, content: BatchContent) -> BatchContent:
        """Stage a batch, and return an empty one.

        It waits until the batch before is committed, since only then are its events known.
        """
        while self._in_hand is not None or not self._tickets:
            self._obey(self._orders.get())
        numbers = [self._take_number(log_file.ref) for log_file in content.log_files]
        self._stage_and_send(_InHand(self._tickets.popleft(), content.log_files, numbers))
        return BatchContent()

    def _stage_and_send(self, batch: _InHand) -> None:
        """Stage a batch. A thread writes it, while the next log files are split."""
        staging = self._stagings[batch.token]
        write = prepare(batch.log_files, staging, self._known, self._settings)
        self._in_hand = batch
        self._writer.submit(self._write_and_send, batch, write)

    def _write_and_send(self, batch: _InHand, write: Callable[[], Staged]) -> None:
        try:
            staged = write()
            self._send(StagedBatch.pack(batch.token, batch.numbers, staged))
        except BaseException as error:  # noqa: BLE001 - raised again in the main thread
            self._orders.put(error)

    def _send(self, message: object) -> None:
        _send(self._connection, message)

    def _obey_all(self) -> None:
        while not self._orders.empty():
            self._obey(self._orders.get())

    def _obey(self, order: object) -> None:
        if isinstance(order, BaseException):
            raise order
        obey: dict[type, Callable[[Any], None]] = {
            Ticket: self._take_ticket,
            Committed: self._let_go,
            BatchPublished: self._unlock,
            Redo: self._redo,
            Flush: self._flush,
        }
        obey[type(order)](order)

    def _take_ticket(self, ticket: Ticket) -> None:
        staging = self._output.staging_of(ticket.token)
        staging.open()
        self._stagings[ticket.token] = staging
        self._tickets.append(ticket.token)

    def _let_go(self, committed: Committed) -> None:
        self._in_hand = None
        self._take_ticket(committed.next)
        if self._other_half:
            half, self._other_half = self._other_half, []
            self._stage_half(half)

    def _unlock(self, published: BatchPublished) -> None:
        self._stagings.pop(published.token).close()

    def _redo(self, redo: Redo) -> None:
        batch = self._in_hand
        if batch is None:
            raise AssertionError("nothing is in hand that could be done again")
        self._stagings.pop(batch.token).close()
        kept = [at for at in range(len(batch.numbers)) if at not in redo.taken]
        self._take_ticket(redo.ticket)
        half = [(batch.log_files[at], batch.numbers[at]) for at in kept]
        if redo.is_halved and len(half) > 1:
            middle = len(half) // 2
            half, self._other_half = half[:middle], half[middle:] + self._other_half
        self._stage_half(half)

    def _stage_half(self, half: Sequence[tuple[LogFileInBatch, int]]) -> None:
        log_files = [log_file for log_file, _ in half]
        numbers = [number for _, number in half]
        self._stage_and_send(_InHand(self._tickets.pop(), log_files, numbers))

    def _flush(self, _: Flush) -> None:
        self._is_last = True


def _log_file_id(ref: LogFileRef) -> tuple[int, int, str]:
    """The key that a log file is known by within a run."""
    return ref.source.id, ref.day, ref.name
