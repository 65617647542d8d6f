"""Which events somebody asks for, by eventID, eventName, time, account and region.

`Sought` decides for a folder of the output whether it may hold such events, and for a line whether
it is one. `explain` and `manifest` use it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from ctrail_pipeline.core.listing.selection import matches
from ctrail_pipeline.core.log_file.event_time import moment_of
from ctrail_pipeline.core.log_file.record import Record
from ctrail_pipeline.core.log_file.split import read_log_file

EVENT_ID_LENGTH: Final = 64


@dataclass(frozen=True)
class Sought:
    """Which events are asked for; all that is given must fit."""

    event_id: str | None = None
    event_name: str | None = None
    start: datetime | None = None
    """From this eventTime on; and before `end`."""
    end: datetime | None = None
    accounts: Sequence[str] = ()
    """Of the output's folders; `*` and `?` are wildcards. Empty: all."""
    regions: Sequence[str] = ()

    def may_lie_in(self, folder: str) -> bool:
        """Whether `account/region/YYYY/MM/DD/HH` may hold such an event; `-` stands for any."""
        account, region, hour = folder.split("/", 2)
        return (
            _is_one_of(account, self.accounts)
            and _is_one_of(region, self.regions)
            and (self.start is None or hour >= f"{self.start.astimezone(UTC):%Y/%m/%d/%H}")
            and (self.end is None or hour <= f"{_last_before(self.end):%Y/%m/%d/%H}")
        )

    def fits(self, line: bytes) -> bool:
        """Whether a line is such an event."""
        for text in filter(None, (self.event_id, self.event_name)):
            # Most lines are told apart without decoding them; an escape may hide the text.
            if text[:EVENT_ID_LENGTH].encode() not in line and b"\\u" not in line:
                return False
        record = record_of(line)
        return (
            record is not None
            and (self.event_id is None or record.event_id == self.event_id[:EVENT_ID_LENGTH])
            and (self.event_name is None or record.name == self.event_name)
            and (self.start is None or moment_of(record.time) >= self.start)
            and (self.end is None or moment_of(record.time) < self.end)
        )


def record_of(line: bytes) -> Record | None:
    """The record that a line of the output is; None if it is none."""
    content = read_log_file(b'{"Records":[' + line + b"]}", 2 * len(line) + 1_000)
    return content.records[0] if len(content.records) == 1 else None


def _is_one_of(name: str, patterns: Sequence[str]) -> bool:
    return not patterns or name == "-" or any(matches(pattern, name) for pattern in patterns)


def _last_before(end: datetime) -> datetime:
    return end.astimezone(UTC) - timedelta(microseconds=1)
