"""A worker process as its run sees it: starting it, its connection, and what it has in hand.

A worker ends with its connection, so that nobody is left behind when a run is killed.
Not here: what it is given to do (`worker_pool`), or what it does (`worker_process`).
"""

import json
import logging
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any, Final

from ctrail_pipeline.core.batch.commit import Batch
from ctrail_pipeline.core.batch.cost import cost_of
from ctrail_pipeline.core.listing.sources import LogFileRef

log = logging.getLogger(__name__)

_END_SECONDS: Final = 5
"""How long a worker has to end by itself."""
START: Final = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[2]);"
    " from ctrail_pipeline.core.run.worker_process import main; main(int(sys.argv[1]))"
)
"""The program of a worker process. Its arguments are its socket and the run's module path."""


class WorkerDied(Exception):
    """A worker is gone."""


@dataclass(eq=False)
class WorkerHandle:
    """A worker process as its run sees it."""

    number: int
    process: subprocess.Popen[bytes]
    connection: Connection
    batches: dict[str, Batch] = field(default_factory=dict)
    """Batches that are registered for it and not committed, by token."""
    outstanding: dict[int, LogFileRef] = field(default_factory=dict)
    """Log files that it has in hand, by number."""
    load: int = 0
    """The cost of what it has in hand, in small log files."""
    sources: set[int] = field(default_factory=set)
    """Ids of the sources that it was told of."""
    taken: list[LogFileRef] = field(default_factory=list)
    """Log files of its batch in hand that another run has settled."""
    tries: int = 0
    """How often its batch in hand was stale, apart from log files that another run settled."""
    is_ready: bool = False
    is_told_last: bool = False
    is_for_suspects: bool = False
    """Whether it does log files that another worker may have died of."""

    def send(self, message: object) -> None:
        """Send a message. That a worker is gone is noticed when it is next listened to."""
        try:
            self.connection.send(message)
        except OSError:
            log.debug("worker %d is gone", self.process.pid)

    def hear(self) -> Any:
        """Wait for the next message. Raises WorkerDied."""
        try:
            return self.connection.recv()
        except (EOFError, OSError) as error:
            raise WorkerDied from error

    def settle(self, numbers: Sequence[int]) -> list[LogFileRef]:
        """Take log files off its hands that are settled."""
        refs = [self.outstanding.pop(number) for number in numbers]
        self.load -= sum(map(cost_of, refs))
        return refs

    def end(self) -> None:
        """Wait for the process to end, and kill it if that takes long."""
        self.connection.close()
        try:
            self.process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def start_worker(number: int) -> WorkerHandle:
    """Start a worker process, which knows nothing of the run's main module."""
    run_end, worker_end = socket.socketpair()
    with worker_end:
        process = subprocess.Popen(  # noqa: S603 - this very program
            [
                sys.executable,
                "-c",
                START,
                str(worker_end.fileno()),
                json.dumps([*map(str, sys.path)]),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            pass_fds=[worker_end.fileno()],
            process_group=0,  # a terminal's Ctrl-C is for the run only
        )
    return WorkerHandle(number, process, Connection(run_end.detach()))
