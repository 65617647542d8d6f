"""What a run and its worker processes say to each other, and how log files and sources are packed.

Values only. Log files and outcomes travel as tuples: a third of what pickling the dataclasses
takes. Not here: what either side does with a message (`worker_pool`, `worker_process`).
"""

from collections.abc import Sequence
from dataclasses import fields, replace
from operator import attrgetter
from typing import Any, Final, NamedTuple, Self

from ctrail_pipeline.core.batch.stage import Staged
from ctrail_pipeline.core.exceptions import CtrailError
from ctrail_pipeline.core.ledger.rows import Outcome
from ctrail_pipeline.core.listing.sources import LogFileRef, Source
from ctrail_pipeline.core.settings import Settings

from .unopened_bucket import UnopenedBucket

# All fields but the first and the last, which are the source and the stretch.
_pack_ref: Final = attrgetter(*(item.name for item in fields(LogFileRef)[1:-1]))
_pack_outcome: Final = attrgetter(*(item.name for item in fields(Outcome)))


class Setup(NamedTuple):
    """The first message to a worker."""

    settings: Settings
    bytes_ahead: int


class Fetch(NamedTuple):
    """Log files to be done."""

    sources: Sequence[Source]
    """Those that the worker has not been told of; without their buckets."""
    log_files: Sequence[tuple[int, int, Sequence[Any]]]
    """Number, source id, and the fields of the LogFileRef."""


class Ticket(NamedTuple):
    """A batch that is registered for the worker to stage into."""

    token: str


class Flush(NamedTuple):
    """From now on stage whatever is there when there is nothing left to be done."""


class Committed(NamedTuple):
    """The batch in hand is true: let its content go."""

    next: Ticket


class BatchPublished(NamedTuple):
    """A batch's staging folder is gone: let its lock go."""

    token: str


class Redo(NamedTuple):
    """The batch in hand is stale: stage it again, without the log files at these positions."""

    taken: frozenset[int]
    ticket: Ticket


class Ready(NamedTuple):
    """The first message from a worker."""

    pid: int


class StagedBatch(NamedTuple):
    """A batch is staged."""

    token: str
    numbers: Sequence[int]
    """Its log files."""
    outcomes: Sequence[Sequence[Any]]
    staged: Staged
    """Without its outcomes."""

    @classmethod
    def pack(cls, token: str, numbers: Sequence[int], staged: Staged) -> Self:
        """Pack what was staged."""
        outcomes = [_pack_outcome(outcome) for outcome in staged.outcomes]
        return cls(token, numbers, outcomes, staged._replace(outcomes=[]))

    def unpack(self) -> Staged:
        """The whole of what was staged."""
        return self.staged._replace(outcomes=[Outcome(*values) for values in self.outcomes])


class Unread(NamedTuple):
    """A log file stays as it is, since not it but the credentials failed."""

    number: int
    reason: str


class Failed(NamedTuple):
    """The worker cannot go on, and neither can the run."""

    error: CtrailError | None
    text: str


def pack_log_file(number: int, ref: LogFileRef) -> tuple[int, int, Sequence[Any]]:
    """A log file as `Fetch` carries it."""
    return number, ref.source.id, _pack_ref(ref)


def unpack_log_file(values: Sequence[Any], source: Source) -> LogFileRef:
    """A log file as it was packed, without its stretch: covering is the run's affair."""
    return LogFileRef(source, *values)


def pack_source(source: Source) -> Source:
    """A source as `Fetch` carries it."""
    return replace(source, bucket=UnopenedBucket(None), covered=(), failure=None)
