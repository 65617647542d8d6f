"""What goes into the ledger and comes out of it: plain values, and the states that rows are in.

No SQL is here, and nothing that asks the database. A value that one topic alone needs is beside the
topic's functions, in `queries_*`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, NamedTuple

from ctrail_pipeline.core.output_files import PublishedFile

ROWS_A_READ: Final = 2_000
"""Rows of a page, where a read is paged."""
REBUILD_RUN: Final = "rebuild"
"""The run that a batch of a rebuilt ledger names."""
LONGEST_PAUSE_SECONDS: Final = 86_400
"""Seconds that a visit lies ahead at most."""


class LogFileState(IntEnum):
    """What became of a log file."""

    COMMITTED = 1
    DAMAGED = 2
    FAILED = 3
    ARCHIVED = 4
    GONE = 5
    FOUND = 7
    """A look at the bucket saw it, or a message named it, and no run has fetched it yet."""


_NOT_READ: Final = frozenset({LogFileState.FAILED, LogFileState.ARCHIVED, LogFileState.GONE})


class BatchState(IntEnum):
    """How far a batch came."""

    STAGING = 0
    COMMITTED = 1
    PUBLISHED = 2
    ABORTED = 3


class Pruned(IntEnum):
    """Whether a file of the output is there, and if not, why."""

    NO = 0
    DECIDED = 1
    """It is to be removed on purpose. If the run that decided dies, the next run removes it."""
    REMOVED = 2
    LOST = 3
    """It vanished before it was published, and could not be made again so far. Its batch stays
    committed, and each run tries to make the file again (`core.batch.restage`)."""


class InParquet(IntEnum):
    """Which lines of a file of events are in Parquet, too."""

    NONE = 0
    SOME = 1
    """It is not known which, if any."""
    ALL = 2

    @classmethod
    def of(cls, parquet_batch: int | None) -> "InParquet":
        """Return what the column `output_file.parquet_batch` says."""
        return cls.NONE if parquet_batch is None else cls.ALL if parquet_batch else cls.SOME


class OutputSize(NamedTuple):
    """How much output there is of one account and region."""

    folder: str
    """`account/region`."""
    files: int
    lines: int
    bytes: int
    pruned_files: int


class Known(NamedTuple):
    """What the ledger knows of a log file: the state and version that a new result replaces."""

    state: LogFileState
    etag: bytes


class KnownLogFile(NamedTuple):
    """A log file's row, as far as a listing needs it."""

    state: LogFileState
    etag: bytes
    next_visit: int | None

    @property
    def known(self) -> Known:
        """The state and version that a new result must find unchanged."""
        return Known(self.state, self.etag)

    def is_due(self, now: int) -> bool:
        """Whether it is to be visited now.

        No pause is longer than a day: a visit set for later was set by a clock that was wrong. A
        log file that was found has no pause, even if the clock was set back since.
        """
        return self.next_visit is not None and (
            self.state is LogFileState.FOUND
            or not now < self.next_visit <= now + 2 * LONGEST_PAUSE_SECONDS
        )


class Visit(NamedTuple):
    """A log file that is due: found by a look, or to be tried again."""

    source_id: int
    day: int
    name: str
    size: int
    attempts: int
    known: Known
    archived: bool
    """Whether it lies in Glacier, where it must be restored before it can be read."""


class Waiting(NamedTuple):
    """Log files of one or more source prefixes that are due."""

    log_files: int
    oldest_found: int | None
    """When a look first found one of them (seconds since 1970); None if no look found any."""

    def together_with(self, other: "Waiting | None") -> "Waiting":
        """Return these and the log files of another source prefix."""
        if other is None:
            return self
        found = [at for at in (self.oldest_found, other.oldest_found) if at is not None]
        return Waiting(self.log_files + other.log_files, min(found, default=None))


@dataclass(frozen=True, slots=True)
class FoundLogFile:
    """A log file that a look at the bucket saw, and that the ledger lacked or had otherwise."""

    source_id: int
    day: int
    name: str
    etag: bytes
    size: int
    archived: bool
    """Whether it lies in Glacier, where it must be restored before it can be read."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a batch found out about one log file, as its row will say."""

    source_id: int
    day: int
    name: str
    expected: Known | None
    """The row that this outcome replaces, as it was seen before; None for no row."""
    etag: bytes
    size: int
    sha256: bytes | None
    records: int
    duplicates: int
    quarantined: int
    conflicts: int
    """New records that share their eventID with another record, but not their bytes."""
    state: LogFileState
    attempts: int
    next_visit: int | None
    reason: str | None
    position: int
    times: tuple[str, str] | None = None
    """First and last eventTime of its records."""
    bytes_out: int = 0
    """Bytes of its new lines."""
    may_pass: bool = False
    """Whether its failure may pass by itself."""
    has_lines: bool = True
    """Whether lines of the batch came from it, of events or of quarantine."""

    @property
    def leaves_committed(self) -> bool:
        """Whether a visit of a committed log file read nothing, so that its row says what it said.

        The etag is then the row's own: a failed visit learns none.
        """
        return (
            self.expected is not None
            and self.expected.state is LogFileState.COMMITTED
            and self.etag == self.expected.etag
            and self.state in _NOT_READ
        )


class SourceTotals(NamedTuple):
    """What the ledger holds of one source prefix, over all runs."""

    log_files: int
    events: int
    first_event: str | None
    last_event: str | None
    reported_at: int
    """When Dagster was last told of new events (seconds since 1970; 0: never)."""


@dataclass(frozen=True, slots=True)
class BatchRow:
    """An unfinished batch."""

    id: int
    token: str
    state: BatchState
    created_at: int
    owner: str
    """The lease of the run that works on it (`leases`); empty where there are none."""


class AdoptedFile(NamedTuple):
    """An output file that was there before its ledger: it has its name and its lines."""

    file: PublishedFile
    lines: int
    digest: bytes
    """SHA-256 of its bytes."""


class Segment(NamedTuple):
    """The identities that one batch added to one dedup partition, as the ledger keeps them."""

    id: int
    size: int
    """How many identities it holds."""
    identities: bytes
    """Sorted; empty for a segment with a filter: they are read when the filter says "maybe"."""
    filter_bytes: int
    """How long its filter is; 0 without one."""
    event_keys: bytes
    """Sorted hashes of the eventIDs; empty where `identities` is empty."""
    is_merged: bool
    """Whether it stands for older segments, which are gone; False for a cold segment."""


class NewSegment(NamedTuple):
    """A segment that a batch, or a merge, is about to add."""

    partition: str
    size: int
    identities: bytes
    filter: bytes | None
    event_keys: bytes


class SegmentGone(Exception):
    """A segment was removed: it was merged into a newer one."""


class StaleBatch(Exception):
    """The ledger moved on since the batch looked at it; nothing of the batch was committed."""

    def __init__(self, why: str, taken: Sequence[int] = ()) -> None:
        super().__init__(why)
        self.taken = frozenset(taken)
        """Positions of log files that another run settled meanwhile."""
