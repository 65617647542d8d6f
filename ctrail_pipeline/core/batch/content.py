"""The log files of the batch in hand: what they hold, and when the batch is full.

Log files are split into records as they come in. Where the records go is decided in `routing`.
"""

import time
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Final

from ctrail_pipeline.core.ledger.rows import LogFileState
from ctrail_pipeline.core.listing.sources import LogFileRef
from ctrail_pipeline.core.log_file.record import LogFileContent, RoutingFields
from ctrail_pipeline.core.log_file.split import CutLogFile, cut_up
from ctrail_pipeline.core.log_file.streaming import StreamedLogFile
from ctrail_pipeline.core.settings import Settings

from .fetch import FetchedLogFile

_OUTPUT_PARTITION_LIMIT: Final = 500
"""Limit of output partitions that one batch touches. A single log file may touch more."""
PIECES_AT_ONCE: Final = 50_000
"""Records of a log file that are routed, compared and written at once. Each takes a kilobyte of
memory beside its text. Real log files have fewer records."""
_BYTES_A_RECORD: Final = 640
"""Bytes that a record counts as at least: a shorter record takes more memory than its text."""
_ROUTING: Final = attrgetter("routing")


@dataclass(slots=True)
class LogFileInBatch:
    """A fetched log file, split into records."""

    ref: LogFileRef
    etag: bytes
    size: int
    content: CutLogFile | StreamedLogFile | None
    state: LogFileState
    reason: str | None
    may_pass: bool
    whole: LogFileContent | None = None
    """All of the content; None if it is too large to be held at once."""

    @property
    def rounds(self) -> int:
        """Number of parts that the content has: the rounds that its batch needs."""
        return 0 if self.content is None else self.content.part_count(PIECES_AT_ONCE)

    def part(self, number: int) -> LogFileContent | None:
        """Return a part of the content by its number, from 0; None behind the last part."""
        if self.content is None or number >= self.rounds:
            return None
        if number == 0 and self.whole is not None:
            return self.whole
        return self.content.part(number, PIECES_AT_ONCE)


@dataclass(slots=True)
class BatchContent:
    """The log files of the batch in hand."""

    log_files: list[LogFileInBatch] = field(default_factory=list)
    bytes: int = 0
    """Uncompressed bytes; a short record counts as `_BYTES_A_RECORD`."""
    output_partitions: set[RoutingFields] = field(default_factory=set)
    """Accounts, regions and hours of the records."""
    since: float = field(default_factory=time.monotonic)
    """When the batch was begun (monotonic seconds)."""

    def add(self, fetched: FetchedLogFile) -> None:
        """Take in a fetched log file, and split it into records."""
        content: CutLogFile | StreamedLogFile | None = None
        whole = None
        state, reason = fetched.state, fetched.reason
        if fetched.content is not None:
            if isinstance(fetched.content, StreamedLogFile):
                content = fetched.content
            else:
                content = cut_up(fetched.content)
            if content.damage is not None:
                state, reason = LogFileState.DAMAGED, content.damage
            rounds = content.part_count(PIECES_AT_ONCE)
            records = rounds * PIECES_AT_ONCE
            if rounds == 1:
                whole = content.part(0, PIECES_AT_ONCE)
                records = len(whole.records) + len(whole.rejected)
                self.output_partitions.update(map(_ROUTING, whole.records))
            self.bytes += max(content.size, records * _BYTES_A_RECORD)
        self.log_files.append(
            LogFileInBatch(
                fetched.ref,
                fetched.etag,
                fetched.size,
                content,
                state,
                reason,
                fetched.may_pass,
                whole,
            )
        )

    def has_room(self, fetched: FetchedLogFile, settings: Settings) -> bool:
        """Whether a log file fits in. A log file larger than a batch is a batch of its routing."""
        size = fetched.content.size if fetched.content else 0
        return not self.log_files or self.bytes + size <= settings.batch_bytes

    def is_full(self, settings: Settings) -> bool:
        """Whether the batch should be committed before more log files are taken in."""
        return (
            len(self.log_files) >= settings.batch_log_files
            or self.bytes >= settings.batch_bytes
            or len(self.output_partitions) >= _OUTPUT_PARTITION_LIMIT
        )

    @property
    def age(self) -> float:
        """Seconds since the batch was begun."""
        return time.monotonic() - self.since
