"""The log files of the batch in hand: what they hold, and when the batch is full."""

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

MOST_FOLDERS: Final = 500
"""Output partitions that one batch touches at most, a single log file's apart."""
PIECES_AT_ONCE: Final = 50_000
"""Records of a log file that are routed, compared and written at once: a kilobyte of memory each,
beside their text. Real log files have less."""
_BYTES_A_RECORD: Final = 640
"""What a record of a batch counts as at least: a shorter one takes more memory than its text."""
_ROUTING: Final = attrgetter("routing")


@dataclass(slots=True)
class LogFileInBatch:
    """A fetched log file, split."""

    ref: LogFileRef
    etag: bytes
    size: int
    content: CutLogFile | StreamedLogFile | None
    state: LogFileState
    reason: str | None
    may_pass: bool
    whole: LogFileContent | None = None
    """All of the content; None where it is too much to be held at once."""

    @property
    def rounds(self) -> int:
        """How many parts its content has."""
        return 0 if self.content is None else self.content.rounds(PIECES_AT_ONCE)

    def part(self, number: int) -> LogFileContent | None:
        """The `number`-th part of its content, from 0; None behind the last."""
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
    """Of text, decompressed; where records are short, what they are reckoned at."""
    folders: set[RoutingFields] = field(default_factory=set)
    since: float = field(default_factory=time.monotonic)

    def add(self, fetched: FetchedLogFile) -> None:
        """Take a fetched log file in, split into records."""
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
            rounds = content.rounds(PIECES_AT_ONCE)
            records = rounds * PIECES_AT_ONCE
            if rounds == 1:
                whole = content.part(0, PIECES_AT_ONCE)
                records = len(whole.records) + len(whole.rejected)
                self.folders.update(map(_ROUTING, whole.records))
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
        """Whether a log file fits in; a large one is a batch of its own."""
        size = fetched.content.size if fetched.content else 0
        return not self.log_files or self.bytes + size <= settings.batch_bytes

    def is_full(self, settings: Settings) -> bool:
        """Whether it should be committed before anything more is taken in."""
        return (
            len(self.log_files) >= settings.batch_log_files
            or self.bytes >= settings.batch_bytes
            or len(self.folders) >= MOST_FOLDERS
        )

    @property
    def age(self) -> float:
        """Seconds since it was begun."""
        return time.monotonic() - self.since
