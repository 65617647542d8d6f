"""What a run and its worker processes say to each other, and how log files and sources are packed.

Values only. Log files and outcomes travel as tuples: a third of what pickling the dataclasses
takes. Not here: what either side does with a message (`worker_pool`, `worker_process`).
"""

from collections.abc import Sequence
from dataclasses import fields, replace
from operator import attrgetter
from typing import Any, Final, NamedTuple, Self

from ctrail_pipeline.core.batch.stage import Staged
from ctrail_pipeline.core.bucket.open_bucket import known_endpoint
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
    """Log files to be fetched and staged."""

    sources: Sequence[Source]
    """The sources that the worker has not been told of, without their buckets."""
    log_files: Sequence[tuple[int, int, Sequence[Any]]]
    """For each log file: its number, its source's id, and the fields of its LogFileRef."""


class Ticket(NamedTuple):
    """A batch that is registered for the worker to stage into."""

    token: str


class Flush(NamedTuple):
    """From now on, stage a batch as soon as nothing is pending, even if it is small."""


class Committed(NamedTuple):
    """The batch in hand is committed: let its content go."""

    next: Ticket


class BatchPublished(NamedTuple):
    """A batch is published and its staging folder is gone: let its lock go."""

    token: str


class Redo(NamedTuple):
    """The batch in hand is stale: stage it again, without the log files at these positions."""

    taken: frozenset[int]
    ticket: Ticket
    is_halved: bool
    """Whether only one half is staged now, and the other half after it is committed."""


class Ready(NamedTuple):
    """The first message from a worker."""

    pid: int


class StagedBatch(NamedTuple):
    """A batch is staged."""

    token: str
    numbers: Sequence[int]
    """The numbers of its log files."""
    outcomes: Sequence[Sequence[Any]]
    staged: Staged
    """What was staged, without the outcomes."""

    @classmethod
    def pack(cls, token: str, numbers: Sequence[int], staged: Staged) -> Self:
        """Pack what was staged."""
        outcomes = [_pack_outcome(outcome) for outcome in staged.outcomes]
        return cls(token, numbers, outcomes, staged._replace(outcomes=[]))

    def unpack(self) -> Staged:
        """What was staged, with the outcomes."""
        return self.staged._replace(outcomes=[Outcome(*values) for values in self.outcomes])


class Unread(NamedTuple):
    """A log file stays as it is, since the credentials failed."""

    number: int
    reason: str


class Failed(NamedTuple):
    """The worker cannot go on, and nor can the run."""

    error: CtrailError | None
    text: str


def pack_log_file(number: int, ref: LogFileRef) -> tuple[int, int, Sequence[Any]]:
    """Pack a log file as `Fetch` carries it."""
    return number, ref.source.id, _pack_ref(ref)


def unpack_log_file(values: Sequence[Any], source: Source) -> LogFileRef:
    """Unpack a log file, without its stretch, since the run alone calls stretches covered."""
    return LogFileRef(source, *values)


def pack_source(source: Source) -> Source:
    """Pack a source as `Fetch` carries it."""
    bucket = UnopenedBucket(None, known_endpoint(source.bucket))
    return replace(source, bucket=bucket, covered=(), failure=None)
