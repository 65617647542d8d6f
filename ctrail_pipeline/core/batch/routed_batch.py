"""The lines of a batch, sorted by dedup partition, and what they come to by log file.

`routing` fills it, `duplicates` drops lines from it, `batch_files` makes files of the remaining
lines, and `outcomes` reads the counts.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Final

import msgspec

from ctrail_pipeline.core.ledger.rows import NewSegment
from ctrail_pipeline.core.log_file.event_time import HOUR_FOLDER_LENGTH
from ctrail_pipeline.core.log_file.lines import Line
from ctrail_pipeline.core.output_files import Kind

_NAME: Final = attrgetter("name")


class OutputLine(msgspec.Struct, frozen=True, gc=False):
    """A line of the output. A Struct, as `Record` is, since there is one for each record."""

    text: Line
    position: int
    """Position of its log file in the batch."""
    kind: Kind
    folder: str
    name: str = ""
    """The event's name, for counting."""
    event_key: bytes = b""
    """A short form of the event's eventID; empty for an event without one."""
    time: str = ""
    """The event's eventTime."""
    index: int = 0
    """The event's position in its log file."""


@dataclass(slots=True)
class RoutedBatch:
    """The lines of a batch, each once, and counts by position of the log file in the batch.

    If a log file of the batch is too large to be held at once, the batch is done in rounds. The
    lines are those of one round; the counts are those of all rounds so far.
    """

    groups: dict[str, dict[bytes, OutputLine]] = field(default_factory=dict)
    """The round's lines by identity, by dedup partition."""
    earlier: dict[str, list[NewSegment]] = field(default_factory=dict)
    """What earlier rounds added, by dedup partition."""
    event_keys: dict[str, set[bytes]] = field(default_factory=dict)
    """Event keys of the round's new lines, by dedup partition."""
    records: dict[int, int] = field(default_factory=dict)
    """Events, new or not."""
    duplicates: dict[int, int] = field(default_factory=dict)
    quarantined: dict[int, int] = field(default_factory=dict)
    first_reasons: dict[int, str] = field(default_factory=dict)
    """Why the first record or rest of a log file went to quarantine."""
    conflicts: dict[int, int] = field(default_factory=dict)
    """New events that share their eventID with another event, but not their bytes."""
    bytes_out: dict[int, int] = field(default_factory=dict)
    """Bytes of new events."""
    with_lines: set[int] = field(default_factory=set)
    """Log files that have new lines, of events or of quarantine."""
    times: dict[int, tuple[str, str]] = field(default_factory=dict)
    """First and last eventTime."""
    newlines_replaced: int = 0
    """Line breaks between tokens that became spaces, in the lines of all log files."""
    events_by_hour: Counter[str] = field(default_factory=Counter)
    """New events of the batch by the hour of their eventTime, `YYYY/MM/DD/HH`."""
    events_by_name: Counter[str] = field(default_factory=Counter)
    """New events of the batch by eventName."""

    def end_round(self, segments: Sequence[NewSegment]) -> None:
        """Count the round's new events, remember what it added, and let go of its lines."""
        for group in self.groups.values():
            lines = group.values()
            kind, folder = next(((line.kind, line.folder) for line in lines), (None, ""))
            if kind is Kind.EVENTS:  # all lines of a group are of one kind and one hour
                self.events_by_hour[folder[-HOUR_FOLDER_LENGTH:]] += len(lines)
                self.events_by_name.update(map(_NAME, lines))
        for segment in segments:
            self.earlier.setdefault(segment.partition, []).append(segment)
        for group in self.groups.values():
            group.clear()
